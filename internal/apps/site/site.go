// Package site makes a site of the pages in Markdown: the documentation as a node serves it at /docs/, and as files
// that any web server can serve.
//
//	docs := site.New(firth.Pages(), "1.2.0")
//	mux.Handle("/docs/", http.StripPrefix("/docs/", docs))
//
// The list of pages is docs/README.md itself: its headings are the parts of the menu, its items their pages.
package site

import (
	_ "embed" // the style and the script
	"io/fs"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/firthmq/firth/internal/kit/assets"
)

const (
	outlineName = "docs/README.md" // the page that lists the others
	searchName  = "search.html"
	indexName   = "search.json"
)

//go:embed style.css
var style []byte

//go:embed search.js
var script []byte

// policy lets a page load what the site has, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// Site is the pages and what they show. It may be asked by many at once.
type Site struct {
	files   fs.FS
	version string
	outline []part
	sources map[string]string // of each page and file of the site, its path in the repository

	once  sync.Once
	made  map[string]*assets.File // by their names in the site
	fault error
}

// New makes a site of the pages that docs/README.md of files lists. Nothing is read before somebody asks.
func New(files fs.FS, version string) *Site { return &Site{files: files, version: version} }

// Files are the files of the site by their names in it. It errs if a page cannot be read.
func (s *Site) Files() (map[string][]byte, error) {
	if err := s.ready(); err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for name, f := range s.made {
		all[name] = f.Bytes()
	}
	return all, nil
}

// ServeHTTP serves a file by its name in the site, which is the path without the first slash.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !assets.Allowed(w, r) {
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" {
		name = "index.html"
	}
	if err := s.ready(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	f := s.made[name]
	if f == nil {
		assets.Missing(w)
		return
	}
	w.Header().Set("Content-Security-Policy", policy)
	f.Serve(w, r)
}

// ready makes the site when somebody first asks for something of it.
func (s *Site) ready() error {
	s.once.Do(func() { s.fault = s.build() })
	return s.fault
}

func (s *Site) build() error {
	text, err := fs.ReadFile(s.files, outlineName)
	if err != nil {
		return err
	}
	if s.sources, err = sourcesOf(s.files); err != nil {
		return err
	}
	s.outline = outlineOf(string(text), s.nameOf)
	s.made = map[string]*assets.File{
		"style.css": assets.New("style.css", style), "search.js": assets.New("search.js", script),
	}
	var found []entry
	for _, name := range s.inOrder() {
		text, err := fs.ReadFile(s.files, s.sources[name])
		if err != nil {
			return err
		}
		if path.Ext(s.sources[name]) == ".md" {
			p := s.render(name, text)
			found = append(found, p.entries...)
			text = s.frame(p)
		}
		s.made[name] = assets.New(name, text)
	}
	s.made[searchName] = assets.New(searchName, s.frame(searchPage()))
	s.made[indexName] = assets.New(indexName, encodeIndex(found))
	return nil
}

// inOrder are the names of the site in the order of the outline, and then those that it does not have: of what fits a
// search alike, a reader wants first what a newcomer would read first.
func (s *Site) inOrder() (names []string) {
	seen := map[string]bool{}
	for _, part := range s.outline {
		for _, it := range part.items {
			if !seen[it.name] {
				seen[it.name] = true
				names = append(names, it.name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.sources)) {
		if !seen[name] {
			names = append(names, name)
		}
	}
	return names
}

// sourcesOf gives each file a name in the site: those of docs/ without that folder, pages as HTML, README as index.
// What is elsewhere lies below "repository".
func sourcesOf(files fs.FS) (map[string]string, error) {
	sources := map[string]string{}
	err := fs.WalkDir(files, ".", func(source string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && path.Ext(source) != ".go" {
			sources[siteName(source)] = source
		}
		return err
	})
	return sources, err
}

// siteName is where a file of the repository lies in the site.
func siteName(source string) string {
	name, inside := strings.CutPrefix(source, "docs/")
	if !inside {
		name = "repository/" + source
	}
	if base, page := strings.CutSuffix(name, ".md"); page {
		if path.Base(base) == "README" {
			base = path.Join(path.Dir(base), "index")
		}
		name = base + ".html"
	}
	return name
}

// nameOf is where a link of the page at one path of the repository leads in the site; nowhere if that has no such file.
func (s *Site) nameOf(source, link string) (name string, known bool) {
	target := path.Join(path.Dir(source), link)
	for _, t := range []string{target, path.Join(target, "README.md")} {
		if name = siteName(t); s.sources[name] == t {
			return name, true
		}
	}
	return "", false
}
