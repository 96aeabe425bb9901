package mqtt_test

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every statement of the specification that concerns a server has a line that keeps it and a test that proves it. They
// have its number as a tag: [MQTT-3.1.2-4] of MQTT 5.0, [MQTT-3.1.2-4 of 3.1.1]. docs/conformance/mqtt.md is made of
// the tags.

var update = flag.Bool("update", false, "write docs/conformance/mqtt.md")

const (
	root       = "../.."
	statements = root + "/docs/conformance/mqtt-statements.txt"
	openOnes   = root + "/docs/conformance/mqtt-open.txt"
	page       = root + "/docs/conformance/mqtt.md"
)

// statement is one of the specification, and where it is kept.
type statement struct {
	number string // 3.1.2-4, or 3.1.2-4 of 3.1.1
	client bool   // only a client can keep it
	twin   string // the statement of 5.0 that asks the same, for one of 3.1.1
	text   string
	open   string // why it has no code or no test yet
	code   []site
	tests  []site
}

// site is a declaration that has a tag.
type site struct{ room, name, file string }

func (p site) String() string {
	return fmt.Sprintf("[%s `%s`](../../%s)", p.room, p.name, p.file)
}

// TestStatements holds the page to the tags, and the tags to the statements.
func TestStatements(t *testing.T) {
	all, order := readStatements(t)
	readOpen(t, all)
	readTags(t, all)
	for _, number := range order {
		s := all[number]
		if twin := all[s.twin]; twin != nil {
			s.code = append(s.code, twin.code...)
			s.text = strings.TrimSuffix(twin.text+"; "+s.text, "; ")
		}
		s.code, s.tests = unique(s.code), unique(s.tests)
	}
	for _, number := range order {
		switch s := all[number]; {
		case s.client && s.open != "":
			t.Errorf("[MQTT-%s] is for clients only, but mqtt-open.txt lists it", number)
		case s.client:
		case s.open != "" && len(s.code) > 0 && len(s.tests) > 0:
			t.Errorf("[MQTT-%s] has code and a test: take it from mqtt-open.txt", number)
		case s.open == "" && len(s.code) == 0:
			t.Errorf("[MQTT-%s] %s: no line has its tag", number, s.text)
		case s.open == "" && len(s.tests) == 0:
			t.Errorf("[MQTT-%s] %s: no test has its tag", number, s.text)
		}
	}
	made := makePage(all, order)
	if *update {
		if err := os.WriteFile(page, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if is, err := os.ReadFile(page); err != nil || !bytes.Equal(is, made) {
		t.Errorf("docs/conformance/mqtt.md is old: go test ./internal/mqtt -run TestStatements -update (%v)", err)
	}
}

// fields reads the lines of a table with n columns.
func fields(t *testing.T, file string, n int, visit func([]string)) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		columns := strings.SplitN(line, " | ", n)
		if len(columns) != n {
			t.Fatalf("%s:%d: %d columns, want %d", file, i+1, len(columns), n)
		}
		visit(columns)
	}
}

func numberOf(version, number string) string {
	if version == "3" {
		return number + " of 3.1.1"
	}
	return number
}

func readStatements(t *testing.T) (all map[string]*statement, order []string) {
	t.Helper()
	all = map[string]*statement{}
	fields(t, statements, 4, func(c []string) {
		s := &statement{number: numberOf(c[0], c[1]), client: c[2] == "client", text: c[3]}
		if same, ok := strings.CutPrefix(c[3], "= "); ok {
			s.twin, s.text, _ = strings.Cut(same, "; ")
			if all[s.twin] == nil {
				t.Errorf("[MQTT-%s] is said to be as %s, which is none", s.number, s.twin)
			}
		}
		if all[s.number] != nil {
			t.Errorf("[MQTT-%s] is there twice", s.number)
		}
		all[s.number] = s
		order = append(order, s.number)
	})
	return all, order
}

func readOpen(t *testing.T, all map[string]*statement) {
	t.Helper()
	fields(t, openOnes, 3, func(c []string) {
		if s := all[numberOf(c[0], c[1])]; s == nil {
			t.Errorf("mqtt-open.txt lists %s, which is no statement", c[1])
		} else {
			s.open = c[2]
		}
	})
}

var tag = regexp.MustCompile(`\[MQTT-([^\]]*)\]`)

// readTags finds the tags in the comments of all rooms.
func readTags(t *testing.T, all map[string]*statement) {
	t.Helper()
	err := filepath.WalkDir(root+"/internal", func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || path.Ext(file) != ".go" {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(text, []byte("[MQTT-")) || filepath.Base(file) == "statements_test.go" {
			return err
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, file, text, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, c := range parsed.Comments {
			for _, m := range tag.FindAllStringSubmatch(c.Text(), -1) {
				s := all[strings.Join(strings.Fields(m[1]), " ")]
				if s == nil {
					t.Errorf("%s: [MQTT-%s] is no statement", set.Position(c.Pos()), m[1])
					continue
				}
				note(t, s, site{file: strings.TrimPrefix(filepath.ToSlash(file), root+"/")}, parsed, c)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// note adds the declaration in or above which a comment stands.
func note(t *testing.T, s *statement, p site, f *ast.File, c *ast.CommentGroup) {
	t.Helper()
	p.room = strings.TrimPrefix(path.Dir(p.file), "internal/")
	p.name = f.Name.Name
	for _, d := range f.Decls {
		from := d.Pos()
		if doc := docOf(d); doc != nil {
			from = doc.Pos()
		}
		if c.Pos() >= from {
			p.name = nameOf(d, c.Pos())
		}
	}
	if !strings.HasSuffix(p.file, "_test.go") {
		s.code = append(s.code, p)
		return
	}
	if !strings.HasPrefix(p.name, "Test") && !strings.HasPrefix(p.name, "Fuzz") {
		t.Errorf("%s: [MQTT-%s] is not in a test, but in %s", p.file, s.number, p.name)
	}
	s.tests = append(s.tests, p)
}

func docOf(d ast.Decl) *ast.CommentGroup {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return d.Doc
	case *ast.GenDecl:
		return d.Doc
	}
	return nil
}

// nameOf is the name of what a declaration declares at a position.
func nameOf(d ast.Decl, at token.Pos) (name string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			return d.Name.Name
		}
		receiver := d.Recv.List[0].Type
		if star, ok := receiver.(*ast.StarExpr); ok {
			receiver = star.X
		}
		if generic, ok := receiver.(*ast.IndexExpr); ok {
			receiver = generic.X
		}
		return fmt.Sprintf("%s.%s", receiver, d.Name.Name)
	case *ast.GenDecl:
		for i, spec := range d.Specs {
			if i > 0 && at < spec.Pos() && !isDocOf(spec, at) {
				break
			}
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				name = spec.Name.Name
			case *ast.ValueSpec:
				name = spec.Names[0].Name
			}
		}
	}
	return name
}

func isDocOf(spec ast.Spec, at token.Pos) bool {
	v, ok := spec.(*ast.ValueSpec)
	return ok && v.Doc != nil && at >= v.Doc.Pos()
}

func unique(all []site) []site {
	set := map[site]bool{}
	for _, p := range all {
		set[p] = true
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b site) int {
		return cmp.Or(cmp.Compare(a.room, b.room), cmp.Compare(a.name, b.name), cmp.Compare(a.file, b.file))
	})
}

const intro = `# MQTT conformance

Made from the tags in code and tests, not to be edited: ` + "`go test ./internal/mqtt -run TestStatements -update`" + `

Every normative statement of MQTT 5.0 (its appendix B) and of MQTT 3.1.1 by its number, in our words
([mqtt-statements.txt](mqtt-statements.txt)), with the declarations that keep it and the tests that prove it. A test
fails when one that concerns a server has no code or no test and is not in [mqtt-open.txt](mqtt-open.txt), with a
reason. What conformance cases and clients of others say is in [mqtt-cases.md](mqtt-cases.md) and
[clients.md](clients.md).

`

func makePage(all map[string]*statement, order []string) []byte {
	var b bytes.Buffer
	b.WriteString(intro)
	b.WriteString("| | statements | for clients only | kept and proven | not yet |\n")
	b.WriteString("|---|---|---|---|---|\n")
	for _, version := range []string{"MQTT 5.0", "MQTT 3.1.1"} {
		count, client, open := 0, 0, 0
		for _, number := range order {
			if s := all[number]; s.of(version) {
				count++
				client += btoi(s.client)
				open += btoi(s.open != "")
			}
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", version, count, client, count-client-open, open)
	}
	for _, version := range []string{"MQTT 5.0", "MQTT 3.1.1"} {
		fmt.Fprintf(&b, "\n## %s\n\n| statement | what it asks | code | tests |\n|---|---|---|---|\n", version)
		for _, number := range order {
			if s := all[number]; s.of(version) {
				s.row(&b)
			}
		}
	}
	return b.Bytes()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *statement) of(version string) bool {
	return strings.HasSuffix(s.number, " of 3.1.1") == (version == "MQTT 3.1.1")
}

func (s *statement) row(b *bytes.Buffer) {
	code, tests := join(s.code), join(s.tests)
	switch {
	case s.client:
		code = strings.TrimPrefix(code+", for clients only", ", ")
	case s.open != "":
		tests = strings.TrimPrefix(tests+", **not yet**: "+s.open, ", ")
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s |\n", strings.TrimSuffix(s.number, " of 3.1.1"), s.text, code, tests)
}

func join(places []site) string {
	var b strings.Builder
	for i, p := range places {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p.String())
	}
	return b.String()
}
