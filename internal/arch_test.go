// Package internal holds the law of the house: arch_test.go keeps the code to the MAP, tidy_test.go
// keeps it readable, sins_test.go proves that both see what they are there to see.
package internal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const modulePath = "github.com/firthmq/firth"

// fileUses lists who may touch files without kit/vfs: path below the root of the repository, and the
// functions of os it may use there.
var fileUses = map[string][]string{
	"internal/node/config.go": {"ReadFile"}, // the configuration file is the operator's, not the log's
}

// testRooms are rooms that the tests of every room may import besides what the MAP grants it.
var testRooms = []string{
	"kit/fault", "kit/vfs", "kit/telemetry", "log/record", "log/stream", "log/streamtest", "log/store", "node",
}

// testModules are modules that every test may import.
var testModules = []string{
	"github.com/cockroachdb/datadriven", "github.com/google/go-cmp", "go.uber.org/goleak",
	"github.com/rogpeppe/go-internal", "github.com/eclipse/paho.golang", "github.com/eclipse/paho.mqtt.golang",
	"github.com/twmb/franz-go", "github.com/prometheus/client_golang", "github.com/prometheus/client_model",
	"github.com/prometheus/common",
}

// vague are names that say nothing about what is in a package.
var vague = []string{
	"util", "utils", "common", "types", "base", "helper", "helpers", "shared", "manager", "misc", "lib",
}

// clockNames are the functions of time that read the clock or wait for it.
var clockNames = []string{
	"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker",
}

// lockNames are the names of sync that a pure room has no use for; a Pool is memory, not a lock.
var lockNames = []string{"Mutex", "RWMutex", "Cond", "NewCond", "WaitGroup", "Locker", "Map"}

// fileNames are the functions of os that touch files.
var fileNames = []string{
	"Open", "OpenFile", "OpenRoot", "OpenInRoot", "Create", "CreateTemp", "ReadFile", "WriteFile", "ReadDir",
	"Remove", "RemoveAll", "Rename", "Mkdir", "MkdirAll", "MkdirTemp", "Truncate", "Link", "Symlink", "Chmod",
	"Chown", "CopyFS", "DirFS",
}

// maxMethods is how many methods an interface may have.
const maxMethods = 9

// source is one Go file.
type source struct {
	path string // below the root of the repository, with slashes
	text string
	file *ast.File
	fset *token.FileSet
}

// room is the name of the source's folder below internal/, or "" for one elsewhere.
func (s *source) room() string {
	dir, inside := strings.CutPrefix(path.Dir(s.path), "internal/")
	if !inside {
		return ""
	}
	return dir
}

func (s *source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

func (s *source) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(n.Pos()).Line)
}

func parse(name, text string) (*source, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &source{path: name, text: text, file: file, fset: fset}, nil
}

// sources parses every Go file of the repository, once for all tests.
var sources = sync.OnceValues(func() ([]*source, error) {
	var all []*source
	root := ".."
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			skip := []string{"testdata", "build", "bin", "node_modules", "vendor"}
			if base := d.Name(); name != root && (strings.HasPrefix(base, ".") || slices.Contains(skip, base)) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		src, err := parse(filepath.ToSlash(rel), string(text))
		if err != nil {
			return err
		}
		all = append(all, src)
		return nil
	})
	return all, err
})

// plot is one line of the MAP.
type plot struct {
	floor   int
	pure    bool
	room    string
	all     bool     // may import everything
	imports []string // rooms
	modules []string // from outside, with all below them
}

// readMap reads the MAP. A line is: floor, perhaps "pure", room, what it may import, purpose.
func readMap(text string) (map[string]*plot, error) {
	var lines [][]string
	rooms := map[string]*plot{}
	for number, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		floor, err := strconv.Atoi(words[0])
		if err != nil || len(words) < 3 {
			return nil, fmt.Errorf("internal/MAP:%d: want floor, room, imports, purpose", number+1)
		}
		words = words[1:]
		p := &plot{floor: floor, pure: words[0] == "pure"}
		if p.pure {
			words = words[1:]
		}
		p.room = words[0]
		if rooms[p.room] != nil {
			return nil, fmt.Errorf("internal/MAP:%d: %s is listed twice", number+1, p.room)
		}
		rooms[p.room] = p
		lines = append(lines, words)
	}
	for _, words := range lines {
		if purpose := rooms[words[0]].grant(words[1:], rooms); len(purpose) == 0 {
			return nil, fmt.Errorf("internal/MAP: %s has no purpose", words[0])
		}
	}
	return rooms, nil
}

// grant reads what a room may import up to the first word of its purpose, and gives the rest.
func (p *plot) grant(words []string, rooms map[string]*plot) (purpose []string) {
	for i, w := range words {
		switch {
		case w == "-":
		case w == "*":
			p.all = true
		case strings.HasPrefix(w, "+"):
			p.modules = append(p.modules, w[1:])
		case rooms[w] != nil:
			p.imports = append(p.imports, w)
		default:
			return words[i:]
		}
	}
	return nil
}

// judge holds sources to the MAP and gives what is wrong.
func judge(rooms map[string]*plot, all []*source) (wrong []string) {
	report := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, p := range rooms {
		for _, other := range p.imports {
			below := rooms[other].floor < p.floor || p.floor == 0 && rooms[other].floor == 0
			if !below {
				report("internal/MAP: %s is not above %s and may not import it", p.room, other)
			}
		}
	}
	unlisted := map[string]bool{}
	for _, s := range all {
		room := s.room()
		if room == "" {
			continue
		}
		p := rooms[room]
		if p == nil {
			if !s.isTest() && !unlisted[room] {
				unlisted[room] = true
				report("%s: room %s is not in internal/MAP", s.path, room)
			}
			p = &plot{room: room, all: true}
		}
		checkImports(report, p, s)
		checkNames(report, s)
		if !s.isTest() {
			checkFiles(report, s)
			if p.pure {
				checkPure(report, s)
			}
		}
	}
	wrong = append(wrong, wideInterfaces(all)...)
	slices.Sort(wrong)
	return wrong
}

type reporter func(format string, args ...any)

func checkImports(report reporter, p *plot, s *source) {
	for _, imp := range s.file.Imports {
		target, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			report("%s: import %s", s.at(imp), imp.Path.Value)
			continue
		}
		other, inside := strings.CutPrefix(target, modulePath+"/internal/")
		switch {
		case inside:
			if apart(p.room, other) {
				report("%s: %s imports %s: the doors meet in the log only", s.at(imp), p.room, other)
			} else if !p.mayEnter(other, s.isTest()) {
				report("%s: %s may not import %s", s.at(imp), p.room, other)
			}
		case strings.HasPrefix(target, modulePath):
			report("%s: %s imports %s, which is above the house", s.at(imp), p.room, target)
		case !p.mayUse(target, s.isTest()):
			report("%s: %s may not use the module %s", s.at(imp), p.room, target)
		}
	}
}

// apart tells whether one room belongs to the MQTT door and the other to the Kafka door.
func apart(a, b string) bool {
	door := func(room string) string {
		tree, _, _ := strings.Cut(room, "/")
		if tree == "mqtt" || tree == "kafka" {
			return tree
		}
		return ""
	}
	return door(a) != "" && door(b) != "" && door(a) != door(b)
}

func (p *plot) mayEnter(other string, test bool) bool {
	if p.all || slices.Contains(p.imports, other) {
		return true
	}
	return test && (other == p.room || slices.Contains(testRooms, other))
}

func (p *plot) mayUse(target string, test bool) bool {
	first, _, _ := strings.Cut(target, "/")
	if p.all || !strings.Contains(first, ".") { // the standard library has no dot
		return true
	}
	granted := p.modules
	if test {
		granted = slices.Concat(granted, testModules)
	}
	return slices.ContainsFunc(granted, func(module string) bool {
		return target == module || strings.HasPrefix(target, module+"/")
	})
}

func checkNames(report reporter, s *source) {
	folder, name := path.Base(path.Dir(s.path)), s.file.Name.Name
	for _, n := range []string{folder, strings.TrimSuffix(name, "_test")} {
		if slices.Contains(vague, n) {
			report("%s: a package named %s says nothing: name what it holds", s.path, n)
			break
		}
	}
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			report("%s: func init: nothing happens by being imported", s.at(f))
		}
	}
}

// selectors calls see for every pkg.Name of an imported package in the source.
func selectors(s *source, see func(n ast.Node, pkg, name string)) {
	names := map[string]string{} // as written in the file -> import path
	for _, imp := range s.file.Imports {
		target := strings.Trim(imp.Path.Value, `"`)
		name := path.Base(target)
		if imp.Name != nil {
			name = imp.Name.Name
		}
		names[name] = target
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && names[x.Name] != "" {
				see(sel, names[x.Name], sel.Sel.Name)
			}
		}
		return true
	})
}

func checkFiles(report reporter, s *source) {
	if s.room() == "kit/vfs" {
		return
	}
	for _, imp := range s.file.Imports {
		if imp.Path.Value == `"io/ioutil"` || imp.Path.Value == `"os"` && imp.Name != nil && imp.Name.Name == "." {
			report("%s: import of %s hides the use of files", s.at(imp), imp.Path.Value)
		}
	}
	selectors(s, func(n ast.Node, pkg, name string) {
		if pkg == "os" && slices.Contains(fileNames, name) && !slices.Contains(fileUses[s.path], name) {
			report("%s: os.%s: only kit/vfs opens files", s.at(n), name)
		}
	})
}

// checkPure looks for goroutines, locks, clocks, files and sockets.
func checkPure(report reporter, s *source) {
	for _, imp := range s.file.Imports {
		target := strings.Trim(imp.Path.Value, `"`)
		tree, _, _ := strings.Cut(target, "/")
		plain := target == "net/netip" || target == "net/url" // only names
		if (tree == "os" || tree == "net" || tree == "syscall") && !plain {
			report("%s: pure room imports %s", s.at(imp), target)
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if g, ok := n.(*ast.GoStmt); ok {
			report("%s: pure room starts a goroutine", s.at(g))
		}
		return true
	})
	selectors(s, func(n ast.Node, pkg, name string) {
		if pkg == "time" && slices.Contains(clockNames, name) {
			report("%s: pure room uses time.%s: time comes in as an argument", s.at(n), name)
		}
		if pkg == "sync" && slices.Contains(lockNames, name) {
			report("%s: pure room uses sync.%s", s.at(n), name)
		}
	})
}

// wideInterfaces finds interfaces with more than maxMethods methods. Those of an embedded interface
// count if it is of the same package; one of another package is held to the bound there.
func wideInterfaces(all []*source) (wrong []string) {
	known := map[string]*ast.InterfaceType{} // folder and name
	type place struct {
		s    *source
		spec *ast.TypeSpec
	}
	var places []place
	for _, s := range all {
		ast.Inspect(s.file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if it, ok := spec.Type.(*ast.InterfaceType); ok {
					known[path.Dir(s.path)+"."+spec.Name.Name] = it
					places = append(places, place{s, spec})
				}
			}
			return true
		})
	}
	var count func(dir string, it *ast.InterfaceType) int
	count = func(dir string, it *ast.InterfaceType) (total int) {
		for _, m := range it.Methods.List {
			total += len(m.Names)
			if x, ok := m.Type.(*ast.Ident); ok && known[dir+"."+x.Name] != nil {
				total += count(dir, known[dir+"."+x.Name])
			}
		}
		return total
	}
	for _, p := range places {
		if n := count(path.Dir(p.s.path), known[path.Dir(p.s.path)+"."+p.spec.Name.Name]); n > maxMethods {
			wrong = append(wrong, fmt.Sprintf("%s: interface %s has %d methods, at most %d",
				p.s.at(p.spec), p.spec.Name.Name, n, maxMethods))
		}
	}
	return wrong
}

func loadSources(t *testing.T) []*source {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d Go files found: the test looks in the wrong place", len(all))
	}
	return all
}

// TestMap holds every room to internal/MAP.
func TestMap(t *testing.T) {
	text, err := os.ReadFile("MAP")
	if err != nil {
		t.Fatal(err)
	}
	rooms, err := readMap(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range judge(rooms, loadSources(t)) {
		t.Error(w)
	}
}
