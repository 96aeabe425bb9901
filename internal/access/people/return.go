package people

import (
	"net/url"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
)

// maxReturn bounds where somebody is led after a login, in bytes.
const maxReturn = 2048

// checkReturn wants the path of a page of ours, with a query or without: /topics?x=y. Behind the first slash is a
// letter or a digit, so that nobody takes what follows for another host, also not after it was decoded once more on the
// way. Errors: Invalid.
func checkReturn(to string) error {
	u, err := url.Parse(to)
	if err == nil && len(to) <= maxReturn && u.Scheme == "" && u.Host == "" && beginsPlain(to) && visible(to) &&
		!strings.Contains(u.Path+"/", "/../") && !strings.Contains(u.Path, `\`) {
		return nil
	}
	return fault.New(fault.Invalid, op, "%s is no path of this server such as /topics?x=y", fault.Text(to))
}

// beginsPlain tells whether a path begins as every one reads it.
func beginsPlain(to string) bool {
	if !strings.HasPrefix(to, "/") {
		return false
	}
	if to == "/" {
		return true
	}
	c := to[1]
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '?' || c == '#'
}

// visible tells whether a text is ASCII that can be seen, without what some take for a slash.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '\\' })
}
