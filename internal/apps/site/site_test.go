package site

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/firthmq/firth"
)

var (
	target   = regexp.MustCompile(`(?:href|src|action)="([^"]*)"`)
	anchored = regexp.MustCompile(` id="([^"]*)"`)
)

// made is the site of the pages as they are, made once for all tests.
var made = sync.OnceValues(func() (map[string][]byte, error) { return New(firth.Pages(), "1.2.3").Files() })

func whole(t *testing.T) map[string]string {
	t.Helper()
	files, err := made()
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for name, text := range files {
		texts[name] = string(text)
	}
	return texts
}

// TestLinksLeadSomewhere: whatever a page of the site refers to is in the site, and so are the headings that it names.
func TestLinksLeadSomewhere(t *testing.T) {
	files := whole(t)
	if len(files) < 100 {
		t.Fatalf("the site has %d files", len(files))
	}
	for name, text := range files {
		if path.Ext(name) != ".html" {
			continue
		}
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			link, err := url.Parse(m[1])
			if err != nil || link.Scheme != "" {
				continue
			}
			to := name
			if link.Path != "" {
				to = path.Join(path.Dir(name), link.Path)
			}
			there, known := files[to]
			if !known {
				t.Errorf("%s: there is no %s", name, m[1])
			} else if link.Fragment != "" && !slices.Contains(idsOf(there), link.Fragment) {
				t.Errorf("%s: %s has no %s", name, to, m[1])
			}
		}
		if n := strings.Count(text, "<h1"); n != 1 {
			t.Errorf("%s has %d headings of the first level", name, n)
		}
	}
}

func idsOf(text string) (ids []string) {
	for _, m := range anchored.FindAllStringSubmatch(text, -1) {
		ids = append(ids, m[1])
	}
	return ids
}

// TestEveryPageIsInTheMenu: docs/README.md lists each page of docs/ once.
func TestEveryPageIsInTheMenu(t *testing.T) {
	files := whole(t)
	menu, _, _ := strings.Cut(files["index.html"], "<main")
	for name := range files {
		inside := path.Ext(name) == ".html" && !strings.HasPrefix(name, "repository/") &&
			name != "index.html" && name != searchName
		if n := strings.Count(menu, `<a href="`+name+`"`); inside && n != 1 {
			t.Errorf("docs/README.md lists %s %d times", name, n)
		}
	}
	for name, text := range files {
		if n := strings.Count(text, `aria-current="page"`); n > 1 {
			t.Errorf("%s is in the menu %d times", name, n)
		}
	}
}

// TestSearchKnowsEverything: there is an entry for each command, key, metric, limit, event and alert.
func TestSearchKnowsEverything(t *testing.T) {
	var index []entry
	if err := json.Unmarshal([]byte(whole(t)[indexName]), &index); err != nil {
		t.Fatal(err)
	}
	known := map[string]entry{}
	for _, e := range index {
		known[e.Page+" "+e.Name] = e
	}
	for page, at := range map[string]string{
		"cli":           `(?m)^## (firth .*)$`,
		"configuration": "(?m)^### `([a-z_.0-9]+)`$", "metrics": "(?m)^\\| `(firth_[a-z_]+)` \\|",
		"events": "(?m)^\\| `([^`]+)` \\|", "limits": "(?m)^\\| `([^`]+)`",
	} {
		text, err := firth.Pages().(interface{ ReadFile(string) ([]byte, error) }).ReadFile("docs/" + page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(at).FindAllStringSubmatch(string(text), -1)
		if len(names) < 5 {
			t.Errorf("docs/%s.md has %d entries: the test looks for something else", page, len(names))
		}
		for _, m := range names {
			if e, found := known[page+".html "+m[1]]; !found || e.Anchor == "" {
				t.Errorf("a search does not find %s of docs/%s.md: %+v", m[1], page, e)
			}
		}
	}
	if e := known["runbook/FirthDiskFull.html FirthDiskFull"]; e.Text == "" {
		t.Errorf("a search does not find an alert: %+v", e)
	}
}

// TestRender: what becomes of links, tables, code and HTML.
func TestRender(t *testing.T) {
	files := fstest.MapFS{}
	for name, text := range map[string]string{
		outlineName: "# All\n\n## One\n\n- [First](a.md): x\n- [Second](deep/b.md)\n- [Gone](c.md)\n- not a link\n",
		"docs/a.md": "# A & B\n\nSee [b](deep/b.md#the-end), [top](../README.md), [code](../cmd/x.go), " +
			"[away](https://x.test/), [dir](deep/).\n\n<script>alert(1)</script>\n\n![p](p.svg) " +
			"![gone](q.svg)\n\n## Twice\n\nfirst\n\n## Twice\n\n" +
			"| key | what |\n|---|---|\n| `a.b` | one \\| two |\n| plain | x |\n\n```sh\nx <y>\n```\n",
		"docs/deep/b.md":      "# B\n\n[back](../a.md#twice-1) [self](#the-end)\n\n## The end\n\nlast\n",
		"docs/deep/README.md": "# Deep\n",
		"README.md":           "# Top\n\n[down](docs/a.md)\n", "docs/p.svg": "<svg/>", "docs/docs.go": "package docs",
	} {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	small, err := New(files, "9").Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"a.html": {
			`<title>A &amp; B - Firth</title>`, `href="deep/b.html#the-end"`, `href="repository/index.html"`, `, code, `,
			`href="https://x.test/"`, `href="deep/index.html"`, `<img src="p.svg" alt="p">`, `id="twice-1"`,
			`<tr id="row-ab">`, `x &lt;y&gt;`, `<a href="a.html" aria-current="page">First</a>`, `src="search.js"`,
		},
		"deep/b.html": {`href="../a.html#twice-1"`, `href="#the-end"`, `href="../style.css"`,
			`href="b.html" aria-current`},
		"repository/index.html": {`href="../a.html"`}, "index.html": {"<summary>One</summary>"}, "p.svg": {"<svg/>"},
	} {
		for _, w := range want {
			if !strings.Contains(string(small[name]), w) {
				t.Errorf("%s has no %s:\n%s", name, w, small[name])
			}
		}
	}
	for _, not := range []string{"alert(1)", "q.svg", "c.html", "cmd/x.go"} {
		if strings.Contains(string(small["a.html"]), not) {
			t.Errorf("a.html has %s", not)
		}
	}
	if small["docs.go"] != nil {
		t.Error("the site has a file of Go")
	}
}

// TestWay: links are relative, so that the site may lie anywhere.
func TestWay(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"a.html", "b.html", "b.html"}, {"a.html", "x/b.html", "x/b.html"}, {"x/a.html", "b.html", "../b.html"},
		{"x/a.html", "x/b.html", "b.html"}, {"x/y/a.html", "x/b.html", "../b.html"}, {"x/a.html", "x/y/b.html", "y/b.html"},
		{"x/y/a.html", "z/b.html", "../../z/b.html"}, {"x/a.html", "y/b.html", "../y/b.html"},
	} {
		if got := way(c.from, c.to); got != c.want {
			t.Errorf("from %s to %s: %s, want %s", c.from, c.to, got, c.want)
		}
	}
}

// TestServe: paths, types and the policy.
func TestServe(t *testing.T) {
	s := New(firth.Pages(), "1")
	for _, c := range []struct {
		method, path string
		status       int
		mediaType    string
	}{
		{"GET", "", 200, "text/html; charset=utf-8"}, {"GET", "/index.html", 200, "text/html; charset=utf-8"},
		{"GET", "/runbook/FirthDown.html", 200, "text/html; charset=utf-8"},
		{"HEAD", "/style.css", 200, "text/css; charset=utf-8"},
		{"GET", "/search.js", 200, "text/javascript; charset=utf-8"}, {"GET", "/search.json", 200, "application/json"},
		{"GET", "/console/live.png", 200, "image/png"}, {"GET", "/../README.md", 404, ""}, {"GET", "/README.md", 404, ""},
		{"GET", "/runbook", 404, ""}, {"GET", "//index.html", 404, ""}, {"POST", "/index.html", 405, ""},
	} {
		r := httptest.NewRequest(c.method, "http://localhost/", http.NoBody)
		r.URL.Path = c.path
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		h := w.Header()
		if w.Code != c.status || c.mediaType != "" && (h.Get("Content-Type") != c.mediaType ||
			h.Get("Content-Security-Policy") != policy || h.Get("ETag") == "") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %q: status %d, %v", c.method, c.path, w.Code, h)
		}
	}
}

// TestBrokenPages: pages that cannot be read are an error, and nothing is served.
func TestBrokenPages(t *testing.T) {
	s := New(fstest.MapFS{}, "1")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/", http.NoBody))
	if _, err := s.Files(); err == nil || w.Code != http.StatusInternalServerError {
		t.Errorf("%v, status %d", err, w.Code)
	}
}
