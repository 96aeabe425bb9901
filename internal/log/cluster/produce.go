package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// producer is a client of the cluster that appends.
type producer struct {
	opt    *Options
	id     string      // transactional id; none: it appends without transactions
	client *kgo.Client // nil: it is not open
	shard  bool        // it is that of an owner, and opened once: to open it again would fence the next owner
	opened bool
}

// senders are the producers of a lane.
type senders struct {
	plain         producer // for units that are one batch; an owner has none
	transactional producer // for those that are more
}

func (l *producer) open() (err error) {
	switch {
	case l.client != nil:
		return nil
	case l.shard && l.opened:
		return fault.New(fault.Fenced, "log.Append", "the producer of %s has ended: take its shard over again", l.id)
	}
	l.opened = true
	l.client, err = l.opt.producer(l.id)
	return err
}

func (l *producer) close() {
	if l.client != nil {
		l.client.Close()
		l.client = nil
	}
}

// group is what a sender sends at once.
type group struct {
	units       []*unit
	transaction bool
	bytes       int64
	filled      map[*part]int64 // bytes of the batch of each partition
}

// take fills the group with the first units of a lane, as many as go together, and gives their number.
func (g *group) take(units []*unit, most int64) int {
	*g = group{units: g.units[:0], filled: g.filled}
	if g.filled == nil {
		g.filled = make(map[*part]int64)
	}
	clear(g.filled)
	for _, u := range units {
		if len(g.units) > 0 && (g.bytes+u.bytes > most || !g.fits(u)) {
			break
		}
		for _, at := range u.places {
			g.filled[at.p] += at.bytes
		}
		g.transaction = g.transaction || u.spans || u.lane.owner.Epoch != 0
		g.bytes += u.bytes
		g.units = append(g.units, u)
	}
	return len(g.units)
}

// fits tells whether a unit goes into the batches of the group. In a transaction there may be several a partition.
func (g *group) fits(u *unit) bool {
	if g.transaction || u.spans {
		return true
	}
	for _, at := range u.places { // all of one partition
		if g.filled[at.p]+u.bytes+record.BatchOverhead > at.p.limit.Load() {
			return false
		}
	}
	return true
}

// send is the sender of a lane: it takes what has gathered, sends it, and tells what became of it.
func (c *Cluster) send(l *lane) {
	defer l.senders.close()
	var g group
	for {
		turns, ends := c.queue.take(l, &g, &c.opt)
		callTurns(turns)
		switch {
		case len(g.units) > 0:
			began := time.Now()
			c.append(l, &g)
			c.metrics.append.Observe(time.Since(began).Seconds())
			c.metrics.bytes.Add(float64(g.bytes))
			c.queue.done(l, &g)
			clear(g.units)
		case ends:
			return
		default:
			<-l.work
		}
	}
}

func (s *senders) close() {
	s.plain.close()
	s.transactional.close()
}

// append appends a group to the cluster and tells watchers, then receipts.
func (c *Cluster) append(l *lane, g *group) {
	by := &l.senders.plain
	if g.transaction {
		by = &l.senders.transactional
	}
	err := c.queue.lost(l)
	if err == nil {
		err = by.open()
	}
	switch {
	case err != nil:
		g.lose(err)
	case g.transaction:
		c.transact(by, g.units)
	default:
		by.produce(c.ctx, g.units)
	}
	c.findFence(l, g)
	if by.client != nil {
		c.tell(c.reached(by.client, g))
	}
	c.answer(g.units)
}

// answer tells receipts what became of their units.
func (c *Cluster) answer(units []*unit) {
	c.answerMu.Lock()
	defer c.answerMu.Unlock()
	for _, u := range units {
		switch {
		case u.to == nil:
		case u.err != nil:
			u.to.Appended(u.ticket, nil, c.lost(u))
		default:
			u.to.Appended(u.ticket, u, nil)
		}
	}
}

func (g *group) lose(err error) { loseAll(g.units, err) }

func loseAll(units []*unit, err error) {
	for _, u := range units {
		u.err = err
	}
}

// lost is the error for the receipt of a unit.
func (c *Cluster) lost(u *unit) error {
	err := convert("log.Append", u.err)
	switch {
	case c.ctx.Err() != nil:
		return fault.Wrap(fault.Closed, "log.Append", u.err)
	case fault.Is(err, fault.Fenced) && u.lane.owner.Epoch == 0:
		return fault.Wrap(fault.IO, "log.Append", u.err) // our own transaction took too long
	}
	return err
}

// findFence notes that the cluster has fenced the owner of a lane, or no longer knows how its last transaction ended:
// the next one who takes the shard over finds out.
func (c *Cluster) findFence(l *lane, g *group) {
	if l.owner.Epoch == 0 {
		return
	}
	for _, u := range g.units {
		if u.err != nil && !ownFault(u.err) {
			c.queue.fence(l)
			return
		}
	}
}

// ownFault tells whether an error is about the records that it came for, and not about the producer.
func ownFault(err error) bool {
	switch kindOf(err) {
	case fault.NotFound, fault.TooLarge, fault.Invalid, fault.Denied, fault.Corrupt:
		return true
	}
	return false
}

// produce sends the records of units and waits for what becomes of them. A partition gets one batch at a time.
func (l *producer) produce(ctx context.Context, units []*unit) {
	records, cancel := context.WithTimeout(ctx, l.opt.Patience) // what was sent and has no answer waits for it longer
	defer cancel()
	var pending sync.WaitGroup
	filled := make(map[*part]int64)
	for _, u := range units {
		u.err = nil
		promise := func(_ *kgo.Record, err error) { // from one goroutine for all
			if err != nil && u.err == nil {
				u.err = err
			}
			pending.Done()
		}
		for i := range u.records {
			at := &u.places[i]
			if n := filled[at.p]; n > 0 && n+at.bytes+record.BatchOverhead > at.p.limit.Load() {
				l.flush(ctx)
				clear(filled)
			}
			filled[at.p] += at.bytes
			pending.Add(1)
			u.records[i].Context = nil // that of an earlier try
			l.client.Produce(records, &u.records[i], promise)
		}
	}
	l.flush(ctx)
	pending.Wait()
}

// flush sends what was produced. What it cannot send before the context ends gets that error.
func (l *producer) flush(ctx context.Context) {
	if l.client.Flush(ctx) != nil {
		l.client.UnsafeAbortBufferedRecords()
	}
}

// transact sends units as one transaction. If one of them cannot be taken, the others are sent without it.
func (c *Cluster) transact(l *producer, units []*unit) {
	err := c.once(l, units)
	if err == nil {
		return
	}
	if half := len(units) / 2; half > 0 && ownFault(err) {
		c.transact(l, units[:half])
		if l.open() == nil {
			c.transact(l, units[half:])
			return
		}
		units = units[half:]
	}
	loseAll(units, err)
}

// once is one transaction. After an error nothing of it can be read, unless the error is a time-out.
func (c *Cluster) once(l *producer, units []*unit) error {
	if l.client == nil {
		return fault.New(fault.IO, "log.Append", "the producer of %s has ended", l.id)
	}
	if err := l.client.BeginTransaction(); err != nil {
		l.close()
		return err
	}
	c.metrics.transactions.Inc()
	l.produce(c.ctx, units)
	for _, u := range units {
		if u.err != nil {
			err := u.err
			l.abort(c.ctx)
			return err
		}
	}
	err := l.client.EndTransaction(c.ctx, kgo.TryCommit)
	if err == nil {
		return nil
	}
	decided := l.abort(c.ctx)
	if ke, ok := errors.AsType[*kerr.Error](err); ok && !ke.Retriable && ke.Code != kerr.UnknownServerError.Code {
		return err // the cluster has refused
	}
	if decided {
		if committed, known := c.committed(units); known && committed {
			return nil
		} else if known {
			return fault.Wrap(fault.IO, "log.Append", err)
		}
	}
	return fault.New(fault.Timeout, "log.Append", "nobody knows whether the unit was committed: %w", err)
}

// abort ends a transaction without its records, if it has not ended with them before; then it is decided, and true.
// A producer that cannot do so is of no use any more.
func (l *producer) abort(ctx context.Context) bool {
	if l.client.EndTransaction(ctx, kgo.TryAbort) != nil {
		l.close()
		return false
	}
	return true
}

// committed looks whether the records of a transaction can be read that was decided when nobody listened.
func (c *Cluster) committed(units []*unit) (yes, known bool) {
	for _, u := range units {
		if len(u.records) == 0 {
			continue
		}
		at := record.Offset(u.records[0].Offset)
		next, err := c.Scan(u.places[0].p.id, at, stream.ScanOptions{End: at + 1}, func(*record.View) bool {
			yes = true
			return true
		})
		return yes, err == nil && next > at // else an open transaction of another is before it
	}
	return true, true
}
