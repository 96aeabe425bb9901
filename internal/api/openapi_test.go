package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/openapi.json")

// TestDocument: docs/openapi.json is what the table says.
func TestDocument(t *testing.T) {
	const name = "../../docs/openapi.json"
	text, err := json.MarshalIndent(Document(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *update {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	is, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(is, text) {
		t.Errorf("%s is not what the code says: go test ./internal/api -update", name)
	}
}

// TestTable holds every route to the rules of the house.
func TestTable(t *testing.T) {
	ids, known := map[string]bool{}, map[string]bool{}
	for _, tag := range tags() {
		if one, is := tag.(object); is {
			name, _ := one["name"].(string)
			known[name] = true
		}
	}
	inPath := regexp.MustCompile(`\{([a-z_]+)\}`)
	for _, r := range routes() {
		at := r.method + " " + r.path
		switch {
		case ids[r.id] || r.id == "":
			t.Errorf("%s: the id %q is none, or that of another", at, r.id)
		case !known[r.tag]:
			t.Errorf("%s: there is no tag %q", at, r.tag)
		case r.summary == "" || strings.HasSuffix(r.summary, "."):
			t.Errorf("%s: the summary is no title: %q", at, r.summary)
		case r.text != "" && !strings.HasSuffix(r.text, "."):
			t.Errorf("%s: the text has no end: %q", at, r.text)
		case !r.open && r.right == (right{}):
			t.Errorf("%s: it says no right", at)
		}
		ids[r.id] = true
		named := map[string]bool{}
		for _, p := range r.params {
			if named[p.name] || p.doc == "" || p.kind == "" {
				t.Errorf("%s: the parameter %q", at, p.name)
			}
			named[p.name] = true
			if err := p.check(p.value); p.value != "" && err != nil {
				t.Errorf("%s: the default of %s: %v", at, p.name, err)
			}
		}
		for _, m := range inPath.FindAllStringSubmatch(r.path, -1) {
			if !named[m[1]] {
				t.Errorf("%s: %s is not described", at, m[1])
			}
		}
		if r.right.by != "" && !strings.Contains(r.path, "{"+r.right.by+"}") {
			t.Errorf("%s: %s names nothing", at, r.right.by)
		}
	}
}
