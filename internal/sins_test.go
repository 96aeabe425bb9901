package internal

import (
	"fmt"
	"path"
	"strings"
	"testing"
)

const sinMap = `
# floor room imports purpose
0        kit/fault     -                                   errors
0        kit/vfs       kit/fault +golang.org/x/sys         files
1 pure   log/record    kit/fault +example.com/zip          the currency
2        log/stream    kit/fault log/record                the contract
6        mqtt          kit/fault log/stream                the device door
6        kafka         kit/fault log/stream                the back-end door
8        node          *                                   everything
`

// sin is a file that breaks one rule, and what is to be said about it; with no words, it is innocent.
type sin struct {
	path string
	code string
	want string
}

func (s sin) source(t *testing.T) *source {
	t.Helper()
	code := s.code
	if !strings.Contains(code, "package ") {
		code = "// Package x is here.\npackage x\n" + code
	}
	src, err := parse(s.path, code)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// confess wants wrong to be exactly what the sin is about.
func (s sin) confess(t *testing.T, wrong []string) {
	t.Helper()
	switch {
	case s.want == "" && len(wrong) > 0:
		t.Errorf("innocent code in %s was blamed: %q\n%s", s.path, wrong, strings.TrimSpace(s.code))
	case s.want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0], s.want)):
		t.Errorf("want one finding with %q, got %q\n%s", s.want, wrong, strings.TrimSpace(s.code))
	}
}

func sinRooms(t *testing.T) map[string]*plot {
	t.Helper()
	rooms, err := readMap(sinMap)
	if err != nil {
		t.Fatal(err)
	}
	return rooms
}

func TestTheMapSeesSins(t *testing.T) {
	rooms := sinRooms(t)
	const in = `import "github.com/firthmq/firth/internal/`
	for _, s := range []sin{
		{"internal/log/record/a.go", in + `kit/fault"`, ""},
		{"internal/log/record/a.go", in + `log/stream"`, "log/record may not import log/stream"},
		{"internal/log/record/a_test.go", in + `log/stream"`, ""},
		{"internal/log/record/a_test.go", in + `mqtt"`, "log/record may not import mqtt"},
		{"internal/log/record/a.go", in + `log/record"`, "log/record may not import log/record"},
		{"internal/log/record/a_test.go", in + `log/record"`, ""},
		{"internal/node/a.go", in + `kafka"`, ""},
		{"internal/mqtt/a.go", in + `kafka"`, "the doors meet in the log only"},
		{"internal/mqtt/a_test.go", in + `kafka/wire"`, "the doors meet in the log only"},
		{"internal/kafka/a.go", in + `mqtt/topic"`, "the doors meet in the log only"},
		{"internal/node/a.go", `import "github.com/firthmq/firth/cmd/firth"`, "above the house"},
		{"internal/node/a_test.go", in + "log/store\"\nvar _, _ = store.Open(nil)", "opens what logs"},
		{"internal/node/a_test.go", in + "log/store\"\n" + in + "kit/logtest\"\nvar _, _ = store.Open(logtest.New(nil))", ""},
		{"internal/kafka/a_test.go", "var _, _ = Open(nil)", "opens what logs"},
		{"internal/kafka/a.go", "var _, _ = Open(nil)", ""},
		{"cmd/firth/a_test.go", in + "node\"\nvar _, _ = node.Start(nil, nil)", "opens what logs"},
		{"internal/log/stream/a_test.go", "var _, _ = Open(nil)", ""},
		{"internal/attic/a.go", "", "not in internal/MAP"},
		{"internal/attic/a_test.go", "", ""},

		{"internal/log/record/a.go", `import "example.com/zip/fast"`, ""},
		{"internal/log/record/a.go", `import "example.com/zipper"`, "may not use the module example.com/zipper"},
		{"internal/log/stream/a.go", `import "example.com/zip"`, "may not use the module example.com/zip"},
		{"internal/log/stream/a.go", `import "github.com/google/go-cmp/cmp"`, "may not use the module"},
		{"internal/log/stream/a_test.go", `import "github.com/google/go-cmp/cmp"`, ""},
		{"internal/node/a.go", `import "example.com/anything"`, ""},

		{"internal/log/stream/a.go", "package util", "a package named util says nothing"},
		{"internal/log/stream/a.go", "func init() {}", "func init"},
		{"internal/log/stream/a_test.go", "func init() {}", "func init"},
		{"internal/log/stream/a.go", "type t struct{}\nfunc (t) init() {}", ""},
	} {
		s.confess(t, judge(rooms, []*source{s.source(t)}))
	}
}

// TestImpureRoomsAreSeen wants a pure room to have nothing that waits, nothing that runs beside it, no clock, no
// chance and nothing of the system.
func TestImpureRoomsAreSeen(t *testing.T) {
	rooms := sinRooms(t)
	for _, s := range []sin{
		{"internal/log/record/a.go", `import "os"`, "pure room imports os"},
		{"internal/log/record/a.go", `import "os/exec"`, "pure room imports os/exec"},
		{"internal/log/record/a.go", `import "net"`, "pure room imports net"},
		{"internal/log/record/a.go", `import "net/netip"`, ""},
		{"internal/log/record/a_test.go", `import "net"`, ""},
		{"internal/log/record/a.go", "import \"time\"\nvar _ = time.Second", ""},
		{"internal/log/record/a.go", "import \"time\"\nvar _ = time.Now()", "uses time.Now"},
		{"internal/log/record/a.go", "import clock \"time\"\nvar now = clock.Since", "uses time.Since"},
		{"internal/log/record/a.go", "import \"time\"\nfunc f() { time.Sleep(1) }", "uses time.Sleep"},
		{"internal/log/record/a.go", "import \"time\"\nvar _ = time.After(1)", "uses time.After"},
		{"internal/log/record/a.go", "import \"sync\"\nvar mu sync.Mutex", "uses sync.Mutex"},
		{"internal/log/record/a.go", "import \"sync\"\nvar pool sync.Pool", ""},
		{"internal/log/record/a.go", "func f() { go f() }", "starts a goroutine"},
		{"internal/log/record/a_test.go", "func f() { go f() }", ""},
		{"internal/log/record/a.go", "type t struct { c chan int }", "has a channel"},
		{"internal/log/record/a.go", "func f() { select {} }", "waits in a select"},
		{"internal/log/record/a.go", "func f() { (<-g()) }", "receives from a channel"},
		{"internal/log/record/a.go", "func f() { g() <- 1 }", "sends on a channel"},
		{"internal/log/record/a.go", "import \"sync/atomic\"\nvar n atomic.Int64", "imports sync/atomic"},
		{"internal/log/record/a.go", "import \"context\"", "imports context"},
		{"internal/log/record/a.go", "import \"math/rand\"", "imports math/rand"},
		{"internal/log/record/a.go", "import dice \"math/rand/v2\"", "imports math/rand/v2"},
		{"internal/log/record/a.go", "import \"crypto/rand\"", "imports crypto/rand"},
		{"internal/log/record/a.go", "import \"log/slog\"", "imports log/slog"},
		{"internal/log/record/a.go", "import (\"math\"; \"math/bits\"; \"crypto/sha256\")", ""},
		{"internal/log/record/a_test.go", "import \"math/rand\"\nvar c chan int", ""},
		{"internal/log/stream/a.go", "import \"sync/atomic\"\nvar n atomic.Int64\nvar c chan int", ""},
		{"internal/log/stream/a.go", "import \"time\"\nfunc f() { go f(); time.Sleep(1) }", ""},
	} {
		s.confess(t, judge(rooms, []*source{s.source(t)}))
	}
}

func TestOpenedFilesAreSeen(t *testing.T) {
	rooms := sinRooms(t)
	for _, s := range []sin{
		{"internal/log/stream/a.go", "import \"os\"\nvar _, _ = os.Open(``)", "os.Open: only kit/vfs opens files"},
		{"internal/log/stream/a.go", "import o \"os\"\nvar _ = o.Mkdir(``, 0)", "os.Mkdir"},
		{"internal/log/stream/a.go", "import \"os\"\nvar remove = os.Remove", "os.Remove"},
		{"internal/log/stream/a.go", "import \"os\"\nvar _ = os.Getenv(``)", ""},
		{"internal/log/stream/a.go", "import . \"os\"", "hides the use of files"},
		{"internal/log/stream/a.go", "import \"io/ioutil\"", "hides the use of files"},
		{"internal/log/stream/a_test.go", "import \"os\"\nvar _, _ = os.Open(``)", ""},
		{"internal/kit/vfs/a.go", "import \"os\"\nvar _, _ = os.Open(``)", ""},
		{"internal/node/config.go", "import \"os\"\nvar _, _ = os.ReadFile(``)", ""},
		{"internal/node/config.go", "import \"os\"\nvar _ = os.WriteFile(``, nil, 0)", "os.WriteFile"},
		{"internal/node/other.go", "import \"os\"\nvar _, _ = os.ReadFile(``)", "os.ReadFile"},
		{"internal/log/stream/a.go", "import \"os\"\nvar _, _ = os.Stat(``)", "os.Stat"},
		{"internal/log/stream/a.go", "import \"os\"\nvar _ = os.NewFile(3, ``)", "os.NewFile"},
		{"internal/log/stream/a.go", "import \"os\"\nvar _, _ = os.Stdout, os.ErrNotExist", ""},
		{"internal/log/stream/a.go", "import \"syscall\"\nvar _, _ = syscall.Open(``, 0, 0)", "syscall.Open: only kit/vfs"},
		{"internal/log/stream/a.go", "import \"syscall\"\nvar _ = syscall.Unlink", "syscall.Unlink"},
		{"internal/log/stream/a.go", "import \"syscall\"\nvar _ = syscall.SYS_OPENAT", "syscall.SYS_OPENAT"},
		{"internal/log/stream/a.go", "import \"syscall\"\nvar _ = syscall.RawSyscall6", "syscall.RawSyscall6"},
		{"internal/log/stream/a.go", "import \"syscall\"\nvar _, _ = syscall.Close, syscall.EINTR", ""},
		{"internal/node/a.go", "import \"golang.org/x/sys/unix\"\nvar _ = unix.Openat2", "unix.Openat2: only kit/vfs"},
		{"internal/node/a.go", "import u \"golang.org/x/sys/unix\"\nvar _ = u.Renameat", "unix.Renameat"},
		{"internal/node/a.go", "import \"golang.org/x/sys/unix\"\nvar _ = unix.SetsockoptInt", ""},
		{"internal/kit/vfs/a.go", "import \"golang.org/x/sys/unix\"\nvar _ = unix.Openat2", ""},
		{"internal/mqtt/socket_linux.go", "import \"syscall\"\nvar _ = syscall.RawSyscall6", ""},
		{"internal/node/a.go", "import . \"golang.org/x/sys/unix\"", "hides the use of files"},
		{"internal/node/a.go", "import \"path/filepath\"\nvar _ = filepath.WalkDir", "path/filepath.WalkDir"},
		{"internal/node/a.go", "import \"path/filepath\"\nvar _ = filepath.Join", ""},
		{"internal/node/a.go", "import \"net/http\"\nvar _ = http.Dir(``)", "net/http.Dir"},
		{"internal/node/a.go", "import \"crypto/tls\"\nvar _ = tls.LoadX509KeyPair", "tls.LoadX509KeyPair"},
		{"cmd/firth/a.go", "import \"os\"\nvar _, _ = os.Create(``)", "os.Create"},
		{"cmd/firth/a_test.go", "import \"os\"\nvar _, _ = os.Create(``)", ""},
		{"bench/a.go", "import \"os\"\nvar _, _ = os.Create(``)", ""},
	} {
		s.confess(t, judge(rooms, []*source{s.source(t)}))
	}
}

func TestUnusedGrantsAreSeen(t *testing.T) {
	rooms, err := readMap("0 a - one\n1 b a +example.com/zip two\n2 c a b three\n9 d * all")
	if err != nil {
		t.Fatal(err)
	}
	const in = `import "` + modulePath + `/internal/`
	innocent := []sin{
		{"internal/a/a.go", "", ""},
		{"internal/b/a.go", in + `a"; import "example.com/zip/fast"`, ""},
		{"internal/c/a.go", in + `a"`, ""},
		{"internal/c/b.go", in + `b"`, ""},
		{"internal/d/a_test.go", "", ""},
		{"internal/node/config.go", "import \"os\"\nvar _ = os.ReadFile", ""},
	}
	for file, uses := range fileUses {
		if file == innocent[5].path {
			continue
		}
		var code strings.Builder
		for _, use := range uses {
			at := strings.LastIndex(use, ".")
			fmt.Fprintf(&code, "import %q\n", use[:at])
		}
		for _, use := range uses {
			fmt.Fprintf(&code, "var _ = %s\n", path.Base(use))
		}
		innocent = append(innocent, sin{file, code.String(), ""})
	}
	for at, s := range map[int]sin{
		-1: {"internal/e/a.go", "", ""},
		0:  {"internal/x/a.go", "", "a has no package"},
		1:  {"internal/b/a.go", in + `a"; import "example.com/zipper"`, "b does not use example.com/zip"},
		2:  {"internal/c/a_test.go", in + `a"`, "c does not import a"},
		3:  {"internal/c/b.go", in + `b/below"`, "c does not import b"},
		4:  {"internal/x/a_test.go", "", "d has no package"},
		5:  {"internal/x/a.go", "", "fileUses: internal/node/config.go does not use os.ReadFile"},
	} {
		all := []*source{s.source(t)}
		for i, other := range innocent {
			if i != at {
				all = append(all, other.source(t))
			}
		}
		s.confess(t, unused(rooms, all))
	}
}

func TestTheMapIsRead(t *testing.T) {
	for text, want := range map[string]string{
		sinMap:                            "",
		"0 a - tools\n0 b a more\n":       "",
		"zero a - tools":                  "want floor, room, imports, purpose",
		"1 a":                             "want floor, room, imports, purpose",
		"0 a - tools\n1 a - again":        "listed twice",
		"0 a -":                           "no purpose",
		"1 a - one\n1 b a beside\n":       "b is not above a",
		"2 a - one\n1 b a upside down\n":  "b is not above a",
		"1 a - one\n2 b a right way up\n": "",
	} {
		rooms, err := readMap(text)
		var wrong []string
		if err != nil {
			wrong = []string{err.Error()}
		} else {
			wrong = judge(rooms, nil)
		}
		sin{path: "MAP", code: text, want: want}.confess(t, wrong)
	}
}

func TestTidySeesSins(t *testing.T) {
	lines := func(n int) string { return strings.Repeat("\n", n) }
	const doc = "// F does.\n"
	const file = "internal/log/stream/a.go"
	// Put together from parts, so that this file is not a sin itself.
	todo := "// TO" + "DO"
	for _, s := range []sin{
		{file, "", ""},
		{file, "package x", "has no doc comment"},
		{"internal/log/stream/a_test.go", "package x", ""},
		{file, lines(799), "801 lines, at most 800"},
		{"internal/log/stream/a_test.go", lines(1400), ""},
		{"internal/log/stream/a_test.go", lines(1599), "1601 lines, at most 1500"},
		{file, "func f() {" + lines(69) + "}", ""},
		{file, "func f() {" + lines(70) + "}", "f has 71 lines"},
		{file, "func f() { _ = func() {" + lines(39) + "} }", ""},
		{file, "func f() { _ = func() {" + lines(40) + "} }", "function literal of 41 lines, at most 40"},
		{file, "var f = func() {" + lines(40) + "}", "function literal of 41 lines"},
		{"internal/log/stream/a_test.go", "func f() { g(func() {" + lines(40) + "}) }", "function literal of 41 lines"},
		{file, "// f is big.\n//\n// Long: steps.\nfunc f() { _ = func() {" + lines(70) + "} }", "literal of 71 lines"},
		{file, "// f is big.\n//\n// Long: a table.\nfunc f() {" + lines(70) + "}", ""},
		{file, "func f(a, b, c int, d, e string) {}", ""},
		{file, "func f(a, b, c int, d, e string, g bool) {}", "f takes 6 arguments"},
		{file, "//" + strings.Repeat("x", 118), ""},
		{file, "//" + strings.Repeat("é", 118), ""},
		{file, "//" + strings.Repeat("x", 119), "121 columns"},
		{file, "func f() {\n\t\t\t//" + strings.Repeat("x", 116) + "\n}", "121 columns"},
		{file, todo + ": later", "write the issue beside it"},
		{file, todo + "(#12): later", ""},
		{file, todo + "(me): later", "write the issue beside it"},
		{file, "/* FIX" + "ME */", "write the issue beside it"},
		{file, "// a list of todos", ""},
		{file, "// ------ section ------", "banner comment"},
		{file, "// =====", "banner comment"},
		{file, "/" + strings.Repeat("/", 30), "banner comment"},
		{file, "// section ------", "banner comment"},
		{file, "// a - b -- c", ""},
		{file, doc + "func F() {}", ""},
		{file, "func F() {}", "exported F has no comment"},
		{"internal/log/stream/a_test.go", "func F() {}", ""},
		{file, "type t int\nfunc (t) F() {}", ""},
		{file, "// T is.\ntype T[K any] int\nfunc (*T[K]) F() {}", "exported F has no comment"},
		{file, "type T int", "exported T has no comment"},
		{file, "const A = 1", "exported A has no comment"},
		{file, "// Both.\nconst (\n\tA = 1\n\tB = 2\n)", ""},
		{file, "var (\n\t// A is.\n\tA = 1\n\tB = 2 // B is.\n\tC = 3\n)", "exported C has no comment"},
		{"cmd/firth/main.go", "// Command x is.\npackage main\nfunc F() {}", ""},
	} {
		s.confess(t, tidy([]*source{s.source(t)}))
	}
}
