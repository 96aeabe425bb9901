package torture

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// polled is a record that a member of a group was given.
type polled struct {
	offset int64
	value  string
	at     time.Duration // since the history began
}

// holding is a partition with one member of a group, from being assigned to being revoked.
type holding struct {
	member string
	at     place
	floor  int64 // the largest commit that was acknowledged when it was assigned
	polls  []polled
}

// groupHistory is what the members of one group were given, and what they have committed.
type groupHistory struct {
	name   string
	topics []string

	mu        sync.Mutex
	holdings  []*holding
	attempted map[place]int64 // largest commit that was asked for
	committed map[place]int64 // largest that was acknowledged
}

// group adds a group to the history.
func (h *history) group(name string, topics ...string) *groupHistory {
	g := &groupHistory{name: name, topics: topics, attempted: map[place]int64{}, committed: map[place]int64{}}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.groups = append(h.groups, g)
	return g
}

// commit notes the wish to commit, and acknowledged that it was granted.
func (g *groupHistory) commit(offsets map[place]int64, acknowledged bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	into := g.attempted
	if acknowledged {
		into = g.committed
	}
	for at, o := range offsets {
		into[at] = max(into[at], o)
	}
}

// seenAll tells the first record of a log that no member was given, "" if there is none.
func (g *groupHistory) seenAll(log snapshot) (missing string) { return firstUnseen(g.seen(), log) }

func firstUnseen(seen map[place]map[int64]bool, log snapshot) string {
	for at, rs := range log {
		for _, r := range rs {
			if !seen[at][r.offset] {
				return fmt.Sprintf("%s at %d", at, r.offset)
			}
		}
	}
	return ""
}

// seen is every offset that a member was given.
func (g *groupHistory) seen() map[place]map[int64]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen := map[place]map[int64]bool{}
	for _, h := range g.holdings {
		if seen[h.at] == nil {
			seen[h.at] = map[int64]bool{}
		}
		for _, p := range h.polls {
			seen[h.at][p.offset] = true
		}
	}
	return seen
}

// counts tells how many holdings, polled records and partitions with a commit there are.
func (g *groupHistory) counts() (holdings, records int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, h := range g.holdings {
		records += len(h.polls)
	}
	return len(g.holdings), records
}

// consumer is one member of a group. It comes, commits what it was given after each poll, and goes.
type consumer struct {
	name  string
	group *groupHistory
	h     *history
	words words
	opts  []kgo.Opt // the protocol of the group

	mine map[place]*holding // locked by the group
}

// run is one life after the other, until ctx ends.
func (m *consumer) run(ctx context.Context, address string) {
	for ctx.Err() == nil {
		life, cancel := context.WithTimeout(ctx, time.Duration(500+m.words.IntN(4000))*time.Millisecond)
		m.live(life, address)
		cancel()
	}
}

// live is one life: from joining to leaving.
func (m *consumer) live(ctx context.Context, address string) {
	m.mine = map[place]*holding{}
	c, err := dialKafka(address, append([]kgo.Opt{
		kgo.ConsumerGroup(m.group.name), kgo.ConsumeTopics(m.group.topics...), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(200 * time.Millisecond),
		kgo.FetchMaxWait(100 * time.Millisecond), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.MetadataMaxAge(500 * time.Millisecond), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(m.assigned), kgo.OnPartitionsRevoked(m.revoked), kgo.OnPartitionsLost(m.revoked),
	}, m.opts...)...)
	if err != nil {
		m.h.complain("%s: %v", m.name, err)
		return
	}
	defer c.CloseAllowingRebalance()
	for ctx.Err() == nil {
		m.poll(ctx, c)
		c.AllowRebalance()
	}
}

// poll takes what there is and commits it. Nothing is revoked meanwhile.
func (m *consumer) poll(ctx context.Context, c *kgo.Client) {
	var records []*kgo.Record
	offsets := map[place]int64{}
	fetches := c.PollRecords(ctx, 1+m.words.IntN(500))
	now := m.h.now()
	m.group.mu.Lock()
	fetches.EachRecord(func(r *kgo.Record) {
		at := place{r.Topic, r.Partition}
		records, offsets[at] = append(records, r), r.Offset+1
		if m.mine[at] == nil {
			m.h.complain("%s was given %s at %d, which it does not have", m.name, at, r.Offset)
			return
		}
		m.mine[at].polls = append(m.mine[at].polls, polled{r.Offset, string(r.Value), now})
	})
	m.group.mu.Unlock()
	if len(records) == 0 {
		return
	}
	m.group.commit(offsets, false)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if c.CommitRecords(limit, records...) == nil {
		m.group.commit(offsets, true)
	}
}

func (m *consumer) assigned(_ context.Context, _ *kgo.Client, given map[string][]int32) {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	each(given, func(at place) {
		hold := &holding{member: m.name, at: at, floor: m.group.committed[at]}
		m.mine[at] = hold
		m.group.holdings = append(m.group.holdings, hold)
	})
}

func (m *consumer) revoked(_ context.Context, _ *kgo.Client, taken map[string][]int32) {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	each(taken, func(at place) { delete(m.mine, at) })
}

func each(topics map[string][]int32, do func(place)) {
	for topic, indexes := range topics {
		for _, index := range indexes {
			do(place{topic, index})
		}
	}
}

// groupCommits reads the committed offsets of a group.
func groupCommits(ctx context.Context, address, group string) (map[place]int64, error) {
	c, err := dialKafka(address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	got, err := kadm.NewClient(c).FetchOffsets(ctx, group)
	if err == nil {
		err = got.Error()
	}
	if err != nil {
		return nil, err
	}
	found := map[place]int64{}
	got.Each(func(o kadm.OffsetResponse) {
		if o.At >= 0 {
			found[place{o.Topic, o.Partition}] = o.At
		}
	})
	return found, nil
}

// checkGroups wants of every group that commits stay, and of its members that each was given what it holds in order,
// from the last commit on, without a gap, and of transactions what was committed before.
func checkGroups(v *verdict, h *history, now finds) {
	of := map[string]*transaction{}
	for _, t := range h.transactions {
		for _, value := range t.values {
			of[value] = t
		}
	}
	for _, g := range h.groups {
		found := now.groups[g.name]
		for at, want := range g.committed {
			if got, ok := found[at]; !ok || got < want {
				v.add("commit", "%s, %s: %d was acknowledged, %d is there (%v)", g.name, at, want, got, ok)
			}
		}
		for at, got := range found {
			if most := g.attempted[at]; got > most {
				v.add("commit", "%s, %s: %d is there, nobody asked for more than %d", g.name, at, got, most)
			}
		}
		for _, hold := range g.holdings {
			who := fmt.Sprintf("%s of %s, %s", hold.member, g.name, hold.at)
			checkPolls(v, who, hold, now)
			for _, p := range hold.polls {
				checkCommitted(v, who, p, of[p.value])
			}
		}
		checkSeen(v, g, now)
	}
}

// records are those that a reader of committed records finds in a partition.
func (f *finds) records(at place) []rec {
	if inTransactions(at.topic) {
		return f.stable[at]
	}
	return f.log[at]
}

// checkPolls holds what one member was given of one partition against the log.
func checkPolls(v *verdict, who string, hold *holding, now finds) {
	rs := now.records(hold.at)
	next := 0 // of rs
	for i, p := range hold.polls {
		if i == 0 && p.offset < hold.floor {
			v.add("rewound", "%s begins at %d, %d was committed", who, p.offset, hold.floor)
		}
		if i > 0 && p.offset <= hold.polls[i-1].offset {
			v.add("nonmonotonic", "%s: offset %d behind %d", who, p.offset, hold.polls[i-1].offset)
			return // next goes forward only
		}
		for next < len(rs) && rs[next].offset < p.offset {
			if i > 0 {
				v.add("skipped", "%s: offset %d between %d and %d", who, rs[next].offset, hold.polls[i-1].offset, p.offset)
			}
			next++
		}
		switch {
		case next < len(rs) && rs[next].offset == p.offset && rs[next].value == p.value:
			next++
		case next < len(rs) && rs[next].offset == p.offset:
			v.add("moved", "%s at %d: %q, the member was given %q", who, p.offset, rs[next].value, p.value)
			next++
		case p.offset >= now.starts[hold.at]:
			v.add("gone", "%s at %d: %q was given to the member", who, p.offset, p.value)
		}
	}
}

// checkCommitted wants a record of a transaction to be shown no sooner than somebody asked to commit it, and never if
// it was aborted.
func checkCommitted(v *verdict, who string, p polled, t *transaction) {
	if t == nil {
		return // of no transaction
	}
	asked := time.Duration(t.asked.Load())
	if t.fate.Load() == fateAborted || asked == 0 {
		v.add("aborted", "%s at %d: %q of %s transaction %d, which nobody has committed", who, p.offset, p.value, t.actor,
			t.n)
	} else if p.at < asked {
		v.add("early", "%s at %d: %q of %s transaction %d, %v before it was committed", who, p.offset, p.value, t.actor,
			t.n, asked-p.at)
	}
}

// checkSeen wants a group to have been given all that lies below its commits.
func checkSeen(v *verdict, g *groupHistory, now finds) {
	seen := g.seen()
	for at, end := range g.committed {
		for _, r := range now.records(at) {
			if r.offset < end && !seen[at][r.offset] {
				v.add("unseen", "%s, %s at %d: committed is %d, no member was given %q", g.name, at, r.offset, end, r.value)
			}
		}
	}
}
