package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Live is a load of messages that come one by one (QoS 1, MQTT 3.1.1), from one publisher to one subscriber, beside
// whatever else goes on. It wants a process of its own: beside another load it would wait for that in here.
type Live struct {
	Entry
	Address     string
	PayloadSize int     // bytes, at least 8, which hold the time
	Topic       string  // what is published to and subscribed to
	Rate        float64 // messages a second
}

// Run publishes until phases is closed and the last message has come. It gives a result for each phase that was named,
// in order: the latencies of its messages, from when they were due to their delivery. A message that is missing is an
// error. Errors: IO, Denied, Invalid, Corrupt.
func (l Live) Run(ctx context.Context, phases <-chan string) (_ []*Result, err error) {
	if l.PayloadSize < stampBytes || l.Topic == "" || len(l.Topic) > 100 || l.Rate <= 0 {
		return nil, fault.New(fault.Invalid, "bench.Live", "a rate, %d bytes of payload and a topic are needed", stampBytes)
	}
	sub, err := l.connect(ctx, l.Address, "bench-live-s", true)
	if err != nil {
		return nil, err
	}
	defer sub.Close()
	if err := sub.subscribe(l.Topic, 1); err != nil {
		return nil, err
	}
	pub, err := l.connect(ctx, l.Address, "bench-live-p", true)
	if err != nil {
		return nil, err
	}
	defer pub.Close()
	r := &live{Live: l, pub: pub, sub: sub, begin: time.Now()}
	all := newCrew(ctx)
	defer context.AfterFunc(all.ctx, func() { _ = errors.Join(pub.Close(), sub.Close()) })()
	all.run(func(context.Context) error { return r.dropAcks() })
	all.run(func(context.Context) error { return r.receive() })
	all.run(r.publish)
	r.watch(all.ctx, phases)
	if err := errors.Join(all.wait(), ctx.Err()); err != nil {
		return nil, err
	}
	return r.results(), nil
}

// live is the state of a run.
type live struct {
	Live
	pub, sub *conn
	phases   []phase // of watch
	begin    time.Time
	over     atomic.Int64 // when the last phase ended, nanoseconds since 1970; 0: it has not
	sent     atomic.Int64 // set with the last message
	done     atomic.Bool  // it has come
	taken    []arrival    // of receive
}

// phase is when one began; the name of the last one, which ends all, is not used.
type phase struct {
	name  string
	begin time.Time
}

// arrival is when a message was due and when it came, in nanoseconds since 1970.
type arrival struct{ due, came int64 }

// watch notes when phases begin and when the last one ends.
func (r *live) watch(ctx context.Context, phases <-chan string) {
	defer func() { r.over.Store(time.Now().UnixNano()) }()
	for {
		select {
		case name, more := <-phases:
			r.phases = append(r.phases, phase{name, time.Now()})
			if !more {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// publish sends each message that is due before the end, when it is, and at last one with the time 0.
func (r *live) publish(context.Context) error {
	r.pub.prepare(r.Topic, 1, r.PayloadSize)
	p, sent := newPace(r.begin, r.Rate), int64(0)
	for ; ; sent++ {
		due := p.due(sent)
		sleepUntil(due)
		if over := r.over.Load(); over != 0 && due.UnixNano() >= over {
			break
		}
		r.pub.publish(packetID(sent), due)
		if err := r.pub.flush(); err != nil {
			return err
		}
	}
	r.sent.Store(sent)
	binary.BigEndian.PutUint64(r.pub.body, 0)
	r.pub.put(packetID(sent))
	return r.pub.flush()
}

func packetID(n int64) uint16 { return uint16(1 + n%(1<<16-1)) }

// dropAcks reads what comes to the publisher.
func (r *live) dropAcks() error {
	for {
		if _, err := r.pub.frame(); err != nil {
			if r.done.Load() {
				return nil
			}
			return err
		}
	}
}

// receive takes messages until the last one has come, and ends the run.
func (r *live) receive() error {
	for {
		f, err := r.sub.frame()
		if err != nil {
			return err
		}
		payload, err := r.sub.take(f)
		if err != nil {
			return err
		}
		if payload == nil {
			continue
		}
		due := int64(binary.BigEndian.Uint64(payload))
		if due != 0 {
			r.taken = append(r.taken, arrival{due, r.sub.readAt.UnixNano()})
			continue
		}
		if got, want := int64(len(r.taken)), r.sent.Load(); got != want {
			return fault.New(fault.Corrupt, "bench.Live", "%d of %d live messages came", got, want)
		}
		r.done.Store(true)
		return errors.Join(r.sub.flush(), r.pub.Close())
	}
}

// results sums the phases up. What was due in one counts for it, whenever it came.
func (r *live) results() (all []*Result) {
	for i := range len(r.phases) - 1 {
		begin, end := r.phases[i].begin, r.phases[i+1].begin
		var took samples
		for _, a := range r.taken {
			if a.due >= begin.UnixNano() && a.due < end.UnixNano() {
				took.add(time.Duration(a.came - a.due))
			}
		}
		n := int64(len(took))
		all = append(all, &Result{
			Work: r.phases[i].name, Messages: n, Total: n, Bytes: n * int64(r.PayloadSize), Elapsed: end.Sub(begin),
			Delivered: n, Latency: latency(took),
		})
	}
	return all
}
