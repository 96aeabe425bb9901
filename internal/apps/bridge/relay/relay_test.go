package relay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestPlays runs the plays in testdata: what comes from each side, and what goes to each.
func TestPlays(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var p play
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return p.run(t, d) })
	})
}

type play struct {
	relay *Relay
	peers [2]Peer
}

// run runs one command. begin makes a relay: its input are topics, its arguments the peers and options. local and
// remote take packets of that side, a line each.
func (p *play) run(t *testing.T, d *datadriven.TestData) string {
	var e Effects
	switch d.Cmd {
	case "begin":
		p.begin(t, d)
		p.relay.Begin(&e)
	case "end":
		p.relay.End(&e)
	case "local", "remote":
		from := Local
		if d.Cmd == "remote" {
			from = Remote
		}
		for line := range strings.Lines(d.Input) {
			if p.relay.Held(from) {
				return "held\n"
			}
			if err := p.relay.Take(from, parse(t, strings.TrimSpace(line), p.peers[from].Version), &e); err != nil {
				var refused *RefusedError
				return fmt.Sprintf("error: %v (may pass: %t)\n", err, errors.As(err, &refused))
			}
		}
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return p.show(t, &e)
}

func (p *play) begin(t *testing.T, d *datadriven.TestData) {
	o := Options{MaxHops: 2}
	p.peers = [2]Peer{{packet.V5, true, 2, 1 << 20, true, ""}, {packet.V5, true, 2, 1 << 20, true, ""}}
	for line := range strings.Lines(d.Input) {
		topic, err := ParseTopic(strings.TrimSpace(line))
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		o.Topics = append(o.Topics, topic)
	}
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "v3":
			p.peers[Remote].Version = packet.V311
		case "new":
			for _, side := range a.Vals {
				p.peers[sideOf(side)].Present = false
			}
		case "qos":
			p.peers[Remote].MaximumQoS = a.Vals[0][0] - '0'
		case "most":
			p.peers[Remote].MaxPacket, _ = strconv.Atoi(a.Vals[0])
		case "there":
			p.peers[Remote].Mark = a.Vals[0]
		case "id":
			o.ID = a.Vals[0]
		case "known":
			o.Known = true
		case "no-retain":
			o.NoRetain = true
		case "paced":
			o.Paced = true
		case "state":
			o.State, o.Announce = a.Vals[0], [2]bool{true, true}
		case "stale":
			o.Stale = a.Vals
		case "give-up":
			id, _ := strconv.Atoi(a.Vals[0])
			o.GiveUp, o.By = uint16(id), sideOf(a.Vals[1])
		default:
			d.Fatalf(t, "unknown argument %s", a.Key)
		}
	}
	p.relay = New(o, p.peers[Local], p.peers[Remote])
}

func sideOf(s string) Side {
	if s == "remote" {
		return Remote
	}
	return Local
}

// show tells what goes to each side. Of many packets of one kind only the first and the last are shown.
func (p *play) show(t *testing.T, e *Effects) string {
	var b strings.Builder
	for _, side := range []Side{Local, Remote} {
		lines := unpack(t, e.To[side], p.peers[side].Version)
		if len(lines) > 20 {
			lines = []string{lines[0], fmt.Sprintf("... %d packets ...", len(lines)-2), lines[len(lines)-1]}
		}
		for _, line := range lines {
			fmt.Fprintf(&b, "-> %s: %s\n", side, line)
		}
	}
	for _, one := range e.Paced {
		fmt.Fprintf(&b, "-> paced: %s\n", strings.Join(unpack(t, one, p.peers[Remote].Version), ", "))
	}
	for _, r := range Reasons() {
		if e.Dropped[r] > 0 {
			fmt.Fprintf(&b, "dropped: %d %s\n", e.Dropped[r], r)
		}
	}
	for _, filter := range e.Refused {
		fmt.Fprintf(&b, "refused: %s\n", filter)
	}
	return b.String()
}

// unpack tells of packets that we send, as their receiver reads them.
func unpack(t *testing.T, b []byte, v packet.Version) (lines []string) {
	t.Helper()
	dec := packet.Decoder{Version: v}
	for len(b) > 0 {
		n, err := dec.Frame(b, packet.MaxSize)
		if err != nil || n == 0 {
			t.Fatalf("no packet: %v", err)
		}
		p, err := dec.Decode(b[:n])
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, tell(p))
		b = b[n:]
	}
	return lines
}

func tell(p packet.Packet) string {
	ack := func(id uint16, reason packet.ReasonCode) string {
		if reason == packet.Success {
			return fmt.Sprintf("%s %d", p.Type(), id)
		}
		return fmt.Sprintf("%s %d 0x%02x", p.Type(), id, byte(reason))
	}
	switch p := p.(type) {
	case *packet.Publish:
		words := fmt.Sprintf("PUBLISH %s %q qos=%d", p.Topic, p.Payload, p.QoS)
		if p.QoS > 0 {
			words += fmt.Sprintf(" id=%d", p.PacketID)
		}
		if p.Retain {
			words += " retain"
		}
		if p.Dup {
			words += " dup"
		}
		if p.Props.Has(packet.PropMessageExpiry) {
			words += fmt.Sprintf(" expiry=%d", p.Props.MessageExpiry)
		}
		for name, value := range p.Props.User.All() {
			words += fmt.Sprintf(" %s=%s", name, value)
		}
		return words
	case *packet.Puback:
		return ack(p.PacketID, p.Reason)
	case *packet.Pubrec:
		return ack(p.PacketID, p.Reason)
	case *packet.Pubrel:
		return ack(p.PacketID, p.Reason)
	case *packet.Pubcomp:
		return ack(p.PacketID, p.Reason)
	case *packet.Subscribe:
		var words []string
		for _, s := range p.Subscriptions {
			words = append(words, fmt.Sprintf("%s qos=%d no_local=%t as_published=%t handling=%d", s.Filter, s.QoS, s.NoLocal,
				s.RetainAsPublished, s.RetainHandling))
		}
		return fmt.Sprintf("SUBSCRIBE %d: %s", p.PacketID, strings.Join(words, "; "))
	case *packet.Unsubscribe:
		return fmt.Sprintf("UNSUBSCRIBE %d: %s", p.PacketID, p.Filters)
	}
	return p.Type().String()
}

// parse reads a line as tell writes it, through the codec, as it would come.
func parse(t *testing.T, line string, v packet.Version) packet.Packet {
	t.Helper()
	words := strings.Fields(line)
	number := func(i int) uint16 {
		n, err := strconv.ParseUint(words[i], 0, 16)
		if err != nil {
			t.Fatal(err)
		}
		return uint16(n)
	}
	var b []byte
	reason := packet.Success
	if len(words) > 2 {
		switch words[0] {
		case "PUBACK", "PUBREC", "PUBREL", "PUBCOMP":
			reason = packet.ReasonCode(number(2))
		}
	}
	switch words[0] {
	case "PUBLISH":
		b = parsePublish(t, words).AppendTo(nil, v)
	case "PUBACK":
		b = packet.AppendPuback(nil, v, number(1), reason)
	case "PUBREC":
		b = packet.AppendPubrec(nil, v, number(1), reason)
	case "PUBREL":
		b = packet.AppendPubrel(nil, v, number(1), reason)
	case "PUBCOMP":
		b = packet.AppendPubcomp(nil, v, number(1), reason)
	case "SUBACK":
		s := packet.Suback{PacketID: number(1)}
		for i := range words[2:] {
			s.Reasons = append(s.Reasons, packet.ReasonCode(number(2+i)))
		}
		b = s.AppendTo(nil, v)
	case "PINGRESP":
		b = (&packet.Pingresp{}).AppendTo(nil, v)
	default:
		t.Fatalf("what is %q", line)
	}
	dec := packet.Decoder{Version: v, Client: true}
	p, err := dec.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parsePublish(t *testing.T, words []string) *packet.Publish {
	t.Helper()
	payload, err := strconv.Unquote(words[2])
	if err != nil {
		t.Fatal(err)
	}
	p := &packet.Publish{Topic: []byte(words[1]), Payload: []byte(payload)}
	for _, w := range words[3:] {
		name, value, _ := strings.Cut(w, "=")
		n, _ := strconv.Atoi(value)
		switch name {
		case "qos":
			p.QoS = byte(n)
		case "id":
			p.PacketID = uint16(n)
		case "retain":
			p.Retain = true
		case "dup":
			p.Dup = true
		case "expiry":
			p.Props.SetMessageExpiry(uint32(n))
		default:
			p.Props.AddUser(name, value)
		}
	}
	return p
}

// TestSweep: all identifiers of a session are released that the other side has forgotten, in batches, and nothing of
// the other side is taken before.
func TestSweep(t *testing.T) {
	r := New(Options{Topics: []Topic{{Filter: "#", Direction: Both, QoS: 2}}},
		Peer{packet.V5, true, 2, 1 << 20, true, ""}, Peer{packet.V311, false, 2, 1 << 20, true, ""})
	var e Effects
	r.Begin(&e)
	seen := map[uint16]int{}
	for r.Held(Remote) {
		if r.Held(Local) {
			t.Fatal("the side that is swept is not read")
		}
		dec := packet.Decoder{Version: packet.V5}
		b := e.To[Local]
		var next Effects
		for len(b) > 0 {
			n, err := dec.Frame(b, packet.MaxSize)
			if err != nil || n == 0 {
				t.Fatal(n, err)
			}
			p, err := dec.Decode(b[:n])
			if err != nil {
				t.Fatal(err)
			}
			if rel, ok := p.(*packet.Pubrel); ok {
				seen[rel.PacketID]++
				if err := r.Take(Local, &packet.Pubcomp{PacketID: rel.PacketID}, &next); err != nil {
					t.Fatal(err)
				}
			}
			b = b[n:]
		}
		if len(next.To[Remote]) > 0 {
			t.Fatal("the PUBCOMP of a sweep went on")
		}
		e = next
	}
	if len(seen) != 0xffff {
		t.Fatalf("%d identifiers released", len(seen))
	}
	if err := r.Take(Local, &packet.Pubcomp{PacketID: 7}, &e); err != nil || len(e.To[Remote]) != 4 {
		t.Fatalf("a PUBCOMP after the sweep goes on: %v, %x", err, e.To[Remote])
	}
}

// TestTopics: what a topic of a mosquitto.conf may say.
func TestTopics(t *testing.T) {
	for text, want := range map[string]string{
		"#":                       `# out 0`,
		"sensors/# in 1":          `sensors/# in 1`,
		`a/+ both 2 l/ r/`:        `a/+ both 2 l/ r/`,
		`"" out 1 here/x there/x`: `"" out 1 here/x there/x`,
		`b in 1 "" there/`:        `b in 1 "" there/`,
		`$share/g/x/# in 1 from/`: `$share/g/x/# in 1 from/`,
		"":                        "error",
		`""`:                      "error",
		"a sideways":              "error",
		"a out 3":                 "error",
		"a/#/b out":               "error",
		"a in 1 l+/ r/":           "error",
		"a in 1 l/ r/ more":       "error",
		"$share/g/x out 1":        "error",
		`x out 1 $share/g/`:       "error",
	} {
		topic, err := ParseTopic(text)
		got := topic.String()
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q is %s, want %s (%v)", text, got, want, err)
		}
	}
}
