package cluster

import (
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
)

// queue is what waits for the senders. Each lane has a sender, and its units are sent in the order of the Appends; a
// caller, who is known by his Receipt, has units in one lane at a time. So all of a caller's units keep their order,
// and nobody waits for another's transaction.
type queue struct {
	sync.Mutex
	bytes   int64 // of units that wait or are under way
	count   int   // of them
	line    stream.Line
	callers map[stream.Receipt]*caller
	anybody *lane // of units without an owner
	owned   map[stream.PartitionID]*lane
	closing bool
	crowded atomic.Bool // a unit was turned away, and there has been no more room since
}

// caller is who has units that wait or are under way. All without a receipt are one.
type caller struct {
	lane *lane
	n    int     // units in the lane
	held []*unit // that come after them, the first of which is of another lane
}

// lane is what one sender sends: the units of an owner, or those that have none.
type lane struct {
	owner stream.Owner
	work  chan struct{}

	// The sender's own.
	client        *kgo.Client
	plain         producer // for units that are one batch; an owner does not use it
	transactional producer // for those that are more

	// Under the queue's lock.
	units   []*unit
	pending int  // units that wait, are held or under way
	fenced  bool // the cluster has another owner, or may have
	retired bool // this node has another owner
}

// enter takes room for a unit, in its turn and by the owner of its shard, and gives the lane to put it into.
func (q *queue) enter(u *stream.Unit, bytes, most int64) (*lane, error) {
	q.Lock()
	defer q.Unlock()
	l, err := q.enterLocked(u, bytes, most)
	if u.Turn == nil {
		return l, err
	}
	if err == stream.ErrCrowded { //nolint:errorlint // it was made a few lines further down
		q.line.Wait(u.Turn, bytes)
		if q.count == 0 {
			wake(q.anybody.work) // nobody else would call him
		}
	} else {
		q.line.Pass(u.Turn)
	}
	return l, err
}

func (q *queue) enterLocked(u *stream.Unit, bytes, most int64) (*lane, error) {
	if q.closing {
		return nil, fault.New(fault.Closed, "log.Append", "the log is closing")
	}
	l := q.anybody
	if u.Owner.Epoch != 0 {
		if l = q.owned[u.Owner.Shard]; l == nil {
			return nil, fault.New(fault.Fenced, "log.Append", "shard %d has no owner here", u.Owner.Shard)
		}
		if err := l.holds(u.Owner); err != nil {
			return nil, err
		}
	}
	if bytes > 0 && (q.bytes > 0 && q.bytes+bytes > most || q.line.Ahead(u.Turn)) {
		q.crowded.Store(true)
		return nil, stream.ErrCrowded
	}
	q.bytes += bytes
	q.count++
	l.pending++
	return l, nil
}

// holds tells whether an owner still has the shard of a lane, as far as this node knows. It needs the queue's lock.
func (l *lane) holds(o stream.Owner) error {
	switch {
	case l.owner.Epoch != o.Epoch:
		return fault.New(fault.Fenced, "log.Append", "shard %d: epoch %d, another has %d", o.Shard, o.Epoch, l.owner.Epoch)
	case l.fenced:
		return fault.New(fault.Fenced, "log.Append", "shard %d has another owner in the cluster", o.Shard)
	}
	return nil
}

// put puts a unit that has entered into its lane, or holds it while its caller has others in another.
func (q *queue) put(u *unit) {
	q.Lock()
	defer q.Unlock()
	k := q.callers[u.to]
	if k == nil {
		k = &caller{lane: u.lane}
		q.callers[u.to] = k
	}
	k.held = append(k.held, u)
	k.move()
}

// move puts what a caller has held into the lane that his turn is in.
func (k *caller) move() {
	if len(k.held) == 0 || k.n > 0 && k.held[0].lane != k.lane {
		return
	}
	k.lane = k.held[0].lane
	moved := 0
	for moved < len(k.held) && k.held[moved].lane == k.lane {
		moved++
	}
	k.lane.units = append(k.lane.units, k.held[:moved]...)
	k.n += moved
	rest := copy(k.held, k.held[moved:])
	clear(k.held[rest:])
	k.held = k.held[:rest]
	wake(k.lane.work)
}

// done lets go of a group whose receipts were told.
func (q *queue) done(l *lane, g *group) {
	q.Lock()
	defer q.Unlock()
	for _, u := range g.units {
		k := q.callers[u.to]
		if k.n--; k.n > 0 {
			continue
		}
		if len(k.held) == 0 {
			delete(q.callers, u.to)
		} else {
			k.move()
		}
	}
	q.bytes -= g.bytes
	q.count -= len(g.units)
	l.pending -= len(g.units)
	q.crowded.Store(false)
	if q.closing && q.count == 0 {
		q.wakeLocked()
	}
}

func (q *queue) wakeLocked() {
	wake(q.anybody.work)
	for _, l := range q.owned {
		wake(l.work)
	}
}

// take fills the group with the next units of a lane and gives the turns of those who have room now. Ends says that
// the lane has nothing to send any more.
func (q *queue) take(l *lane, g *group, opt *Options) (turns []*stream.Turn, ends bool) {
	q.Lock()
	defer q.Unlock()
	taken := g.take(l.units, opt.GroupBytes)
	rest := copy(l.units, l.units[taken:])
	clear(l.units[rest:])
	l.units = l.units[:rest]
	ends = l.pending == 0 && (l.retired || q.closing && q.count == 0)
	return q.line.Next(opt.QueueBytes-q.bytes, nil), ends
}

// close turns away whoever comes, and gives the turns of those who wait. It is false if that was done before.
func (q *queue) close() (turns []*stream.Turn, first bool) {
	q.Lock()
	defer q.Unlock()
	if q.closing {
		return nil, false
	}
	q.closing = true
	q.wakeLocked()
	const all = 1 << 62
	return q.line.Next(all, nil), true
}

// dispossess takes a shard from the owner that it has on this node: from now on he does not take its id anew.
func (q *queue) dispossess(shard stream.PartitionID) {
	q.Lock()
	defer q.Unlock()
	if l := q.owned[shard]; l != nil {
		l.fenced = true
	}
}

// own puts a lane in the place of that of the owner before. Begin starts its sender.
func (q *queue) own(shard stream.PartitionID, l *lane, begin func()) (stream.Owner, error) {
	q.Lock()
	defer q.Unlock()
	if q.closing {
		return stream.Owner{}, fault.New(fault.Closed, "log.Own", "the log is closing")
	}
	l.owner = stream.Owner{Shard: shard, Epoch: 1}
	if before := q.owned[shard]; before != nil {
		l.owner.Epoch = before.owner.Epoch + 1
		before.retired, before.fenced = true, true
		wake(before.work)
	}
	q.owned[shard] = l
	begin()
	return l.owner, nil
}

// fence notes that the cluster has fenced the owner of a lane.
func (q *queue) fence(l *lane) {
	q.Lock()
	l.fenced = true
	q.Unlock()
}

// lost tells why the owner of a lane may append no more, or nil.
func (q *queue) lost(l *lane) error {
	q.Lock()
	defer q.Unlock()
	if l.owner.Epoch == 0 {
		return nil
	}
	return l.holds(l.owner)
}
