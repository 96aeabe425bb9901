package mqtt

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// connect takes the first packet. Its bytes are copied: client identifier and will stay.
func (c *conn) connect(t *turn, frame []byte) error {
	p, err := t.dec.Decode(bytes.Clone(frame))
	c.maxPacket = packet.MaxSize
	if most := t.dec.ClientMaximum; most > 0 {
		c.maxPacket = int(min(most, packet.MaxSize))
	}
	if err != nil {
		return c.refuseConnect(t.dec.Version, err)
	}
	t.dec = packet.Decoder{Version: t.dec.Version} // it may hold memory of the copy
	hello, ok := p.(*packet.Connect)
	if !ok {
		return errRefused
	}
	c.version = hello.Version
	c.principal = Principal{ClientID: string(hello.ClientID), UserName: string(hello.UserName)}
	if err := c.admitConnect(hello); err != nil {
		return c.refuseConnect(hello.Version, err)
	}
	assigned := ""
	if len(hello.ClientID) == 0 {
		assigned = newClientID()
	}
	s, connack := session.Open(hello, &c.door.limits, assigned)
	if err := tooLarge(connack, c.version, s.MaxPacket()); err != nil { // [MQTT-3.1.2-24]
		return c.refuseConnect(c.version, err)
	}
	c.principal.ClientID = s.ClientID()
	c.takeOver()
	c.bear(time.Duration(s.KeepAlive()) * time.Second * 3 / 2) // [MQTT-3.1.2-22]
	c.mu.Lock()
	c.mu.session = s
	c.put(connack.AppendTo(c.pending(), c.version)) // [MQTT-3.2.0-1]
	c.mu.Unlock()
	c.push()
	return nil
}

// admitConnect refuses what the codec cannot judge.
func (c *conn) admitConnect(p *packet.Connect) error {
	if p.Props.Has(packet.PropAuthMethod) { // [MQTT-4.12.0-1]
		return &packet.Error{Reason: packet.BadAuthenticationMethod, Detail: "no extended authentication"}
	}
	w := p.Will
	if w == nil {
		return nil
	}
	switch {
	case w.QoS > 1 && p.Version == packet.V5: // [MQTT-3.2.2-12]
		return &packet.Error{Reason: packet.QoSNotSupported, Detail: "will with QoS 2"}
	case !isDollar(w.Topic) && !c.door.may(&c.principal, Publish, w.Topic):
		return &packet.Error{Reason: packet.NotAuthorized, Detail: "will topic"}
	}
	w.QoS = min(w.QoS, 1) // MQTT 3 cannot be told; it is delivered with QoS 1 at most anyway
	if isDollar(w.Topic) {
		// Bridges of Mosquitto announce themselves there. Their client would never get in.
		c.door.opt.Logger.Info("a will to a topic that begins with $ will not be published",
			"client", fault.Text(p.ClientID), "topic", fault.Text(w.Topic))
		p.Will = nil
	}
	return nil
}

// refuseConnect answers a CONNECT that is refused. What MQTT 3 has no return code for, and what is no
// CONNECT of any version, gets no answer.
func (c *conn) refuseConnect(v packet.Version, cause error) error {
	reason := packet.ReasonOf(cause)
	c.door.metrics.refused(reason)
	c.door.opt.Logger.Info("connection refused",
		"client", fault.Text(c.principal.ClientID), "remote", c.remote(), "err", cause)
	answer := v == packet.V5
	switch reason {
	case packet.UnsupportedVersion, // [MQTT-3.1.2-2]
		packet.ClientIDNotValid, packet.NotAuthorized, packet.BadUserNameOrPassword, packet.BadAuthenticationMethod:
		answer = v != 0
	}
	connack := packet.Connack{Reason: reason}
	if answer && connack.Size(v) <= c.maxPacket { // [MQTT-3.1.2-24]
		c.mu.Lock()
		c.put(connack.AppendTo(c.pending(), v))
		c.mu.Unlock()
		c.push()
	}
	return errRefused
}

func newClientID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails
	return "auto-" + hex.EncodeToString(b[:])
}

// takeOver makes the connection the one of its client identifier. A connection that had it before is
// ended, and its session is over before this one begins [MQTT-3.1.4-3].
func (c *conn) takeOver() {
	old := c.door.clients.put(c)
	if old == nil {
		return
	}
	c.door.metrics.takeovers.Inc()
	old.end(packet.SessionTakenOver)
	old.awaitLeft()
}

// clients are the connections by client identifier.
type clients struct {
	mu struct {
		sync.Mutex
		byID map[string]*conn
	}
}

// put makes c the connection of its client identifier and returns the one before, or nil.
func (cs *clients) put(c *conn) (old *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.mu.byID == nil {
		cs.mu.byID = make(map[string]*conn)
	}
	old = cs.mu.byID[c.principal.ClientID]
	cs.mu.byID[c.principal.ClientID] = c
	return old
}

// remove forgets c, unless another took its place.
func (cs *clients) remove(c *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.mu.byID[c.principal.ClientID] == c {
		delete(cs.mu.byID, c.principal.ClientID)
	}
}

// len is the number of clients.
func (cs *clients) len() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.mu.byID)
}
