package site

import (
	"path"
	"regexp"
	"strings"
)

// part is one part of the menu.
type part struct {
	title string
	items []item
}

// item is a page in the menu.
type item struct {
	title string
	name  string // in the site
}

// outlineItem is an item of docs/README.md: a link, and perhaps what the page is about.
var outlineItem = regexp.MustCompile(`^- \[([^\]]+)\]\(([^)#]+)\)`)

// outlineOf reads docs/README.md. What the site does not have is left out.
func outlineOf(text string, nameOf func(source, link string) (string, bool)) []part {
	var parts []part
	for line := range strings.Lines(text) {
		if title, found := strings.CutPrefix(line, "## "); found {
			parts = append(parts, part{title: strings.TrimSpace(title)})
		}
		m := outlineItem.FindStringSubmatch(line)
		if m == nil || len(parts) == 0 {
			continue
		}
		if name, known := nameOf(outlineName, m[2]); known {
			last := &parts[len(parts)-1]
			last.items = append(last.items, item{title: m[1], name: name})
		}
	}
	return parts
}

// way is the relative link from one name of the site to another: the site may lie at any path.
func way(from, to string) string {
	up := strings.Repeat("../", strings.Count(from, "/"))
	for up != "" && strings.Contains(to, "/") && firstOf(from) == firstOf(to) {
		from, to, up = from[len(firstOf(from))+1:], to[len(firstOf(to))+1:], strings.TrimSuffix(up, "../")
	}
	if up == "" && path.Dir(to) == "." {
		return to
	}
	return up + to
}

func firstOf(name string) string {
	first, _, _ := strings.Cut(name, "/")
	return first
}
