package fanout

import (
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/hinge"
)

// interest counts filters by how they begin, their first level and their first two, to answer whether any of them may
// match records of a log topic. A wrong yes costs time, a wrong no would lose messages. The cost of an answer depends
// on the mapping only, not on how many filters there are. The zero value is empty.
type interest struct {
	begins map[string]int // "a", and "a/b" for those of two levels and more
	all    int            // but those of certificates
}

// fromLog tells whether names that a filter matches may come from the log: of those that begin with $ only certificates
// of Sparkplug do.
func fromLog(filter string) bool { return !strings.HasPrefix(filter, "$") || ofCertificates(filter) }

func ofCertificates(filter string) bool { return strings.HasPrefix(filter, hinge.SparkplugPrefix) }

// beginning is the first level of a filter or stem, and the first two; both is empty if there is one only.
func beginning(of string) (first, both string) {
	first, rest, more := strings.Cut(of, "/")
	if !more {
		return first, ""
	}
	second, _, _ := strings.Cut(rest, "/")
	return first, of[:len(first)+1+len(second)]
}

// add counts a filter in, and tells whether it begins as none did before.
func (in *interest) add(filter string) (fresh bool) {
	if !fromLog(filter) {
		return false
	}
	if in.begins == nil {
		in.begins = make(map[string]int)
	}
	if !ofCertificates(filter) {
		in.all++
	}
	first, both := beginning(filter)
	in.begins[first]++
	fresh = in.begins[first] == 1
	if both != "" {
		in.begins[both]++
		fresh = fresh || in.begins[both] == 1
	}
	return fresh
}

// remove counts a filter out, and tells whether none begins like it any more.
func (in *interest) remove(filter string) (last bool) {
	if !fromLog(filter) {
		return false
	}
	if !ofCertificates(filter) {
		in.all--
	}
	first, both := beginning(filter)
	last = in.drop(first)
	if both != "" {
		last = in.drop(both) || last
	}
	return last
}

func (in *interest) drop(begin string) (last bool) {
	in.begins[begin]--
	if in.begins[begin] > 0 {
		return false
	}
	delete(in.begins, begin)
	return true
}

// in tells whether a filter may match a record of a log topic.
func (in *interest) in(table *hinge.Table, logTopic string) bool {
	if len(in.begins) == 0 {
		return false
	}
	stems, all := table.Stems(logTopic)
	return all && in.all > 0 || slices.ContainsFunc(stems, in.below)
}

// below tells whether a filter may match a name that is a stem or goes on behind it. Those that begin with a wildcard
// match none that begins with $ [MQTT-4.7.2-1].
func (in *interest) below(stem string) bool {
	first, both := beginning(stem)
	wild := first
	if !strings.HasPrefix(stem, "$") {
		wild = "+"
		if in.begins["#"] > 0 {
			return true
		}
	}
	if both == "" {
		return in.begins[first] > 0 || in.begins[wild] > 0
	}
	second := both[len(first):] // with the slash
	for _, begin := range [2]string{first, wild} {
		if in.begins[begin] > 0 &&
			(in.begins[begin+second] > 0 || in.begins[begin+"/+"] > 0 || in.begins[begin+"/#"] > 0) {
			return true
		}
	}
	return false
}
