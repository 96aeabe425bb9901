package console

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/assets"
)

// ask asks for a path with headers, given as name and value.
func ask(t *testing.T, method, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, "http://localhost/", http.NoBody)
	r.URL.Path = path
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	New().ServeHTTP(w, r)
	return w
}

const page = "text/html,application/xhtml+xml,*/*;q=0.8"

// TestFiles: each file is what was built, and has its type, the policy and how long it may be kept.
func TestFiles(t *testing.T) {
	built := os.DirFS("dist")
	names, err := fs.Glob(built, "assets/*")
	if err != nil || len(names) < 3 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, name := range append(names, "index.html", "icon.svg", "licenses.md") {
		want, err := fs.ReadFile(built, name)
		if err != nil {
			t.Fatal(err)
		}
		cache := "no-cache"
		if strings.HasPrefix(name, "assets/") {
			cache = "public, max-age=31536000, immutable"
		}
		plain := ask(t, http.MethodGet, "/"+name)
		for header, want := range map[string]string{
			"Content-Type": assets.MediaType(name), "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff",
			"Cache-Control": cache, "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin", "Vary": "Accept-Encoding", "Content-Encoding": "",
		} {
			if got := plain.Header().Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", name, header, got, want)
			}
		}
		if strings.HasPrefix(assets.MediaType(name), "application/") {
			t.Errorf("%s: it has no media type of its own", name)
		}
		if got := plain.Body.Bytes(); plain.Code != http.StatusOK || !bytes.Equal(got, want) {
			t.Errorf("%s: status %d, %d bytes, want %d", name, plain.Code, len(got), len(want))
		}
		checkOtherForms(t, name, plain.Header().Get("ETag"), want)
	}
}

// checkOtherForms wants of a file that it is the same by gzip, and not sent to who has it already or asks for no body.
func checkOtherForms(t *testing.T, name, tag string, want []byte) {
	t.Helper()
	packed := ask(t, http.MethodGet, "/"+name, "Accept-Encoding", "br, gzip")
	unpack, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if got, err := io.ReadAll(unpack); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s, unpacked: %d bytes, %v, want %d", name, len(got), err, len(want))
	}
	known := ask(t, http.MethodGet, "/"+name, "If-None-Match", `"other", W/"x", `+tag)
	if got := known.Body.Bytes(); known.Code != http.StatusNotModified || len(got) > 0 {
		t.Errorf("%s, known: status %d, %d bytes", name, known.Code, len(got))
	}
	if got := ask(t, http.MethodHead, "/"+name).Body.Bytes(); len(got) > 0 {
		t.Errorf("%s: HEAD has %d bytes", name, len(got))
	}
}

// TestPaths: what is no file is no path, whatever it looks like; a view is one for browsers only.
func TestPaths(t *testing.T) {
	want := map[string]int{
		"/": 200, "/topics": 200, "/topics/a/b": 200, "/sessions/..": 200, "/topics/../../console.go": 200, // the page
		"/nothing": 404, "/topic": 404, "/topicsx": 404, "/api": 404, "/admin/v1/x": 404,
		"/assets": 404, "/assets/": 404, "/dist/index.html": 404, "/../console.go": 404, "/assets/../index.html": 404,
		"//index.html": 404, "/./index.html": 404, `/..\console.go`: 404, "/index.html/": 404, "/INDEX.HTML": 404,
		"/assets/\x00": 404, "": 200, "index.html": 200, "/console.go": 404, "/etc/passwd": 404,
	}
	index, err := dist.ReadFile("dist/index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		answer := ask(t, http.MethodGet, path, "Accept", page)
		got := answer.Body.Bytes()
		if answer.Code != want[path] || want[path] == 200 && !bytes.Equal(got, index) {
			t.Errorf("%q: status %d, want %d: %.60q", path, answer.Code, want[path], got)
		}
	}
	for _, view := range views() {
		if got := ask(t, http.MethodGet, "/"+view, "Accept", "*/*").Code; got != http.StatusNotFound {
			t.Errorf("/%s for a program: status %d", view, got)
		}
	}
	post := ask(t, http.MethodPost, "/", "Accept", page)
	if post.Code != http.StatusMethodNotAllowed || post.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: status %d, Allow %q", post.Code, post.Header().Get("Allow"))
	}
}

// TestViews: each view that the router has is answered, and no other.
func TestViews(t *testing.T) {
	router, err := os.ReadFile("../../../console/src/router.tsx")
	if err != nil {
		t.Fatal(err)
	}
	first := map[string]bool{}
	for _, m := range regexp.MustCompile(`at\("/([^/"]*)`).FindAllStringSubmatch(string(router), -1) {
		first[m[1]] = true
	}
	got, want := slices.Sorted(slices.Values(views())), slices.Sorted(maps.Keys(first))
	if !slices.Equal(got, want) {
		t.Errorf("views are %q, the router has %q", got, want)
	}
}

// TestPage: the page takes scripts and styles from files that are there, and nothing from elsewhere.
func TestPage(t *testing.T) {
	index, err := dist.ReadFile("dist/index.html")
	if err != nil {
		t.Fatal(err)
	}
	c := New()
	refs := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllSubmatch(index, -1)
	if len(refs) < 3 {
		t.Fatalf("%d files are taken", len(refs))
	}
	for _, ref := range refs {
		if c.files[strings.TrimPrefix(string(ref[1]), "/")] == nil {
			t.Errorf("%s is not there", ref[1])
		}
	}
	if m := regexp.MustCompile(`<script[^>]*>[^<]|<style|\son[a-z]+=|\sstyle=|https?:`).Find(index); m != nil {
		t.Errorf("the policy forbids %q", m)
	}
}
