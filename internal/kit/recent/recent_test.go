package recent_test

import (
	"testing"

	"github.com/firthmq/firth/internal/kit/recent"
)

func TestMap(t *testing.T) {
	var m recent.Map[int, string]
	if _, is := m.Find(1); is || m.Len() != 0 || m.Get(1) != "" {
		t.Error("an empty map has something")
	}
	const most = 10
	for i := range 100 {
		m.Put(0, "used again and again", most)
		m.Put(i+1, "new", most)
		if m.Len() > 2*most {
			t.Fatalf("%d entries", m.Len())
		}
		for j := max(i+1-most+2, 1); j <= i+1; j++ {
			if m.Get(j) != "new" {
				t.Fatalf("%d is forgotten at %d", j, i)
			}
		}
	}
	if m.Get(0) == "" || m.Get(1) != "" {
		t.Errorf("what is used is %q, what is not is %q", m.Get(0), m.Get(1))
	}
	m.Put(100, "changed", most)
	if m.Get(100) != "changed" {
		t.Error("an entry cannot be changed")
	}
	for i := range 101 {
		m.Delete(i)
	}
	if m.Len() != 0 {
		t.Errorf("%d entries are left", m.Len())
	}
}
