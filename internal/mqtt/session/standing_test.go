package session

import (
	"testing"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// standing is a session that lasts, with marks at which partition 1 stands at ten times their number.
func standing(t *testing.T) (*State, *Marks) {
	t.Helper()
	c := &packet.Connect{Version: packet.V5, ClientID: []byte("a")}
	c.Props.SetSessionExpiry(100)
	limits := &Limits{MaxInflight: 10, MaxSubscriptions: 10, MaxExpiry: Never}
	m := &Marks{}
	for range 5 {
		m.Set(1, 10*int64(m.Next()))
	}
	return New(Open(c, limits, "")), m
}

func checkpoint(s *State) (stored map[uint32]*PlaceRecord) {
	stored = make(map[uint32]*PlaceRecord)
	s.Checkpoint(func(p uint32, r *PlaceRecord) bool {
		stored[p] = r
		return true
	})
	return stored
}

// TestCut: a session whose connection takes no more stands at the mark of that time, whatever checkpoints come before
// it is known to have left, until it is connected again.
func TestCut(t *testing.T) {
	s, m := standing(t)
	s.Cut(3)
	s.Behind(1, 4)
	s.Behind(-1, 4) // the cursor of a member that left is forgotten
	checkpoint(s)
	if at := s.Stands(1, m); at != 30 {
		t.Errorf("it stands at %d, not at 30", at)
	}
	s.Leave(1, 5)
	if at := s.Stands(1, m); at != 30 {
		t.Errorf("away it stands at %d, not at 30", at)
	}
	c := &packet.Connect{Version: packet.V5, ClientID: []byte("a")}
	c.Props.SetSessionExpiry(100)
	s.Connect(Open(c, s.limits, ""))
	s.Behind(-1, 5)
	checkpoint(s)
	if at := s.Stands(1, m); at != 50 {
		t.Errorf("back it stands at %d, not at 50", at)
	}
}

// TestPlacesOutliveMarks: what a session took it stands behind, though its mark is thinned out.
func TestPlacesOutliveMarks(t *testing.T) {
	s, m := standing(t)
	s.Took(Place{Partition: 1, Offset: 48})
	if r := checkpoint(s)[1]; r == nil || r.Next != 49 {
		t.Fatalf("stored %+v", r)
	}
	s.Leave(1, 5)
	if stored := checkpoint(s); len(stored) != 0 {
		t.Errorf("stored again: %v", stored)
	}
	older := &Marks{}
	older.Restore(1, MarkRecord{{Mark: 2, Offset: 20}})
	if at := s.Stands(1, older); at != 49 {
		t.Errorf("without its mark it stands at %d, not at 49", at)
	}
	if at := s.Stands(1, m); at != 50 {
		t.Errorf("with its mark it stands at %d, not at 50", at)
	}
}

// TestReached: who subscribes stands where live delivery is, unless it is behind.
func TestReached(t *testing.T) {
	s, _ := standing(t)
	none := &Marks{}
	s.Reached(1, 70)
	if at := s.Stands(1, none); at != 70 {
		t.Errorf("it stands at %d, not at 70", at)
	}
	s.Behind(1, 1)
	s.Reached(1, 90)
	if at := s.Stands(1, none); at != 70 {
		t.Errorf("behind it stands at %d, not at 70", at)
	}
}
