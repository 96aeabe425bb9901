package fanout

import (
	"time"

	"github.com/firthmq/firth/internal/hinge"
)

// interest answers whether any subscription may match records of a log topic, so that partitions that
// nobody listens to are skipped without a look inside. A wrong yes costs time, a wrong no would lose
// messages: filters that come are looked at at once, filters that go only after a while.
type interest struct {
	filters map[string]int // how many subscriptions have the filter
	added   []string       // filters that were new, oldest first
	base    uint64         // how many were before added[0]
	removed uint64         // how many filters went
}

const (
	// keptAdded is how many new filters are remembered one by one.
	keptAdded = 4096
	// lookAgain is how long a partition is read in vain after the last filter for it went.
	lookAgain = time.Second
)

func (in *interest) add(filter string) {
	in.filters[filter]++
	if in.filters[filter] > 1 {
		return
	}
	if len(in.added) == keptAdded {
		in.base += keptAdded
		in.added = in.added[:0]
	}
	in.added = append(in.added, filter)
}

func (in *interest) remove(filter string) {
	if in.filters[filter]--; in.filters[filter] > 0 {
		return
	}
	delete(in.filters, filter)
	in.removed++
}

// opinion is the answer for one partition. It belongs to the partition's worker.
type opinion struct {
	table   *hinge.Table // by which it was formed
	added   uint64       // filters that were looked at
	removed uint64
	at      time.Time
	yes     bool
}

// update forms the opinion anew as far as it must. It needs a read lock.
func (o *opinion) update(in *interest, table *hinge.Table, logTopic string, now time.Time) bool {
	newest := in.base + uint64(len(in.added))
	switch {
	case o.table != table || !o.yes && o.added < in.base || o.yes && o.removed != in.removed && now.Sub(o.at) > lookAgain:
		o.yes = false
		for filter := range in.filters {
			if table.MayMatch(filter, logTopic) {
				o.yes = true
				break
			}
		}
		o.removed, o.at = in.removed, now
	case !o.yes:
		for _, filter := range in.added[o.added-in.base:] {
			if table.MayMatch(filter, logTopic) {
				o.yes, o.removed, o.at = true, in.removed, now
				break
			}
		}
	}
	o.table, o.added = table, newest
	return o.yes
}
