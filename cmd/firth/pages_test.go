package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPagesPointAtWhatIsThere holds the pages to the code: a link leads to a file or folder, and where its
// text is a function, the file has it.
func TestPagesPointAtWhatIsThere(t *testing.T) {
	const root = "../.."
	link := regexp.MustCompile(`\[([^\]\n]+)\]\(([^)#\s]+)\)`)
	function := regexp.MustCompile("^`(?:\\(\\*?(\\w+)\\)\\.)?(\\w+)`$")
	for _, page := range []string{"README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"} {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[2], "://") {
				continue
			}
			target := filepath.Join(root, m[2])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s leads nowhere", page, m[0])
				continue
			}
			if f := function.FindStringSubmatch(m[1]); f != nil && !declares(t, target, f[1], f[2]) {
				t.Errorf("%s: %s has no %s", page, m[2], m[1])
			}
		}
	}
}

// declares tells whether the file has the function, or the method of the receiver.
func declares(t *testing.T, file, receiver, name string) bool {
	t.Helper()
	code, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pattern := `(?m)^func ` + name + `[\[(]`
	if receiver != "" {
		pattern = `(?m)^func \(\w+ \*?` + receiver + `(\[\w+\])?\) ` + name + `\(`
	}
	return regexp.MustCompile(pattern).Match(code)
}
