package site

import (
	"bytes"
	"encoding/json"
	"html/template"
)

// framed is what the frame of a page shows.
type framed struct {
	Title, Version string
	Home           string // the way to index.html
	Root           string // the way to the folder of the site
	Body           template.HTML
	Parts          []framedPart
	Headings       []entry
	Search         bool
}

type framedPart struct {
	Title string
	Open  bool // it has the page
	Items []framedItem
}

type framedItem struct {
	Title, Way string
	Here       bool
}

var frame = template.Must(template.New("frame").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} - Firth</title>
<link rel="stylesheet" href="{{.Root}}style.css">
<script src="{{.Root}}search.js" defer></script>
</head>
<body>
<a class="skip" href="#content">To the content</a>
<header>
<a class="brand" href="{{.Home}}">Firth <span>{{.Version}}</span></a>
<form role="search" action="{{.Root}}search.html" method="get">
<label class="unseen" for="q">Search</label>
<input id="q" name="q" type="search" placeholder="Search (press /)" autocomplete="off">
<button>Search</button>
</form>
</header>
<div class="columns">
<nav aria-label="Pages">
{{range .Parts}}<details{{if .Open}} open{{end}}><summary>{{.Title}}</summary><ul>
{{range .Items}}<li><a href="{{.Way}}"{{if .Here}} aria-current="page"{{end}}>{{.Title}}</a></li>
{{end}}</ul></details>
{{end}}</nav>
<main id="content" tabindex="-1">
{{if .Search}}<h1>Search</h1>
<p id="found" role="status">Type what you look for: a command, a key, a metric, an event, some words.</p>
<noscript><p>The search needs JavaScript. <a href="{{.Home}}">All pages</a></p></noscript>
<ol id="results"></ol>
{{else}}{{.Body}}{{end}}</main>
{{if .Headings}}<aside aria-label="On this page"><h2>On this page</h2><ul>
{{range .Headings}}<li><a href="#{{.Anchor}}">{{.Name}}</a></li>
{{end}}</ul></aside>{{end}}
</div>
</body>
</html>
`))

// frame puts a page between the menu and the list of its headings.
func (s *Site) frame(p *page) []byte {
	f := framed{
		Title: p.title, Version: s.version, Body: template.HTML(p.body), // of our own pages, their HTML left out
		Home: way(p.name, "index.html"), Headings: p.headings, Search: p.name == searchName,
	}
	f.Root = f.Home[:len(f.Home)-len("index.html")]
	for _, part := range s.outline {
		shown := framedPart{Title: part.title}
		for _, it := range part.items {
			here := it.name == p.name
			shown.Open = shown.Open || here
			shown.Items = append(shown.Items, framedItem{Title: it.title, Way: way(p.name, it.name), Here: here})
		}
		f.Parts = append(f.Parts, shown)
	}
	var b bytes.Buffer
	_ = frame.Execute(&b, f) // into memory, of a template that is tested
	return b.Bytes()
}

// searchPage is where the script shows what it finds.
func searchPage() *page { return &page{name: searchName, title: "Search"} }

// encodeIndex is what the script searches.
func encodeIndex(found []entry) []byte {
	b, _ := json.Marshal(found) // texts only
	return b
}
