// Package assets serves files from memory to browsers: with their type, compressed for who takes that, and not sent
// again to who has them.
//
//	page := assets.New("index.html", text)
//	page.Serve(w, r)
package assets

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
)

// MediaType is that of a file, by its extension: not as the machine has it, which may know others.
func MediaType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".md", ".txt", ".yml":
		return "text/plain; charset=utf-8"
	case ".json":
		return "application/json"
	case ".svg":
		return "image/svg+xml"
	case ".png":
		return "image/png"
	}
	return "application/octet-stream"
}

// File is one that is served. It may be served by many at once.
type File struct {
	mediaType string
	plain     []byte
	tag       string
	gzipped   func() []byte // nil: what it holds is compressed already
}

// New makes a file of what it holds, which is not changed any more. It is compressed when somebody first asks for that.
func New(name string, plain []byte) *File {
	sum := sha256.Sum256(plain)
	f := &File{mediaType: MediaType(name), plain: plain, tag: `"` + hex.EncodeToString(sum[:12]) + `"`}
	if f.mediaType != "image/png" {
		f.gzipped = sync.OnceValue(func() []byte { return compress(plain) })
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

// Bytes are what the file holds.
func (f *File) Bytes() []byte { return f.plain }

// Allowed answers whoever wants something else than to read: 405.
func Allowed(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	http.Error(w, "only GET is known here", http.StatusMethodNotAllowed)
	return false
}

// Missing answers that there is nothing: 404.
func Missing(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, "there is nothing at this path", http.StatusNotFound)
}

// Serve answers with the file, or with 304 who has it. A Cache-Control that is set already stays.
func (f *File) Serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.mediaType)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("ETag", f.tag)
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-cache")
	}
	h.Add("Vary", "Accept-Encoding")
	if slices.Contains(strings.Split(strings.ReplaceAll(r.Header.Get("If-None-Match"), " ", ""), ","), f.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := f.plain
	if f.gzipped != nil && takesGzip(r) {
		h.Set("Content-Encoding", "gzip")
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
