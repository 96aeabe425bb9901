package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// The paths of the access matrix through the door of devices.

// livePaths are those by which what is published comes at once, and the filters by which: all are wider than what
// anybody may read. $N is the number of the client.
var livePaths = []struct {
	path    string
	qos     byte
	filters []string
}{
	{"live", 1, []string{"+/live/#"}},
	{"qos0", 0, []string{"+/qos0/#"}},
	{"qos2", 2, []string{"+/qos2/#"}},
	{"overlap", 1, []string{"+/overlap/#", "+/overlap/+/#", mxRoot + "/overlap/+/+/#", "+/overlap/narrow/secret/#"}},
	{"shared", 1, []string{"$share/g$N/+/shared/#"}},
	{"common", 1, []string{"$share/common/+/common/#"}},
	{"unasked", 1, nil}, // auto_subscribe
	{"rewrite", 1, []string{"rw/+/rewrite/#"}},
	{"delayed", 1, []string{"+/delayed/#"}},
	{"response", 1, []string{"+/response/#"}},
	{"away", 1, []string{"+/away/#"}},
	{"again", 1, []string{"+/again/#"}},
	{"twice", 2, []string{"+/twice/#"}},
}

// arrive connects who is not there, and subscribes.
func (m *matrix) arrive(devices []*visitor) {
	for i, who := range m.people {
		if d := devices[i]; d != nil && !m.oracle.out[who.user] {
			continue
		} else if d != nil { // it was there when it was disabled
			select {
			case <-d.c.Done():
				m.judge("connection", who, "ends", false, false)
			case <-time.After(patience):
				m.judge("connection", who, "ends", false, true)
			}
			devices[i] = nil
		}
		d, err := m.dial(who, nil)
		if m.judge("connect", who, "CONNECT", !m.oracle.out[who.user], err == nil); err != nil {
			if !isDenied(err) {
				m.t.Fatalf("phase %d: %q: %v", m.phase, who.user, err)
			}
			continue
		}
		if who.client == "" {
			d.who = &person{}
			*d.who = *who
			d.who.client = d.c.Server().ClientID
		}
		devices[i] = d
		for _, p := range livePaths {
			for _, f := range p.filters {
				d.subscribe(packet.Properties{}, p.qos, strings.ReplaceAll(f, "$N", fmt.Sprint(i)))
			}
		}
		d.subscribe(packet.Properties{}, 1, "+/fence")
	}
}

// send publishes a message to every name of a path, as the operator, and gives the payloads by name.
func (m *matrix) send(path string, change func(p *packet.Publish)) map[string]string {
	sent := map[string]string{}
	for _, name := range m.names(path) {
		id := m.next(path)
		p := secretly(name, id)
		sent[name] = id
		m.sentTo[logTopic(name)] = append(m.sentTo[logTopic(name)], id)
		if change != nil {
			change(p)
		}
		m.root.publish(p, 0)
	}
	m.root.drain()
	return sent
}

// readable are the payloads of what somebody may read.
func readable(o *oracle, who *person, sent map[string]string) map[string]string {
	want := map[string]string{}
	for name, payload := range sent {
		if o.name(who, "read", name) {
			want[payload] = name
		}
	}
	return want
}

// seen waits for what a device may see of what was sent, and judges all of it.
func (m *matrix) seen(path string, d *visitor, sent map[string]string) {
	d.await(readable(&m.oracle, d.who, sent))
	d.fence()
	for name, payload := range sent {
		m.judge(path, d.who, name, m.oracle.name(d.who, "read", name), d.has(payload))
		m.judgeMasks(path, d, name, payload)
	}
}

// live publishes while everybody is there.
func (m *matrix) live(devices []*visitor) {
	sent := map[string]map[string]string{}
	for _, p := range livePaths[:len(livePaths)-3] {
		sent[p.path] = m.send(p.path, func(one *packet.Publish) {
			switch one.QoS = p.qos; p.path {
			case "delayed":
				one.Topic = append([]byte("$delayed/0/"), one.Topic...)
			case "response":
				one.Props.SetResponseTopic([]byte(mxRoot + "/live/none/x"))
			}
		})
	}
	for path, of := range sent {
		if path == "common" {
			m.common(devices, of)
			continue
		}
		for _, d := range devices {
			if d != nil {
				m.seen(path, d, of)
			}
		}
	}
}

// common judges a group of which everybody is a member: each message goes to one who may see it, if there is one.
func (m *matrix) common(devices []*visitor, sent map[string]string) {
	deadline := time.After(patience)
	some := func(payload string) bool {
		for _, d := range devices {
			if d != nil && d.has(payload) {
				return true
			}
		}
		return false
	}
	for name, payload := range sent {
		may := false
		for _, d := range devices {
			may = may || d != nil && m.oracle.name(d.who, "read", name)
		}
		for may && !some(payload) {
			select {
			case <-time.After(time.Millisecond):
				continue
			case <-deadline:
			}
			break
		}
		m.judge("common", m.people[0], name+" for anybody", may, some(payload))
		for _, d := range devices {
			if d != nil && d.has(payload) {
				m.judge("common", d.who, name, m.oracle.name(d.who, "read", name), true)
				m.judgeMasks("common", d, name, payload)
			}
		}
	}
}

// past subscribes to what was published before: retained messages, and the log by both ways to say where it begins.
func (m *matrix) past(devices []*visitor, history map[string][]map[string]string) {
	kept := m.send("retained", func(p *packet.Publish) { p.Retain = true })
	for _, path := range []string{"history", "replay"} {
		history[path] = append(history[path], m.send(path, nil))
	}
	for _, d := range devices {
		if d == nil {
			continue
		}
		d.subscribe(packet.Properties{}, 1, "+/retained/#")
		m.seen("retained", d, kept)
		m.fromLog(d, "replay", "$replay/earliest/+/replay/#", packet.Properties{}, history["replay"])
		filters := [][]byte{[]byte("+/retained/#"), []byte("$replay/earliest/+/replay/#")}
		if d.v5 {
			var from packet.Properties
			from.AddUser("firth-from", "earliest")
			m.fromLog(d, "history", "+/history/#", from, history["history"])
			filters = append(filters, []byte("+/history/#"))
		}
		ctx, cancel := context.WithTimeout(m.t.Context(), patience)
		if _, err := d.c.Unsubscribe(ctx, packet.Properties{}, filters...); err != nil {
			m.t.Fatal(err)
		}
		cancel()
	}
}

func (m *matrix) fromLog(d *visitor, path, filter string, props packet.Properties, history []map[string]string) {
	d.mu.Lock()
	clear(d.got)
	clear(d.secrets)
	d.mu.Unlock()
	d.subscribe(props, 1, filter)
	for _, sent := range history {
		m.seen(path, d, sent)
	}
}

// filters subscribes to names, and to filters of which everything is denied.
func (m *matrix) filters(devices []*visitor) {
	for _, d := range devices {
		if d == nil {
			continue
		}
		var all []string
		for i, name := range m.names("filter") {
			if i%4 == m.phase {
				all = append(all, name)
			}
		}
		reasons := d.subscribe(packet.Properties{}, 0, all...)
		for i, name := range all {
			m.judge("SUBACK", d.who, name, m.oracle.name(d.who, "read", name), !reasons[i].Failed())
		}
		wide := []string{mxRoot + "/+/narrow/secret/#", mxRoot + "/x/wider/+/x", mxRoot + "/x/wider/+", "$SYS/#",
			mxRoot + "/+/narrow/+"}
		for i, reason := range d.subscribe(packet.Properties{}, 0, wide...) {
			may := i == 4 || i == 3 && (m.oracle.name(d.who, "read", "$SYS/broker/clients/x") ||
				m.oracle.name(d.who, "read", "$SYS/x"))
			m.judge("SUBACK", d.who, wide[i], may && !m.oracle.out[d.who.user], !reason.Failed())
		}
	}
}

// seesSys judges what of $SYS devices have seen up to now.
func (m *matrix) seesSys(devices []*visitor) {
	for _, d := range devices {
		if d == nil {
			continue
		}
		const clients, uptime = "$SYS/broker/clients/total", "$SYS/broker/uptime"
		d.mu.Lock()
		names := map[string]bool{}
		for _, name := range d.got {
			names[name] = true
		}
		d.mu.Unlock()
		for _, name := range []string{clients, uptime} {
			may := m.oracle.name(d.who, "read", name)
			m.judge("$SYS", d.who, name, may, may || names[name]) // when it comes is not said
		}
	}
}

// leaving tells who goes away at the end of a phase; the others are there when the rules change.
func leaving(i, phase int) bool { return (i+phase)%2 == 0 }

// leave leaves some devices with what they have not acknowledged, and publishes more while they are away.
func (m *matrix) leave(s *deviceSide) {
	if m.does(willPart) {
		s.wills = m.wills("willlater", 0)
	}
	if !m.does(awayPart) {
		return
	}
	for i, d := range s.all {
		if d != nil && leaving(i, m.phase) {
			d.mu.Lock()
			d.hold = true
			d.mu.Unlock()
		}
	}
	s.again = m.send("again", nil)
	s.twice = m.send("twice", func(p *packet.Publish) { p.QoS = 2 })
	for i, d := range s.all {
		if d == nil {
			continue
		}
		m.seen("again", d, s.again)
		m.seen("twice", d, s.twice)
		if leaving(i, m.phase) {
			d.c.Abort()
			s.all[i] = nil
		}
	}
	s.away = m.send("away", nil)
	copy(s.was, s.all)
}

// back judges what devices see that come back under other rules, or were there all the time.
func (m *matrix) back(s *deviceSide) {
	for i, d := range s.all {
		switch {
		case d == nil:
		case s.was[i] != nil: // it was there when they came, while the rules changed
			d.fence()
			for name, payload := range s.away {
				before, now := m.before.name(d.who, "read", name), m.oracle.name(d.who, "read", name)
				m.judge("away", d.who, name, before || now, d.has(payload) || before != now)
			}
		case m.people[i].client == "": // it has no session
		default:
			m.seenAgain("away", d, s.away)
			m.seenAgain("again", d, s.again)
			m.seenAgain("twice", d, s.twice)
		}
	}
}

// seenAgain judges what is delivered again: what was delivered before and may be still.
func (m *matrix) seenAgain(path string, d *visitor, sent map[string]string) {
	both := map[string]string{}
	for payload, name := range readable(&m.oracle, d.who, sent) {
		if m.before.name(d.who, "read", name) {
			both[payload] = name
		}
	}
	d.await(both)
	d.fence()
	for name, payload := range sent { // what is given meanwhile may come or not: it was dropped, or not yet
		now := m.oracle.name(d.who, "read", name)
		m.judge(path, d.who, name, now, d.has(payload) || now && both[payload] == "")
		m.judgeMasks(path, d, name, payload)
	}
}

// attempt is a message that somebody tried to publish.
type attempt struct {
	path, name, payload string
	who                 *person
	may                 bool
}

// write has everybody publish to every name by every path, and judges what the operator sees of it.
func (m *matrix) write(devices []*visitor) {
	var tried []attempt
	for _, d := range devices {
		if d == nil {
			continue
		}
		begin := len(tried)
		for _, path := range []string{"w0", "w1", "w2", "wretained", "walias", "rewrite", "wdelayed"} {
			if path == "walias" && !d.v5 {
				continue
			}
			tried = append(tried, m.writeTo(d, path, uint64(len(tried)))...)
		}
		d.publish(&packet.Publish{Topic: []byte(mxRoot + "/fence"), Payload: []byte("x"), QoS: 1}, 1<<40)
		d.drain()
		m.reasons(d, tried[begin:], begin)
	}
	m.stored(tried)
}

// writeTo publishes to the names of a path.
func (m *matrix) writeTo(d *visitor, path string, ticket uint64) (tried []attempt) {
	try := func(name string, change func(p *packet.Publish)) {
		p := &packet.Publish{Topic: []byte(name), Payload: []byte(m.next(path)), QoS: 1}
		one := attempt{path, name, string(p.Payload), d.who, m.oracle.name(d.who, "write", name)}
		change(p)
		d.publish(p, ticket+uint64(len(tried)))
		tried = append(tried, one)
	}
	for _, name := range m.names(path) {
		switch path {
		case "w0", "w2":
			try(name, func(p *packet.Publish) { p.QoS = path[1] - '0' })
		case "wretained":
			try(name, func(p *packet.Publish) { p.Retain = true })
		case "walias":
			try(name, func(p *packet.Publish) { p.Props.SetTopicAlias(1) })
			try(name, func(p *packet.Publish) { p.Topic = nil; p.Props.SetTopicAlias(1) })
		case "rewrite":
			if strings.HasSuffix(name, "rewrite") {
				continue
			}
			try(name, func(p *packet.Publish) { p.Topic = append([]byte("rw/"), name...) })
		case "wdelayed":
			try(name, func(p *packet.Publish) { p.Topic = append([]byte("$delayed/0/"), name...) })
		case "later":
			try(name, func(p *packet.Publish) { p.Topic = fmt.Appendf(nil, "$delayed/%d/%s", delay, name) })
		default:
			try(name, func(*packet.Publish) {})
		}
	}
	return tried
}

// reasons judges the acknowledgements in MQTT 5, which can say that something was not published.
func (m *matrix) reasons(d *visitor, tried []attempt, first int) {
	if !d.v5 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range tried {
		if one := &tried[i]; one.path != "w0" {
			m.judge("PUBACK", one.who, one.name, one.may, !d.refused[uint64(first+i)])
		}
	}
}

// stored judges which attempts the operator sees, and notes what must not come later.
func (m *matrix) stored(tried []attempt) {
	want := map[string]string{}
	for _, one := range tried {
		if one.may {
			want[one.payload] = one.name
		}
	}
	m.root.await(want)
	m.root.fence()
	for _, one := range tried {
		m.judge(one.path, one.who, one.name, one.may, m.root.has(one.payload))
		if !one.may {
			m.never[one.payload] = one
		}
	}
}

// will is a client with a will.
type will struct {
	attempt
	d *visitor
}

// wills connects clients with wills. What may not be published as a will is refused at once.
func (m *matrix) wills(path string, delay uint32) (all []will) {
	names := m.names(path)
	for i, who := range m.people {
		for n := range willsEach {
			name := names[(m.number*7+n*13)%len(names)]
			as := *who
			as.client = fmt.Sprintf("c1w%d-%d-%d", i, n, delay)
			payload := m.next(path)
			d, err := m.dial(&as, func(o *client.Options) {
				o.Version, o.Resume = packet.V5, delay > 0
				o.Will = &packet.Will{Topic: []byte(name), Payload: []byte(payload), QoS: 1}
				if o.Will.Props.SetWillDelay(delay); delay > 0 {
					o.Props.SetSessionExpiry(delay)
				}
			})
			may := m.oracle.name(&as, "write", name) && !m.oracle.out[as.user]
			m.judge(path+" at CONNECT", &as, name, may, err == nil)
			if err == nil {
				all = append(all, will{attempt{path, name, payload, &as, may}, d})
			} else if !isDenied(err) {
				m.t.Fatal(err)
			}
		}
	}
	return all
}

const willsEach = 8

// die ends connections without a DISCONNECT and judges which wills were published: those that may be published now too.
func (m *matrix) die(all []will) {
	var tried []attempt
	for _, w := range all {
		w.d.c.Abort()
		w.may = w.may && m.oracle.name(w.who, "write", w.name)
		tried = append(tried, w.attempt)
	}
	m.stored(tried)
}
