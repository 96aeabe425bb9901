package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Arriving is a load of devices that come (MQTT 3.1.1): each connects, does the handshake of TLS if there is one, and
// is welcomed. They leave at once and come again until the time is over, or so many come once and stay until all are
// there.
type Arriving struct {
	Entry    // %d in the user's name and the password is the number of the device
	Address  string
	Together int           // how many come at a time
	Devices  int           // so many come once, and stay; 0: they come and go
	Resume   bool          // a device takes its session of TLS up again, from its second time on
	Sources  int           // come from so many addresses of 127.0.0.0/8, in turn; 0: from the usual one
	Duration time.Duration // how long is measured, unless Devices come once
	Warmup   time.Duration // how long is not measured before
}

// Run drives the load and measures it: a message is a device that was welcomed, a latency that from its first byte on.
// Errors: IO, Denied, Invalid.
func (a Arriving) Run(ctx context.Context) (*Result, error) {
	if a.Together < 1 || a.Devices < 0 || a.Sources < 0 || a.Sources > mostSources || a.Devices == 0 && a.Duration <= 0 ||
		a.Resume && (a.TLS == nil || a.Devices > 0) {
		return nil, fault.New(fault.Invalid, "bench.Arriving", "at least 1 at a time, a duration or a number of devices, "+
			"and at most %d addresses are needed, and TLS for who comes and goes to take up again", mostSources)
	}
	t := &tally{begin: time.Now()}
	if a.Devices > 0 {
		err := a.comeAndStay(ctx, t)
		t.end = time.Now()
		return t.result(a.work(), 0), err
	}
	t.begin = t.begin.Add(a.Warmup)
	t.end = t.begin.Add(a.Duration)
	all := newCrew(ctx)
	for w := range a.Together {
		all.run(func(ctx context.Context) error { return a.comeAndGo(ctx, t, w) })
	}
	if err := errors.Join(all.wait(), ctx.Err()); err != nil {
		return nil, err
	}
	return t.result(a.work(), 0), nil
}

func (a Arriving) work() string {
	work := fmt.Sprintf("arrive %d at a time", a.Together)
	if a.Devices > 0 {
		work = fmt.Sprintf("%d ", a.Devices) + work
	}
	if a.TLS != nil {
		work += ", TLS"
	}
	if a.Resume {
		work += " resumed"
	}
	return work
}

// of is the entry of one device.
func (e Entry) of(device int) Entry {
	n := strconv.Itoa(device)
	e.User, e.Password = strings.ReplaceAll(e.User, "%d", n), strings.ReplaceAll(e.Password, "%d", n)
	return e
}

const mostSources = 250 * 250

// source is one of some addresses of this machine; nil: any, as there are none.
func source(i, of int) net.Addr {
	if of == 0 {
		return nil
	}
	i %= of
	return &net.TCPAddr{IP: net.IPv4(127, 1, byte(i/250), byte(1+i%250))}
}

// come has a device connect, and tells how long that took.
func (a Arriving) come(ctx context.Context, e Entry, id string, from net.Addr) (*conn, time.Duration, error) {
	began := time.Now()
	c, err := e.dial(ctx, a.Address, from)
	if err != nil {
		return nil, 0, err
	}
	b := &conn{Conn: c, buf: make([]byte, 512)}
	_ = c.SetReadDeadline(began.Add(patience))
	if err := b.greet(e.hello(id, true)); err != nil {
		return nil, 0, errors.Join(err, c.Close())
	}
	return b, time.Since(began), nil
}

// comeAndGo is one device after the other.
func (a Arriving) comeAndGo(ctx context.Context, t *tally, w int) error {
	e, taken := a.of(w), samples{}
	if a.TLS != nil {
		e.TLS = a.TLS.Clone()
		if a.Resume {
			e.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		}
	}
	for n := 0; time.Now().Before(t.end) && ctx.Err() == nil; n++ {
		c, took, err := a.come(ctx, e, fmt.Sprintf("bench-a-%d", w), source(w+n*a.Together, a.Sources))
		if err != nil {
			return err
		}
		if s, ok := c.Conn.(*tls.Conn); ok && s.ConnectionState().DidResume != (a.Resume && n > 0) {
			return errors.Join(c.Close(),
				fault.New(fault.Invalid, "bench.Arriving", "the broker took up a session of TLS: %v", !a.Resume))
		}
		if err := c.disconnect(); err != nil {
			return err
		}
		t.total.Add(1)
		if t.within(time.Now()) {
			t.messages.Add(1)
			taken.add(took)
		}
	}
	t.acked(taken)
	return nil
}

// comeAndStay has every device come once, and waits for all.
func (a Arriving) comeAndStay(ctx context.Context, t *tally) error {
	var next atomic.Int64
	all := newCrew(ctx)
	for range min(a.Together, a.Devices) {
		all.run(func(ctx context.Context) error {
			var here []*conn
			defer func() {
				<-all.ctx.Done() // when the last one is there, or one failed
				for _, c := range here {
					_ = c.Close()
				}
			}()
			taken := samples{}
			for i := int(next.Add(1) - 1); i < a.Devices && ctx.Err() == nil; i = int(next.Add(1) - 1) {
				c, took, err := a.come(ctx, a.of(i), fmt.Sprintf("bench-a-%d", i), source(i, a.Sources))
				if err != nil {
					all.cancel(err)
					return err
				}
				here = append(here, c)
				taken.add(took)
				t.total.Add(1)
				if t.messages.Add(1) == int64(a.Devices) {
					all.cancel(errDone)
				}
			}
			t.acked(taken)
			return nil
		})
	}
	return errors.Join(all.wait(), ctx.Err())
}

// HalfOpen is a load of those who begin a handshake of TLS and say no more: nothing that a broker should have to
// suffer from. Who is shown out comes again.
type HalfOpen struct {
	Address     string
	Connections int           // at the same time
	Rate        float64       // connections a second, of all together
	Sources     int           // come from so many addresses of 127.0.0.0/8, in turn; 0: from the usual one
	Duration    time.Duration // how long they are there
}

// hello is how a ClientHello of 512 bytes begins.
var hello = []byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}

// Run holds the connections, and gives how many were begun, and as delivered those that were open at the same time at
// most. Errors: Invalid.
func (h HalfOpen) Run(ctx context.Context) (*Result, error) {
	if h.Connections < 1 || h.Rate <= 0 || h.Sources < 0 || h.Sources > mostSources || h.Duration <= 0 {
		return nil, fault.New(fault.Invalid, "bench.HalfOpen",
			"at least 1 connection, a rate, a duration and at most %d addresses are needed", mostSources)
	}
	t := &tally{begin: time.Now()}
	t.end = t.begin.Add(h.Duration)
	within, enough := context.WithDeadline(ctx, t.end)
	defer enough()
	var all sync.WaitGroup
	var open gauge
	var n atomic.Int64
	due := newPace(t.begin, h.Rate)
	for range h.Connections {
		all.Go(func() {
			for within.Err() == nil {
				i := n.Add(1) - 1
				if clock.Pause(within, time.Until(due.due(i))) != nil {
					return
				}
				h.begin(within, t, source(int(i), h.Sources), &open)
			}
		})
	}
	all.Wait()
	t.delivered.Store(open.most)
	return t.result(fmt.Sprintf("%d half-open", h.Connections), 0), ctx.Err()
}

// gauge counts what goes up and down, and how far up it was.
type gauge struct {
	mu        sync.Mutex
	now, most int64
}

func (g *gauge) add(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now += n
	g.most = max(g.most, g.now)
}

// begin begins one handshake, and waits to be shown out. Who is not let in comes again as who was.
func (h HalfOpen) begin(ctx context.Context, t *tally, from net.Addr, open *gauge) {
	c, err := Entry{}.dial(ctx, h.Address, from)
	if err != nil {
		return
	}
	defer c.Close()
	open.add(1)
	defer open.add(-1)
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if _, err := c.Write(hello); err != nil {
		return
	}
	t.total.Add(1)
	t.messages.Add(1)
	var b [64]byte
	for err == nil {
		_, err = c.Read(b[:])
	}
}
