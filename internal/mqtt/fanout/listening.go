package fanout

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// listening has the fanout follow the partitions that some subscription may want, and no others.
//
// A partition is followed before the first subscription that wants it is in force, from its end; one of a topic that
// is made later, from its start. It is left again some time after the last one went.
type listening struct {
	f       *Fanout
	watch   stream.Watching
	wakeup  chan struct{} // holds one token
	version atomic.Uint64 // raised when interest may have another answer

	interest struct {
		sync.RWMutex
		interest
	}
	// mu is held while the keeper is asked for bounds, and taken before the lock of interest and those of workers.
	mu struct {
		sync.Mutex
		topics   *stream.Topics // as of the last look, like table and byFirst
		table    *hinge.Table
		byFirst  map[string][]string // names of log topics by a first level of their records' names
		followed map[stream.PartitionID]struct{}
		unbegun  map[stream.PartitionID]struct{} // new ones that were to be followed from their start, and could not be
		lacking  bool                            // a partition could not be followed: the next look goes through all
	}
}

// anyFirst stands for any first level.
const anyFirst = "+"

// leaveAfter is how long a partition is followed in vain.
const leaveAfter = time.Second

func newListening(f *Fanout) *listening {
	l := &listening{f: f, wakeup: make(chan struct{}, 1)}
	l.mu.followed, l.mu.unbegun = make(map[stream.PartitionID]struct{}), make(map[stream.PartitionID]struct{})
	l.watch = f.opt.Log.Watch(f, stream.Followed)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look(f.opt.Mapping())
	return l
}

// run looks at the topics whenever they changed, until ctx ends.
func (l *listening) run(ctx context.Context) {
	for {
		select {
		case <-l.wakeup:
			l.remap(l.f.opt.Mapping())
		case <-ctx.Done():
			return
		}
	}
}

func (l *listening) wake() {
	select {
	case l.wakeup <- struct{}{}:
	default: // a token is there: it will look
	}
}

// add counts the filter of a subscription in. When it returns, all that it may match is followed.
func (l *listening) add(filter string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look(l.f.opt.Mapping())
	l.addLocked(filter)
}

func (l *listening) addLocked(filter string) {
	l.interest.Lock()
	fresh := l.interest.add(filter)
	l.interest.Unlock()
	if !fresh {
		return
	}
	l.version.Add(1)
	if filter[0] == '+' || filter[0] == '#' {
		for _, t := range l.mu.topics.All() {
			l.follow(t)
		}
		return
	}
	first, _, _ := strings.Cut(filter, "/")
	for _, name := range l.mu.byFirst[first] {
		l.follow(l.mu.topics.ByName(name))
	}
	for _, name := range l.mu.byFirst[anyFirst] {
		l.follow(l.mu.topics.ByName(name))
	}
}

// wanting is a log topic and those of some subscriptions that may want its records.
type wanting struct {
	topic *stream.Topic
	subs  []*session.Subscription
}

// addAll is add for the filters of some subscriptions.
func (l *listening) addAll(subs []*session.Subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look(l.f.opt.Mapping())
	for _, s := range subs {
		l.addLocked(s.Filter)
	}
}

// wanted are the topics that are wanted by some subscriptions.
func (l *listening) wanted(subs []*session.Subscription) []wanting {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look(l.f.opt.Mapping())
	var all []wanting
	at := make(map[*stream.Topic]int)
	for _, s := range subs {
		l.forTopics(s.Filter, func(t *stream.Topic) {
			i, known := at[t]
			if !known {
				i = len(all)
				at[t], all = i, append(all, wanting{topic: t})
			}
			all[i].subs = append(all[i].subs, s)
		})
	}
	return all
}

// topics are those whose records a filter may want.
func (l *listening) topics(filter string) (all []*stream.Topic) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look(l.f.opt.Mapping())
	l.forTopics(filter, func(t *stream.Topic) { all = append(all, t) })
	return all
}

// forTopics visits the topics whose records a filter may want. It needs the lock.
func (l *listening) forTopics(filter string, visit func(*stream.Topic)) {
	first, _, _ := strings.Cut(filter, "/")
	switch {
	case !fromLog(filter):
	case first == "+", first == "#":
		for _, t := range l.mu.topics.All() {
			if !strings.HasPrefix(t.Name, stream.InternalPrefix) {
				visit(t)
			}
		}
	default:
		var one interest
		one.add(filter)
		for _, names := range [2][]string{l.mu.byFirst[first], l.mu.byFirst[anyFirst]} {
			for _, name := range names {
				if t := l.mu.topics.ByName(name); t != nil && one.in(l.mu.table, name) {
					visit(t)
				}
			}
		}
	}
}

// remove counts a filter out.
func (l *listening) remove(filter string) {
	l.interest.Lock()
	defer l.interest.Unlock()
	if l.interest.remove(filter) {
		l.version.Add(1)
	}
}

// to tells whether any subscription may want records of a log topic.
func (l *listening) to(table *hinge.Table, logTopic string) bool {
	l.interest.RLock()
	defer l.interest.RUnlock()
	return l.interest.in(table, logTopic)
}

// leave ends the following of a partition, if it was in vain for long enough.
func (l *listening) leave(w *worker, p *part) {
	if w.now.Sub(p.opinion.since) < leaveAfter || len(p.behind) > 0 || !l.mu.TryLock() {
		return // it is asked again with the next news
	}
	defer l.mu.Unlock()
	if p.opinion.version != l.version.Load() {
		return // somebody may have come
	}
	l.unfollow(p.id)
}

// remap follows what a mapping asks for besides what is followed already.
func (l *listening) remap(table *hinge.Table) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look(table)
}

// look takes note of what changed among the topics, and of another mapping. It needs the lock, as do those below.
func (l *listening) look(table *hinge.Table) {
	topics := l.f.opt.Log.Topics()
	before := l.mu.topics
	if topics == before && table == l.mu.table && !l.mu.lacking {
		return
	}
	remapped := table != l.mu.table || l.mu.lacking
	l.mu.topics, l.mu.table, l.mu.lacking = topics, table, false
	if before != nil {
		topics.Changes(before, func(old, now *stream.Topic) { l.changed(old, now, remapped) })
	}
	if !remapped {
		return
	}
	l.mu.byFirst = make(map[string][]string)
	for _, t := range topics.All() {
		l.index(t)
		l.follow(t)
	}
}

// changed takes note of one topic that was made, changed or deleted.
func (l *listening) changed(old, now *stream.Topic, remapped bool) {
	same := old != nil && now != nil && old.ID == now.ID
	if old != nil && !same {
		l.unfollow(old.Partitions...)
		l.unindex(old)
	}
	if now == nil {
		return
	}
	if !same && !remapped {
		l.index(now)
	}
	known := 0
	if same {
		known = len(old.Partitions)
	}
	if l.wants(now) {
		for _, p := range now.Partitions[min(known, len(now.Partitions)):] {
			l.begin(p, true)
		}
	}
}

func (l *listening) firsts(t *stream.Topic) []string {
	stems, all := l.mu.table.Stems(t.Name)
	if all {
		return []string{anyFirst}
	}
	for i := range stems {
		stems[i], _, _ = strings.Cut(stems[i], "/")
	}
	slices.Sort(stems)
	return slices.Compact(stems)
}

func (l *listening) index(t *stream.Topic) {
	for _, first := range l.firsts(t) {
		l.mu.byFirst[first] = append(l.mu.byFirst[first], t.Name)
	}
}

func (l *listening) unindex(t *stream.Topic) {
	for _, first := range l.firsts(t) {
		l.mu.byFirst[first] = slices.DeleteFunc(l.mu.byFirst[first], func(name string) bool { return name == t.Name })
		if len(l.mu.byFirst[first]) == 0 {
			delete(l.mu.byFirst, first)
		}
	}
}

func (l *listening) wants(t *stream.Topic) bool {
	return l.to(l.mu.table, t.Name)
}

// follow follows the partitions of a topic from their ends, if somebody wants its records.
func (l *listening) follow(t *stream.Topic) {
	if t == nil || !l.wants(t) {
		return
	}
	for _, p := range t.Partitions {
		l.begin(p, false)
	}
}

// begin follows a partition from its end or, if it is new, from its start.
func (l *listening) begin(p stream.PartitionID, fresh bool) {
	if _, is := l.mu.followed[p]; is {
		return
	}
	if _, was := l.mu.unbegun[p]; was {
		fresh = true
	}
	w := l.f.worker(p)
	w.prepare(p)
	l.watch.Follow(p)
	bounds, err := l.f.opt.Log.Bounds(p)
	if err != nil {
		l.unfollow(p)
		if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Closed) {
			l.f.complain("follow", "cannot follow a partition, trying again", p, "error", err)
			l.mu.lacking = true
			if fresh {
				l.mu.unbegun[p] = struct{}{}
			}
			time.AfterFunc(firstPause, l.wake)
		}
		return
	}
	l.mu.followed[p] = struct{}{}
	delete(l.mu.unbegun, p)
	from := record.Offset(-1)
	if fresh {
		from = bounds.Start
	}
	w.start(p, from, bounds.Stable)
}

func (l *listening) unfollow(ps ...stream.PartitionID) {
	l.watch.Unfollow(ps...)
	for _, p := range ps {
		delete(l.mu.followed, p)
		delete(l.mu.unbegun, p)
		l.f.worker(p).forget(p)
	}
}
