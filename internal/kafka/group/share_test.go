package group

import (
	"slices"
	"strings"
	"testing"
)

// shareTester is a share group whose stores succeed at once.
type shareTester struct {
	t *testing.T
	g *Share
}

func (s *shareTester) run(es []Effect) (answer *BeatAnswer, left []string) {
	for len(es) > 0 {
		e := es[0]
		es = es[1:]
		switch {
		case e.Store != nil:
			es = append(es, s.g.Stored(1, e.Store.Seq, nil)...)
		case e.Left != "":
			left = append(left, e.Left)
		default:
			answer = e.Beat
		}
	}
	return answer, left
}

// beat wants a code, and gives the epoch that the member is told.
func (s *shareTester) beat(b Beat, want Code) int32 {
	s.t.Helper()
	b.Ticket = 1
	answer, _ := s.run(s.g.Beat(1, b))
	if answer == nil || answer.Code != want || (answer.Message == "") != (want == None) {
		s.t.Fatalf("%+v: %+v, want code %d", b, answer, want)
	}
	return answer.Epoch
}

func shareBeat(id string, epoch int32, topics ...string) Beat {
	return Beat{Who: Who{MemberID: id}, Epoch: epoch, Topics: topics}
}

// TestShareCodes: what a share group answers to whom. Those are Kafka's codes: some end a client.
func TestShareCodes(t *testing.T) {
	s := &shareTester{t, NewShare("g", Options{MaxMembers: 2, MaxMetadata: 100}, 0)}
	s.g.See(&topicMap{counts: map[string]int32{"t": 4}})
	s.beat(shareBeat("a", 5), UnknownMemberID)
	s.beat(shareBeat("a", LeaveEpoch), UnknownMemberID)
	first := s.beat(shareBeat("a", 0, "t"), None)
	s.beat(shareBeat("a", first+1), FencedMemberEpoch)
	second := s.beat(shareBeat("b", 0, "t"), None)
	if first >= second {
		t.Errorf("epoch %d after %d", second, first)
	}
	for range 2 { // the answer to the first may have been lost
		if got := s.beat(shareBeat("a", first), None); got != second {
			t.Errorf("told epoch %d, the group has %d", got, second)
		}
	}
	s.beat(shareBeat("c", 0, "t"), GroupMaxSizeReached)
	s.beat(shareBeat("a", 0, "t"), None) // it is in
	s.beat(shareBeat("a", second, strings.Repeat("x", 101)), InvalidRequest)
	rack := strings.Repeat("r", maxName+1)
	s.beat(Beat{Who: Who{MemberID: "a"}, Epoch: second, Rack: &rack}, InvalidRequest)
	s.beat(shareBeat("b", LeaveEpoch), None)
	full := shareBeat("c", 0, "t")
	full.Full = true
	s.beat(full, CoordinatorNotAvailable)

	if code, _ := s.g.Found(1); code != NonEmptyGroup || s.g.Delete(1) != NonEmptyGroup {
		t.Errorf("a group with a member: %d", code)
	}
	if _, left := s.run(s.g.Beat(1, shareBeat("a", LeaveEpoch))); !slices.Equal(left, []string{"a"}) {
		t.Errorf("gone: %v", left)
	}
	if code := s.g.Delete(1); code != None || s.g.StateName() != "Dead" {
		t.Errorf("%d, %s", code, s.g.StateName())
	}
	s.beat(shareBeat("a", 0, "t"), CoordinatorNotAvailable)
	s.beat(shareBeat("a", second), GroupIDNotFound)
	if code, _ := s.g.Found(1); code != GroupIDNotFound {
		t.Errorf("a group that is deleted: %d", code)
	}
	s.g.Revive(1)
	if last := s.beat(shareBeat("a", 0, "t"), None); last <= second {
		t.Errorf("epoch %d after %d", last, second)
	}
}

// TestShareSessionEnds: who is silent is out, and what it had is to be given to others.
func TestShareSessionEnds(t *testing.T) {
	s := &shareTester{t, NewShare("g", Options{ShareSessionMillis: 10}, 0)}
	s.beat(shareBeat("a", 0, "t"), None)
	if _, left := s.run(s.g.Tick(s.g.Next() - 1)); left != nil {
		t.Errorf("too early: %v", left)
	}
	if _, left := s.run(s.g.Tick(s.g.Next())); !slices.Equal(left, []string{"a"}) || s.g.Next() != 0 || s.g.Bytes() != 0 {
		t.Errorf("gone: %v, next %d, %d bytes", left, s.g.Next(), s.g.Bytes())
	}
}

// TestShareRecord: a group that is found without a member has its record, and no other bytes are one.
func TestShareRecord(t *testing.T) {
	g := NewShare("g", Options{}, 0)
	code, es := g.Found(1)
	if code != None || len(es) != 1 || es[0].Store == nil || g.Vacant() {
		t.Fatalf("%d, %+v", code, es)
	}
	record := es[0].Store.Changes[0].Value
	if back, ok := LoadShare("g", Options{}, 1, record); !ok || back.Describe().Epoch != 1 || !back.IsEmpty() {
		t.Errorf("%x came back as %+v, %v", record, back, ok)
	}
	for _, b := range [][]byte{nil, {0}, record[:len(record)-2], {0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}} {
		if _, ok := LoadShare("g", Options{}, 1, b); ok {
			t.Errorf("%x is taken for a group", b)
		}
	}
}
