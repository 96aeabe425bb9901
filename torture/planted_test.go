package torture

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// sound makes a history without fault, and what would be found of it: two publishers with 20 messages each
// (one sent twice and stored twice), a producer with 20, a retained topic, commits and a topic.
func sound() (*history, snapshot, finds) {
	h := newHistory()
	now := finds{
		log: snapshot{}, promised: map[place]int64{}, committed: map[place]int64{}, retained: map[string]string{},
		topics: map[string]topicID{"t": {1}}, live: map[string]bool{}, liveFrom: map[place]int64{},
	}
	store := func(m *message, p place) {
		m.offset, m.index = int64(len(now.log[p])), p.index
		now.log[p] = append(now.log[p], rec{m.offset, m.key, m.value})
		now.live[m.value] = true
	}
	send := func(actor string, seq int, p place, key string) *message {
		m := &message{actor: actor, seq: seq, topic: p.topic, key: key, once: key == ""}
		m.value = fmt.Sprintf("%s %d %s", actor, seq, p)
		m.sends.Store(1)
		m.acked.Store(true)
		h.add(m)
		store(m, p)
		return m
	}
	a, l, s := place{"alpha", 0}, place{"ledger", 1}, place{retainedTopic, 0}
	for seq := range 20 {
		send("p0", seq, a, "alpha/p0")
		m := send("p1", seq, a, "alpha/p1")
		if seq == 10 {
			m.sends.Store(2)
			store(m, a)
		}
		send("k0", seq, l, "")
		send("s", seq, s, "state/d0")
	}
	lost := &message{actor: "p0", seq: 20, topic: "alpha", key: "alpha/p0", value: "never stored"}
	lost.sends.Store(1)
	h.add(lost)
	now.retained["state/d0"] = now.log[s][19].value
	now.seen = []sighting{{l, 3, now.log[l][3].value}, {a, 40, now.log[a][40].value}}
	h.commit(map[place]int64{l: 12}, false)
	now.promised[l], now.committed[l] = 10, 10
	h.created("t", topicID{1})
	now.liveFrom[a] = 5
	now.transacted, now.seenTxns = map[place][]string{}, map[*transaction]bool{}
	for n, fate := range []int32{fateCommitted, fateAborted, fateUnknown, fateUnknown, fateCommitted} {
		x := &transaction{actor: "x", n: n}
		for i := range 3 {
			x.values = append(x.values, fmt.Sprintf("x %d %d", n, i))
		}
		if fate != fateAborted {
			x.asked.Store(int64(h.now()))
		}
		x.fate.Store(fate)
		h.transact(x)
		if fate == fateCommitted || n == 2 { // of the two that nobody knows one was committed
			p0, p1 := place{transacted, 0}, place{transacted, 1}
			now.transacted[p0] = append(now.transacted[p0], x.values[:2]...)
			now.transacted[p1] = append(now.transacted[p1], x.values[2])
		}
	}
	grouped(h, &now, a)
	copied(h, &now)
	h.grow("t", 3, false)
	h.grow("t", 2, true)
	now.partitions = map[string]int{"t": 3}
	h.set("retention.ms", "7", true)
	now.settings = map[string]string{"retention.ms": "7"}
	before := snapshot{a: slices.Clone(now.log[a][:30]), l: slices.Clone(now.log[l][:10])}
	return h, before, now
}

// grouped adds a group of two members: one was given the beginning of a partition and of committed transactions, and
// committed it, the other one the rest.
func grouped(h *history, now *finds, at place) {
	g := h.group("g", at.topic)
	first := &holding{member: "m0", at: at}
	second := &holding{member: "m1", at: at, floor: 20}
	for _, r := range now.log[at] {
		to := first
		if r.offset >= 20 {
			to = second
		}
		to.polls = append(to.polls, polled{r.offset, r.value, h.now()})
	}
	g.holdings = []*holding{first, second}
	g.commit(map[place]int64{at: 41}, false)
	g.commit(map[place]int64{at: 40}, true)
	now.groups = map[string]map[place]int64{"g": {at: 41}}
	x := place{transacted, 0}
	q := newQueueHistory("q", at.topic)
	q.accepted[at] = map[int64]time.Duration{}
	for _, r := range now.log[at] {
		q.given = append(q.given, queueDelivery{"m0", 1, at, r.offset, r.value})
		q.accepted[at][r.offset] = h.now()
	}
	h.queues = append(h.queues, q)
	third := &holding{member: "m0", at: x}
	now.stable = snapshot{}
	for i, value := range now.transacted[x] {
		offset := int64(3 * i) // markers and aborted records between them
		now.stable[x] = append(now.stable[x], rec{offset, "", value})
		third.polls = append(third.polls, polled{offset, value, h.now()})
	}
	g.holdings = append(g.holdings, third)
}

// copied adds a topic of three records and its copies.
func copied(h *history, now *finds) {
	now.device = map[place][]string{}
	for i := range 3 {
		m := &message{actor: "k8", seq: i, topic: etlFrom, value: fmt.Sprint("source ", i), offset: int64(i)}
		m.sends.Store(1)
		m.acked.Store(true)
		h.add(m)
		from, to := place{etlFrom, 0}, place{etlTo, 0}
		now.log[from] = append(now.log[from], rec{m.offset, "", m.value})
		now.stable[to] = append(now.stable[to], rec{m.offset * 2, "", m.value})
		now.stable[place{etlSide, 0}] = append(now.stable[place{etlSide, 0}], rec{m.offset * 2, "", m.value})
		now.device[to] = append(now.device[to], m.value)
	}
}

// compacted adds a compacted partition of three records, keys a, b and b, without the one at an offset.
func compacted(h *history, n *finds, without int) {
	at := place{keyed, 0}
	for i, key := range []string{"b", "a", "b"} {
		m := &message{actor: "k9", seq: i, topic: keyed, key: key, once: true, value: fmt.Sprint("compacted ", i)}
		m.offset = int64(i)
		m.sends.Store(1)
		m.acked.Store(true)
		h.add(m)
		if i != without {
			n.log[at] = append(n.log[at], rec{m.offset, key, m.value})
		}
	}
}

// TestCheckerSeesPlantedFaults breaks the sound history in every way the checker is there for.
//
// Long: a table of faults.
func TestCheckerSeesPlantedFaults(t *testing.T) {
	a, l, s := place{"alpha", 0}, place{"ledger", 1}, place{retainedTopic, 0}
	x0, x1 := place{transacted, 0}, place{transacted, 1}
	renumber := func(rs []rec) []rec {
		for i := range rs {
			rs[i].offset = int64(i)
		}
		return rs
	}
	drop := func(now *finds, p place, i int) { now.log[p] = renumber(slices.Delete(now.log[p], i, i+1)) }
	for _, c := range []struct {
		name, want string
		plant      func(h *history, before snapshot, now *finds)
	}{
		{"nothing", "", func(*history, snapshot, *finds) {}},
		{"a commit between acknowledged and asked", "", func(_ *history, _ snapshot, n *finds) { n.committed[l] = 11 }},
		{"the tail was not delivered before the kill", "", func(_ *history, _ snapshot, n *finds) {
			delete(n.live, n.log[a][40].value)
		}},
		{"the last acknowledged record dropped", "lost", func(_ *history, _ snapshot, n *finds) { drop(n, a, 39) }},
		{"one in the middle dropped", "lost", func(_ *history, _ snapshot, n *finds) { drop(n, s, 5) }},
		{"one dropped and a hole left", "hole", func(_ *history, _ snapshot, n *finds) {
			n.log[a] = slices.Delete(n.log[a], 7, 8)
		}},
		{"a whole partition dropped", "lost", func(_ *history, _ snapshot, n *finds) { delete(n.log, s) }},
		{"what the consumer saw is gone", "gone", func(_ *history, _ snapshot, n *finds) { n.log[a] = n.log[a][:40] }},
		{"what was read is gone", "gone", func(_ *history, _ snapshot, n *finds) { n.log[a] = n.log[a][:29] }},
		{"two swapped that were read", "moved", func(_ *history, _ snapshot, n *finds) {
			n.log[a][2].value, n.log[a][4].value = n.log[a][4].value, n.log[a][2].value
		}},
		{"two swapped that nobody has read", "order", func(_ *history, _ snapshot, n *finds) {
			n.log[s][2].value, n.log[s][4].value = n.log[s][4].value, n.log[s][2].value
		}},
		{"an offset one back", "moved", func(_ *history, _ snapshot, n *finds) { drop(n, l, 0) }},
		{"an offset told to a producer one on", "moved", func(h *history, _ snapshot, n *finds) {
			n.log[l][18].value, n.log[l][19].value = n.log[l][19].value, n.log[l][18].value
		}},
		{"a producer's record doubled", "doubled", func(h *history, _ snapshot, n *finds) {
			h.byValue[n.log[l][19].value].sends.Store(9)
			n.log[l] = append(n.log[l], rec{20, "", n.log[l][19].value})
		}},
		{"a publish doubled that was sent once", "doubled", func(_ *history, _ snapshot, n *finds) {
			n.log[a] = append(n.log[a], rec{41, "alpha/p0", n.log[a][39].value})
		}},
		{"a torn value", "foreign", func(_ *history, _ snapshot, n *finds) { n.log[s][3].value = n.log[s][3].value[:4] }},
		{"a record of nobody", "foreign", func(_ *history, _ snapshot, n *finds) {
			n.log[s] = append(n.log[s], rec{20, "state/d0", "who?"})
		}},
		{"a record in another topic", "astray", func(_ *history, _ snapshot, n *finds) {
			n.log[place{"beta", 0}] = []rec{{0, "alpha/p0", n.log[a][40].value}}
		}},
		{"a record under another key", "astray", func(_ *history, _ snapshot, n *finds) { n.log[s][3].key = "state/d1" }},
		{"a commit gone back", "commit", func(_ *history, _ snapshot, n *finds) { n.committed[l] = 9 }},
		{"a commit gone", "commit", func(_ *history, _ snapshot, n *finds) { delete(n.committed, l) }},
		{"a commit ahead", "commit", func(_ *history, _ snapshot, n *finds) { n.committed[l] = 13 }},
		{"a retained value one behind", "retained", func(_ *history, _ snapshot, n *finds) {
			n.retained["state/d0"] = n.log[s][18].value
		}},
		{"a retained value gone", "retained", func(_ *history, _ snapshot, n *finds) { clear(n.retained) }},
		{"a retained value of nobody", "retained", func(_ *history, _ snapshot, n *finds) { n.retained["state/x"] = "x" }},
		{"a topic gone", "topic", func(_ *history, _ snapshot, n *finds) { clear(n.topics) }},
		{"a topic that was to be deleted", "", func(h *history, _ snapshot, n *finds) {
			h.deleting("t")
			clear(n.topics)
		}},
		{"a deleted topic back", "undead", func(h *history, _ snapshot, _ *finds) { h.deleted("t", topicID{1}) }},
		{"records removed by nobody", "early", func(_ *history, _ snapshot, n *finds) {
			n.log[l], n.starts = n.log[l][5:], map[place]int64{l: 5}
		}},
		{"records deleted as asked", "", func(h *history, _ snapshot, n *finds) {
			h.trim(l, 5, false)
			n.log[l], n.starts = n.log[l][5:], map[place]int64{l: 5}
		}},
		{"more deleted than asked", "early", func(h *history, _ snapshot, n *finds) {
			h.trim(l, 4, false)
			n.log[l], n.starts = n.log[l][5:], map[place]int64{l: 5}
		}},
		{"deleted records back", "back", func(h *history, _ snapshot, n *finds) { h.trim(l, 5, true) }},
		{"a start gone back", "back", func(_ *history, _ snapshot, n *finds) { n.startsAt = map[place]int64{l: 1} }},
		{"a hole behind the start", "hole", func(h *history, _ snapshot, n *finds) {
			h.trim(l, 5, false)
			n.log[l], n.starts = n.log[l][6:], map[place]int64{l: 5}
		}},
		{"order broken by a refused message", "", func(h *history, _ snapshot, n *finds) {
			h.byValue[n.log[s][2].value].refused.Store(true)
			n.log[s][2].value, n.log[s][4].value = n.log[s][4].value, n.log[s][2].value
			h.byValue[n.log[s][2].value].refused.Store(true)
		}},
		{"a compacted record superseded", "", func(h *history, _ snapshot, n *finds) { compacted(h, n, 0) }},
		{"the last record of a key compacted away", "lost", func(h *history, _ snapshot, n *finds) { compacted(h, n, 2) }},
		{"a compacted record back", "risen", func(h *history, before snapshot, n *finds) {
			compacted(h, n, 0)
			c := place{keyed, 0}
			before[c] = slices.Delete(slices.Clone(n.log[c]), 0, 1)
		}},
		{"a topic made anew", "topic", func(_ *history, _ snapshot, n *finds) { n.topics["t"] = topicID{2} }},
		{"a delivery left out", "undelivered", func(_ *history, _ snapshot, n *finds) { delete(n.live, n.log[a][9].value) }},
		{"the last delivery left out, nothing killed", "undelivered", func(_ *history, _ snapshot, n *finds) {
			n.complete = true
			delete(n.live, n.log[a][40].value)
		}},
		{"a delivery of nobody", "foreign", func(_ *history, _ snapshot, n *finds) { n.live["who?"] = true }},
		{"a record of a committed transaction gone", "lost", func(_ *history, _ snapshot, n *finds) {
			n.transacted[x0] = n.transacted[x0][1:]
		}},
		{"a committed transaction gone", "lost", func(h *history, _ snapshot, n *finds) {
			n.transacted[x0], n.transacted[x1] = n.transacted[x0][2:], n.transacted[x1][1:]
		}},
		{"an aborted record seen", "aborted", func(h *history, _ snapshot, n *finds) {
			n.transacted[x1] = append(n.transacted[x1], h.transactions[1].values[0])
		}},
		{"a transaction of which nobody knows, torn", "torn", func(h *history, _ snapshot, n *finds) {
			n.transacted[x0] = append(n.transacted[x0], h.transactions[3].values[0])
		}},
		{"the other end of what nobody knows", "", func(h *history, _ snapshot, n *finds) {
			h.transactions[4].fate.Store(fateUnknown)
			n.transacted[x0] = append(n.transacted[x0][:4], h.transactions[3].values...)
			n.transacted[x1] = n.transacted[x1][:2]
		}},
		{"a transaction that was seen, gone", "gone", func(h *history, _ snapshot, n *finds) {
			n.seenTxns[h.transactions[3]] = true
		}},
		{"a record of a transaction doubled", "doubled", func(h *history, _ snapshot, n *finds) {
			n.transacted[x1] = append(n.transacted[x1], h.transactions[4].values[2])
		}},
		{"records of transactions swapped", "order", func(_ *history, _ snapshot, n *finds) {
			n.transacted[x0][0], n.transacted[x0][1] = n.transacted[x0][1], n.transacted[x0][0]
		}},
		{"a transaction of nobody", "foreign", func(_ *history, _ snapshot, n *finds) {
			n.transacted[x1] = append(n.transacted[x1], "who?")
		}},
		{"a poll that goes back", "nonmonotonic", func(h *history, _ snapshot, _ *finds) {
			polls := h.groups[0].holdings[0].polls
			polls[5].offset = polls[3].offset
		}},
		{"a poll that skips", "skipped", func(h *history, _ snapshot, _ *finds) {
			hold := h.groups[0].holdings[1]
			hold.polls = slices.Delete(hold.polls, 4, 5)
		}},
		{"a poll that skips what compaction removed", "", func(h *history, _ snapshot, n *finds) {
			n.stable[x0] = slices.Delete(n.stable[x0], 1, 2)
			hold := h.groups[0].holdings[2]
			hold.polls = slices.Delete(hold.polls, 1, 2)
		}},
		{"a member that begins below the commit", "rewound", func(h *history, _ snapshot, _ *finds) {
			h.groups[0].holdings[1].floor = 21
		}},
		{"a commit beyond what anybody was given", "unseen", func(h *history, _ snapshot, _ *finds) {
			hold := h.groups[0].holdings[0]
			hold.polls = hold.polls[:19]
		}},
		{"a commit of a group gone", "commit", func(_ *history, _ snapshot, n *finds) { clear(n.groups) }},
		{"a commit of a group gone back", "commit", func(_ *history, _ snapshot, n *finds) { n.groups["g"][a] = 39 }},
		{"a commit of a group ahead", "commit", func(_ *history, _ snapshot, n *finds) { n.groups["g"][a] = 42 }},
		{"two values at an offset", "moved", func(h *history, _ snapshot, _ *finds) {
			h.groups[0].holdings[0].polls[3].value = "other"
		}},
		{"a member was given what is not there", "gone", func(_ *history, _ snapshot, n *finds) {
			n.stable[x0] = n.stable[x0][:1]
		}},
		{"a member was given an aborted record", "aborted", func(h *history, _ snapshot, _ *finds) {
			h.groups[0].holdings[2].polls[0].value = h.transactions[1].values[0]
		}},
		{"a member was given what nobody asked to commit", "aborted", func(h *history, _ snapshot, _ *finds) {
			h.transactions[0].asked.Store(0)
		}},
		{"a member was given an open transaction", "early", func(h *history, _ snapshot, _ *finds) {
			h.transactions[0].asked.Store(int64(h.now()))
		}},
		{"an accepted record given again", "again", func(h *history, _ snapshot, _ *finds) {
			h.queues[0].given = append(h.queues[0].given, h.queues[0].given[3])
			h.queues[0].given[41].came = h.now()
		}},
		{"a queue gave out what is not there", "gone", func(h *history, _ snapshot, _ *finds) {
			h.queues[0].given[3].offset = 1000
		}},
		{"a queue gave out another value", "moved", func(h *history, _ snapshot, _ *finds) {
			h.queues[0].given[3].value = "other"
		}},
		{"a copy gone", "lost", func(_ *history, _ snapshot, n *finds) {
			to := place{etlTo, 0}
			n.stable[to] = n.stable[to][1:]
		}},
		{"a copy doubled", "doubled", func(_ *history, _ snapshot, n *finds) {
			side := place{etlSide, 0}
			n.stable[side] = append(n.stable[side], rec{9, "", n.stable[side][0].value})
		}},
		{"copies swapped", "order", func(_ *history, _ snapshot, n *finds) {
			rs := n.stable[place{etlTo, 0}]
			rs[0].value, rs[1].value = rs[1].value, rs[0].value
		}},
		{"a copy of nothing", "foreign", func(_ *history, _ snapshot, n *finds) {
			to := place{etlTo, 3}
			n.stable[to] = append(n.stable[to], rec{0, "", "who?"})
		}},
		{"a copy that the device missed", "lost", func(_ *history, _ snapshot, n *finds) {
			to := place{etlTo, 0}
			n.device[to] = n.device[to][:2]
		}},
		{"copies that the device was given in another order", "order", func(_ *history, _ snapshot, n *finds) {
			slices.Reverse(n.device[place{etlTo, 0}])
		}},
		{"a partition gone", "partitions", func(_ *history, _ snapshot, n *finds) { n.partitions["t"] = 1 }},
		{"a partition of nobody", "partitions", func(_ *history, _ snapshot, n *finds) { n.partitions["t"] = 4 }},
		{"a setting gone", "setting", func(_ *history, _ snapshot, n *finds) { clear(n.settings) }},
		{"a setting that nobody was told of", "", func(h *history, _ snapshot, n *finds) {
			h.set("retention.ms", "8", false)
			n.settings["retention.ms"] = "8"
		}},
		{"a producer that was refused", "complaint", func(h *history, _ snapshot, _ *finds) { h.complain("no") }},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			h, before, now := sound()
			c.plant(h, before, &now)
			v := check(h, before, now)
			if c.want == "" && len(v.lines) > 0 {
				t.Errorf("sound, but blamed:\n%s", v)
			}
			if c.want != "" && v.kinds[c.want] == 0 {
				t.Errorf("want %q, got %v\n%s", c.want, slices.Sorted(maps.Keys(v.kinds)), v)
			}
		})
	}
}
