package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(patient{m}) }

// patient waits for goroutines that are about to end: goleak does so for half a second, too little on a busy machine.
type patient struct{ *testing.M }

func (p patient) Run() int {
	code := p.M.Run()
	for limit := time.Now().Add(time.Minute); code == 0 && goleak.Find() != nil && time.Now().Before(limit); {
	}
	return code
}

func ctx(t *testing.T) context.Context {
	t.Helper()
	c, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return c
}

func dial(t *testing.T, s *server, o Options) *Client {
	t.Helper()
	c, err := Dial(ctx(t), s.addr(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// acks counts the acknowledgements of each ticket.
type acks struct {
	mu   sync.Mutex
	seen map[uint64]int
	bad  []error
}

func (a *acks) ack(ticket uint64, reason packet.ReasonCode, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen == nil {
		a.seen = make(map[uint64]int)
	}
	a.seen[ticket]++
	if err != nil || reason.Failed() {
		a.bad = append(a.bad, fmt.Errorf("%v %w", reason, err))
	}
}

func (a *acks) check(t *testing.T, n int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seen) != n || len(a.bad) > 0 {
		t.Fatalf("%d tickets of %d came back, %d with errors: %v", len(a.seen), n, len(a.bad), a.bad)
	}
	for ticket, times := range a.seen {
		if times != 1 {
			t.Errorf("ticket %d came back %d times", ticket, times)
		}
	}
}

// TestPublishAndReceive: a server whose decoder is strict takes all that the client says [MQTT-7.0.0-1 of 3.1.1].
func TestPublishAndReceive(t *testing.T) {
	for _, v := range []packet.Version{packet.V31, packet.V311, packet.V5} {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("MQTT %v QoS %d", v, qos), func(t *testing.T) { publishAndReceive(t, v, qos) })
		}
	}
}

func publishAndReceive(t *testing.T, v packet.Version, qos byte) {
	const messages = 2000
	s := listen(t)
	var got []string
	all := make(chan struct{})
	sub := dial(t, s, Options{Version: v, ClientID: "sub", OnMessage: func(p *packet.Publish) {
		if p.QoS != qos {
			t.Errorf("QoS %d", p.QoS)
		}
		got = append(got, string(p.Topic)+" "+string(p.Payload))
		if len(got) == messages {
			close(all)
		}
	}})
	reasons, err := sub.Subscribe(ctx(t), packet.Properties{}, packet.Subscription{Filter: []byte("#"), QoS: qos})
	if err != nil || len(reasons) != 1 || reasons[0] != packet.ReasonCode(qos) {
		t.Fatalf("subscribe: %v %v", reasons, err)
	}
	var a acks
	pub := dial(t, s, Options{Version: v, ClientID: "pub", Inflight: 16, OnAck: a.ack})
	for i := range messages {
		if err := pub.Publish(&packet.Publish{Topic: []byte("a/b"), Payload: fmt.Append(nil, i), QoS: qos},
			uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := pub.Drain(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if qos > 0 {
		a.check(t, messages)
	}
	select {
	case <-all:
	case <-ctx(t).Done():
		t.Fatal("not all messages came")
	}
	for i, m := range got {
		if m != fmt.Sprint("a/b ", i) {
			t.Fatalf("message %d is %q", i, m)
		}
	}
	if _, err := sub.Unsubscribe(ctx(t), packet.Properties{}, []byte("#")); err != nil {
		t.Fatal(err)
	}
}

func TestManyPublishersOnOneConnection(t *testing.T) {
	s := listen(t)
	var a acks
	c := dial(t, s, Options{Inflight: 3, OnAck: a.ack})
	var wg sync.WaitGroup
	const each, publishers = 300, 8
	for g := range publishers {
		wg.Go(func() {
			for i := range each {
				if err := c.Publish(&packet.Publish{Topic: []byte("t"), QoS: byte(1 + i%2)}, uint64(g*each+i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := c.Drain(ctx(t)); err != nil {
		t.Fatal(err)
	}
	a.check(t, each*publishers)
}

// A closed loop: the callback offers the next message, and the reader itself writes it.
func TestOfferFromCallback(t *testing.T) {
	s := listen(t)
	const messages = 500
	var c *Client
	var n atomic.Uint64
	ready, finished := make(chan struct{}), make(chan struct{})
	c = dial(t, s, Options{OnAck: func(ticket uint64, _ packet.ReasonCode, err error) {
		<-ready
		if err != nil || ticket != n.Load() {
			t.Errorf("ticket %d, %v", ticket, err)
		}
		if n.Add(1) == messages {
			close(finished)
			return
		}
		if ok, err := c.Offer(&packet.Publish{Topic: []byte("t"), QoS: 1}, n.Load()); !ok || err != nil {
			t.Errorf("offer: %v %v", ok, err)
		}
	}})
	close(ready)
	if ok, err := c.Offer(&packet.Publish{Topic: []byte("t"), QoS: 1}, 0); !ok || err != nil {
		t.Fatal(ok, err)
	}
	c.Flush()
	select {
	case <-finished:
	case <-ctx(t).Done():
		t.Fatalf("stopped after %d", n.Load())
	}
}

func TestOfferTellsAFullWindow(t *testing.T) {
	s := listen(t)
	s.hook = func(_ *session, p packet.Packet) bool { return p.Type() == packet.PUBLISH } // never acknowledged
	s.connack.Props.SetReceiveMaximum(2)
	c := dial(t, s, Options{})
	for i, want := range []bool{true, true, false} {
		if ok, err := c.Offer(&packet.Publish{Topic: []byte("t"), QoS: 1}, uint64(i)); ok != want || err != nil {
			t.Errorf("offer %d: %v %v", i, ok, err)
		}
	}
	if ok, _ := c.Offer(&packet.Publish{Topic: []byte("t")}, 0); !ok {
		t.Error("QoS 0 needs no window")
	}
}

// What waits is written together: far fewer reads on the other side than messages.
func TestWritesAreBatched(t *testing.T) {
	s := listen(t)
	var a acks
	c := dial(t, s, Options{OnAck: a.ack})
	const messages = 1000
	for i := range messages {
		if ok, err := c.Offer(&packet.Publish{Topic: []byte("t"), QoS: 1}, uint64(i)); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	c.Flush()
	if err := c.Drain(ctx(t)); err != nil {
		t.Fatal(err)
	}
	a.check(t, messages)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if reads := s.mu.sessions[0].reads.Load(); reads > messages/10 {
		t.Errorf("%d reads for %d messages", reads, messages)
	}
}

func TestRefusals(t *testing.T) {
	cases := []struct {
		reason packet.ReasonCode
		kind   fault.Kind
	}{
		{packet.NotAuthorized, fault.Denied},
		{packet.BadUserNameOrPassword, fault.Denied},
		{packet.UnsupportedVersion, fault.Unsupported},
		{packet.ServerBusy, fault.Limited},
		{packet.ClientIDNotValid, fault.Invalid},
	}
	for _, c := range cases {
		s := listen(t)
		s.connack.Reason = c.reason
		_, err := Dial(ctx(t), s.addr(), Options{})
		if !fault.Is(err, c.kind) || packet.ReasonOf(err) != c.reason {
			t.Errorf("%v: %v", c.reason, err)
		}
	}
	s := listen(t)
	s.connack.Reason = packet.UseAnotherServer
	s.connack.Props.SetServerReference([]byte("other.example:1883"))
	_, err := Dial(ctx(t), s.addr(), Options{Version: packet.V5})
	if err == nil || !strings.Contains(err.Error(), "other.example:1883") {
		t.Errorf("another server: %v", err)
	}
}

func TestDialErrors(t *testing.T) {
	if _, err := Dial(ctx(t), "127.0.0.1:1", Options{}); err == nil {
		t.Error("nobody listens there")
	}
	s := listen(t)
	s.hook = func(*session, packet.Packet) bool { return true } // never answers
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := Dial(short, s.addr(), Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestConnectCarriesItsOptions(t *testing.T) {
	s := listen(t)
	s.connack.Props.SetAssignedClientID([]byte("chosen"))
	s.connack.Props.SetServerKeepAlive(7)
	s.connack.Props.SetMaximumQoS(1)
	s.connack.Props.SetRetainAvailable(0)
	s.connack.Props.SetMaximumPacketSize(100)
	s.connack.Props.SetReceiveMaximum(5)
	c := dial(t, s, Options{UserName: "u", Password: []byte("p"), KeepAlive: 90 * time.Second, Resume: true,
		Will: &packet.Will{Topic: []byte("w"), Payload: []byte("gone"), QoS: 1, Retain: true}})
	want := Server{ClientID: "chosen", KeepAlive: 7 * time.Second, ReceiveMaximum: 5, MaximumQoS: 1, MaxPacketSize: 100}
	if c.Server() != want {
		t.Errorf("got %+v", c.Server())
	}
	s.mu.Lock()
	p := s.mu.sessions[0].connect
	s.mu.Unlock()
	if string(p.UserName) != "u" || string(p.Password) != "p" || p.KeepAlive != 90 || p.CleanStart || p.Will == nil ||
		string(p.Will.Payload) != "gone" || !p.Will.Retain || p.Will.QoS != 1 {
		t.Errorf("got %+v", p)
	}
	for _, bad := range []struct {
		p    packet.Publish
		kind fault.Kind
	}{
		{packet.Publish{Topic: []byte("t"), QoS: 2}, fault.Unsupported},
		{packet.Publish{Topic: []byte("t"), Retain: true}, fault.Unsupported},
		{packet.Publish{Topic: []byte("t"), Payload: make([]byte, 100)}, fault.TooLarge},
	} {
		if err := c.Publish(&bad.p, 0); !fault.Is(err, bad.kind) {
			t.Errorf("got %v", err)
		}
	}
}

func TestLostConnectionSettlesEveryTicketOnce(t *testing.T) {
	s := listen(t)
	s.hook = func(ses *session, p packet.Packet) bool {
		if p, ok := p.(*packet.Publish); ok && string(p.Payload) == "last" {
			_ = ses.conn.Close()
		}
		return p.Type() == packet.PUBLISH
	}
	var a acks
	c := dial(t, s, Options{OnAck: a.ack})
	for i := range 10 {
		payload := ""
		if i == 9 {
			payload = "last"
		}
		if err := c.Publish(&packet.Publish{Topic: []byte("t"), QoS: 1, Payload: []byte(payload)}, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	<-c.Done()
	if len(a.seen) != 10 || len(a.bad) != 10 {
		t.Errorf("%d tickets came back, %d as lost", len(a.seen), len(a.bad))
	}
	if c.Err() == nil {
		t.Error("no reason for the end")
	}
	if err := c.Publish(&packet.Publish{Topic: []byte("t"), QoS: 1}, 99); err == nil {
		t.Error("a publish after the end was taken")
	}
	if err := c.Drain(ctx(t)); err == nil {
		t.Error("drained")
	}
	if _, err := c.Subscribe(ctx(t), packet.Properties{}, packet.Subscription{Filter: []byte("a")}); err == nil {
		t.Error("subscribed")
	}
}

func TestServerDisconnectIsTheReason(t *testing.T) {
	s := listen(t)
	s.hook = func(ses *session, p packet.Packet) bool {
		if p.Type() == packet.PUBLISH {
			ses.send(&packet.Disconnect{Reason: packet.SessionTakenOver})
		}
		return false
	}
	c := dial(t, s, Options{})
	if err := c.Publish(&packet.Publish{Topic: []byte("t")}, 0); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if packet.ReasonOf(c.Err()) != packet.SessionTakenOver || !fault.Is(c.Err(), fault.Closed) {
		t.Errorf("got %v", c.Err())
	}
}

func TestCloseLosesNothing(t *testing.T) {
	s := listen(t)
	var got atomic.Int64
	ended := make(chan struct{})
	s.hook = func(ses *session, p packet.Packet) bool {
		switch p.(type) {
		case *packet.Publish:
			got.Add(1)
			ses.send(&packet.Publish{Topic: []byte("noise"), Payload: make([]byte, 1000)}) // unread input at the close
		case *packet.Disconnect:
			close(ended)
		}
		return false
	}
	c := dial(t, s, Options{})
	const messages = 5000
	for range messages {
		if err := c.Publish(&packet.Publish{Topic: []byte("t"), Payload: []byte(strings.Repeat("x", 50))}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended
	if got.Load() != messages {
		t.Errorf("%d of %d messages arrived", got.Load(), messages)
	}
	if err := c.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestKeepAlive(t *testing.T) {
	var pings atomic.Int64
	for keepAlive := uint16(1); keepAlive <= 16 && pings.Load() < 3; keepAlive *= 2 { // a busy machine may be late
		s := listen(t)
		s.connack.Props.SetServerKeepAlive(keepAlive)
		pings.Store(0)
		s.hook = func(_ *session, p packet.Packet) bool {
			if p.Type() == packet.PINGREQ {
				return pings.Add(1) > 2 // the third one gets no answer
			}
			return false
		}
		c := dial(t, s, Options{})
		<-c.Done()
		if !fault.Is(c.Err(), fault.Timeout) {
			t.Errorf("it ended with %v", c.Err())
		}
	}
	if pings.Load() != 3 {
		t.Errorf("it ended after %d pings", pings.Load())
	}
}

func TestMessageTwiceWithQoS2IsDeliveredOnce(t *testing.T) {
	s := listen(t)
	released := make(chan struct{})
	s.hook = func(ses *session, p packet.Packet) bool {
		switch p.(type) {
		case *packet.Subscribe:
			m := &packet.Publish{Topic: []byte("t"), QoS: 2, PacketID: 7}
			ses.send(m)
			m.Dup = true
			ses.send(m)
			ses.send(&packet.Pubrel{PacketID: 7})
		case *packet.Pubcomp:
			close(released)
		case *packet.Pubrec:
			return true
		}
		return false
	}
	var got atomic.Int64
	c := dial(t, s, Options{OnMessage: func(*packet.Publish) { got.Add(1) }})
	if _, err := c.Subscribe(ctx(t), packet.Properties{}, packet.Subscription{Filter: []byte("t"), QoS: 2}); err != nil {
		t.Fatal(err)
	}
	<-released
	if got.Load() != 1 {
		t.Errorf("delivered %d times", got.Load())
	}
}

func TestManualAck(t *testing.T) {
	s := listen(t)
	acked := make(chan uint16, 10)
	s.hook = func(_ *session, p packet.Packet) bool {
		if p, ok := p.(*packet.Puback); ok {
			acked <- p.PacketID
		}
		return false
	}
	held := make(chan uint16, 10)
	c := dial(t, s, Options{ManualAck: true, OnMessage: func(p *packet.Publish) { held <- p.PacketID }})
	if _, err := c.Subscribe(ctx(t), packet.Properties{}, packet.Subscription{Filter: []byte("#"), QoS: 1}); err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(&packet.Publish{Topic: []byte("t"), QoS: 1}, 0); err != nil {
		t.Fatal(err)
	}
	id := <-held
	select {
	case <-acked:
		t.Fatal("acknowledged without Ack")
	default:
	}
	c.Ack(id, 1, packet.Success)
	c.Flush()
	if got := <-acked; got != id {
		t.Errorf("acknowledged %d, not %d", got, id)
	}
}

// A server that neither reads nor stops sending must not stall the reader.
func TestReaderNeverWaitsForTheSocket(t *testing.T) {
	client, far := net.Pipe()
	defer func() { _ = far.Close() }()
	var got atomic.Int64
	enough := make(chan struct{})
	o := Options{
		Dial: func(context.Context, string, string) (net.Conn, error) { return client, nil },
		OnMessage: func(*packet.Publish) {
			if got.Add(1) == 1000 {
				close(enough)
			}
		},
	}
	go func() {
		in := &input{buf: make([]byte, 1024), max: packet.MaxSize}
		if _, err := in.next(far); err != nil {
			return
		}
		_, _ = far.Write((&packet.Connack{}).AppendTo(nil, packet.V5))
		for i := range 1000 { // a pipe has no buffer: nothing the client writes gets through
			_, _ = far.Write((&packet.Publish{Topic: []byte("t"), QoS: 1, PacketID: uint16(i + 1)}).AppendTo(nil, packet.V5))
		}
	}()
	c, err := Dial(ctx(t), "", o)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-enough:
	case <-ctx(t).Done():
		t.Fatalf("stalled after %d messages", got.Load())
	}
	c.Abort()
}

func TestLargePacketsPass(t *testing.T) {
	s := listen(t)
	got := make(chan int, 1)
	c := dial(t, s, Options{OnMessage: func(p *packet.Publish) { got <- len(p.Payload) }})
	if _, err := c.Subscribe(ctx(t), packet.Properties{}, packet.Subscription{Filter: []byte("#")}); err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(&packet.Publish{Topic: []byte("t"), Payload: make([]byte, 5<<20)}, 0); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != 5<<20 {
		t.Errorf("%d bytes", n)
	}
}

func TestPublishAllocatesNothing(t *testing.T) {
	s := listen(t)
	var c *Client
	settled := make(chan struct{}, 1)
	c = dial(t, s, Options{OnAck: func(uint64, packet.ReasonCode, error) { settled <- struct{}{} }})
	for qos := range byte(2) {
		p := &packet.Publish{Topic: []byte("a/b/c"), Payload: make([]byte, 100), QoS: qos}
		mine := func() {
			if err := c.Publish(p, 1); err != nil {
				t.Fatal(err)
			}
			if qos > 0 {
				<-settled
			}
		}
		for range 100 {
			mine()
		}
		// The server of this test allocates for each answer it writes: QoS 0 has none.
		limit := 0.0
		if qos == 1 {
			limit = 3
		}
		if n := alloctest.PerRun(1000, limit, mine); n > limit {
			t.Errorf("QoS %d: %v allocations for a message", qos, n)
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go ackAll(ln)
	for qos := range byte(2) {
		b.Run(fmt.Sprintf("QoS%d", qos), func(b *testing.B) {
			c, err := Dial(context.Background(), ln.Addr().String(), Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			p := &packet.Publish{Topic: []byte("sensors/room1/temp"), Payload: make([]byte, 100), QoS: qos}
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Publish(p, 0); err != nil {
					b.Fatal(err)
				}
			}
			if err := c.Drain(context.Background()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// ackAll is the cheapest server there can be: it acknowledges, in one write for each read.
func ackAll(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			in := &input{buf: make([]byte, 64<<10), max: packet.MaxSize}
			var out []byte
			for {
				frame, err := in.frame()
				if err != nil {
					return
				}
				if frame == nil {
					if _, err := conn.Write(out); err != nil && len(out) > 0 {
						return
					}
					out = out[:0]
					if in.fill(conn) != nil {
						return
					}
					continue
				}
				p, err := in.dec.Decode(frame)
				if err != nil {
					return
				}
				switch p := p.(type) {
				case *packet.Connect:
					out = (&packet.Connack{}).AppendTo(out, packet.V5)
				case *packet.Publish:
					if p.QoS == 1 {
						out = packet.AppendPuback(out, packet.V5, p.PacketID, packet.Success)
					}
				}
			}
		}()
	}
}

// TestServerSetsTopicAliases: a client that offers aliases gives messages their topics, and keeps the server to its
// offer.
func TestServerSetsTopicAliases(t *testing.T) {
	s := listen(t)
	sets := func(topic string, alias uint16) *packet.Publish {
		p := &packet.Publish{Topic: []byte(topic), Payload: []byte("x")}
		p.Props.SetTopicAlias(alias)
		return p
	}
	run := func(all ...*packet.Publish) (got []string, err error) {
		s.hook = func(ses *session, p packet.Packet) bool {
			if _, ok := p.(*packet.Subscribe); !ok {
				return false
			}
			for _, p := range append(all, &packet.Publish{Topic: []byte("end")}) {
				ses.send(p)
			}
			ses.send(&packet.Disconnect{Reason: packet.ServerShuttingDown})
			return true
		}
		o := Options{OnMessage: func(p *packet.Publish) { got = append(got, string(p.Topic)) }}
		o.Props.SetTopicAliasMaximum(2)
		c := dial(t, s, o)
		_, err = c.Subscribe(ctx(t), packet.Properties{}, packet.Subscription{Filter: []byte("#")})
		<-c.Done()
		return got, err
	}
	got, err := run(sets("a", 1), sets("", 1), sets("b", 2), sets("", 1), sets("c", 1), sets("", 1), sets("", 2))
	if want := "[a a b a c c b end]"; fmt.Sprint(got) != want || packet.ReasonOf(err) != packet.ServerShuttingDown {
		t.Errorf("got %v, %v", got, err)
	}
	for name, wrong := range map[string]*packet.Publish{"not set": sets("", 2), "not offered": sets("d", 3)} {
		if got, err := run(sets("a", 1), wrong); !fault.Is(err, fault.Invalid) || fmt.Sprint(got) != "[a]" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestWhatTheServerOffers: aliases are used as far as the server takes them [MQTT-3.3.2-9]; it is told of why we leave.
func TestWhatTheServerOffers(t *testing.T) {
	s := listen(t)
	s.connack.Props.SetTopicAliasMaximum(1)
	s.connack.Props.SetResponseInfo([]byte("answers/me"))
	left := make(chan string, 1)
	s.hook = func(_ *session, p packet.Packet) bool {
		if p, ok := p.(*packet.Disconnect); ok {
			left <- string(p.Props.ReasonString)
		}
		return false
	}
	var o Options
	o.Farewell.SetReasonString([]byte("done"))
	c := dial(t, s, o)
	if got := c.Server(); got.TopicAliases != 1 || got.ResponseInformation != "answers/me" {
		t.Errorf("%+v", got)
	}
	p := &packet.Publish{Topic: []byte("a")}
	p.Props.SetTopicAlias(2)
	if err := c.Publish(p, 0); !fault.Is(err, fault.Unsupported) {
		t.Errorf("alias 2: %v", err)
	}
	p.Props.SetTopicAlias(1)
	if err := c.Publish(p, 0); err != nil {
		t.Errorf("alias 1: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if why := <-left; why != "done" {
		t.Errorf("left for %q", why)
	}
}
