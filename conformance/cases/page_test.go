package cases

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const page = "../../docs/conformance/faults.md"

// TestPage holds the page of faults to the code: every fault has one line, and the tests that it names are there.
func TestPage(t *testing.T) {
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for i := range 26 {
		want = append(want, fmt.Sprint("E", i+1))
	}
	for i := range 9 {
		want = append(want, fmt.Sprint("D", i+1))
	}
	for _, i := range []int{1, 2, 3, 4, 5, 6, 7, 8, 10} {
		want = append(want, fmt.Sprint("K", i))
	}
	for _, i := range []int{1, 2, 8, 10, 11, 13, 17, 19, 23, 26, 29, 32, 34, 38, 41, 44} {
		want = append(want, fmt.Sprintf("F%02d", i))
	}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z]\d+) \|`).FindAllStringSubmatch(string(content), -1) {
		got = append(got, m[1])
	}
	if !slices.Equal(got, want) {
		t.Errorf("the page has lines for\n%v, want\n%v", got, want)
	}
	known := declared(t)
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(string(content), -1) {
		if !known[m[1]] {
			t.Errorf("the page names %s, which is nowhere", m[1])
		}
	}
}

// declared are the tests of the repository by name.
func declared(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("../..", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		content, err := os.ReadFile(name)
		for _, m := range function.FindAllStringSubmatch(string(content), -1) {
			known[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return known
}
