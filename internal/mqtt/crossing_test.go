package mqtt_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// far is the other node of a door, in whose place a test hands connections over.
type far struct {
	address string
	from    atomic.Pointer[mqtt.Origin]
	refuses atomic.Bool
	before  atomic.Pointer[func()] // called while somebody waits
}

func (f *far) handOver(ctx context.Context, _ int, from mqtt.Origin) (net.Conn, error) {
	f.from.Store(&from)
	if before := f.before.Load(); before != nil {
		(*before)()
		return nil, nil
	}
	if f.refuses.Load() {
		return nil, errors.New("nobody has it")
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", f.address)
}

// twoNodes opens two doors on a log: one that has all sessions, and one that hands its clients over to it.
func twoNodes(t *testing.T) (owner, other *house, f *far) {
	t.Helper()
	owner = open(t, sharing(false))
	owner.serves(t)
	way, err := owner.door.Listener(mqtt.ListenerOptions{Name: "opened"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- way.ServeOpened(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	f = &far{address: l.Addr().String()}
	other = owner.beside(t, func(o *mqtt.Options) {
		sharing(false)(o)
		o.Sharding.HandOver = f.handOver
	})
	return owner, other, f
}

// TestHandedOver: a client whose session is on another node is served by that one, whatever it connects by, also one
// that leaves its identifier to the server; large messages go both ways.
func TestHandedOver(t *testing.T) {
	owner, other, f := twoNodes(t)
	web := httptest.NewServer(other.door.WebSocket())
	defer web.Close()
	dials := map[string]func() *raw{
		"tcp": func() *raw { return other.dial(t) },
		"ws": func() *raw {
			c, _ := webSocket(t, strings.Replace(web.URL, "http", "ws", 1)+"/mqtt",
				&websocket.DialOptions{Subprotocols: []string{"mqtt"}})
			return c
		},
	}
	for name, dial := range dials {
		t.Run(name, func(t *testing.T) {
			for _, id := range []string{"c", ""} {
				c := dial()
				c.t = t
				c.hello(packet.V5, id, nil)
				ack := want[*packet.Connack](c)
				if ack.Reason != packet.Success || (id == "") != (len(ack.Props.AssignedClientID) > 0) {
					t.Fatalf("CONNACK %s, %q", ack.Reason, ack.Props.AssignedClientID)
				}
				if from := f.from.Load(); from.Client == nil || from.Client.String() == "" || from.Came || from.TLS != nil {
					t.Errorf("it comes from %+v", from)
				}
				if s := owner.door.Stats(); s.Clients != 1 {
					t.Errorf("its node has %+v", s)
				}
				c.echoes(t)
				c.send(&packet.Disconnect{})
				c.closed()
				eventually(t, "it has left", func() bool {
					return owner.door.Stats().Connections == 0 && other.door.Stats().Connections == 0
				})
			}
		})
	}
}

// echoes has a client publish large messages that it gets back.
func (c *raw) echoes(t *testing.T) {
	t.Helper()
	c.subscribe(1, "big")
	payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	for i := range uint16(5) {
		c.send(&packet.Publish{Topic: []byte("big"), Payload: payload, QoS: 1, PacketID: i + 1})
	}
	for acked, came := 0, 0; acked < 5 || came < 5; {
		p, err := c.next(patience)
		if err != nil {
			t.Fatal(err)
		}
		switch p := p.(type) {
		case *packet.Puback:
			acked++
		case *packet.Publish:
			came++
			if !bytes.Equal(p.Payload, payload) {
				t.Fatal("it is another message")
			}
			c.send(&packet.Puback{PacketID: p.PacketID})
		}
	}
}

// TestHandedOverAtOnce: what comes right behind the CONNECT goes along.
func TestHandedOverAtOnce(t *testing.T) {
	_, other, _ := twoNodes(t)
	c := other.dial(t)
	b := (&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: []byte("c")}).AppendTo(nil, packet.V5)
	for i := range uint16(100) {
		b = (&packet.Publish{Topic: []byte("t"), Payload: []byte(strconv.Itoa(int(i))), QoS: 1, PacketID: i + 1}).
			AppendTo(b, packet.V5)
	}
	c.v, c.dec = packet.V5, packet.Decoder{Version: packet.V5, Client: true}
	c.bytes(b)
	want[*packet.Connack](c)
	for i := range uint16(100) {
		if p := want[*packet.Puback](c); p.PacketID != i+1 {
			t.Fatalf("PUBACK %d, want %d", p.PacketID, i+1)
		}
	}
}

// TestHandedOverEnds: the end of the client's session on the other node is told to the client, as is that no node has
// it; one whose session has come meanwhile is served here.
func TestHandedOverEnds(t *testing.T) {
	owner, other, f := twoNodes(t)
	c := other.connect(t, packet.V5, "c", nil)
	owner.letsGo()
	if p := want[*packet.Disconnect](c); p.Reason != packet.ServerShuttingDown {
		t.Errorf("DISCONNECT %s", p.Reason)
	}
	c.closed()
	f.refuses.Store(true)
	c = other.dial(t)
	c.hello(packet.V5, "c", nil)
	if ack := want[*packet.Connack](c); ack.Reason != packet.ServerUnavailable {
		t.Errorf("CONNACK %s", ack.Reason)
	}
	c.closed()
	owner.isEmpty(t)
	come := func() { other.serves(t) }
	f.before.Store(&come)
	other.connect(t, packet.V5, "c", nil)
	if s := other.door.Stats(); s.Clients != 1 {
		t.Errorf("it has %+v", s)
	}
}
