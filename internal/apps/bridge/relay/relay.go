// Package relay joins two sessions of MQTT, one at our door and one at another server, packet by packet.
//
// It keeps no message and no state of one. A PUBLISH of one side goes to the other with its packet identifier, and so
// does whatever acknowledges it come back: PUBACK, PUBREC, PUBREL and PUBCOMP are those of the servers themselves. What
// is in flight, who has received what and what is next is known to the two sessions alone, which outlive connections
// and processes. So an acknowledgement waits for the log on one side, and is a cursor there on the other; a message of
// QoS 2 is there once after whatever crashes, and a PUBREL comes again with the identifier that it had.
//
//	r := relay.New(options, local, remote)   // both have accepted our CONNECT
//	r.Begin(&out)                            // subscriptions
//	err = r.Take(relay.Remote, packet, &out) // and out.To what goes to the sides
//
// The package is pure.
package relay

import (
	"fmt"
	"slices"

	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/names"
)

// Side is one of the two servers.
type Side byte

// The sides.
const (
	Local  Side = iota // our door
	Remote             // the other server
)

func (s Side) other() Side { return 1 - s }

// String names the side.
func (s Side) String() string { return [...]string{"local", "remote"}[s] }

// Peer is a server as its CONNACK says.
type Peer struct {
	Version    packet.Version
	Present    bool // it had the session
	MaximumQoS byte
	MaxPacket  int // bytes
	Retain     bool
	Mark       string // what marks messages that were there; empty: it does not tell
}

// Options say what is bridged.
type Options struct {
	Topics []Topic
	// ID marks what passes, so that a message that comes back is known; empty: no mark. Only MQTT 5 carries it.
	ID string
	// MaxHops is how many marks a message may have that comes in.
	MaxHops int
	// Known tells that the other server has the subscriptions, if it has the session: MQTT 3 has no other way to keep
	// retained messages from coming again.
	Known bool
	// Stale are filters that the session at our door has and Topics does not say any more.
	Stale []string
	// State is the topic that is told that the bridge is there, and Announce where; empty: none.
	State    string
	Announce [2]bool
	// NoRetain has what goes out not be retained there.
	NoRetain bool
	// GiveUp is the packet identifier of a message that a side refuses again and again, for reasons that might have
	// passed: it is left out now. 0: none. By is the side that refuses it.
	GiveUp uint16
	By     Side
	// Paced has messages that go out come as Effects.Paced, for who sends them at a rate.
	Paced bool
}

// Mark is the user property that holds the marks of servers that a message has passed.
const Mark = "firth-via"

// Effects are what to do. The zero value is ready; who has done it calls Reset.
type Effects struct {
	To      [2][]byte // packets to send, by side
	Paced   [][]byte  // PUBLISH packets to send to Remote, if Options.Paced
	Passed  [2]int    // messages that came from a side and went on
	Acked   [2]int    // messages that a side has taken
	Dropped [reasons]int
	Granted [2]bool  // a side has answered our SUBSCRIBE
	Refused []string // filters that it did not grant
}

// Reset forgets what was done, and keeps the memory.
func (e *Effects) Reset() {
	*e = Effects{To: [2][]byte{e.To[0][:0], e.To[1][:0]}, Paced: e.Paced[:0]}
}

// Reason says why a message was not passed on.
type Reason byte

// The reasons.
const (
	NoTopic  Reason = iota // no topic of the bridge is about it
	Looped                 // it has been here before
	TooFar                 // it has passed too many servers
	TooLarge               // for the other server
	TooHigh                // its QoS, for the other server
	Refused                // by the other server, which may not take it or does not let us
	reasons
)

// String is the reason as metrics have it.
func (r Reason) String() string {
	return [...]string{"no_topic", "loop", "hops", "too_large", "qos", "refused"}[r]
}

// Reasons are all of them.
func Reasons() []Reason { return []Reason{NoTopic, Looped, TooFar, TooLarge, TooHigh, Refused} }

// RefusedError is a message that a side did not take for a reason that may pass. The sessions have it still: who
// connects again tries it again.
type RefusedError struct {
	By     Side
	ID     uint16
	Reason packet.ReasonCode
}

// Error says so.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("the %s server refused a message: %s", e.By, e.Reason)
}

// Relay joins two connections. It ends with either.
type Relay struct {
	o        Options
	peers    [2]Peer
	sweeping [2]sweep
	asked    [2][]packet.Subscription
	name     []byte
}

// sweep releases all packet identifiers of a side.
type sweep struct {
	waits int // PUBCOMP packets that are to come
	next  int // identifier to be released; 0: none is left
}

// sweepBatch is how many are released at a time: a server may bound what it answers.
const sweepBatch = 500

// New makes the relay of two connections that were accepted.
func New(o Options, local, remote Peer) *Relay { return &Relay{o: o, peers: [2]Peer{local, remote}} }

// callID is the packet identifier of our SUBSCRIBE and UNSUBSCRIBE packets. Others are those of the servers.
const callID = 0xffff

// Begin asks both sides for what is bridged. Where one of them has forgotten its session, the identifiers of QoS 2 that
// the other one still has stand for messages that never come again: they are released, or new messages with the same
// ones would be taken for them.
func (r *Relay) Begin(out *Effects) {
	for _, side := range []Side{Local, Remote} {
		if r.peers[side].Present && !r.peers[side.other()].Present {
			r.sweeping[side].next = 0xffff
			r.sweep(side, out)
		}
	}
	r.subscribe(Local, out)
	if p := r.peers[Remote]; p.Version == packet.V5 || !p.Present || !r.o.Known {
		r.subscribe(Remote, out)
	}
	if len(r.o.Stale) > 0 {
		u := packet.Unsubscribe{PacketID: callID - 1}
		for _, filter := range r.o.Stale {
			u.Filters = append(u.Filters, []byte(filter))
		}
		out.To[Local] = u.AppendTo(out.To[Local], r.peers[Local].Version)
	}
	r.announce("1", out)
}

// End says goodbye to both sides.
func (r *Relay) End(out *Effects) {
	r.announce("0", out)
	for side := range out.To {
		out.To[side] = (&packet.Disconnect{}).AppendTo(out.To[side], r.peers[side].Version)
	}
}

func (r *Relay) announce(state string, out *Effects) {
	for side, announced := range r.o.Announce {
		if announced && r.o.State != "" {
			p := packet.Publish{Topic: []byte(r.o.State), Payload: []byte(state), Retain: r.peers[side].Retain}
			out.To[side] = p.AppendTo(out.To[side], r.peers[side].Version)
		}
	}
}

// Held tells whether a side must not be read for now: what it sends belongs behind a sweep of the other.
func (r *Relay) Held(side Side) bool { return r.sweeping[side.other()].waits > 0 }

// sweep releases packet identifiers that a side may know of messages from us.
func (r *Relay) sweep(side Side, out *Effects) {
	s := &r.sweeping[side]
	for s.waits < sweepBatch && s.next > 0 {
		out.To[side] = packet.AppendPubrel(out.To[side], r.peers[side].Version, uint16(s.next), packet.Success)
		s.waits++
		s.next--
	}
}

// swept tells whether a PUBCOMP of a side is that of a sweep.
func (r *Relay) swept(side Side, out *Effects) bool {
	s := &r.sweeping[side]
	if s.waits == 0 {
		return false
	}
	if s.waits--; s.waits == 0 {
		r.sweep(side, out)
	}
	return true
}

// Filters are the subscriptions that a side is asked for, whose messages go to the other one, which takes most as the
// highest QoS. Nothing that we publish comes back (No Local), what is retained stays so (Retain As Published), and
// comes by itself only for a subscription that is new.
func Filters(topics []Topic, side Side, most byte) (all []packet.Subscription) {
	at := map[string]int{}
	for i := range topics {
		t := &topics[i]
		if !t.goes(side) {
			continue
		}
		filter := t.Local()
		if side == Remote {
			filter = t.Remote()
		}
		qos := min(t.QoS, most)
		if i, twice := at[filter]; twice {
			all[i].QoS = max(all[i].QoS, qos)
			continue
		}
		at[filter] = len(all)
		_, _, shared := names.SplitShare(filter)
		all = append(all, packet.Subscription{Filter: []byte(filter), QoS: qos, NoLocal: !shared, RetainAsPublished: true,
			RetainHandling: 1})
	}
	return all
}

// subscribe asks a side for what goes to the other.
func (r *Relay) subscribe(side Side, out *Effects) {
	s := packet.Subscribe{PacketID: callID, Subscriptions: Filters(r.o.Topics, side, r.peers[side.other()].MaximumQoS)}
	if r.asked[side] = s.Subscriptions; len(s.Subscriptions) > 0 {
		out.To[side] = s.AppendTo(out.To[side], r.peers[side].Version)
	}
}

// Take takes a packet of one side. An error ends both connections: *RefusedError, *packet.Error, and what the
// server said in a DISCONNECT is the caller's to tell.
func (r *Relay) Take(from Side, p packet.Packet, out *Effects) error {
	to := from.other()
	v := r.peers[to].Version
	switch p := p.(type) {
	case *packet.Publish:
		r.publish(from, p, out)
	case *packet.Puback:
		if err := r.taken(from, p.PacketID, p.Reason, out); err != nil {
			return err
		}
		out.To[to] = packet.AppendPuback(out.To[to], v, p.PacketID, p.Reason)
	case *packet.Pubrec:
		if err := r.taken(from, p.PacketID, p.Reason, out); err != nil {
			return err
		}
		out.To[to] = packet.AppendPubrec(out.To[to], v, p.PacketID, p.Reason)
	case *packet.Pubrel:
		out.To[to] = packet.AppendPubrel(out.To[to], v, p.PacketID, p.Reason)
	case *packet.Pubcomp:
		if r.swept(from, out) {
			return nil
		}
		out.To[to] = packet.AppendPubcomp(out.To[to], v, p.PacketID, p.Reason)
	case *packet.Suback:
		out.Granted[from] = true
		for i, reason := range p.Reasons {
			if reason.Failed() && i < len(r.asked[from]) {
				out.Refused = append(out.Refused, fmt.Sprintf("%s: %s", r.asked[from][i].Filter, from))
			}
		}
	case *packet.Unsuback, *packet.Pingresp:
	default:
		return &packet.Error{Reason: packet.ProtocolError,
			Detail: fmt.Sprintf("the %s server sent %s", from, p.Type())}
	}
	return nil
}

// taken judges an acknowledgement: what is refused for good is over, and what may be taken later comes again with the
// next connection.
func (r *Relay) taken(by Side, id uint16, reason packet.ReasonCode, out *Effects) error {
	switch {
	case !reason.Failed():
		out.Acked[by]++
		return nil
	case passes(reason) && !(id == r.o.GiveUp && by == r.o.By):
		return &RefusedError{By: by, ID: id, Reason: reason}
	}
	out.Dropped[Refused]++
	return nil
}

// passes tells whether a reason may be gone later: a full disk, a server that is busy.
func passes(reason packet.ReasonCode) bool {
	switch reason {
	case packet.UnspecifiedError, packet.ImplementationError, packet.QuotaExceeded:
		return true
	}
	return false
}

// publish passes a message on, or acknowledges it itself.
func (r *Relay) publish(from Side, p *packet.Publish, out *Effects) {
	to := from.other()
	peer := &r.peers[to]
	why, pass := r.judge(from, p)
	if pass && p.Size(peer.Version) > peer.MaxPacket {
		why, pass = TooLarge, false
	}
	if !pass {
		out.Dropped[why]++
		out.To[from] = r.acknowledge(out.To[from], from, p)
		return
	}
	out.Passed[from]++
	if to == Remote && r.o.Paced {
		out.Paced = append(out.Paced, p.AppendTo(nil, peer.Version))
		return
	}
	out.To[to] = p.AppendTo(out.To[to], peer.Version)
}

// judge makes a message what it is on the other side.
func (r *Relay) judge(from Side, p *packet.Publish) (why Reason, pass bool) {
	to := from.other()
	name, ok := r.cross(from, p.Topic)
	if !ok {
		return NoTopic, false
	}
	if p.QoS > r.peers[to].MaximumQoS {
		return TooHigh, false
	}
	if why, ok := r.fresh(from, p); !ok {
		return why, false
	}
	p.Topic = name
	p.Retain = p.Retain && r.peers[to].Retain && !(to == Remote && r.o.NoRetain)
	p.Props.Remove(packet.PropTopicAlias)
	p.Props.Remove(packet.PropSubscriptionID)
	r.mark(from, p)
	return 0, true
}

// mark notes where a message comes from: here, or a server that tells its mark.
func (r *Relay) mark(from Side, p *packet.Publish) {
	mark := r.o.ID
	if from == Remote {
		mark = r.peers[Remote].Mark
	}
	if mark == "" || r.o.ID == "" || r.peers[Remote].Version != packet.V5 {
		return
	}
	for name, value := range p.Props.User.All() {
		if string(name) == Mark && string(value) == mark {
			return
		}
	}
	p.Props.SetUser(slices.Clip(p.Props.User)) // what lies behind it in memory is of the packet
	p.Props.AddUser(Mark, mark)
}

// cross is the name that a message has on the other side, by the first topic that is about it.
func (r *Relay) cross(from Side, name []byte) ([]byte, bool) {
	for i := range r.o.Topics {
		t := &r.o.Topics[i]
		if !t.goes(from) {
			continue
		}
		if other, ok := t.cross(from, name, r.name[:0]); ok {
			r.name = other
			return other, len(other) > 0
		}
	}
	return nil, false
}

// fresh tells whether a message has not been where it is to go, and has not passed too many servers. One that comes in
// by another way than this bridge, and went out before, does not go out again.
func (r *Relay) fresh(from Side, p *packet.Publish) (why Reason, ok bool) {
	if r.o.ID == "" || len(p.Props.User) == 0 {
		return 0, true
	}
	hops := 0
	for name, value := range p.Props.User.All() {
		switch {
		case string(name) != Mark:
			continue
		case string(value) == r.o.ID, from == Local && string(value) == r.peers[Remote].Mark:
			return Looped, false
		}
		hops++
	}
	return TooFar, hops < r.o.MaxHops
}

// acknowledge ends the exchange of a message that goes no further. What MQTT 3 has no word for is acknowledged as any
// other: the PUBREL that follows goes on to the other side, which knows nothing of it and says PUBCOMP.
func (r *Relay) acknowledge(dst []byte, to Side, p *packet.Publish) []byte {
	reason := packet.ImplementationError
	switch p.QoS {
	case 1:
		return packet.AppendPuback(dst, r.peers[to].Version, p.PacketID, reason)
	case 2:
		return packet.AppendPubrec(dst, r.peers[to].Version, p.PacketID, reason)
	}
	return dst
}
