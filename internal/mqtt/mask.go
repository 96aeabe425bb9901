package mqtt

import (
	"bytes"

	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/mqtt/fanout"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// masked is a message as a client sees it that may not see all of it, in a frame of its own: the others go on sharing
// theirs. Where it would get too large by that, only its topic name is left.
func (l *link) masked(d *fanout.Delivery, set *mask.Set) *fanout.Delivery {
	own := *d
	pub := l.unmasked(d)
	shown := maskPublish(pub, set)
	own.SetFrame(l.frame(pub), pub)
	if len(own.Frame) > l.agreed.MaxPacket() {
		pub, shown = bare(d), false
		own.SetFrame(l.frame(pub), pub)
	}
	l.door.metrics.countMasked(shown)
	return &own
}

// unmasked is the message in a frame; nothing but its topic name, should it not be understood.
func (l *link) unmasked(d *fanout.Delivery) *packet.Publish {
	frame := bytes.Clone(d.Frame)
	if d.QoS > 0 {
		frame[d.ID+1] = 1 // it has no packet id before it goes out, and no PUBLISH is without
	}
	dec := packet.Decoder{Version: l.version, Client: true}
	p, err := dec.Decode(frame)
	if pub, is := p.(*packet.Publish); is && err == nil {
		return pub
	}
	return bare(d)
}

func bare(d *fanout.Delivery) *packet.Publish {
	return &packet.Publish{Topic: bytes.Clone(d.Topic), QoS: d.QoS, Retain: d.Retain()}
}

// frame is a message without a packet id.
func (l *link) frame(pub *packet.Publish) []byte {
	pub.PacketID = 0
	return pub.AppendTo(nil, l.version)
}

// maskPublish leaves of a message what may be seen of it. Its user properties are headers; response topic, correlation
// data and content type are not. It is false where nothing of the payload is left, because it cannot be masked.
func maskPublish(p *packet.Publish, set *mask.Set) (shown bool) {
	m := set.Masker()
	p.Payload, shown = m.Payload(p.Payload)
	if set.AboutHeaders() {
		p.Props.SetUser(maskUser(p.Props.User, m))
	}
	return shown
}

// maskUser are the user properties that may be seen.
func maskUser(u packet.UserProperties, m *mask.Masker) (seen packet.UserProperties) {
	for name, value := range u.All() {
		if value, shown := m.Header(name, value); shown {
			seen = seen.Append(name, value)
		}
	}
	return seen
}
