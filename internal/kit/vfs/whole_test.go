package vfs_test

import (
	"math/rand/v2"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// A file that is written whole is the old one or the new after a crash, and the new one once it is told so.
func TestWholeFiles(t *testing.T) {
	m := vfs.NewMemory()
	if _, err := vfs.ReadWhole(m, "a", 10); !fault.Is(err, fault.NotFound) {
		t.Errorf("what is not there: %v", err)
	}
	for _, content := range []string{"first", "", "another"} {
		if err := vfs.WriteWhole(m, "a", []byte(content)); err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(20) {
			crashed := m.CrashClone(rand.New(rand.NewPCG(seed, 0)))
			if got, err := vfs.ReadWhole(crashed, "a", 10); err != nil || string(got) != content {
				t.Errorf("%q is %q after a crash: %v", content, got, err)
			}
		}
	}
	if _, err := vfs.ReadWhole(m, "a", 6); !fault.Is(err, fault.TooLarge) {
		t.Errorf("7 bytes of at most 6: %v", err)
	}
}
