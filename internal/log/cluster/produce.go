package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

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
	if len(u.places) == 0 {
		return true
	}
	p := u.places[0].p // that of all its records
	return g.filled[p] == 0 || g.filled[p]+u.encoded+record.BatchOverhead <= p.limit.Load()
}

// send is the sender of a lane: it takes what has gathered, sends it, and tells what became of it.
func (c *Cluster) send(l *lane) {
	defer l.client.Close()
	var g group
	for {
		turns, ends := c.queue.take(l, &g, &c.opt)
		callTurns(turns)
		switch {
		case len(g.units) > 0:
			began := time.Now()
			c.health.begin(l)
			c.append(l, &g)
			c.health.end(l)
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

// append appends a group to the cluster and tells watchers, then receipts.
func (c *Cluster) append(l *lane, g *group) {
	ctx, cancel := context.WithTimeout(c.ctx, c.opt.Hold)
	defer cancel()
	if err := c.queue.lost(l); err != nil {
		g.lose(err)
	} else if g.transaction {
		c.transact(ctx, l, g.units)
	} else {
		c.produce(ctx, &l.plain, g.units)
	}
	c.findFence(l, g)
	c.tell(c.reached(l.client, g))
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

// ofContent tells whether an error is about the records themselves, so that others may go where they cannot.
func ofContent(err error) bool {
	switch kindOf(err) {
	case fault.TooLarge, fault.Invalid, fault.Corrupt:
		return true
	}
	return false
}

// produce appends units that are for one partition each, as whole batches.
func (c *Cluster) produce(ctx context.Context, by *producer, units []*unit) {
	all := pack(units, by)
	pending, lost := slices.Clone(all), false
	for try := 0; len(pending) > 0; {
		heads := first(pending)
		if len(heads) == 0 { // the id is not known any more where the rest goes, and nothing of it is in doubt
			by.ready = false
			anew(pending)
			heads = first(pending)
		}
		if err := by.begin(ctx); err != nil {
			for _, b := range pending {
				b.err = err
				b.lost()
			}
			break
		}
		c.round(ctx, by, heads)
		rest, wait := make([]*batch, 0, len(pending)), false
		for _, b := range pending {
			switch b.step {
			case done:
				b.place()
			case lose:
				lost = true
				b.err = unknown(b.err)
				b.lost()
				hold(pending, b.p)
			case drop:
				halves := b.split(ctx, by)
				all = append(all, halves...)
				rest = append(rest, halves...)
			default:
				if b.err != nil {
					wait = true
					c.health.blame(b.err)
				}
				rest = append(rest, b)
			}
		}
		if pending = rest; !wait {
			try = 0
		} else if clock.Pause(ctx, lasting(try)) == nil {
			try++
		}
	}
	by.ready = by.ready && !lost
	if ctx.Err() == nil { // else a request may still be under way
		release(all)
	}
}

// first gives the batches that are to be sent next, one for a partition.
func first(pending []*batch) (heads []*batch) {
	seen := make(map[*part]struct{}, len(pending))
	for _, b := range pending {
		if _, ok := seen[b.p]; ok {
			continue
		}
		if seen[b.p] = struct{}{}; b.step == again {
			heads = append(heads, b)
		}
	}
	return heads
}

// anew makes batches ready for another id and epoch.
func anew(all []*batch) {
	for _, b := range all {
		b.sealed, b.step, b.err = nil, again, nil
	}
}

// hold keeps the batches of a partition back until the producer has another id: they would have the numbers of one that
// may be there.
func hold(pending []*batch, p *part) {
	for _, b := range pending {
		if b.p == p && b.step == again {
			b.step = renew
		}
	}
}

// split takes a batch apart that the cluster refused, if one of its units may be to blame; else they are lost.
func (b *batch) split(ctx context.Context, by *producer) (halves []*batch) {
	units := b.units()
	if len(units) < 2 || !ofContent(b.err) || ctx.Err() != nil {
		b.lost()
		return nil
	}
	half := len(units) / 2
	return append(pack(units[:half], by), pack(units[half:], by)...)
}

// unknown is the error of what may be there, or come to be there, or not.
func unknown(err error) error {
	return fault.New(fault.Timeout, "log.Append", "nobody knows whether the cluster has taken the unit in: %w", err)
}

// round sends a batch to each of some partitions and notes what comes next.
func (c *Cluster) round(ctx context.Context, by *producer, heads []*batch) {
	byLeader := make(map[int32][]*batch)
	for _, b := range heads {
		leader := b.p.leader.Load()
		switch b.err = nil; {
		case c.gone(b.p): // and what may have been taken in with it
			b.err, b.doubtful = noPartition("log.Append", b.p.id), false
		case leader < 0 || ctx.Err() != nil:
			b.err = errNoLeader
		default:
			b.seal(by)
			byLeader[leader] = append(byLeader[leader], b)
		}
	}
	var wg sync.WaitGroup
	for leader, here := range byLeader {
		if len(byLeader) == 1 {
			by.ask(ctx, leader, here, c.opt.answerWait(true))
			break
		}
		wg.Go(func() { by.ask(ctx, leader, here, c.opt.answerWait(true)) })
	}
	wg.Wait()
	for _, b := range heads {
		v := judge(b.err)
		b.step = b.next(v, ctx.Err() == nil)
		switch {
		case b.step == done:
			by.sequences[b.p] = b.sequence()
			if b.base < 0 {
				b.step, b.err = b.nowhere(), kerr.DuplicateSequenceNumber
			}
		case v == unclear || b.err == errNoLeader: //nolint:errorlint // it is never wrapped
			wake(c.refresh) // it may be led by another now
		}
	}
}

// nowhere is what comes after an answer that the batch was there before, by a broker that has forgotten where.
func (b *batch) nowhere() step {
	if b.undoable {
		return renew
	}
	return lose
}

// ask sends batches to the broker that leads their partitions, and notes its answers.
func (p *producer) ask(ctx context.Context, leader int32, heads []*batch, wait time.Duration) {
	req := kmsg.NewPtrProduceRequest()
	req.Acks = -1
	req.TimeoutMillis = int32(wait.Milliseconds()) // for its followers
	if p.transactional() {
		req.TransactionID = &p.name
	}
	asked := newAsked[*batch](len(heads))
	for _, b := range heads {
		b.err = errNoAnswer
		i, isNew := asked.add(b.p, b)
		if isNew {
			t := kmsg.NewProduceRequestTopic()
			t.Topic, t.TopicID = b.p.topic, b.p.topicID // by name up to version 12, then by id
			req.Topics = append(req.Topics, t)
		}
		one := kmsg.NewProduceRequestTopicPartition()
		one.Partition, one.Records = b.p.index, b.sealed
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, one)
	}
	got, err := p.client.Broker(int(leader)).Request(ctx, req)
	if err != nil {
		for _, b := range heads {
			b.err = err
		}
		return
	}
	resp, _ := got.(*kmsg.ProduceResponse) // the response to its request
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			found := &t.Partitions[j]
			if b, ok := asked.of(t.TopicID, t.Topic, found.Partition); ok {
				b.answered(found)
			}
		}
	}
}

// Why a batch has no answer.
var (
	errNoLeader = errors.New("the partition has no leader")
	errNoAnswer = errors.New("the answer leaves the partition out")
)

func (b *batch) answered(found *kmsg.ProduceResponseTopicPartition) {
	b.base = record.Offset(found.BaseOffset)
	b.err = brokerError(found.ErrorCode, found.ErrorMessage)
	if found.ErrorCode == kerr.DuplicateSequenceNumber.Code {
		b.base, b.err = -1, nil
	}
}

// transact appends units as one transaction. If one of them cannot be taken, the others are sent without it.
func (c *Cluster) transact(ctx context.Context, l *lane, units []*unit) {
	all := pack(units, &l.transactional)
	s, err := c.attempts(ctx, l, all)
	switch {
	case s == done:
	case s == drop && len(units) > 1 && ownFault(err) && ctx.Err() == nil:
		for _, some := range apart(units, all) {
			c.transact(ctx, l, some)
		}
	default:
		loseAll(units, err)
	}
	if ctx.Err() == nil { // else a request may still be under way
		release(all)
	}
}

// attempts are transactions with the same batches, one after the other as long as nothing of them was committed. With
// renew there was no id for them. A shard that was lost under way is Fenced, whichever answer was the first to tell: a
// batch that comes behind the end that a rival has set is said to be of no transaction.
func (c *Cluster) attempts(ctx context.Context, l *lane, all []*batch) (s step, err error) {
	by := &l.transactional
	for try := 0; ; try++ {
		s = renew
		begun := by.begin(ctx)
		if err = begun; err == nil {
			anew(all)
			s, err = c.once(ctx, by, all)
		}
		switch {
		case s == done || s == lose:
			return s, err
		case by.rival != nil:
			if !c.retake(ctx, l) {
				return drop, by.lost()
			}
		case s == drop || begun != nil:
			return s, err
		}
		c.health.blame(err)
		if clock.Pause(ctx, lasting(try)) != nil {
			return s, err
		}
	}
}

// apart gives what is to be sent again of units that the cluster has refused together: those for other partitions than
// the ones where nothing can be written, or else two halves.
func apart(units []*unit, all []*batch) [][]*unit {
	shut := make(map[*part]error)
	for _, b := range all {
		if b.step == drop && ownFault(b.err) && !ofContent(b.err) {
			shut[b.p] = b.err
		}
	}
	if len(shut) == 0 {
		half := len(units) / 2
		return [][]*unit{units[:half], units[half:]}
	}
	var rest []*unit
	for _, u := range units {
		for _, at := range u.places {
			if err := shut[at.p]; err != nil {
				u.err = err
			}
		}
		if u.err == nil {
			rest = append(rest, u)
		}
	}
	return [][]*unit{rest}
}

// once is one transaction. Unless it is done, or lost, nothing of it will be read.
func (c *Cluster) once(ctx context.Context, by *producer, all []*batch) (step, error) {
	if len(all) == 0 {
		return done, nil
	}
	c.metrics.transactions.Inc()
	s, err := c.fill(ctx, by, all)
	if s == done {
		if s, err = by.end(ctx, true); s == lose {
			return c.settle(ctx, by, all[0], err)
		}
	}
	if s != done {
		wait := c.opt.Patience
		if ctx.Err() != nil { // the cluster may be away; to take the id anew aborts, too
			wait = c.opt.answerWait(true)
		}
		c.abort(by, wait)
	}
	return s, err
}

// fill puts batches into the open transaction.
func (c *Cluster) fill(ctx context.Context, by *producer, all []*batch) (step, error) {
	pending := slices.Clone(all)
	for try := 0; len(pending) > 0; {
		heads := first(pending)
		for _, b := range heads {
			if c.gone(b.p) {
				b.step, b.err = drop, noPartition("log.Append", b.p.id)
				return b.step, b.err
			}
		}
		s, err := by.join(ctx, heads)
		if s == done {
			c.round(ctx, by, heads)
			s, err = worst(heads)
		}
		switch {
		case s == done:
			try = 0
		case s != again:
			return s, err
		default:
			c.health.blame(err)
			if clock.Pause(ctx, lasting(try)) != nil {
				return drop, err
			}
			try++
		}
		pending = slices.DeleteFunc(pending, func(b *batch) bool {
			if b.step == done {
				b.place()
			}
			return b.step == done
		})
	}
	return done, nil
}

// worst is the answer to a round of a transaction as a whole.
func worst(heads []*batch) (s step, err error) {
	s = done
	for _, b := range heads {
		if b.step != done && (s == done || s == again || b.step == drop) {
			s, err = b.step, b.err
		}
	}
	return s, err
}

// gone tells whether a partition is not there any more.
func (c *Cluster) gone(p *part) bool { return c.parts.Load().find(p.id) != p }

// abort ends the open transaction without its records, if it has not ended with them before. It is false if the cluster
// does not say that it has ended: then it ends when the id is taken anew, or when the cluster has waited long enough.
func (c *Cluster) abort(by *producer, wait time.Duration) bool {
	ctx, cancel := context.WithTimeout(c.ctx, wait)
	defer cancel()
	if !by.owned {
		return by.take(ctx) == nil
	}
	_, _ = by.end(ctx, false) // whatever is said to this, it is not open any more
	return ctx.Err() == nil
}

// settle finds out what became of a transaction that was to be committed when the cluster gave no answer.
func (c *Cluster) settle(ctx context.Context, by *producer, b *batch, err error) (step, error) {
	for try := 0; ; try++ {
		if c.abort(by, c.opt.Patience) {
			switch committed, known := c.committed(by, b.p, b.base); {
			case committed:
				return done, nil
			case known && by.rival != nil:
				return drop, by.lost()
			case known && ctx.Err() == nil: // nothing of it is there, and there is time
				return renew, err
			case known:
				return drop, fault.Wrap(fault.IO, "log.Append", err)
			}
		}
		c.health.blame(err)
		if clock.Pause(ctx, lasting(try)) != nil {
			return lose, unknown(err)
		}
	}
}

// committed looks whether the first record of a transaction that has ended can be read.
func (c *Cluster) committed(by *producer, p *part, at record.Offset) (yes, known bool) {
	if c.await(by.client, []position{{p, at}}, true) != nil {
		return false, false
	}
	next, err := c.Scan(p.id, at, stream.ScanOptions{End: at + 1}, func(*record.View) bool {
		yes = true
		return true
	})
	return yes, err == nil && next > at // else an open transaction of another is before it
}
