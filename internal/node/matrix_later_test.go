package node

import (
	"net/http"
	"net/url"
	"time"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// The paths of the access matrix on which time passes between the question and the deed: delayed messages, and wills
// with a delay.

// delay is that of both, in seconds: longer than all phases together, so that what ends it is said here.
const delay = 3600

// delay has everybody publish to every name in an hour.
func (m *matrix) delay(devices []*visitor) {
	for _, d := range devices {
		if d == nil {
			continue
		}
		tried := m.writeTo(d, "later", 0)
		d.drain()
		m.reasons(d, tried, 0)
		m.later = append(m.later, tried...)
	}
}

// passes has the hour pass, and judges what is published then: what might be when it was sent, and may be now.
func (m *matrix) passes() {
	if len(m.later) == 0 {
		return
	}
	m.ahead.Add(int64(2 * delay * time.Second))
	last := m.next("fence") // it is due behind all others
	m.root.publish(&packet.Publish{Topic: []byte("$delayed/0/" + mxRoot + "/fence"), Payload: []byte(last), QoS: 1}, 0)
	m.root.await(map[string]string{last: "fence"})
	for i := range m.later {
		one := &m.later[i]
		one.may = one.may && m.oracle.name(one.who, "write", one.name)
	}
	m.stored(m.later)
}

// forget ends the sessions of clients that have gone, and with them the delay of their wills, and judges which of these
// were published: those that may be published now.
func (m *matrix) forget(all []will) {
	var tried []attempt
	for _, w := range all {
		w.d.c.Abort()
		m.admin(http.MethodDelete, "/session?"+url.Values{"client": {w.who.client}, "forget": {"true"}}.Encode(), nil)
		w.may = w.may && m.oracle.name(w.who, "write", w.name)
		tried = append(tried, w.attempt)
	}
	m.stored(tried)
}
