package people

import (
	"net/url"
	"strings"
	"testing"
)

func TestReturn(t *testing.T) {
	for to, want := range map[string]bool{
		"/": true, "/topics": true, "/topics?x=y%20z&a=//b": true, "/topics/a%2Fb": true, "/#/x": true, "/?x=y": true,
		"": false, "topics": false, "//evil.example": false, `/\evil.example`: false, `\\evil.example`: false,
		"https://evil.example": false, "/%2fevil.example": false, "/%5Cevil.example": false, "/\t/evil.example": false,
		"/a/../\\evil.example": false, "/../evil": false, "/a/..": false, "/%2e%2e//evil.example": false,
		"/%252fevil.example": false, "/x\r\nSet-Cookie: y": false, "javascript:alert(1)": false, "/@evil.example": false,
		"/;@evil.example": false, "/ä": false, "/a%5C..": false, "///evil.example": false, "/.//evil.example": false,
	} {
		if err := checkReturn(to); (err == nil) != want {
			t.Errorf("%q: %v", to, err)
		}
	}
}

// FuzzReturn: wherever somebody is led, it is a page of ours, also for who takes a backslash for a slash, leaves white
// space out or decodes it first.
func FuzzReturn(f *testing.F) {
	for _, s := range []string{"/", "/a?b#c", "//x", `/\x`, "/%2f%2fx", "/a/%2e%2e/x", "https:x", "/a%5cb"} {
		f.Add(s)
	}
	base, err := url.Parse("https://firth.example.org")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, to string) {
		if checkReturn(to) != nil {
			return
		}
		decoded, err := url.PathUnescape(to)
		if err != nil {
			decoded = to
		}
		path, _, _ := strings.Cut(decoded, "?")
		path, _, _ = strings.Cut(path, "#")
		for _, s := range []string{to, path, strings.ReplaceAll(path, `\`, "/")} {
			s = strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(s)
			u, err := base.Parse(s)
			if err == nil && u.Host != base.Host || strings.HasPrefix(s, "//") {
				t.Fatalf("%q leads to %v", to, u)
			}
		}
	})
}

// FuzzSecret: what a cookie holds has one form.
func FuzzSecret(f *testing.F) {
	f.Add(newSecret().text())
	f.Add("")
	f.Add("\r" + newSecret().text())
	f.Fuzz(func(t *testing.T, text string) {
		if s, is := parseSecret(text); is && s.text() != text {
			t.Fatalf("%q is %q", text, s.text())
		}
	})
}
