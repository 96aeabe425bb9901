package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// MQTT is a load on an MQTT broker (3.1.1).
type MQTT struct {
	Entry
	Address     string
	Publishers  int
	Subscribers int           // of everything under Topic; each gets every message, unless they share them
	Share       string        // the group in which the subscribers share the messages; "": none
	Persistent  bool          // the broker keeps the sessions (clean session 0); they are removed at the end
	QoS         byte          // of publishers and subscribers: 0, 1 or 2
	InFlight    int           // messages a publisher sends ahead of their last acknowledgement (not QoS 0)
	PayloadSize int           // bytes; with subscribers at least 8, which hold the time
	Topic       string        // messages go to Topic/<publisher>
	Rate        float64       // messages a second of all publishers together; 0: as fast as it goes
	Duration    time.Duration // how long is measured
	Warmup      time.Duration // how long is not measured before
}

// settle is how long subscribers and consumers wait for what is still under way at the end.
const settle = time.Second

// patience is how long the next acknowledgement may take once the time is over.
const patience = 10 * time.Second

// Run drives the load and measures it: from PUBLISH to PUBACK (QoS 1) or PUBCOMP (QoS 2), with subscribers from PUBLISH
// to delivery. Errors: IO, Denied, Invalid.
func (m MQTT) Run(ctx context.Context) (*Result, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	r, err := m.open(ctx)
	if err != nil {
		return nil, err
	}
	err = errors.Join(r.drive(ctx, nil), ctx.Err())
	r.close()
	if err = errors.Join(err, r.forget(ctx)); err != nil {
		return nil, err
	}
	return r.result(m.work("mqtt"), m.PayloadSize), nil
}

func (m MQTT) validate() error {
	switch {
	case m.Publishers < 1 || m.QoS > 2 || m.InFlight < 1 || m.InFlight > 60_000 || m.Duration <= 0:
		return fault.New(fault.Invalid, "bench.MQTT",
			"at least 1 publisher, QoS 0 to 2, 1 to 60000 in flight and a duration are needed")
	case m.PayloadSize < 0:
		return fault.New(fault.Invalid, "bench.MQTT", "a payload of %d bytes", m.PayloadSize)
	case m.Subscribers > 0 && m.PayloadSize < stampBytes:
		return fault.New(fault.Invalid, "bench.MQTT",
			"subscribers need payloads of at least %d bytes, which say when a message was sent", stampBytes)
	case len(m.filter()) > 100 || len(m.Topic) == 0:
		return fault.New(fault.Invalid, "bench.MQTT", "a topic is needed, at most 100 bytes long with the share")
	}
	return nil
}

// work names the load.
func (m MQTT) work(kind string) string {
	work := fmt.Sprintf("%s qos%d %d × %d, %d B", kind, m.QoS, m.Publishers, m.InFlight, m.PayloadSize)
	if m.Subscribers > 0 {
		work += fmt.Sprintf(" → %d", m.Subscribers)
	}
	if m.Share != "" {
		work += " shared"
	}
	if m.Persistent {
		work += ", persistent"
	}
	if m.Rate > 0 {
		work += fmt.Sprintf(" at %.0f/s", m.Rate)
	}
	return work
}

// run is the state of one run.
type run struct {
	MQTT
	tally
	pubs []*conn
	subs []*conn
}

// open connects everybody and subscribes.
func (m MQTT) open(ctx context.Context) (_ *run, err error) {
	r := &run{MQTT: m}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	for i := range m.Publishers {
		c, err := m.connect(ctx, m.Address, publisherID(i), !m.Persistent)
		if err != nil {
			return nil, err
		}
		c.prepare(fmt.Sprintf("%s/%d", m.Topic, i), m.QoS, m.PayloadSize)
		r.pubs = append(r.pubs, c)
	}
	for i := range m.Subscribers {
		c, err := m.connect(ctx, m.Address, subscriberID(i), !m.Persistent)
		if err != nil {
			return nil, err
		}
		r.subs = append(r.subs, c)
		if err := c.subscribe(m.filter(), m.QoS); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func publisherID(i int) string  { return fmt.Sprintf("bench-p-%d", i) }
func subscriberID(i int) string { return fmt.Sprintf("bench-s-%d", i) }

// filter is what the subscribers ask for.
func (m MQTT) filter() string {
	if m.Share != "" {
		return "$share/" + m.Share + "/" + m.Topic + "/#"
	}
	return m.Topic + "/#"
}

// forget has the broker forget the sessions that it kept: a clean session ends the one before.
func (r *run) forget(ctx context.Context) error {
	if !r.Persistent {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for i := range r.Publishers + r.Subscribers {
		id := publisherID(i)
		if i >= r.Publishers {
			id = subscriberID(i - r.Publishers)
		}
		c, err := r.connect(ctx, r.Address, id, true)
		if err != nil {
			return err
		}
		if err := c.disconnect(); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) close() {
	for _, c := range r.pubs {
		_ = c.Close()
	}
	for _, c := range r.subs {
		_ = c.Close()
	}
}

// drive runs publishers and subscribers until the time is over, and consumers, if there are any, beside
// them: these are cancelled when the last message had time to come.
func (r *run) drive(ctx context.Context, consume func(ctx context.Context) error) error {
	all := newCrew(ctx)
	r.begin = time.Now().Add(r.Warmup)
	r.end = r.begin.Add(r.Duration)
	stop := context.AfterFunc(all.ctx, r.close) // ends the reads and writes
	defer stop()
	for _, c := range r.subs {
		all.run(func(context.Context) error { return r.receive(c) })
	}
	readers, enough := context.WithCancel(all.ctx)
	defer enough()
	if consume != nil {
		all.run(func(context.Context) error { return consume(readers) })
	}
	publishers := newCrew(all.ctx)
	r.startPublishers(publishers)
	err := publishers.wait()
	for _, c := range r.subs {
		_ = c.SetReadDeadline(r.end.Add(settle))
	}
	timer := time.AfterFunc(time.Until(r.end.Add(settle)), enough)
	defer timer.Stop()
	if err != nil {
		all.cancel(err)
	}
	return all.wait()
}

func (r *run) startPublishers(crew *crew) {
	if r.Rate > 0 {
		crew.run(r.publishPaced)
		return
	}
	if r.QoS > 0 {
		crew.run(r.publishAcked)
		return
	}
	for _, c := range r.pubs {
		crew.run(func(context.Context) error { return r.publishBlind(c) })
	}
}

// receive counts what a subscriber gets and acknowledges it.
func (r *run) receive(c *conn) error {
	var taken samples
	var done int64
	defer func() {
		r.delivered.Add(done)
		r.arrived(taken)
	}()
	for {
		f, err := c.frame()
		if err != nil {
			if time.Now().Before(r.end) {
				return err
			}
			return nil // the deadline: what came has been counted
		}
		payload, err := c.take(f)
		if err != nil {
			return err
		}
		if payload != nil && r.within(c.readAt) {
			done++
			taken.add(age(payload, c.readAt))
		}
	}
}
