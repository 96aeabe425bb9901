package mqtt

import (
	"fmt"

	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// drop is why a message was dropped.
type drop int

const (
	dropOutbox    drop = iota // QoS 0 for a client that does not read fast enough
	dropTooLarge              // larger than the client's maximum packet size
	dropDenied                // the guard does not let the client see it
	dropRefused               // a PUBLISH refused: topic name, guard, quota
	dropNotStored             // the log did not take it
	dropRemoved               // in flight when the connection ended, and removed from the log before it was sent again
	drops
)

var dropNames = [drops]string{"outbox_full", "too_large", "denied", "refused", "not_stored", "removed"}

// metrics of the door.
type metrics struct {
	connections   telemetry.Counter
	connects      telemetry.Counter
	takeovers     telemetry.Counter
	panics        telemetry.Counter
	bytesReceived telemetry.Counter
	bytesSent     telemetry.Counter
	othersIn      telemetry.Counter                    // packets besides PUBLISH
	othersOut     telemetry.Counter                    // packets besides PUBLISH
	payloadIn     telemetry.Counter                    // bytes
	payloadOut    telemetry.Counter                    // bytes
	received      [session.QoSLevels]telemetry.Counter // by QoS
	sent          [session.QoSLevels]telemetry.Counter
	drops         [drops]telemetry.Counter
	masked        telemetry.Counter
	hidden        telemetry.Counter
	errors        telemetry.Counters
	listeners     telemetry.Gauges
	closed        telemetry.Counters
	slowed        telemetry.Counters
	banned        telemetry.Counter
	flapped       telemetry.Counter
	uncertified   telemetry.Counter
}

// listenerMetrics are those of one listener.
type listenerMetrics struct {
	connections telemetry.Gauge
	full        telemetry.Counter // closed, because there are too many
	header      telemetry.Counter // closed, for want of a PROXY header
	hasty       telemetry.Counter // closed or refused, because they come too fast
	encrypted   telemetry.Counter // closed, because they speak TLS where it is not spoken
	slowed      telemetry.Counter // times that a client had to wait with what it published
}

func (m *metrics) of(listener string) listenerMetrics {
	return listenerMetrics{connections: m.listeners.With(listener), full: m.closed.With(listener, "full"),
		header: m.closed.With(listener, "proxy_header"), hasty: m.closed.With(listener, "rate"),
		encrypted: m.closed.With(listener, "tls"),
		slowed:    m.slowed.With(listener)}
}

func newMetrics(d *Door, set *telemetry.Set) metrics {
	m := metrics{
		connections: set.Counter("firth_mqtt_connections_total", "Connections accepted.").With(),
		connects:    set.Counter("firth_mqtt_connects_total", "CONNECT packets received.").With(),
		takeovers: set.Counter("firth_mqtt_takeovers_total",
			"Sessions taken over by a connection with the same client identifier.").With(),
		panics:        set.Counter("firth_mqtt_panics_total", "Connections that ended by a fault of ours.").With(),
		bytesReceived: set.Counter("firth_mqtt_received_bytes_total", "Bytes read from clients.").With(),
		bytesSent:     set.Counter("firth_mqtt_sent_bytes_total", "Bytes written to clients.").With(),
		othersIn:      set.Counter("firth_mqtt_other_packets_received_total", "Packets received besides PUBLISH.").With(),
		othersOut:     set.Counter("firth_mqtt_other_packets_sent_total", "Packets sent besides PUBLISH.").With(),
		payloadIn: set.Counter("firth_mqtt_messages_received_bytes_total",
			"Bytes of payload in PUBLISH packets received.").With(),
		payloadOut: set.Counter("firth_mqtt_messages_sent_bytes_total",
			"Bytes of payload in PUBLISH packets sent.").With(),
		errors: set.Counter("firth_mqtt_client_errors_total",
			"Connections refused or ended for an error of the client, by reason code.", "reason"),
		listeners: set.Gauge("firth_mqtt_listener_connections", "Connections now, by listener.", "listener"),
		closed: set.Counter("firth_mqtt_listener_refused_total",
			"Connections closed before they were served, by listener and reason: full, proxy_header, rate.", "listener",
			"reason"),
		banned: set.Counter("firth_mqtt_banned_total", "CONNECT packets refused because of a ban.").With(),
		flapped: set.Counter("firth_mqtt_flapping_total",
			"Clients banned because they connected and disconnected too often.").With(),
		uncertified: set.Counter("firth_mqtt_sparkplug_left_out_total",
			"Sparkplug births that left no certificate, because there are too many retained messages.").With(),
		slowed: set.Counter("firth_mqtt_slowed_total",
			"Times that a client which publishes too fast had to wait, by listener.", "listener"),
	}
	masked := set.Counter("firth_mqtt_masked_total", "Messages that went to clients which may not see all of them, by "+
		"what of them was shown: part, or no payload, because it could not be masked.", "shown")
	m.masked, m.hidden = masked.With("part"), masked.With("nothing")
	received := set.Counter("firth_mqtt_messages_received_total", "PUBLISH packets received, by QoS.", "qos")
	sent := set.Counter("firth_mqtt_messages_sent_total", "PUBLISH packets sent, by QoS.", "qos")
	for qos := range m.received {
		m.received[qos] = received.With(fmt.Sprint(qos))
		m.sent[qos] = sent.With(fmt.Sprint(qos))
	}
	dropped := set.Counter("firth_mqtt_messages_dropped_total", "Messages dropped, by reason.", "reason")
	for i, name := range dropNames {
		m.drops[i] = dropped.With(name)
	}
	set.GaugeFunc("firth_mqtt_connections", "Connections now.", func() float64 { return float64(d.count.Load()) })
	set.GaugeFunc("firth_mqtt_held_bytes", "Memory that MQTT connections make the server hold, of limits.mqtt_bytes.",
		func() float64 { return float64(overhead * d.budget.Used()) })
	set.GaugeFunc("firth_mqtt_subscriptions", "Subscriptions now.",
		func() float64 { return float64(d.fanout.Subscriptions()) })
	return m
}

// countSent counts messages that went out.
func (m *metrics) countSent(s *sent) {
	for qos, n := range s.messages {
		if n > 0 {
			m.sent[qos].Add(float64(n))
		}
	}
	if s.bytes > 0 {
		m.payloadOut.Add(float64(s.bytes))
	}
}

// countMasked counts a message of which a client sees a part, or nothing.
func (m *metrics) countMasked(shown bool) {
	if shown {
		m.masked.Inc()
	} else {
		m.hidden.Inc()
	}
}

func (m *metrics) dropped(why drop) telemetry.Counter { return m.drops[why] }

func (m *metrics) refused(reason packet.ReasonCode) { m.errors.With(reason.String()).Inc() }
