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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const modulePath = "github.com/firthmq/firth"

// fileUses lists who may touch files without kit/vfs: path below the root of the repository, and what
// it may use there.
var fileUses = map[string][]string{
	// What an operator writes is not the log's.
	"internal/node/config.go":     {"os.ReadFile"},
	"internal/kit/given/given.go": {"os.ReadFile", "os.Stat"},

	"internal/kit/given/mode_unix.go":              {"syscall.Stat_t"},
	"internal/kit/secure/securetest/securetest.go": {"os.WriteFile", "os.Rename"},
	"internal/mqtt/poller_linux.go":                {"os.NewFile"}, // of epoll's descriptor
	// A socket is a file of the system's.
	"internal/handover/receive.go":  {"os.NewFile"},
	"internal/handover/own_unix.go": {"os.NewFile"},
	"internal/handover/next.go":     {"os.Pipe"},
	"internal/node/unixsocket.go":   {"os.Chmod", "os.Lstat", "os.Remove", "os.SameFile"},
	"internal/mqtt/socket_linux.go": {"syscall.RawSyscall6", "syscall.Syscall"},
	"cmd/firth/admin.go":            {"os.ReadFile"}, // what proves who asks
	"cmd/firth/tls.go":              {"os.ReadFile", "crypto/tls.LoadX509KeyPair"},
	"cmd/firth/audit.go":            {"os.ReadFile", "os.Open"},
	"cmd/firth/cert.go":             {"os.ReadFile", "crypto/tls.LoadX509KeyPair"},
	"cmd/firth/pub.go":              {"os.ReadFile"},
	"cmd/firth/import.go":           {"os.ReadFile", "path/filepath.Glob"},
	"cmd/firth/import_access.go":    {"os.ReadFile"},
	"cmd/firth/demo.go":             {"os.MkdirTemp", "os.RemoveAll"},
	"cmd/firth/docs.go":             {"os.MkdirAll", "os.WriteFile"}, // for a web server
}

// testRooms are rooms that the tests of every room may import besides what the MAP grants it.
var testRooms = []string{
	"access/oidc/oidctest", "access/token", "access/token/tokentest", "hinge", "kit/alloctest", "kit/clock",
	"kit/fault", "kit/logtest", "kit/race", "kit/vfs", "kit/vfs/vfstest", "kit/telemetry",
	"kit/seal", "kit/secure", "kit/secure/securetest",
	"log/record", "log/stream", "log/streamtest", "log/store", "log/cluster", "mqtt/packet", "mqtt/session", "names",
	"node",
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

// pureStrangers are packages of the standard library that a pure room has no use for, with all below them.
var pureStrangers = []string{
	"context", "crypto/rand", "log", "math/rand", "net", "os", "runtime", "sync/atomic", "syscall", "unsafe",
}

// osNames are what every room may use of os: nothing of it touches a file. What begins with Err or Is may too.
var osNames = []string{
	"Args", "Environ", "Exit", "File", "FileMode", "Getenv", "Getpid", "Hostname", "Interrupt", "LinkError",
	"LookupEnv", "PathError", "Signal", "Stderr", "Stdin", "Stdout", "SyscallError",
}

// fileNames are the functions by which other packages of the standard library touch files.
var fileNames = map[string][]string{
	"archive/zip":   {"OpenReader"},
	"crypto/tls":    {"LoadX509KeyPair"},
	"html/template": {"ParseFiles", "ParseGlob"},
	"net/http":      {"Dir", "ListenAndServeTLS", "NewFileTransport", "ServeFile", "ServeTLS"},
	"path/filepath": {"EvalSymlinks", "Glob", "Walk", "WalkDir"},
	"plugin":        {"Open"},
	"text/template": {"ParseFiles", "ParseGlob"},
}

// systemFiles are how the names of the calls of syscall and x/sys/unix begin that touch files.
var systemFiles = []string{
	"Access", "Chdir", "Chmod", "Chown", "Chroot", "Creat", "Faccess", "Fallocate", "Fchdir", "Fchmod", "Fchown",
	"Fdatasync", "Fstat", "Fsync", "Ftruncate", "Getdents", "Lchown", "Link", "Lstat", "Memfd", "Mkdir", "Mkfifo",
	"Mknod", "Mmap", "Mount", "NameToHandle", "Open", "Pread", "Pwrite", "ReadDirent", "Readlink", "Rename", "Rmdir",
	"RawSyscall", "Stat", "Symlink", "Sync", "Syscall", "Truncate", "Unlink", "Utime",
}

// systemNumbers are the system calls that may be made by number, in a file that may make such calls at all.
var systemNumbers = []string{"SYS_FCNTL", "SYS_RECVFROM", "SYS_SENDTO"}

// loggers are the functions that open what logs, by room.
var loggers = map[string][]string{
	"log/store": {"Open"}, "log/cluster": {"Open"}, "kafka": {"Open"}, "mqtt": {"Open"}, "mqtt/fanout": {"New"},
	"mqtt/retain": {"Open"}, "node": {"Start"},
}

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

// inside tells whether the source is part of the binary.
func (s *source) inside() bool { return s.room() != "" || strings.HasPrefix(s.path, "cmd/") }

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
		if !s.isTest() && s.inside() {
			checkFiles(report, s)
		}
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
		if p.pure && !s.isTest() {
			checkPure(report, s)
		}
	}
	checkLoggers(report, all)
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
		case target == modulePath && (p.all || s.isTest()): // the pages, which are no code
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
	return slices.ContainsFunc(granted, func(module string) bool { return below(target, module) })
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

// version is how the path of a module's later versions ends.
var version = regexp.MustCompile(`^v[0-9]+$`)

// selectors calls see for every pkg.Name of an imported package in the source.
func selectors(s *source, see func(n ast.Node, pkg, name string)) {
	names := map[string]string{} // as written in the file -> import path
	for _, imp := range s.file.Imports {
		target := strings.Trim(imp.Path.Value, `"`)
		name := path.Base(target)
		if version.MatchString(name) {
			name = path.Base(path.Dir(target))
		}
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
		if imp.Path.Value == `"io/ioutil"` || imp.Name != nil && imp.Name.Name == "." {
			report("%s: import of %s hides the use of files", s.at(imp), imp.Path.Value)
		}
	}
	selectors(s, func(n ast.Node, pkg, name string) {
		if used := pkg + "." + name; touchesFiles(pkg, name) && !slices.Contains(fileUses[s.path], used) {
			report("%s: %s: only kit/vfs opens files", s.at(n), used)
		}
	})
}

// touchesFiles tells whether a name of a package from outside the house opens, changes or looks for files.
func touchesFiles(pkg, name string) bool {
	begins := func(with string) bool { return strings.HasPrefix(name, with) }
	switch pkg {
	case "os":
		return !slices.Contains(osNames, name) && !begins("Err") && !begins("Is")
	case "syscall", "golang.org/x/sys/unix":
		return slices.ContainsFunc(systemFiles, begins) || begins("SYS_") && !slices.Contains(systemNumbers, name)
	}
	return slices.Contains(fileNames[pkg], name)
}

// checkPure looks for goroutines, what they talk through, locks, clocks, chance, files and sockets.
func checkPure(report reporter, s *source) {
	for _, imp := range s.file.Imports {
		target := strings.Trim(imp.Path.Value, `"`)
		plain := target == "net/netip" || target == "net/url" // only names
		if !plain && slices.ContainsFunc(pureStrangers, func(tree string) bool { return below(target, tree) }) {
			report("%s: pure room imports %s", s.at(imp), target)
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			report("%s: pure room starts a goroutine", s.at(n))
		case *ast.ChanType:
			report("%s: pure room has a channel", s.at(n))
		case *ast.SelectStmt:
			report("%s: pure room waits in a select", s.at(n))
		case *ast.SendStmt:
			report("%s: pure room sends on a channel", s.at(n))
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				report("%s: pure room receives from a channel", s.at(n))
			}
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

// checkLoggers wants the tests of a folder that open what logs to know logtest: an error that is only logged is one.
func checkLoggers(report reporter, all []*source) {
	opens, knows := map[string]string{}, map[string]bool{}
	for _, s := range all {
		if !s.isTest() || !s.inside() {
			continue
		}
		dir := path.Dir(s.path)
		selectors(s, func(n ast.Node, pkg, name string) {
			room, inside := strings.CutPrefix(pkg, modulePath+"/internal/")
			if inside && slices.Contains(loggers[room], name) {
				opens[dir] = s.at(n)
			}
			knows[dir] = knows[dir] || room == "kit/logtest"
		})
		ast.Inspect(s.file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if f, ok := call.Fun.(*ast.Ident); ok && slices.Contains(loggers[s.room()], f.Name) {
					opens[dir] = s.at(n)
				}
			}
			return true
		})
	}
	for dir, at := range opens {
		if !knows[dir] {
			report("%s: opens what logs: give it a logtest.New", at)
		}
	}
}

// below tells whether a package or room is another one or lies in its tree.
func below(target, tree string) bool {
	return target == tree || strings.HasPrefix(target, tree+"/")
}

// unused gives the rows of the MAP without a package, the grants that no code of the room uses (its tests do
// not count) and the permissions above that nobody takes.
func unused(rooms map[string]*plot, all []*source) (wrong []string) {
	imports, touched, lived := map[string][]string{}, map[string]bool{}, map[string]bool{}
	for _, s := range all {
		lived[s.room()] = true
		if s.isTest() {
			continue
		}
		for _, imp := range s.file.Imports {
			target := strings.TrimPrefix(strings.Trim(imp.Path.Value, `"`), modulePath+"/internal/")
			imports[s.room()] = append(imports[s.room()], target)
		}
		selectors(s, func(_ ast.Node, pkg, name string) { touched[s.path+" "+pkg+"."+name] = true })
	}
	for _, p := range rooms {
		if !lived[p.room] {
			wrong = append(wrong, fmt.Sprintf("internal/MAP: %s has no package", p.room))
			continue
		}
		for _, grant := range p.imports {
			if !slices.Contains(imports[p.room], grant) {
				wrong = append(wrong, fmt.Sprintf("internal/MAP: %s does not import %s", p.room, grant))
			}
		}
		for _, grant := range p.modules {
			if !slices.ContainsFunc(imports[p.room], func(target string) bool { return below(target, grant) }) {
				wrong = append(wrong, fmt.Sprintf("internal/MAP: %s does not use %s", p.room, grant))
			}
		}
	}
	for file, uses := range fileUses {
		for _, use := range uses {
			if !touched[file+" "+use] {
				wrong = append(wrong, fmt.Sprintf("fileUses: %s does not use %s", file, use))
			}
		}
	}
	slices.Sort(wrong)
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
	all := loadSources(t)
	for _, w := range slices.Concat(judge(rooms, all), unused(rooms, all)) {
		t.Error(w)
	}
}
