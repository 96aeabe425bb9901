package torture

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// rec is a record as a client reads it.
type rec struct {
	offset     int64
	key, value string
}

// snapshot is the whole log, by partition, in the order in which it was read.
type snapshot map[place][]rec

// finds is all that is read after a restart.
type finds struct {
	log        snapshot
	starts     map[place]int64  // where each partition begins, of those that do not begin at 0
	startsAt   map[place]int64  // the same of the read before
	newest     map[string]int64 // offset of the last record of each key in the compacted topic; nil: not yet looked up
	promised   map[place]int64  // commits that were acknowledged before committed was read
	committed  map[place]int64
	seen       []sighting        // by the group consumer before log was read
	retained   map[string]string // value by MQTT topic
	topics     map[string]topicID
	live       map[string]bool            // values that the subscriber was given while the server was up
	liveFrom   map[place]int64            // where the log ended when the subscriber was in place
	transacted map[place][]string         // values that were committed in transactions
	seenTxns   map[*transaction]bool      // transactions that were seen at an earlier check
	complete   bool                       // the server was not killed: the subscriber must have been given everything
	stable     snapshot                   // committed records of the topics that are written to in transactions
	groups     map[string]map[place]int64 // committed offsets, by group
	partitions map[string]int             // of each topic
	settings   map[string]string          // of the topic of the producers
	device     map[place][]string         // values that a device was given, by the partition they were copied from
}

// verdict collects what is broken, a line each and not more than a screen of a kind.
type verdict struct {
	lines []string
	kinds map[string]int
}

const linesOfAKind = 5

func (v *verdict) add(kind, format string, args ...any) {
	if v.kinds == nil {
		v.kinds = map[string]int{}
	}
	if v.kinds[kind]++; v.kinds[kind] <= linesOfAKind {
		v.lines = append(v.lines, kind+": "+fmt.Sprintf(format, args...))
	}
}

func (v *verdict) String() string {
	lines := v.lines
	for _, kind := range slices.Sorted(maps.Keys(v.kinds)) {
		if n := v.kinds[kind]; n > linesOfAKind {
			lines = append(lines, fmt.Sprintf("%s: %d in all", kind, n))
		}
	}
	return strings.Join(lines, "\n")
}

// check holds what was found against the history and against what was found before.
func check(h *history, before snapshot, now finds) *verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := &verdict{}
	checkOffsets(v, now)
	checkStarts(v, h, now)
	checkPlaces(v, h, before, &now)
	checkRisen(v, before, now)
	counts := checkValues(v, h, now.log)
	checkMessages(v, h, &now, counts)
	checkOrder(v, h, now.log)
	checkCommits(v, h, now)
	checkRetained(v, now)
	checkTopics(v, h, now)
	checkLive(v, h, now)
	checkTransactions(v, h, now)
	checkGroups(v, h, now)
	checkQueues(v, h, now)
	checkCopies(v, now)
	checkAdministration(v, h, now)
	for _, c := range h.complaint {
		v.add("complaint", "%s", c)
	}
	return v
}

// checkOffsets wants offsets one by one from where a partition begins: only compaction leaves holes.
func checkOffsets(v *verdict, now finds) {
	for at, rs := range now.log {
		for i, r := range rs {
			if at.topic == keyed {
				if i > 0 && r.offset <= rs[i-1].offset {
					v.add("hole", "%s: offset %d behind %d", at, r.offset, rs[i-1].offset)
				}
				continue
			}
			if r.offset != now.starts[at]+int64(i) {
				v.add("hole", "%s: record %d has offset %d, it begins at %d", at, i, r.offset, now.starts[at])
				break
			}
		}
	}
}

// checkStarts wants a partition to begin where it may: not below what was deleted, nor below where it began; above what
// anybody asked to delete only where retention left what it has to.
func checkStarts(v *verdict, h *history, now finds) {
	for at, deleted := range h.trimmed {
		if now.starts[at] < deleted {
			v.add("back", "%s begins at %d, deleted was up to %d", at, now.starts[at], deleted)
		}
	}
	for at, before := range now.startsAt {
		if now.starts[at] < before {
			v.add("back", "%s begins at %d, before at %d", at, now.starts[at], before)
		}
	}
	for at, start := range now.starts {
		if start <= h.trimming[at] {
			continue
		}
		left := 0
		for _, r := range now.log[at] {
			left += len(r.value)
		}
		// Of a batch's bytes more than half are values here.
		if at.topic != brief || left < briefBytes/2 {
			v.add("early", "%s begins at %d, with %d bytes of values left", at, start, left)
		}
	}
}

// checkCopies wants what workers have copied from topic to topic to be there once, in the order of the source, and a
// device to have been given just that.
func checkCopies(v *verdict, now finds) {
	if now.stable == nil {
		return
	}
	due := map[place][]string{} // by partition of the source
	for at, rs := range now.log {
		for _, r := range rs {
			if at.topic == etlFrom {
				due[place{etlTo, at.index}] = append(due[place{etlTo, at.index}], r.value)
			}
		}
	}
	compare := func(who string, due, got map[place][]string) {
		for at, values := range due {
			compareCopies(v, fmt.Sprintf("%s, copies of %s/%d", who, etlFrom, at.index), values, got[at])
		}
		for at, values := range got {
			if due[at] == nil {
				v.add("foreign", "%s: %d values at %s, which has no source", who, len(values), at)
			}
		}
	}
	compare(etlTo, due, valuesOf(now.stable, etlTo))
	compare("the device", due, now.device)
	sides := map[place][]string{}
	for at, values := range due {
		side := place{etlSide, at.index % etlSides}
		sides[side] = append(sides[side], values...)
	}
	got := valuesOf(now.stable, etlSide)
	for _, all := range []map[place][]string{sides, got} {
		for at := range all {
			slices.Sort(all[at]) // of several sources; the order of each is looked at above
		}
	}
	compare(etlSide, sides, got)
}

// compareCopies says what is wrong with copies.
func compareCopies(v *verdict, who string, due, got []string) {
	counts := map[string]int{}
	for _, value := range got {
		if counts[value]++; counts[value] == 2 {
			v.add("doubled", "%s: %q", who, value)
		}
	}
	lost := 0
	for _, value := range due {
		if counts[value] == 0 {
			v.add("lost", "%s: %q", who, value)
			lost++
		}
		delete(counts, value)
	}
	for value := range counts {
		v.add("foreign", "%s: %q", who, value)
	}
	if len(got) == len(due) && lost == 0 && !slices.Equal(got, due) {
		v.add("order", "%s", who)
	}
}

// checkAdministration wants partitions that were added, and settings that were changed, to be there.
func checkAdministration(v *verdict, h *history, now finds) {
	for topic, want := range h.grown {
		if got := now.partitions[topic]; got < want || got > h.growing[topic] {
			v.add("partitions", "%s has %d, %d were acknowledged and %d asked for", topic, got, want, h.growing[topic])
		}
	}
	for key, want := range h.settings {
		asked, unknown := h.setting[key]
		if got := now.settings[key]; got != want && (!unknown || got != asked) {
			v.add("setting", "%s is %q, %q was acknowledged", key, got, want)
		}
	}
}

// at finds the record with an offset, nil if there is none.
func (s snapshot) at(p place, offset int64) *rec {
	rs := s[p]
	i, ok := slices.BinarySearchFunc(rs, offset, func(r rec, o int64) int { return int(r.offset - o) })
	if !ok {
		return nil
	}
	return &rs[i]
}

// checkPlaces wants every record that anybody has seen where it was.
func checkPlaces(v *verdict, h *history, before snapshot, now *finds) {
	still := func(who string, p place, offset int64, value string) {
		if offset < now.starts[p] || now.superseded(h, p, offset, value) {
			return // checkStarts says whether it may be gone
		}
		switch r := now.log.at(p, offset); {
		case r == nil:
			v.add("gone", "%s at %d: %q, seen by %s", p, offset, value, who)
		case r.value != value:
			v.add("moved", "%s at %d: %q, was %q, seen by %s", p, offset, r.value, value, who)
		}
	}
	for p, rs := range before {
		for _, r := range rs {
			still("an earlier read", p, r.offset, r.value)
		}
	}
	for _, s := range now.seen {
		still("the consumer", s.at, s.offset, s.value)
	}
	for _, m := range h.messages {
		if m.once && m.acked.Load() {
			still("its producer", place{m.topic, m.index}, m.offset, m.value)
		}
	}
}

// removed tells whether an acknowledged message may be gone. Before the acknowledgement nobody knows where it was.
func (f *finds) removed(h *history, m *message) bool {
	at := place{m.topic, m.index}
	return m.once && (m.offset < f.starts[at] || f.superseded(h, at, m.offset, m.value))
}

// superseded tells whether a record of the compacted topic is not there because a later one has its key.
func (f *finds) superseded(h *history, at place, offset int64, value string) bool {
	m := h.byValue[value]
	if at.topic != keyed || m == nil || f.log.at(at, offset) != nil {
		return false
	}
	if f.newest == nil {
		f.newest = map[string]int64{}
		for _, r := range f.log[at] {
			f.newest[r.key] = r.offset
		}
	}
	return f.newest[m.key] > offset
}

// checkRisen wants nothing back that compaction had removed.
func checkRisen(v *verdict, before snapshot, now finds) {
	for at, rs := range before {
		if at.topic != keyed || len(rs) == 0 {
			continue
		}
		for _, r := range now.log[at] {
			if r.offset <= rs[len(rs)-1].offset && before.at(at, r.offset) == nil {
				v.add("risen", "%s at %d: %q was gone", at, r.offset, r.value)
			}
		}
	}
}

// checkValues wants every record to be one that was sent, unharmed, and counts them.
func checkValues(v *verdict, h *history, log snapshot) map[*message]int {
	counts := make(map[*message]int, len(h.messages))
	for p, rs := range log {
		for _, r := range rs {
			m := h.byValue[r.value]
			switch {
			case m == nil:
				v.add("foreign", "%s at %d: nobody sent %q", p, r.offset, r.value)
				continue
			case m.topic != p.topic || m.key != r.key:
				v.add("astray", "%s at %d: key %q; sent to %s with key %q", p, r.offset, r.key, m.topic, m.key)
			}
			counts[m]++
		}
	}
	return counts
}

// checkMessages wants every acknowledged message to be there, and no more of one than were sent.
func checkMessages(v *verdict, h *history, now *finds, counts map[*message]int) {
	for _, m := range h.messages {
		n := counts[m]
		if m.acked.Load() && n == 0 && !now.removed(h, m) {
			v.add("lost", "%s %d to %s was acknowledged: %q", m.actor, m.seq, m.topic, m.value)
		}
		if most := int(m.sends.Load()); m.once && n > 1 || n > most {
			v.add("doubled", "%s %d to %s was sent %d times and is there %d times: %q",
				m.actor, m.seq, m.topic, most, n, m.value)
		}
	}
}

// checkOrder wants the first records of the messages of one sender to one partition and key in their order.
func checkOrder(v *verdict, h *history, log snapshot) {
	type line struct{ actor, key string }
	for p, rs := range log {
		last := map[line]int{}
		found := map[*message]bool{}
		for _, r := range rs {
			m := h.byValue[r.value]
			if m == nil || found[m] || m.refused.Load() {
				continue
			}
			found[m] = true
			l := line{m.actor, m.key}
			if before, ok := last[l]; ok && m.seq < before {
				v.add("order", "%s at %d: %s %d after %d", p, r.offset, m.actor, m.seq, before)
			}
			last[l] = m.seq
		}
	}
}

// checkCommits wants committed offsets not below what was acknowledged, and not above what was asked for.
func checkCommits(v *verdict, h *history, now finds) {
	for at, want := range now.promised {
		if got, ok := now.committed[at]; !ok || got < want {
			v.add("commit", "%s: %d was acknowledged, %d is there (%v)", at, want, got, ok)
		}
	}
	for at, got := range now.committed {
		if most := h.attempted[at]; got > most {
			v.add("commit", "%s: %d is there, nobody asked for more than %d", at, got, most)
		}
	}
}

// checkRetained wants the last record of each retained topic to be what a new subscriber is given.
func checkRetained(v *verdict, now finds) {
	want := lastByKey(now.log, retainedTopic)
	for key, value := range want {
		if got, ok := now.retained[key]; !ok || got != value {
			v.add("retained", "%s: %q (%v), the log ends with %q", key, got, ok, value)
		}
	}
	for key := range now.retained {
		if _, ok := want[key]; !ok {
			v.add("retained", "%s: nobody set it", key)
		}
	}
}

// lastByKey is the last value of each key of a topic.
func lastByKey(log snapshot, topic string) map[string]string {
	last := map[string]string{}
	for p, rs := range log {
		if p.topic == topic {
			for _, r := range rs {
				last[r.key] = r.value
			}
		}
	}
	return last
}

func checkTopics(v *verdict, h *history, now finds) {
	for name, id := range h.topics {
		if got, ok := now.topics[name]; (!ok || got != id) && !h.dying[name] {
			v.add("topic", "%s: %v (%v), was created as %v", name, got, ok, id)
		}
	}
	for name, id := range now.topics {
		if was, ok := h.gone[id]; ok {
			v.add("undead", "%s: %v, was deleted as %s", name, id, was)
		}
	}
}

// checkLive wants the subscriber to have been given the records of each partition up to some place, without
// a hole; and all of them, if the server was not killed.
func checkLive(v *verdict, h *history, now finds) {
	for p, from := range now.liveFrom {
		end := int64(-1)
		rs := now.log[p]
		for _, r := range rs {
			if r.offset >= from && now.live[r.value] {
				end = r.offset
			}
		}
		if now.complete && len(rs) > 0 {
			end = rs[len(rs)-1].offset
		}
		for _, r := range rs {
			if r.offset >= from && r.offset <= end && !now.live[r.value] {
				v.add("undelivered", "%s at %d: %q; deliveries went on to %d", p, r.offset, r.value, end)
			}
		}
	}
	for value := range now.live {
		if h.byValue[value] == nil {
			v.add("foreign", "the subscriber was given %q", value)
		}
	}
}
