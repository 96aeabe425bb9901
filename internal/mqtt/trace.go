package mqtt

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// A trace shows the packets of one client as they come and go. Whoever is traced copies its packets into a channel; all
// else is done by who looks. Nobody else pays more than the load of a pointer for each packet that comes and each
// write.

const (
	// maxTraces bounds the traces at a time, and traceChunks and traceBytes what may wait to be looked at of each.
	maxTraces   = 16
	traceChunks = 4096
	traceBytes  = 4 << 20
)

// traces are those under way.
type traces struct {
	some atomic.Bool // there are some
	mu   struct {
		sync.Mutex
		by map[string]*tap
	}
}

// tap is where the packets of a client that is traced go.
type tap struct {
	chunks chan chunk
	bytes  atomic.Int64  // in the channel
	speaks atomic.Uint32 // version of the connection that is traced
	lost   atomic.Uint64 // packets or writes that found no room
}

// chunk is whole packets.
type chunk struct {
	at      time.Time
	in      bool
	version packet.Version
	b       []byte
}

// take copies packets. It does not wait.
func (t *tap) take(in bool, b []byte) {
	if t.bytes.Add(int64(len(b))) > traceBytes {
		t.bytes.Add(-int64(len(b)))
		t.lost.Add(1)
		return
	}
	select {
	case t.chunks <- chunk{time.Now(), in, packet.Version(t.speaks.Load()), append([]byte(nil), b...)}:
	default:
		t.bytes.Add(-int64(len(b)))
		t.lost.Add(1)
	}
}

// TraceLine is one packet.
type TraceLine struct {
	At      time.Time         `json:"at"`
	In      bool              `json:"in"` // from the client
	Packet  string            `json:"packet,omitempty"`
	Bytes   int               `json:"bytes"`
	ID      uint16            `json:"id,omitempty"`
	Topic   string            `json:"topic,omitempty"`
	QoS     *byte             `json:"qos,omitempty"`
	Retain  bool              `json:"retain,omitempty"`
	Dup     bool              `json:"dup,omitempty"`
	Payload *int              `json:"payload_bytes,omitempty"`
	Filters []string          `json:"filters,omitempty"`
	Reasons []string          `json:"reasons,omitempty"`
	User    map[string]string `json:"user_properties,omitempty"`
	Said    string            `json:"text,omitempty"` // what else is to be said
	// Lost is how many packets, or writes of several, before this nobody looked at in time.
	Lost uint64 `json:"lost,omitempty"`
}

// Trace shows the packets of a client, of this connection and of those that follow, until ctx ends or show fails.
// Passwords and payloads are not shown. Begun is called once packets are looked at. Errors: Exists, when the client is
// traced already; Limited; those of begun and show.
func (d *Door) Trace(
	ctx context.Context, client string, begun func() error, show func(*TraceLine) error,
) error {
	t, err := d.traces.begin(client)
	if err != nil {
		return err
	}
	defer func() {
		d.traces.end(client)
		d.tapInto(client, nil)
	}()
	d.tapInto(client, t)
	if err := begun(); err != nil {
		return err
	}
	for {
		select {
		case c := <-t.chunks:
			t.bytes.Add(-int64(len(c.b)))
			if err := c.show(t.lost.Swap(0), show); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *traces) begin(client string) (*tap, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case client == "":
		return nil, fault.New(fault.Invalid, "mqtt.Trace", "which client?")
	case t.mu.by[client] != nil:
		return nil, fault.New(fault.Exists, "mqtt.Trace", "somebody traces %s already", fault.Text(client))
	case len(t.mu.by) == maxTraces:
		return nil, fault.New(fault.Limited, "mqtt.Trace", "%d traces at a time are all", maxTraces)
	case t.mu.by == nil:
		t.mu.by = make(map[string]*tap)
	}
	one := &tap{chunks: make(chan chunk, traceChunks)}
	t.mu.by[client] = one
	t.some.Store(true)
	return one, nil
}

func (t *traces) end(client string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.by, client)
	t.some.Store(len(t.mu.by) > 0)
}

// of is the trace of a client; nil: none.
func (t *traces) of(client string) *tap {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.by[client]
}

// tapInto has the connection of a client traced, or not any more. One that comes from here on asks traces.
func (d *Door) tapInto(client string, t *tap) {
	d.seats.Look(client, func(_ *session.State, h roster.Holder) {
		if c, ok := h.(*conn); ok {
			c.wire.tapInto(t, c.link.version)
		}
	})
}

// tapInto has the packets of a connection go into a trace too; nil: not any more.
func (w *wire) tapInto(t *tap, v packet.Version) {
	if t != nil {
		t.speaks.Store(uint32(v))
	}
	w.tap.Store(t)
}

// show shows the packets of a chunk.
func (c *chunk) show(lost uint64, show func(*TraceLine) error) error {
	dec := packet.Decoder{Version: c.version, Client: !c.in}
	for b := c.b; len(b) > 0; {
		n, err := packet.Length(b, packet.MaxSize)
		if err != nil || n == 0 || n > len(b) {
			return show(&TraceLine{At: c.at, In: c.in, Bytes: len(b), Said: "bytes that are no packet", Lost: lost})
		}
		if c.in && packet.Type(b[0]>>4) == packet.CONNECT {
			dec = packet.Decoder{}
		}
		line := &TraceLine{At: c.at, In: c.in, Packet: packet.Type(b[0] >> 4).String(), Bytes: n, Lost: lost}
		if p, err := dec.Decode(b[:n]); err == nil {
			line.tell(p)
		} else {
			line.Said = err.Error()
		}
		if err := show(line); err != nil {
			return err
		}
		b, lost = b[n:], 0
	}
	return nil
}

// tell says what is in a packet.
func (l *TraceLine) tell(p packet.Packet) {
	switch p := p.(type) {
	case *packet.Connect:
		l.Said = "client " + fault.Text(p.ClientID) + ", MQTT " + versionName(p.Version)
		l.user(&p.Props)
	case *packet.Connack:
		l.reasons(&p.Props, p.Reason)
	case *packet.Publish:
		size := len(p.Payload)
		l.ID, l.Topic, l.QoS, l.Retain, l.Dup, l.Payload = p.PacketID, string(p.Topic), &p.QoS, p.Retain, p.Dup, &size
		l.user(&p.Props)
	case *packet.Puback:
		l.ID = p.PacketID
		l.reasons(&p.Props, p.Reason)
	case *packet.Pubrec:
		l.ID = p.PacketID
		l.reasons(&p.Props, p.Reason)
	case *packet.Pubrel:
		l.ID = p.PacketID
		l.reasons(&p.Props, p.Reason)
	case *packet.Pubcomp:
		l.ID = p.PacketID
		l.reasons(&p.Props, p.Reason)
	case *packet.Subscribe:
		l.ID = p.PacketID
		for _, s := range p.Subscriptions {
			l.Filters = append(l.Filters, string(s.Filter))
		}
		l.user(&p.Props)
	case *packet.Suback:
		l.ID = p.PacketID
		l.reasons(&p.Props, p.Reasons...)
	case *packet.Unsubscribe:
		l.ID = p.PacketID
		for _, filter := range p.Filters {
			l.Filters = append(l.Filters, string(filter))
		}
	case *packet.Unsuback:
		l.ID = p.PacketID
		l.reasons(&p.Props, p.Reasons...)
	case *packet.Disconnect:
		l.reasons(&p.Props, p.Reason)
	}
}

func (l *TraceLine) reasons(props *packet.Properties, all ...packet.ReasonCode) {
	for _, r := range all {
		l.Reasons = append(l.Reasons, r.String())
	}
	l.Said = string(props.ReasonString)
	l.user(props)
}

func (l *TraceLine) user(props *packet.Properties) {
	for name, value := range props.User.All() {
		if l.User == nil {
			l.User = make(map[string]string)
		}
		l.User[string(name)] = string(value)
	}
}
