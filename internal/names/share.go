package names

import "strings"

// SplitShare is ParseShare for a filter that is known to be well-formed.
func SplitShare(filter string) (share, topics string, ok bool) {
	rest, ok := strings.CutPrefix(filter, sharePrefix)
	if !ok {
		return "", filter, false
	}
	share, topics, _ = strings.Cut(rest, "/")
	return share, topics, true
}

// Share is the filter that shares what matches another.
func Share(share, topics string) string { return sharePrefix + share + "/" + topics }

// Topics is the part of a filter that topic names are matched with: behind the share name, if there is one.
func Topics(filter string) string {
	_, topics, _ := SplitShare(filter)
	return topics
}
