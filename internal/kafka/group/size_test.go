package group

import "testing"

// TestKeepsCopies holds what a group keeps apart from the requests that brought it: a few bytes of a large request
// would keep all of it in memory.
func TestKeepsCopies(t *testing.T) {
	metadata, assignment := []byte("metadata"), []byte("assignment")
	g := New("g", Options{}, 1)
	g.Join(1, Join{
		Ticket: 1, NewID: "a", ProtocolType: "consumer", Protocols: []Protocol{{"range", metadata}},
		Session: 10_000, Rebalance: 10_000,
	})
	g.Sync(1, Sync{
		Ticket: 2, Who: Who{MemberID: "a"}, Generation: 1, Assignments: []Assignment{{MemberID: "a", Data: assignment}},
	})
	clear(metadata)
	clear(assignment)
	m := g.Snapshot().Members[0]
	if string(m.Metadata) != "metadata" || string(m.Assignment) != "assignment" {
		t.Errorf("%q, %q", m.Metadata, m.Assignment)
	}
	back := Load("g", Options{}, 1, g.Snapshot())
	clear(m.Metadata)
	if m := back.Snapshot().Members[0]; string(m.Metadata) != "metadata" {
		t.Errorf("after a restart: %q", m.Metadata)
	}
	if back.Bytes() != g.Bytes() {
		t.Errorf("%d bytes, %d after a restart", g.Bytes(), back.Bytes())
	}
}
