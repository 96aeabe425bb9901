// Package console serves the console, the pages for people that run a node: files made from console/ by
// `npm run build`, embedded here (docs/design/0019-console.md).
//
//	mux.Handle("/", console.New())
//
// The files are the same for everybody and hold nothing of a node: what the pages show they ask the API for, with the
// rights of who looks.
package console

import (
	"embed"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kit/assets"
)

//go:embed dist
var dist embed.FS

// views returns the first segments of the paths that have a view, as console/src/router.tsx has them. Each is answered
// with the one page, which draws the view of its path.
func views() []string {
	return []string{"", "topics", "live", "retained", "sessions", "groups", "drops", "hour", "start", "access", "audit",
		"mapping", "config"}
}

// policy lets a page load what this node serves, and nothing else: no inline script or style, no frame, no form that a
// browser sends by itself, no string that becomes markup.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// Console serves the pages and their files.
type Console struct {
	files map[string]*assets.File // by path, without the first slash
}

// New reads what is embedded.
func New() *Console {
	c := &Console{files: map[string]*assets.File{}}
	_ = fs.WalkDir(dist, "dist", func(name string, d fs.DirEntry, err error) error { // what is embedded is there
		if err == nil && !d.IsDir() {
			plain, _ := dist.ReadFile(name)
			c.files[strings.TrimPrefix(name, "dist/")] = assets.New(name, plain)
		}
		return nil
	})
	return c
}

// Wants tells whether a request is of a browser that opens a page; programs get no page at paths that are none.
func Wants(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// ServeHTTP serves a file, or the page at the path of a view. Nothing but what is embedded has a path here.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !assets.Allowed(w, r) {
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	f := c.find(name, r)
	if f == nil {
		assets.Missing(w)
		return
	}
	w.Header().Set("Content-Security-Policy", policy)
	if strings.HasPrefix(name, "assets/") { // its name holds a hash of it
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	f.Serve(w, r)
}

// find is the file of a path.
func (c *Console) find(name string, r *http.Request) *assets.File {
	if f := c.files[name]; f != nil {
		return f
	}
	first, _, _ := strings.Cut(name, "/")
	if (first != "" || name == "") && slices.Contains(views(), first) && Wants(r) {
		return c.files["index.html"]
	}
	return nil
}
