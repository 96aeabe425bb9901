package internal

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// keeperBlind are the rooms that have one log, whichever keeper it is on, with the rooms below them.
var keeperBlind = []string{"mqtt", "hinge", "access", "audit"}

// keeperWise finds what knows which keeper of the log it is on: an import of one, or a look at what a value of the
// contract is besides.
func keeperWise(s *source) (wrong []string) {
	for _, imported := range s.file.Imports {
		path := strings.Trim(imported.Path.Value, `"`)
		for _, keeper := range []string{"store", "cluster"} {
			if path == modulePath+"/internal/log/"+keeper {
				wrong = append(wrong, s.at(imported)+": imports log/"+keeper)
			}
		}
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		asserted, ok := n.(*ast.TypeAssertExpr)
		if !ok {
			return true
		}
		if of, ok := asserted.X.(*ast.SelectorExpr); ok && (of.Sel.Name == "Log" || of.Sel.Name == "log") {
			wrong = append(wrong, s.at(n)+": asks what the log is besides the contract")
		}
		return true
	})
	return wrong
}

// TestKeepersAreUnknown: the device door has no line that knows whether the log is on the disk or in a Kafka cluster.
func TestKeepersAreUnknown(t *testing.T) {
	seen := 0
	for _, s := range loadSources(t) {
		room := s.room()
		if s.isTest() || !slices.ContainsFunc(keeperBlind, func(tree string) bool { return below(room, tree) }) {
			continue
		}
		seen++
		for _, wrong := range keeperWise(s) {
			t.Error(wrong)
		}
	}
	if seen < 100 {
		t.Errorf("only %d files were looked at", seen)
	}
	for name, text := range map[string]string{
		"the store":     `import "github.com/firthmq/firth/internal/log/store"`,
		"the cluster":   `import "github.com/firthmq/firth/internal/log/cluster"`,
		"an assertion":  `func f(d *Door) bool { _, ok := d.opt.Log.(interface{ Epoch() int32 }); return ok }`,
		"a type switch": `func f(d *Door) { switch d.log.(type) {} }`,
	} {
		s, err := parse("internal/mqtt/sin.go", "package mqtt\n"+text)
		if err != nil {
			t.Fatal(err)
		}
		if len(keeperWise(s)) != 1 {
			t.Errorf("%s is not seen", name)
		}
	}
}
