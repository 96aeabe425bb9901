package group

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What a topology comes to: its tasks, the internal topics that are missing, or why nothing can be assigned.
//
// Long: a table of topologies.
func TestTopologyPlan(t *testing.T) {
	joined := func(together Copartition) *Topology {
		return &Topology{Subtopologies: []Subtopology{{
			ID: "0", Sources: []string{"a", "b"}, Repartitions: []InternalTopic{{Name: "fixed", Partitions: 3}, {Name: "open"}},
			Sinks: []string{"open"}, Together: []Copartition{together},
		}}}
	}
	for _, c := range []struct {
		name     string
		topology *Topology
		topics   string // name=partitions ...
		want     string
	}{
		{"nothing there", twoParts(), "", "1 Source topics in are missing."},
		{
			"internal topics missing", twoParts(), "in=5",
			"tasks map[0:5 1:5], make c=5 r=5, 3 Internal topics are missing: c, r",
		},
		{"all there", twoParts(), "in=5 r=5 c=5", "tasks map[0:5 1:5]"},
		{
			"other partitions", twoParts(), "in=5 r=5 c=4",
			"2 Existing topic c has different number of partitions: expected 5, found 4",
		},
		{
			"not together", joined(Copartition{Sources: []int16{0, 1}}), "a=2 b=3",
			"2 Following topics do not have the same number of partitions: [a=2, b=3]",
		},
		{
			"repartition topic with partitions of its own", joined(Copartition{Sources: []int16{0}, Repartitions: []int16{0}}),
			"a=2 b=3", "2 Following topics do not have the same number of partitions: [a=2, fixed=3]",
		},
		{
			"repartition topic follows", joined(Copartition{Sources: []int16{0}, Repartitions: []int16{1}}), "a=2 b=3 fixed=3",
			"tasks map[0:3], make open=2, 3 Internal topics are missing: open",
		},
		{
			"repartition topics together", joined(Copartition{Repartitions: []int16{0, 1}}), "a=2 b=2",
			"tasks map[0:3], make fixed=3 open=3, 3 Internal topics are missing: fixed, open",
		},
		{
			"a circle", &Topology{Subtopologies: []Subtopology{
				{ID: "0", Repartitions: []InternalTopic{{Name: "x"}}, Sinks: []string{"x"}},
			}}, "", "flaw Failed to compute number of partitions for all repartition topics: x.",
		},
	} {
		topics := &topicMap{counts: map[string]int32{}}
		for word := range strings.FieldsSeq(c.topics) {
			name, n, _ := strings.Cut(word, "=")
			var count int32
			if _, err := fmt.Sscan(n, &count); err != nil {
				t.Fatal(err)
			}
			topics.counts[name] = count
		}
		p := c.topology.plan(topics)
		var said []string
		if p.tasks != nil && (p.status == nil || len(p.missing) > 0) {
			said = append(said, fmt.Sprint("tasks ", p.tasks))
		}
		if len(p.missing) > 0 {
			var names []string
			for i := range p.missing {
				names = append(names, fmt.Sprintf("%s=%d", p.missing[i].Name, p.missing[i].Partitions))
			}
			said = append(said, "make "+strings.Join(names, " "))
		}
		if p.status != nil {
			said = append(said, fmt.Sprint(int(p.status.Code), " ", p.status.Detail))
		}
		if p.flaw != "" {
			said = append(said, "flaw "+p.flaw)
		}
		if got := strings.Join(said, ", "); got != c.want {
			t.Errorf("%s: %s; want %s", c.name, got, c.want)
		}
		if p.fits() != (c.name == "all there") {
			t.Errorf("%s: fits is %v", c.name, p.fits())
		}
	}
}

func TestTopologyFlaws(t *testing.T) {
	source := []string{"in"}
	for want, s := range map[string][]Subtopology{
		"there twice":                {{ID: "0", Sources: source}, {ID: "0", Sources: source}},
		"not contain any source":     {{ID: "0", Sinks: []string{"r"}}},
		"undefined partition count":  {{ID: "0", Sources: source, Changelogs: []InternalTopic{{Name: "c", Partitions: 2}}}},
		"Regular expressions":        {{ID: "0", Sources: source, Regexes: []string{".*"}}},
		"copartition groups of topi": {{ID: "0", Sources: source, Together: []Copartition{{Sources: []int16{1}}}}},
	} {
		if flaw := (&Topology{Subtopologies: s}).Flaw(); !strings.Contains(flaw, want) {
			t.Errorf("%q, want %q", flaw, want)
		}
	}
	if flaw := twoParts().Flaw(); flaw != "" {
		t.Error(flaw)
	}
}

// streamsPlay has every store land at once.
type streamsPlay struct {
	t   *testing.T
	g   *Streams
	now int64
}

func (p *streamsPlay) beat(b StreamsBeat) *StreamsAnswer {
	p.t.Helper()
	b.Ticket = 1
	var answer *StreamsAnswer
	effects := p.g.Beat(p.now, b)
	for len(effects) > 0 {
		e := effects[0]
		effects = effects[1:]
		if e.Store != nil {
			effects = append(effects, p.g.Stored(p.now, e.Store.Seq, nil)...)
		} else {
			answer = e.Streams
		}
	}
	if answer == nil {
		p.t.Fatal("no answer")
	}
	return answer
}

func (p *streamsPlay) join(id, process string, more func(*StreamsBeat)) *StreamsAnswer {
	p.t.Helper()
	b := StreamsBeat{
		MemberID: id, Topology: twoParts(), Process: &process, Rebalance: 1000, Owned: &TaskSet{}, Endpoints: -1,
	}
	if more != nil {
		more(&b)
	}
	return p.beat(b)
}

func codesOf(all []Status) (codes []StatusCode) {
	for _, s := range all {
		codes = append(codes, s.Code)
	}
	return codes
}

func newStreamsPlay(t *testing.T, opts Options) *streamsPlay {
	p := &streamsPlay{t: t, g: NewStreams("g", opts, 1), now: 1}
	p.g.See(&topicMap{counts: map[string]int32{"in": 2, "r": 2, "c": 2}})
	return p
}

// A member is told what is the matter, and fenced where it must be.
func TestStreamsAnswers(t *testing.T) {
	p := newStreamsPlay(t, Options{MaxMembers: 3})
	a := p.join("a", "p1", nil)
	if a.Epoch != firstEpoch || a.Tasks.len() != 4 || len(a.Statuses) > 0 {
		t.Fatalf("the first: %+v", a)
	}
	other := p.join("b", "p2", func(b *StreamsBeat) { b.Topology.Subtopologies[0].Sinks = []string{"r", "x"} })
	if other.Code != InvalidRequest {
		t.Errorf("another topology: %+v", other)
	}
	stale := p.join("b", "p2", func(b *StreamsBeat) { b.Topology.Epoch = -1 })
	if !slices.Equal(codesOf(stale.Statuses), []StatusCode{StaleTopology}) {
		t.Errorf("an older topology: %+v", stale)
	}
	for _, c := range []struct {
		want Code
		beat StreamsBeat
	}{
		{UnknownMemberID, StreamsBeat{MemberID: "x", Epoch: 2}},
		{UnknownMemberID, StreamsBeat{MemberID: "x", Epoch: LeaveEpoch}},
		{FencedMemberEpoch, StreamsBeat{MemberID: "a", Epoch: 1}},
		{FencedMemberEpoch, StreamsBeat{MemberID: "a", Epoch: 9}},
		{InvalidRequest, StreamsBeat{MemberID: "a", Epoch: 2, Owned: &TaskSet{Active: Tasks{{"0", 2}}}}},
		{InvalidRequest, StreamsBeat{MemberID: "a", Epoch: 2, Owned: &TaskSet{Standby: Tasks{{"7", 0}}}}},
	} {
		c.beat.Rebalance = -1
		if a := p.beat(c.beat); a.Code != c.want {
			t.Errorf("%+v: %v (%s), want %v", c.beat, a.Code, a.Message, c.want)
		}
	}
	a = p.beat(StreamsBeat{MemberID: "a", Epoch: 2, Rebalance: -1, Shutdown: true})
	if !slices.Equal(codesOf(a.Statuses), []StatusCode{ShutdownApplication}) {
		t.Errorf("a shutdown: %+v", a)
	}
	p.g.See(&topicMap{counts: map[string]int32{"r": 2, "c": 2}})
	if a = p.beat(StreamsBeat{MemberID: "b", Epoch: stale.Epoch, Rebalance: -1}); !slices.Contains(codesOf(a.Statuses),
		MissingSourceTopics) || p.g.StateName() != "NotReady" {
		t.Errorf("%s: %+v", p.g.StateName(), a)
	}
	p.join("c", "p3", nil)
	if a = p.join("d", "p4", nil); a.Code != GroupMaxSizeReached {
		t.Errorf("one too many: %+v", a)
	}
	for _, id := range []string{"a", "b", "c"} {
		if a := p.beat(StreamsBeat{MemberID: id, Epoch: LeaveEpoch}); a.Code != None || a.Epoch != LeaveEpoch {
			t.Errorf("%s leaves: %+v", id, a)
		}
	}
	a = p.join("e", "p1", func(b *StreamsBeat) { b.Topology.Subtopologies = b.Topology.Subtopologies[:1] })
	if a.Code != None || slices.Contains(codesOf(a.Statuses), ShutdownApplication) {
		t.Errorf("another topology when nobody is there: %+v", a)
	}
}

// A group without members gathers some before it assigns, if it is told to.
func TestStreamsDelay(t *testing.T) {
	p := newStreamsPlay(t, Options{StreamsDelayMillis: 3000})
	a := p.join("a", "p1", nil)
	if a.Epoch != 1 || a.Tasks.len() > 0 || !slices.Equal(codesOf(a.Statuses), []StatusCode{AssignmentDelayed}) {
		t.Fatalf("%+v", a)
	}
	b := p.join("b", "p2", nil)
	if b.Epoch != 1 || p.g.Next() != 3001 {
		t.Fatalf("%+v, next %d", b, p.g.Next())
	}
	p.now = 3001
	for _, e := range p.g.Tick(p.now) {
		p.g.Stored(p.now, e.Store.Seq, nil)
	}
	a = p.beat(StreamsBeat{MemberID: "a", Epoch: 1, Rebalance: -1})
	b = p.beat(StreamsBeat{MemberID: "b", Epoch: 1, Rebalance: -1})
	if a.Tasks.len() != 2 || b.Tasks.len() != 2 || len(a.Statuses) > 0 || p.g.StateName() != "Stable" {
		t.Fatalf("%+v, %+v, %s", a, b, p.g.StateName())
	}
}

// Members are told where which partitions can be asked for, and told again when that changes.
func TestStreamsEndpoints(t *testing.T) {
	p := newStreamsPlay(t, Options{StandbyReplicas: 1})
	at := func(port uint16) func(*StreamsBeat) {
		return func(b *StreamsBeat) { b.Endpoint = &Endpoint{"h", port} }
	}
	a := p.join("a", "p1", at(1))
	if len(a.Info) != 1 || fmt.Sprint(a.Info[0].Active) != "map[in:[0 1] r:[0 1]]" {
		t.Fatalf("%+v", a.Info)
	}
	told := a.Endpoints
	if a = p.beat(StreamsBeat{MemberID: "a", Epoch: a.Epoch, Endpoints: told, Rebalance: -1}); a.Info != nil {
		t.Fatalf("told again: %+v", a.Info)
	}
	p.join("b", "p2", at(2))
	epochs, owned := map[string]int32{"a": a.Epoch, "b": a.Epoch + 1}, map[string]TaskSet{"a": p.g.byID["a"].assigned}
	for range 6 {
		for id := range epochs {
			has := owned[id]
			got := p.beat(StreamsBeat{MemberID: id, Epoch: epochs[id], Endpoints: told, Owned: &has, Rebalance: -1})
			if epochs[id] = got.Epoch; got.Assigned {
				owned[id] = got.Tasks
			}
		}
	}
	a = p.beat(StreamsBeat{MemberID: "a", Epoch: epochs["a"], Endpoints: told, Rebalance: -1})
	if len(a.Info) != 2 || len(a.Info[0].Standby["r"]) != 1 || len(a.Info[1].Standby["r"]) != 1 {
		t.Fatalf("%s: %+v", p.g.StateName(), a.Info)
	}
}

// A task stays where it is, or goes where its state is.
func TestStickyAssignment(t *testing.T) {
	p := newStreamsPlay(t, Options{StandbyReplicas: 1})
	p.g.See(&topicMap{counts: map[string]int32{"in": 8, "r": 8, "c": 8}})
	p.join("a", "p1", nil)
	p.join("b", "p2", nil)
	was := map[string]TaskSet{}
	for _, m := range p.g.members {
		was[m.id] = m.target
	}
	p.join("c", "p3", nil)
	moved := 0
	for _, m := range p.g.members {
		if had := was[m.id]; had.len() > 0 {
			moved += len(without(m.target.Active, had.Active))
		} else if len(m.target.Active) < 5 {
			t.Errorf("%s has %d of 16 active tasks", m.id, len(m.target.Active))
		}
	}
	if moved > 0 {
		t.Errorf("%d tasks went between those who were there", moved)
	}
	standby := p.g.byID["b"].target.Standby
	gone := p.g.byID["a"].target.Active
	p.beat(StreamsBeat{MemberID: "a", Epoch: LeaveEpoch})
	p.beat(StreamsBeat{MemberID: "b", Epoch: p.g.byID["b"].epoch, Rebalance: -1})
	kept := 0
	for _, task := range gone {
		if task.Subtopology == "1" && standby.Has(task) && p.g.byID["b"].target.Active.Has(task) {
			kept++
		}
	}
	if kept == 0 {
		t.Error("no task of the one who left went to who has its state")
	}
}
