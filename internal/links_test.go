package internal

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	pageLink  = regexp.MustCompile(`\]\(([^)\s]*)\)`)
	heading   = regexp.MustCompile(`^#+ (.*)$`)
	codeSpan  = regexp.MustCompile("`[^`]*`")
	notInSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	linkText  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// TestLinks holds the links of all pages to files, and to headings, that are there.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md", "examples/*.md", "examples/*/*.md", "bench/*.md"} {
		more, err := filepath.Glob("../" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, more...)
	}
	if len(pages) < 50 {
		t.Fatalf("only %d pages are found: the test looks in the wrong place", len(pages))
	}
	slugs := map[string]map[string]bool{}
	for _, page := range pages {
		for i, line := range proseOf(readText(t, page)) {
			for _, m := range pageLink.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, ""), -1) {
				if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
					continue
				}
				file, anchor, _ := strings.Cut(m[1], "#")
				target := page
				if file != "" {
					target = filepath.Join(filepath.Dir(page), file)
				}
				if _, err := os.Stat(target); err != nil {
					t.Errorf("%s:%d: there is no %s", page, i+1, m[1])
					continue
				}
				if anchor == "" || filepath.Ext(target) != ".md" {
					continue
				}
				if slugs[target] == nil {
					slugs[target] = slugsOf(readText(t, target))
				}
				if !slugs[target][anchor] {
					t.Errorf("%s:%d: %s has no heading #%s", page, i+1, target, anchor)
				}
			}
		}
	}
}

// proseOf are the lines of a page; those of fenced code are empty.
func proseOf(page string) []string {
	lines := strings.Split(page, "\n")
	inside := false
	for i, line := range lines {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		if fence || inside {
			lines[i] = ""
		}
		inside = inside != fence
	}
	return lines
}

// slugsOf are the names by which GitHub links to the headings of a page.
func slugsOf(page string) map[string]bool {
	slugs := map[string]bool{}
	for _, line := range proseOf(page) {
		if m := heading.FindStringSubmatch(line); m != nil {
			text := strings.ToLower(linkText.ReplaceAllString(m[1], "$1"))
			slugs[strings.ReplaceAll(notInSlug.ReplaceAllString(text, ""), " ", "-")] = true
		}
	}
	return slugs
}
