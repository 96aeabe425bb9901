package internal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/firthmq/firth/internal/kit/race"
)

// TestSystems holds the command to what is there on systems on which nobody here develops. To build it for them takes
// minutes; to check its types takes seconds, for of what is not ours only the declarations count.
func TestSystems(t *testing.T) {
	if race.Detector {
		t.Skip("it runs nothing of ours, and takes ten times as long")
	}
	for _, system := range []string{"windows/amd64", "darwin/arm64"} {
		t.Run(system, func(t *testing.T) {
			for _, err := range checkSystem(t, "../cmd/firth", filepath.Dir(system), filepath.Base(system)) {
				t.Error(err)
			}
		})
	}
}

// listed is a package, as go list shows it.
type listed struct {
	ImportPath, Dir string
	Standard        bool
	GoFiles         []string
	ImportMap       map[string]string
	Module          *struct{ Main bool }
}

// checkSystem gives what is wrong with a command and all that it imports, on a system.
func checkSystem(t *testing.T, command, system, arch string) (wrong []error) {
	t.Helper()
	list := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Standard,GoFiles,ImportMap,Module", command)
	list.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]*types.Package{"unsafe": types.Unsafe}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; { // each after those it imports
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return wrong
		} else if err != nil {
			t.Fatal(err)
		}
		if p.ImportPath == "unsafe" {
			continue
		}
		got, errs := p.check(known, arch)
		known[p.ImportPath] = got
		if p.Module != nil && p.Module.Main {
			wrong = append(wrong, errs...)
		}
	}
}

// check checks the types of a package; known has what it imports.
func (p *listed) check(known map[string]*types.Package, arch string) (pkg *types.Package, wrong []error) {
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, []error{err}
		}
		files = append(files, f)
	}
	c := types.Config{
		IgnoreFuncBodies: p.Module == nil || !p.Module.Main,
		Sizes:            types.SizesFor("gc", arch),
		Error:            func(err error) { wrong = append(wrong, err) },
		Importer: importer(func(path string) (*types.Package, error) {
			if mapped := p.ImportMap[path]; mapped != "" {
				path = mapped
			}
			if pkg := known[path]; pkg != nil {
				return pkg, nil
			}
			return nil, fmt.Errorf("%s imports %s, which is not there", p.ImportPath, path)
		}),
	}
	pkg, _ = c.Check(p.ImportPath, fset, files, nil) // Error has it
	return pkg, wrong
}

type importer func(path string) (*types.Package, error)

// Import implements types.Importer.
func (i importer) Import(path string) (*types.Package, error) { return i(path) }
