package internal

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// The bounds of size.
const (
	maxFileLines     = 800
	maxTestFileLines = 1500
	maxFuncLines     = 70
	maxLiteralLines  = 40 // of a function without a name, wherever it stands
	maxParams        = 5
	maxColumns       = 120 // a tab counts as one, as in lll
)

var (
	unowned = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	owned   = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b ?\(#\d+\)`)
	banner  = regexp.MustCompile(`^//\s*([-=*#~_+/─━═])[-=*#~_+/─━═]{2,}|[-=*#~_+/─━═]{4,}\s*$`)
)

// tidy gives what is wrong with the looks of sources.
func tidy(all []*source) (wrong []string) {
	report := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	checkPackageDocs(report, all)
	for _, s := range all {
		checkLines(report, s)
		checkComments(report, s)
		checkLiterals(report, s)
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				checkFunc(report, s, f)
			}
			if !s.isTest() && s.file.Name.Name != "main" {
				checkDoc(report, s, d)
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

// checkPackageDocs wants one file of each package to say what the package is.
func checkPackageDocs(report reporter, all []*source) {
	first, told := map[string]*source{}, map[string]bool{}
	for _, s := range all {
		dir := path.Dir(s.path)
		if first[dir] == nil || first[dir].isTest() && !s.isTest() {
			first[dir] = s
		}
		told[dir] = told[dir] || s.file.Doc.Text() != "" && !s.isTest()
	}
	for dir, s := range first {
		if !told[dir] && !s.isTest() {
			report("%s: package %s has no doc comment", s.path, s.file.Name.Name)
		}
	}
}

func checkLines(report reporter, s *source) {
	lines := strings.Split(strings.TrimSuffix(s.text, "\n"), "\n")
	most := maxFileLines
	if s.isTest() {
		most = maxTestFileLines
	}
	if len(lines) > most {
		report("%s: %d lines, at most %d", s.path, len(lines), most)
	}
	for i, line := range lines {
		if columns := utf8.RuneCountInString(line); columns > maxColumns {
			report("%s:%d: %d columns, at most %d", s.path, i+1, columns, maxColumns)
		}
	}
}

func checkComments(report reporter, s *source) {
	for _, group := range s.file.Comments {
		for _, c := range group.List {
			if len(unowned.FindAllString(c.Text, -1)) > len(owned.FindAllString(c.Text, -1)) {
				report("%s: write the issue beside it, as (#12), or do it now: %s", s.at(c), firstLine(c.Text))
			}
			if banner.MatchString(firstLine(c.Text)) {
				report("%s: banner comment", s.at(c))
			}
		}
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func checkFunc(report reporter, s *source, f *ast.FuncDecl) {
	lines := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
	if lines > maxFuncLines && !strings.Contains(f.Doc.Text(), "Long: ") {
		report("%s: %s has %d lines, at most %d, or its doc says Long: and why",
			s.at(f), f.Name.Name, lines, maxFuncLines)
	}
	if params := f.Type.Params.NumFields(); params > maxParams {
		report("%s: %s takes %d arguments, at most %d", s.at(f), f.Name.Name, params, maxParams)
	}
}

// checkLiterals wants what is long to have a name. A long function may say Long:, its literals may not.
func checkLiterals(report reporter, s *source) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		f, ok := n.(*ast.FuncLit)
		if !ok {
			return true
		}
		if lines := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; lines > maxLiteralLines {
			report("%s: function literal of %d lines, at most %d", s.at(f), lines, maxLiteralLines)
		}
		return true
	})
}

// checkDoc wants a comment on every exported name; one on a group of constants or variables will do.
func checkDoc(report reporter, s *source, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc.Text() == "" && (d.Recv == nil || exportedReceiver(d)) {
			report("%s: exported %s has no comment", s.at(d), d.Name.Name)
		}
	case *ast.GenDecl:
		if d.Doc.Text() != "" {
			return
		}
		for _, spec := range d.Specs {
			for _, name := range undocumented(spec) {
				report("%s: exported %s has no comment", s.at(name), name.Name)
			}
		}
	}
}

func exportedReceiver(f *ast.FuncDecl) bool {
	t := f.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// undocumented gives the exported names of a declaration that has no comment of its own.
func undocumented(spec ast.Spec) []*ast.Ident {
	var names []*ast.Ident
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Doc.Text() == "" && spec.Comment.Text() == "" {
			names = []*ast.Ident{spec.Name}
		}
	case *ast.ValueSpec:
		if spec.Doc.Text() == "" && spec.Comment.Text() == "" {
			names = spec.Names
		}
	}
	return slices.DeleteFunc(slices.Clone(names), func(n *ast.Ident) bool { return !n.IsExported() })
}

// TestTidy holds every file to the sizes and words that CONTRIBUTING.md promises its readers.
func TestTidy(t *testing.T) {
	for _, w := range tidy(loadSources(t)) {
		t.Error(w)
	}
}
