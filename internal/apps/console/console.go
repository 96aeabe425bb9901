// Package console serves the console, the pages for people that run a node: files made from console/ by
// `npm run build`, embedded here (docs/design/0019-console.md).
//
//	mux.Handle("/", console.New())
//
// The files are the same for everybody and hold nothing of a node: what the pages show they ask the API for, with the
// rights of who looks.
package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
)

//go:embed dist
var dist embed.FS

// views returns the first segments of the paths that have a view, as console/src/router.tsx has them. Each is answered
// with the one page, which draws the view of its path.
func views() []string {
	return []string{"", "topics", "live", "retained", "sessions", "groups", "drops", "hour", "start", "access", "audit",
		"mapping", "config"}
}

// mediaType is that of a file, by its extension: not as the machine has it, which may know others.
func mediaType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".md":
		return "text/plain; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return "application/octet-stream"
}

// policy lets a page load what this node serves, and nothing else: no inline script or style, no frame, no form that a
// browser sends by itself, no string that becomes markup.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// file is one that is served.
type file struct {
	mediaType string
	plain     []byte
	tag       string // ETag
	cache     string
	gzipped   func() []byte // made when somebody first takes it
}

// Console serves the pages and their files.
type Console struct {
	files map[string]*file // by path, without the first slash
}

// New reads what is embedded. It compresses a file when somebody first asks for it.
func New() *Console {
	c := &Console{files: map[string]*file{}}
	_ = fs.WalkDir(dist, "dist", func(name string, d fs.DirEntry, err error) error { // what is embedded is there
		if err == nil && !d.IsDir() {
			c.files[strings.TrimPrefix(name, "dist/")] = load(name)
		}
		return nil
	})
	return c
}

func load(name string) *file {
	plain, _ := dist.ReadFile(name) // it is embedded
	sum := sha256.Sum256(plain)
	f := &file{mediaType: mediaType(name), plain: plain, tag: `"` + hex.EncodeToString(sum[:12]) + `"`,
		cache: "no-cache", gzipped: sync.OnceValue(func() []byte { return compress(plain) })}
	if strings.HasPrefix(name, "dist/assets/") { // its name holds a hash of it
		f.cache = "public, max-age=31536000, immutable"
	}
	return f
}

func compress(plain []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is one
	_, _ = w.Write(plain)                                 // into memory
	_ = w.Close()
	return b.Bytes()
}

// Wants tells whether a request is of a browser that opens a page; programs get no page at paths that are none.
func Wants(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }

// ServeHTTP serves a file, or the page at the path of a view. Nothing but what is embedded has a path here.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET is known here", http.StatusMethodNotAllowed)
		return
	}
	f := c.find(r)
	if f == nil {
		h.Set("Cache-Control", "no-store")
		http.Error(w, "there is nothing at this path", http.StatusNotFound)
		return
	}
	h.Set("Content-Type", f.mediaType)
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", f.cache)
	h.Set("ETag", f.tag)
	h.Add("Vary", "Accept-Encoding")
	f.send(w, r)
}

// find is the file of a path.
func (c *Console) find(r *http.Request) *file {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if f := c.files[name]; f != nil {
		return f
	}
	first, _, _ := strings.Cut(name, "/")
	if (first != "" || name == "") && slices.Contains(views(), first) && Wants(r) {
		return c.files["index.html"]
	}
	return nil
}

func (f *file) send(w http.ResponseWriter, r *http.Request) {
	if slices.Contains(strings.Split(strings.ReplaceAll(r.Header.Get("If-None-Match"), " ", ""), ","), f.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := f.plain
	if takesGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		body = f.gzipped()
	}
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that has gone needs no answer
	}
}

// takesGzip tells whether a client takes gzip (RFC 9110, section 12.5.3). Who weighs it gets it plain.
func takesGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			return true
		}
	}
	return false
}
