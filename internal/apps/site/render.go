package site

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// page is one page of the site.
type page struct {
	name     string // in the site
	title    string
	body     string // HTML
	headings []entry
	entries  []entry
}

// entry is what a search may find: a heading with what is below it, or a row of a table that is about one thing.
type entry struct {
	Page   string `json:"p"` // its name in the site
	Title  string `json:"t"` // of the page
	Name   string `json:"h"` // of the heading or the thing
	Anchor string `json:"a,omitempty"`
	Text   string `json:"x,omitempty"` // what is said of it
}

// entryBytes is how much of a text a search looks at.
const entryBytes = 1500

var notInSlug = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// slug is the anchor of a heading, as GitHub has it.
func slug(heading string) string {
	return strings.ReplaceAll(notInSlug.ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
}

// anchors gives names to headings and rows of one page, no name twice.
type anchors map[string]int

func (a anchors) take(name string) string {
	n := a[name]
	a[name]++
	if n > 0 {
		name = fmt.Sprintf("%s-%d", name, n)
	}
	return name
}

// render makes a page of Markdown: with anchors at its headings and rows, its links those of the site. HTML in it is
// left out.
func (s *Site) render(name string, markdown []byte) *page {
	md := goldmark.New(goldmark.WithExtensions(extension.Table, extension.Strikethrough, extension.Linkify))
	doc := md.Parser().Parse(text.NewReader(markdown), parser.WithContext(parser.NewContext()))
	p := &page{name: name}
	r := renderer{site: s, page: p, source: s.sources[name], markdown: markdown, taken: anchors{}}
	r.walk(doc)
	r.finish()
	var b bytes.Buffer
	_ = md.Renderer().Render(&b, markdown, doc) // into memory
	p.body = strings.ReplaceAll(b.String(), "<!-- raw HTML omitted -->\n", "")
	p.body = strings.ReplaceAll(p.body, "<table>", `<div class="wide" tabindex="0"><table>`)
	p.body = strings.ReplaceAll(p.body, "</table>", "</table></div>")
	p.body = strings.ReplaceAll(p.body, "<pre>", `<pre tabindex="0">`)
	return p
}

// renderer goes through one page.
type renderer struct {
	site     *Site
	page     *page
	source   string // its path in the repository
	markdown []byte
	taken    anchors
	last     int             // the entry of the last heading
	section  strings.Builder // what stands below it
	dead     []ast.Node      // links to what the site does not have
}

func (r *renderer) walk(doc ast.Node) {
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // it never errs
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			r.heading(n)
		case *ast.Link:
			if to, known := r.destination(string(n.Destination)); known {
				n.Destination = []byte(to)
			} else {
				r.dead = append(r.dead, n)
			}
		case *ast.Image:
			to, known := r.destination(string(n.Destination))
			if n.Destination = []byte(to); !known {
				r.dead = append(r.dead, n)
			}
		case *extast.TableRow:
			r.row(n)
		case *ast.Paragraph, *ast.TextBlock:
			r.section.WriteString(plainText(n, r.markdown) + " ")
		}
		return ast.WalkContinue, nil
	})
}

// heading notes a heading, and closes what stood below the one before.
func (r *renderer) heading(h *ast.Heading) {
	title := plainText(h, r.markdown)
	anchor := r.taken.take(slug(title))
	h.SetAttributeString("id", []byte(anchor))
	r.close()
	r.last = len(r.page.entries)
	if r.page.title == "" {
		r.page.title, anchor = title, ""
	}
	found := entry{Page: r.page.name, Title: r.page.title, Name: title, Anchor: anchor}
	r.page.entries = append(r.page.entries, found)
	if h.Level == 2 {
		r.page.headings = append(r.page.headings, found)
	}
}

// close gives the last heading what stood below it.
func (r *renderer) close() {
	if r.last < len(r.page.entries) {
		r.page.entries[r.last].Text = shorten(r.section.String())
	}
	r.section.Reset()
}

// row notes a row of a table whose first cell is a name: a key, a metric, a limit, an event.
func (r *renderer) row(row *extast.TableRow) {
	first, last := row.FirstChild(), row.LastChild()
	if first == nil || first == last || first.FirstChild() == nil {
		return
	}
	code, named := first.FirstChild().(*ast.CodeSpan)
	if !named {
		return
	}
	name := plainText(code, r.markdown)
	anchor := r.taken.take("row-" + slug(name))
	row.SetAttributeString("id", []byte(anchor))
	said := []string{strings.TrimPrefix(strings.TrimPrefix(plainText(first, r.markdown), name), ": ")}
	for cell := first.NextSibling(); cell != nil; cell = cell.NextSibling() {
		said = append(said, plainText(cell, r.markdown))
	}
	r.page.entries = append(r.page.entries, entry{
		Page: r.page.name, Title: r.page.title, Name: name, Anchor: anchor,
		Text: shorten(strings.TrimPrefix(strings.Join(said, " · "), " · ") + " "),
	})
}

// finish closes the last section, and puts the text of links that lead nowhere in their place.
func (r *renderer) finish() {
	r.close()
	for _, n := range r.dead {
		parent := n.Parent()
		for child := n.FirstChild(); child != nil; child = n.FirstChild() {
			parent.InsertBefore(parent, n, child)
		}
		parent.RemoveChild(parent, n)
	}
	if r.page.title == "" {
		r.page.title = r.page.name
	}
}

// destination is where a link leads in the site; outside it leads as it is, and to what the site does not have nowhere.
func (r *renderer) destination(link string) (to string, known bool) {
	if strings.HasPrefix(link, "#") || strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
		return link, true
	}
	file, anchor, anchored := strings.Cut(link, "#")
	name, known := r.site.nameOf(r.source, file)
	if !known {
		return "", false
	}
	to = way(r.page.name, name)
	if anchored {
		to += "#" + anchor
	}
	return to, true
}

// plainText is what a node says, without its marks.
func plainText(n ast.Node, markdown []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) { // it never errs
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Text:
			b.Write(n.Value(markdown))
			if n.SoftLineBreak() || n.HardLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(n.Value)
		case *ast.AutoLink:
			b.Write(n.Label(markdown))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// shorten cuts a text between two words.
func shorten(s string) string {
	if len(s) > entryBytes {
		s = s[:strings.LastIndexByte(s[:entryBytes], ' ')+1]
		s = strings.ToValidUTF8(s, "")
	}
	return strings.TrimSpace(s)
}
