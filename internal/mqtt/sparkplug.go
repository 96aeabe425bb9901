package mqtt

import (
	"context"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Sparkplug 3.0: with a mapping that is aware of it (hinge.Options.Sparkplug), each birth that passes through the door
// leaves a retained message below $sparkplug/certificates, in the unit of the birth: payload, properties and QoS are
// those of the birth. Who is subscribed there gets it as it gets any message; clients do not publish there.
//
// What is sent again above QoS 0 has RETAIN, also if it came live: the log does not say how it came. Births have QoS 0
// by the specification.
//
// The timestamp in an NDEATH stays as it is [tck-id-conformance-mqtt-aware-ndeath-timestamp]: payloads pass untouched.

// certify adds the certificate of a birth to the unit, behind the writes of the message
// [tck-id-conformance-mqtt-aware-store] [tck-id-conformance-mqtt-aware-nbirth-mqtt-retain]
// [tck-id-conformance-mqtt-aware-dbirth-mqtt-retain]. An empty birth clears it. Where there is no room for another
// retained message the birth goes without.
func (l *link) certify(t *turn, s *slot, to *hinge.Target) {
	d := l.door
	if d.retained.Full(to.Key) {
		d.metrics.uncertified.Inc()
		d.tell("a Sparkplug birth leaves no certificate: there are too many retained messages", l.principal.ClientID,
			packet.QuotaExceeded, "topic", fault.Text(s.message.Topic))
		return
	}
	s.message.SetPublisher("") // the server does
	to.Record(&s.message, &s.certificate)
	s.certificate.Timestamp = t.unixMs
	if len(s.message.Payload) == 0 {
		s.certificate.Value = nil
	}
	s.writes++
	t.unit.Writes = append(t.unit.Writes, stream.Write{Partition: d.retained.Partition(), Record: &s.certificate})
}

// putCertificate stores a certificate, or clears it with an empty payload, without a birth. Errors: those of the log.
func (d *Door) putCertificate(ctx context.Context, p *packet.Publish, to stream.Receipt) error {
	t := d.takeTurn()
	defer d.giveTurn(t)
	s := t.next()
	fill(&s.message, p, p.Topic)
	d.mapping.Load().CertificateTarget(p.Topic).Record(&s.message, &s.certificate)
	s.certificate.Timestamp = t.unixMs
	if len(p.Payload) == 0 {
		s.certificate.Value = nil
	}
	t.unit.Writes = append(t.unit.Writes, stream.Write{Partition: d.retained.Partition(), Record: &s.certificate})
	return stream.AppendWait(ctx, d.log, &stream.Unit{Writes: t.unit.Writes}, to, 1) // it asks for the place
}
