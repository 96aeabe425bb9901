package packet

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// vector is one line of testdata/*.txt.
type vector struct {
	name, where string
	version     Version
	client      bool
	bytes       []byte
	want        string // the decoded form, or ! and the reason code
	same        bool   // encoding gives the same bytes again
}

func (v *vector) decoder() *Decoder { return &Decoder{Version: v.version, Client: v.client} }

func vectors(t testing.TB) (all []vector) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if line == "" || line[0] == '#' {
				continue
			}
			v, err := parseVector(line)
			if err != nil {
				t.Fatalf("%s:%d: %v", file, i+1, err)
			}
			v.where = fmt.Sprintf("%s:%d", file, i+1)
			all = append(all, v)
		}
	}
	return all
}

func parseVector(line string) (v vector, err error) {
	parts := strings.Split(line, " | ")
	if len(parts) != 4 {
		return v, fmt.Errorf("%d parts, not 4", len(parts))
	}
	v.name = parts[0]
	version, client := strings.CutSuffix(parts[1], "c")
	v.client = client
	if version != "-" {
		n, err := strconv.Atoi(version)
		if err != nil {
			return v, err
		}
		v.version = Version(n)
	}
	if v.bytes, err = hex.DecodeString(strings.ReplaceAll(parts[2], " ", "")); err != nil {
		return v, err
	}
	want, other := strings.CutPrefix(parts[3], "~")
	v.want, v.same = want, !other
	return v, nil
}

func TestVectors(t *testing.T) {
	all := vectors(t)
	names := map[string]string{}
	for _, v := range all {
		if was, taken := names[v.name]; taken {
			t.Errorf("%s: %q is the name of %s too", v.where, v.name, was)
		}
		names[v.name] = v.where
		d := v.decoder()
		p, err := d.Decode(v.bytes)
		got := describe(p)
		if err != nil {
			got = fmt.Sprintf("!%02x", uint8(ReasonOf(err)))
		}
		if got != v.want {
			t.Errorf("%s: %s: %s\n got %s (%v)\nwant %s", v.where, v.name, hex.EncodeToString(v.bytes), got, err, v.want)
			continue
		}
		if err == nil {
			v.encode(t, d.Version, p)
		}
	}
	if len(all) < 1000 {
		t.Errorf("only %d vectors", len(all))
	}
}

// encode encodes what was decoded: the same bytes, or at least the same packet.
func (v *vector) encode(t *testing.T, version Version, p Packet) {
	t.Helper()
	b := p.AppendTo([]byte("before"), version)
	b, ok := bytes.CutPrefix(b, []byte("before"))
	if !ok || p.Size(version) != len(b) {
		t.Errorf("%s: Size says %d of %d bytes", v.where, p.Size(version), len(b))
	}
	if bytes.Equal(b, v.bytes) != v.same {
		t.Errorf("%s: %s: encoded again: %x, the same: %v", v.where, v.name, b, !v.same)
	}
	if version == V31 && p.Type() == CONNACK {
		return // it cannot say that a session is present
	}
	again, err := v.decoder().Decode(b)
	if got := describe(again); err != nil || got != v.want {
		t.Errorf("%s: %s: decoded again: %s, %v", v.where, v.name, got, err)
	}
}

// describe writes a packet as the vectors have it.
func describe(p Packet) string {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	if p == nil {
		return "nothing"
	}
	say("%s", p.Type())
	switch p := p.(type) {
	case *Connect:
		describeConnect(say, p)
	case *Connack:
		say(" %s", p.Reason)
		flag(say, "session present", p.SessionPresent)
		describeProps(say, &p.Props)
	case *Publish:
		if p.QoS > 0 {
			say(" id=%d", p.PacketID)
		}
		say(" topic=%q payload=%q qos=%d", p.Topic, p.Payload, p.QoS)
		flag(say, "retain", p.Retain)
		flag(say, "dup", p.Dup)
		describeProps(say, &p.Props)
	case *Puback:
		describeAck(say, p)
	case *Pubrec:
		describeAck(say, (*Puback)(p))
	case *Pubrel:
		describeAck(say, (*Puback)(p))
	case *Pubcomp:
		describeAck(say, (*Puback)(p))
	case *Subscribe:
		say(" id=%d", p.PacketID)
		describeProps(say, &p.Props)
		for _, s := range p.Subscriptions {
			describeSubscription(say, s)
		}
	case *Unsubscribe:
		say(" id=%d", p.PacketID)
		describeProps(say, &p.Props)
		for _, filter := range p.Filters {
			say(" %q", filter)
		}
	case *Suback:
		describeReasons(say, p.PacketID, &p.Props, p.Reasons)
	case *Unsuback:
		describeReasons(say, p.PacketID, &p.Props, p.Reasons)
	case *Disconnect:
		say(" %s", p.Reason)
		describeProps(say, &p.Props)
	case *Auth:
		say(" %s", p.Reason)
		describeProps(say, &p.Props)
	}
	return b.String()
}

type sayer func(format string, args ...any)

func flag(say sayer, name string, set bool) {
	if set {
		say(" %s", name)
	}
}

func describeConnect(say sayer, p *Connect) {
	say(" %s", p.Version)
	flag(say, "bridge", p.Bridge)
	flag(say, "clean", p.CleanStart)
	say(" keepalive=%d id=%q", p.KeepAlive, p.ClientID)
	if w := p.Will; w != nil {
		say(" will topic=%q payload=%q qos=%d", w.Topic, w.Payload, w.QoS)
		flag(say, "retain", w.Retain)
		describeProps(say, &w.Props)
	}
	if p.HasUserName {
		say(" user=%q", p.UserName)
	}
	if p.HasPassword {
		say(" password=%q", p.Password)
	}
	describeProps(say, &p.Props)
}

func describeAck(say sayer, p *Puback) {
	say(" id=%d %s", p.PacketID, p.Reason)
	describeProps(say, &p.Props)
}

func describeSubscription(say sayer, s Subscription) {
	say(" %q qos=%d", s.Filter, s.QoS)
	flag(say, "nolocal", s.NoLocal)
	flag(say, "rap", s.RetainAsPublished)
	if s.RetainHandling > 0 {
		say(" handling=%d", s.RetainHandling)
	}
	flag(say, "invalid", s.Reason == TopicFilterInvalid)
}

func describeReasons(say sayer, id uint16, props *Properties, reasons []ReasonCode) {
	say(" id=%d", id)
	describeProps(say, props)
	for _, r := range reasons {
		say(" 0x%02x", uint8(r))
	}
}

// describeProps names the properties by number, those that may come more than once last.
func describeProps(say sayer, p *Properties) {
	number := func(id Property, v any) {
		if p.Has(id) {
			say(" %s=%d", id, v)
		}
	}
	text := func(id Property, v []byte) {
		if p.Has(id) {
			say(" %s=%q", id, v)
		}
	}
	number(PropPayloadFormat, p.PayloadFormat)
	number(PropMessageExpiry, p.MessageExpiry)
	text(PropContentType, p.ContentType)
	text(PropResponseTopic, p.ResponseTopic)
	text(PropCorrelationData, p.CorrelationData)
	number(PropSessionExpiry, p.SessionExpiry)
	text(PropAssignedClientID, p.AssignedClientID)
	number(PropServerKeepAlive, p.ServerKeepAlive)
	text(PropAuthMethod, p.AuthMethod)
	text(PropAuthData, p.AuthData)
	number(PropRequestProblemInfo, p.RequestProblemInfo)
	number(PropWillDelay, p.WillDelay)
	number(PropRequestResponseInfo, p.RequestResponseInfo)
	text(PropResponseInfo, p.ResponseInfo)
	text(PropServerReference, p.ServerReference)
	text(PropReasonString, p.ReasonString)
	number(PropReceiveMaximum, p.ReceiveMaximum)
	number(PropTopicAliasMaximum, p.TopicAliasMaximum)
	number(PropTopicAlias, p.TopicAlias)
	number(PropMaximumQoS, p.MaximumQoS)
	number(PropRetainAvailable, p.RetainAvailable)
	number(PropMaximumPacketSize, p.MaximumPacketSize)
	number(PropWildcardAvailable, p.WildcardAvailable)
	number(PropSubscriptionIDAllowed, p.SubscriptionIDAllowed)
	number(PropSharedAvailable, p.SharedAvailable)
	for _, id := range p.SubscriptionIDs {
		say(" %s=%d", PropSubscriptionID, id)
	}
	for name, value := range p.User.All() {
		say(" %s=%q=%q", PropUser, name, value)
	}
}
