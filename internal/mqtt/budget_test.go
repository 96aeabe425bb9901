package mqtt_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

const heldBytes = `firth_mqtt_held_bytes`

// unkept is a log that says that it stored what devices publish, and does not, so that memory is that of the door.
type unkept struct{ stream.Keeper }

func (unkept) Append(_ *stream.Unit, to stream.Receipt, ticket uint64) error {
	if to != nil {
		to.Appended(ticket, place(0), nil)
	}
	return nil
}

// TestPublishersOfManyLongNames is E6: names that a publisher used once do not stay for as long as it does.
func TestPublishersOfManyLongNames(t *testing.T) {
	set := telemetry.New()
	h := open(t, func(o *mqtt.Options) { o.Metrics, o.Log = set, unkept{o.Log} })
	const publishers, names = 8, 256
	h.connect(t, packet.V5, "first", nil).published("n/", "makes the topic", false)
	before := heap()
	var clients []*raw
	for i := range publishers {
		c := h.connect(t, packet.V5, fmt.Sprintf("p%d", i), nil)
		for n := range names {
			name := fmt.Sprintf("n/%d/%d/", i, n)
			c.publish(0, 0, name+strings.Repeat("x", 65_000-len(name)), "y")
		}
		c.quiet()
		clients = append(clients, c)
	}
	grown := heap() - before
	const most = publishers * 640 << 10 // 64 MiB for 100 of them
	if grown > most {
		t.Errorf("the heap grew by %d KiB for each publisher", grown>>10/publishers)
	}
	if held := sample(set, heldBytes); held <= 0 || held > most {
		t.Errorf("%v bytes are counted", held)
	}
	for _, c := range clients {
		c.quiet()
		c.net.Close()
	}
	eventually(t, "everything is given back", func() bool { return sample(set, heldBytes) < 64<<10 })
}

// TestAliasesHaveABound: a client that sets aliases of more bytes than a connection may hold is told so.
func TestAliasesHaveABound(t *testing.T) {
	set := telemetry.New()
	h := open(t, func(o *mqtt.Options) { o.Metrics = set })
	c := h.connect(t, packet.V5, "c", nil)
	for alias := range uint16(32) {
		p := &packet.Publish{Topic: []byte(strings.Repeat("x", 65_000))}
		p.Props.SetTopicAlias(alias + 1)
		if !c.write(p, patience) {
			break
		}
	}
	if d := want[*packet.Disconnect](c); d.Reason != packet.QuotaExceeded {
		t.Errorf("DISCONNECT %s", d.Reason)
	}
	eventually(t, "everything is given back", func() bool { return sample(set, heldBytes) == 0 })
}

// TestFiltersHaveABudget: filters beyond the budget are refused by themselves, and what was given back can be used
// again.
func TestFiltersHaveABudget(t *testing.T) {
	set := telemetry.New()
	h := open(t, func(o *mqtt.Options) { o.Metrics = set; o.BudgetBytes = 4 << 20 })
	c := h.connect(t, packet.V5, "c", nil)
	granted := 0
	refused := packet.ReasonCode(0)
	filter := func(i int) string { return fmt.Sprintf("f/%d/", i) + strings.Repeat("x", 60_000) }
	for i := range 100 {
		if r := c.subscribe(0, filter(i)).Reasons[0]; r.Failed() {
			refused = r
			break
		}
		granted++
	}
	if refused != packet.QuotaExceeded || granted < 3 {
		t.Errorf("refused with %s after %d filters", refused, granted)
	}
	if held := sample(set, heldBytes); held > 4<<20 {
		t.Errorf("%v bytes are held", held)
	}
	c.send(&packet.Unsubscribe{PacketID: 1, Filters: [][]byte{[]byte(filter(0)), []byte(filter(1))}})
	want[*packet.Unsuback](c)
	if r := c.subscribe(0, filter(1000)).Reasons[0]; r.Failed() {
		t.Errorf("refused with %s although there is room", r)
	}
}

// TestWillsHaveABudget: a CONNECT with a will that is too much for the budget is refused.
func TestWillsHaveABudget(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.BudgetBytes = 1 << 20 })
	refused := 0
	for i := range 10 {
		c := h.dial(t)
		c.hello(packet.V5, fmt.Sprint(i), func(p *packet.Connect) {
			p.Will = &packet.Will{Topic: []byte("w"), Payload: make([]byte, 60_000), QoS: 0}
		})
		if ack := want[*packet.Connack](c); ack.Reason == packet.QuotaExceeded {
			refused++
		} else if ack.Reason != packet.Success {
			t.Errorf("CONNACK %s", ack.Reason)
		}
	}
	if refused == 0 {
		t.Error("ten wills of 60,000 bytes fit into the share of a budget of 1 MiB")
	}
}

// TestLargeConnects: the largest CONNECT finds room in a small budget while no other stranger is there, whatever pieces
// it comes in: what is there already is not asked for twice.
func TestLargeConnects(t *testing.T) {
	for _, tc := range []struct{ budget, others int }{{2 << 20, 0}, {6 << 20, 3}, {10 << 20, 20}} {
		h := open(t, func(o *mqtt.Options) { o.BudgetBytes = int64(tc.budget) })
		for i := range tc.others {
			h.connect(t, packet.V5, fmt.Sprint(i), nil)
		}
		hello := largeConnect("large", 258_000)
		for _, piece := range []int{1000, 40_000, len(hello)} {
			c := h.dial(t)
			c.v, c.dec = packet.V5, packet.Decoder{Version: packet.V5, Client: true}
			for rest := hello; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
				c.bytes(rest[:min(piece, len(rest))])
			}
			if ack, err := c.next(patience); err != nil {
				t.Errorf("a budget of %d, %d others, pieces of %d: %v", tc.budget, tc.others, piece, err)
			} else if ack := ack.(*packet.Connack); ack.Reason != packet.Success {
				t.Errorf("a budget of %d, %d others, pieces of %d: CONNACK %s", tc.budget, tc.others, piece, ack.Reason)
			}
			c.send(&packet.Disconnect{})
			c.closed()
			eventually(t, "it is gone", func() bool { return h.door.Stats().Connections == tc.others })
		}
	}
}

// opaque is a listener whose connections are not known to be sockets, as those of TLS are not.
type opaque struct{ net.Listener }

func (l opaque) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return struct{ net.Conn }{c}, err
}

// TestStrangersThatAuthenticate: CONNECT packets of clients that authenticate themselves are kept within the memory of
// strangers, also those that come whole in one read, and who says an ordinary CONNECT meanwhile is let in.
func TestStrangersThatAuthenticate(t *testing.T) {
	const budget, most, count = 8 << 20, 1 << 20, 300 // one eighth
	set := telemetry.New()
	h := open(t, func(o *mqtt.Options) { riddles(t)(o); o.Metrics = set; o.BudgetBytes = budget })
	listener, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = listener.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- h.door.Serve(ctx, opaque{listener}) }()
	defer func() {
		cancel()
		<-served
	}()
	asked := 0
	for range count {
		c := h.dial(t)
		c.hello(packet.V5, "", func(p *packet.Connect) {
			withMethod("RIDDLE")(p)
			p.Will = &packet.Will{Topic: []byte("w"), Payload: make([]byte, 3000)}
		})
		p, err := c.next(patience)
		if _, is := p.(*packet.Auth); err == nil && is {
			asked++
		} else if ack, is := p.(*packet.Connack); err == nil && (!is || ack.Reason != packet.QuotaExceeded) {
			t.Errorf("got %+v", p)
		}
	}
	eventually(t, "the others are gone", func() bool { return h.door.Stats().Connections == asked })
	if held := sample(set, heldBytes); held > most {
		t.Errorf("%d strangers hold %v bytes, want %d at most", asked, held, most)
	}
	if asked < 20 || asked == count {
		t.Errorf("%d of %d are asked", asked, count)
	}
	h.connect(t, packet.V5, "small", nil)
}

// TestStalledSubscribersKeepToTheBudget: however many subscribers stop reading, all together hold no more than the
// budget of the door, one that reads is still served, and QoS 1 loses nothing.
func TestStalledSubscribersKeepToTheBudget(t *testing.T) {
	const budget, stalled, count, size = 4 << 20, 40, 600, 16 << 10
	set := telemetry.New()
	h := open(t, func(o *mqtt.Options) { o.Metrics = set; o.BudgetBytes = budget })
	var slow []*raw
	for i := range stalled {
		c := h.connect(t, packet.V5, fmt.Sprintf("slow%d", i), nil)
		if err := c.net.(interface{ SetReadBuffer(int) error }).SetReadBuffer(128 << 10); err != nil {
			t.Fatal(err)
		}
		c.subscribe(byte(i&1), "flood/#")
		slow = append(slow, c)
	}
	fast := h.connect(t, packet.V5, "fast", nil)
	fast.subscribe(1, "flood/#")
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := range count {
			if p := want[*packet.Publish](fast); !strings.HasPrefix(string(p.Payload), fmt.Sprint(i)+" ") {
				t.Errorf("%.10s came as message %d", p.Payload, i)
				return
			} else if p.QoS > 0 {
				fast.send(&packet.Puback{PacketID: p.PacketID})
			}
		}
	})
	h.blast(t, "flood", 1, count, size)
	wg.Wait()
	if held := sample(set, heldBytes); held > budget || held < budget/8 {
		t.Errorf("%v bytes are held of a budget of %d", held, budget)
	}
	for i := 1; i < stalled; i += 7 * 2 { // some of QoS 1 read on
		last := map[string]int{}
		for range count {
			slow[i].inOrder(last, 1)
		}
	}
}
