package vfs_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// A file that is written whole is the old one or the new wherever a crash comes, and the new one once it is told so.
func TestWholeFiles(t *testing.T) {
	m := vfs.NewMemory()
	fs := vfs.NewFaulty(m)
	if _, err := vfs.ReadWhole(fs, "a", 10); !fault.Is(err, fault.NotFound) {
		t.Errorf("what is not there: %v", err)
	}
	before := ""
	for _, content := range []string{"first", "", "another"} {
		crash := func(when string, may ...string) {
			for seed := range uint64(20) {
				got, err := vfs.ReadWhole(m.CrashClone(rand.New(rand.NewPCG(seed, 0))), "a", 10)
				if err != nil && (content != "first" || !fault.Is(err, fault.NotFound)) || !slices.Contains(may, string(got)) {
					t.Errorf("%s %q is %q: %v", when, content, got, err)
				}
			}
		}
		fs.OnOp(func(op vfs.Op) { crash("a crash before "+op.Kind.String()+":", before, content) })
		if err := vfs.WriteWhole(fs, "a", []byte(content)); err != nil {
			t.Fatal(err)
		}
		fs.OnOp(nil)
		crash("a crash behind it:", content)
		before = content
	}
	if _, err := vfs.ReadWhole(fs, "a", 6); !fault.Is(err, fault.TooLarge) {
		t.Errorf("7 bytes of at most 6: %v", err)
	}
}
