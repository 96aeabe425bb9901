package torture

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

var exactFlag = flag.Int("exact", 8, "how often TestExactlyOnce kills the binary")

// TestExactlyOnce is the promise of QoS 2, asked of the real binary: kill -9 at random moments under 50 publishers with
// persistent sessions, which go on where they were as section 4.4 has it. The log holds each message once, and each
// subscriber with a persistent session was given each once, in the order of its publisher.
func TestExactlyOnce(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%d kills, seed %d (again: -args -exact %d -seed %d)", *exactFlag, seed, *exactFlag, seed)
	dice := rand.New(rand.NewPCG(seed, 3))
	x := &exactly{t: t, s: newServer(t, "limits.journal_file=1MiB"), h: newHistory()}
	if _, err := x.s.start(); err != nil {
		t.Fatal(err)
	}
	x.open()
	for range *exactFlag {
		pauseFor(t.Context(), time.Duration(20+dice.IntN(400))*time.Millisecond)
		if !x.s.kill() {
			t.Fatalf("the server had ended before it was killed:\n%s", x.s.log)
		}
		if _, err := x.s.start(); err != nil {
			t.Fatal(err)
		}
	}
	x.finish()
}

// exactly is the publishers and subscribers of TestExactlyOnce.
type exactly struct {
	t      *testing.T
	s      *server
	h      *history // for complaints
	pubs   []*exactPublisher
	subs   []*exactSubscriber
	enough context.CancelFunc // of publishing
	left   sync.WaitGroup     // publishers
}

const exactTopic = "exact"

func (x *exactly) open() {
	address := x.s.mqtt
	listening := make(chan struct{}, 3)
	for i, stays := range []time.Duration{0, 300 * time.Millisecond, 50 * time.Millisecond} {
		s := &exactSubscriber{
			exactClient: exactClient{id: fmt.Sprint("sub", i), version: []packet.Version{packet.V311, packet.V5}[i%2], h: x.h},
			filter:      exactTopic + "/#", stays: stays, heard: map[uint16]bool{},
		}
		s.judge = s.inOrder(map[string]int{})
		x.subs = append(x.subs, s)
		go s.run(x.t.Context(), address, func() { listening <- struct{}{} })
	}
	for range x.subs {
		<-listening
	}
	ctx, cancel := context.WithCancel(x.t.Context())
	x.enough = cancel
	for i := range 50 {
		p := &exactPublisher{
			exactClient: exactClient{
				id: fmt.Sprint("pub", i), version: []packet.Version{packet.V311, packet.V5}[i%2], h: x.h,
			},
			window: 1 + i%8,
		}
		x.pubs = append(x.pubs, p)
		x.left.Go(func() { p.run(ctx, x.t.Context(), address) })
	}
}

// finish has every message end, and counts.
func (x *exactly) finish() {
	x.enough()
	x.left.Wait()
	sent, published, released, repeated := 0, 0, 0, 0
	for _, p := range x.pubs {
		sent, published, released = sent+p.seq, published+p.publishes, released+p.releases
	}
	limit := time.Now().Add(startLimit)
	for _, s := range x.subs {
		given, again := s.count()
		for ; given < sent && time.Now().Before(limit); given, again = s.count() {
			pauseFor(x.t.Context(), pace)
		}
		if given != sent {
			x.t.Errorf("%s was given %d of %d messages", s.id, given, sent)
		}
		repeated += again
	}
	x.readLog(sent)
	x.h.mu.Lock()
	defer x.h.mu.Unlock()
	for _, c := range x.h.complaint[:min(len(x.h.complaint), 20)] {
		x.t.Error(c)
	}
	x.t.Logf("%d messages; sent again: %d PUBLISH and %d PUBREL, %d to subscribers", sent, published, released, repeated)
}

// readLog looks at every record: each message is there once.
func (x *exactly) readLog(sent int) {
	c, err := dialKafka(x.s.kafka, kgo.ConsumeTopics(exactTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		x.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(x.t.Context(), startLimit)
	defer cancel()
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, exactTopic)
	if err != nil {
		x.t.Fatal(err)
	}
	due := int64(0)
	ends.Each(func(o kadm.ListedOffset) { due += o.Offset })
	there := map[string]int{}
	for read := int64(0); read < due; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			x.t.Fatalf("after %d of %d records: %v", read, due, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			there[string(r.Value)]++
			read++
		})
	}
	for what, n := range there {
		if n > 1 {
			x.t.Errorf("%s is in the log %d times", what, n)
		}
	}
	if len(there) != sent {
		x.t.Errorf("%d of %d messages are in the log", len(there), sent)
	}
}

// exactClient is one side of a connection that leaves every step to its owner.
type exactClient struct {
	id       string
	version  packet.Version
	h        *history
	there    bool          // a session
	passes   bool          // its session ends with each connection
	patience time.Duration // how long it waits for CONNACK; 0: until the connection ends

	conn net.Conn
	in   *bufio.Reader
	dec  packet.Decoder
	out  []byte
}

// connect connects to the session. What is not known to be over goes on.
func (c *exactClient) connect(address string) error {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	c.conn, c.in, c.out = conn, bufio.NewReader(conn), c.out[:0]
	c.dec = packet.Decoder{Version: c.version, Client: true}
	hello := &packet.Connect{Version: c.version, ClientID: []byte(c.id), CleanStart: c.passes}
	if c.version == packet.V5 && !c.passes {
		hello.Props.SetSessionExpiry(3600)
	}
	c.out = hello.AppendTo(c.out, c.version)
	if c.patience > 0 {
		_ = conn.SetReadDeadline(time.Now().Add(c.patience))
	}
	p, err := c.next()
	if err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Time{})
	ack, ok := p.(*packet.Connack)
	if !ok || ack.Reason.Failed() {
		return fmt.Errorf("%s: %+v", c.id, p)
	}
	if c.there && !ack.SessionPresent {
		c.h.complain("%s: its session is gone", c.id)
	}
	return nil
}

// next sends what there is to send and waits for a packet.
func (c *exactClient) next() (packet.Packet, error) {
	if c.in.Buffered() == 0 && len(c.out) > 0 {
		if _, err := c.conn.Write(c.out); err != nil {
			return nil, err
		}
		c.out = c.out[:0]
	}
	for n := 2; ; n++ {
		head, err := c.in.Peek(n)
		if err != nil {
			return nil, err
		}
		length, err := packet.Length(head, packet.MaxSize)
		if err != nil {
			return nil, err
		}
		if length == 0 {
			continue
		}
		frame := make([]byte, length)
		if _, err := io.ReadFull(c.in, frame); err != nil {
			return nil, err
		}
		return c.dec.Decode(frame)
	}
}

// exactPublisher publishes with QoS 2 and sends again what is not over [MQTT-4.4.0-1].
type exactPublisher struct {
	exactClient
	window              int
	seq                 int // of the next message
	nextID              uint16
	flights             []exactFlight // in the order of sending
	publishes, releases int           // sent again
	pause               time.Duration // between its steps
	stored              func(value string)
}

type exactFlight struct {
	id       uint16
	value    string
	released bool
}

// run publishes until ctx ends, and goes on until all is over, or until limit ends.
func (p *exactPublisher) run(ctx, limit context.Context, address string) {
	for limit.Err() == nil && (ctx.Err() == nil || len(p.flights) > 0) {
		if p.connect(address) == nil {
			p.there = true
			p.resume()
			for p.fill(ctx) {
				if p.step() != nil {
					break
				}
				if p.pause > 0 {
					pauseFor(ctx, p.pause)
				}
			}
		}
		if p.conn != nil {
			p.conn.Close()
		}
		pauseFor(limit, pace)
	}
}

// resume sends again what is in flight.
func (p *exactPublisher) resume() {
	for _, f := range p.flights {
		if f.released {
			p.out = packet.AppendPubrel(p.out, p.version, f.id, packet.Success)
			p.releases++
		} else {
			p.publish(f, true)
			p.publishes++
		}
	}
}

func (p *exactPublisher) publish(f exactFlight, dup bool) {
	m := packet.Publish{
		Topic: []byte(exactTopic + "/" + p.id), Payload: []byte(f.value), QoS: 2, Dup: dup, PacketID: f.id,
	}
	p.out = m.AppendTo(p.out, p.version)
}

// fill fills the window, until ctx ends. False: nothing is in flight and nothing will be.
func (p *exactPublisher) fill(ctx context.Context) bool {
	for ctx.Err() == nil && len(p.flights) < p.window {
		p.nextID = p.nextID%0xffff + 1
		f := exactFlight{id: p.nextID, value: fmt.Sprint(p.id, " ", p.seq)}
		p.seq++
		p.flights = append(p.flights, f)
		p.publish(f, false)
	}
	return len(p.flights) > 0
}

// step takes one answer.
func (p *exactPublisher) step() error {
	got, err := p.next()
	if err != nil {
		return err
	}
	switch got := got.(type) {
	case *packet.Pubrec:
		f, _ := p.flight(got.PacketID)
		if f == nil || got.Reason.Failed() {
			p.h.complain("%s: PUBREC %s for packet id %d, in flight: %v", p.id, got.Reason, got.PacketID, f)
			return io.ErrUnexpectedEOF
		}
		f.released = true
		if p.stored != nil {
			p.stored(f.value)
		}
		p.out = packet.AppendPubrel(p.out, p.version, got.PacketID, packet.Success)
	case *packet.Pubcomp: // 0x92 where the one before was lost
		f, i := p.flight(got.PacketID)
		if f == nil || !f.released {
			p.h.complain("%s: PUBCOMP for packet id %d, in flight: %v", p.id, got.PacketID, f)
			return io.ErrUnexpectedEOF
		}
		p.flights = append(p.flights[:i], p.flights[i+1:]...)
	}
	return nil
}

func (p *exactPublisher) flight(id uint16) (f *exactFlight, at int) {
	for i := range p.flights {
		if p.flights[i].id == id {
			return &p.flights[i], i
		}
	}
	return nil, 0
}

// exactSubscriber has a session with one subscription of QoS 2, and knows each packet id until its PUBREL
// [MQTT-4.3.3-10].
type exactSubscriber struct {
	exactClient
	filter      string
	stays, away time.Duration // at a time; stays 0: as long as the connection lasts
	holds       int           // messages that it leaves without a PUBREC
	resting     atomic.Bool   // it holds none and does not stay away any more
	judge       func(value string, dup bool)
	heard       map[uint16]bool
	held        []uint16 // without a PUBREC

	mu    sync.Mutex
	given int // messages
	again int // PUBLISH packets with DUP
}

func (s *exactSubscriber) count() (given, again int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given, s.again
}

// run lives until ctx ends. listening is called once, when it has its subscription.
func (s *exactSubscriber) run(ctx context.Context, address string, listening func()) {
	for ctx.Err() == nil {
		if s.connect(address) == nil {
			s.stay(ctx, &listening)
		}
		if s.conn != nil {
			s.conn.Close()
		}
		if s.resting.Load() {
			pauseFor(ctx, pace)
		} else {
			pauseFor(ctx, max(s.away, pace))
		}
	}
}

// stay is one connection. It calls listening the first time that there is a subscription.
func (s *exactSubscriber) stay(ctx context.Context, listening *func()) {
	s.held = s.held[:0]
	if s.passes {
		clear(s.heard)
	}
	if !s.there {
		s.out = (&packet.Subscribe{
			PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte(s.filter), QoS: 2}},
		}).AppendTo(s.out, s.version)
	}
	stays := startLimit
	if s.stays > 0 {
		stays = s.stays
	}
	_ = s.conn.SetReadDeadline(time.Now().Add(stays))
	defer context.AfterFunc(ctx, func() { s.conn.Close() })()
	for ctx.Err() == nil {
		p, err := s.next()
		if err != nil {
			return
		}
		if _, ok := p.(*packet.Suback); ok {
			s.there = !s.passes
			if *listening != nil {
				(*listening)()
				*listening = nil
			}
		}
		s.take(p)
	}
}

// take takes one packet.
func (s *exactSubscriber) take(p packet.Packet) {
	switch p := p.(type) {
	case *packet.Publish:
		if p.Dup {
			s.mu.Lock()
			s.again++
			s.mu.Unlock()
		}
		if !s.heard[p.PacketID] {
			s.judge(string(p.Payload), p.Dup)
			s.mu.Lock()
			s.given++
			s.mu.Unlock()
		} else if !p.Dup {
			s.h.complain("%s: packet id %d of a message that is not over comes without DUP", s.id, p.PacketID)
		}
		s.heard[p.PacketID] = true
		s.held = append(s.held, p.PacketID)
		for len(s.held) > s.holds || len(s.held) > 0 && s.resting.Load() {
			s.out = packet.AppendPubrec(s.out, s.version, s.held[0], packet.Success)
			s.held = s.held[1:]
		}
	case *packet.Pubrel:
		delete(s.heard, p.PacketID)
		s.out = packet.AppendPubcomp(s.out, s.version, p.PacketID, packet.Success)
	}
}

// inOrder judges messages: each comes once, and behind the one that its publisher sent before, whose seq is in last.
func (s *exactSubscriber) inOrder(last map[string]int) func(value string, dup bool) {
	return func(value string, dup bool) {
		from, number, _ := strings.Cut(value, " ")
		seq, err := strconv.Atoi(number)
		if due := last[from]; err != nil || seq != due {
			s.h.complain("%s: %q came where %d is due, DUP %v", s.id, value, due, dup)
		}
		last[from] = seq + 1
	}
}
