package hinge

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/names"
)

func mustNew(t testing.TB, opt Options, rules ...Rule) *Table {
	t.Helper()
	table, err := New(rules, opt)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// asView sends a record through a batch and back.
func asView(t testing.TB, rec *record.Record) *record.View {
	t.Helper()
	var bu record.Builder
	bu.Reset(nil, rec.Timestamp)
	bu.Append(rec)
	var it record.Iter
	if err := it.Reset(bu.Seal(0, 0), nil); err != nil {
		t.Fatal(err)
	}
	v := new(record.View)
	if !it.Next(v) {
		t.Fatal(it.Err())
	}
	return v
}

// rulesOfEveryKind are rules that overlap, lose levels, are ambiguous, and take names from each other
// and from the default rule.
var rulesOfEveryKind = []Rule{
	{MQTT: "factory/{site}/{line}/#", Topic: "factory-{site}", Key: "{line}"},
	{MQTT: "a/{x}/b/{y}", Topic: "t-{x}-{y}", Key: "{y}:{x}"},
	{MQTT: "c/{x}/{rest#}", Topic: "c.{x}", Key: "{rest}"},
	{MQTT: "d/+/{x}", Topic: "d", Key: "{x}"},
	{MQTT: "e/{x}", Topic: "{x}", Key: "{x}"},
	{MQTT: "f/{x}", Topic: "f-{x}", Key: "constant"},
	{MQTT: "g/{x}/{y}", Topic: "{x}{y}"},
	{MQTT: "h", Topic: "h", Headers: map[string]string{"site": "one", "whole": "{topic}"}},
	{MQTT: "i/{x}/#", Topic: "mqtt", Headers: map[string]string{"x": "{x}"}},
	{MQTT: "j/{x}/{y}", Topic: "j-{x}", Key: "{x}/{y}", Headers: map[string]string{"y": "{x}-{y}"}},
	{MQTT: "+/special/{x}", Topic: "special"},
}

type source struct{ rng *rand.Rand }

func (s source) topic() string {
	for {
		levels := make([]string, 1+s.rng.IntN(4))
		for i := range levels {
			levels[i] = []string{"factory", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "special", "x-y", "mqtt",
				"t-a-b", "f-a", "", "ü b", "__x", "sensors", ".", "$x", "a.b"}[s.rng.IntN(23)]
		}
		if name := strings.Join(levels, "/"); names.CheckName(name) == nil && name[0] != '$' {
			return name
		}
	}
}

func (s source) message() *Message {
	m := &Message{Topic: []byte(s.topic()), Payload: []byte("payload")[:s.rng.IntN(8)]}
	m.QoS, m.Retain = byte(s.rng.IntN(3)), s.rng.IntN(2) == 0
	if s.rng.IntN(3) == 0 {
		m.HasExpiry, m.Expiry = true, uint32(s.rng.Uint64()>>s.rng.IntN(64))
	}
	if s.rng.IntN(3) == 0 {
		m.HasPayloadFormat, m.PayloadFormat = true, byte(s.rng.IntN(2))
	}
	if s.rng.IntN(3) == 0 {
		m.ContentType = []byte("text/plain")[:s.rng.IntN(11)]
	}
	if s.rng.IntN(3) == 0 {
		m.ResponseTopic = []byte("answers/1")
	}
	if s.rng.IntN(3) == 0 {
		m.Correlation = []byte{0, 255, 1}[:s.rng.IntN(4)]
	}
	for range s.rng.IntN(4) {
		names := []string{"", "a", "site", "whole", "x", "y", "content-type", "mqtt.topic", "mqtt.user.a",
			"mqtt.user.mqtt.topic", "mqtt.", "mqtt.new", "traceparent", "correlation-data", "ü"}
		name, value := names[s.rng.IntN(len(names))], "väl"[:4*s.rng.IntN(2)]
		m.UserProperties = appendUser(m.UserProperties, []byte(name), []byte(value))
	}
	return m
}

func same(a, b *Message) bool {
	bytesSame := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
	return bytes.Equal(a.Topic, b.Topic) && bytes.Equal(a.Payload, b.Payload) && a.QoS == b.QoS && a.Retain == b.Retain &&
		a.HasExpiry == b.HasExpiry && a.Expiry == b.Expiry &&
		a.HasPayloadFormat == b.HasPayloadFormat && a.PayloadFormat == b.PayloadFormat &&
		bytesSame(a.ContentType, b.ContentType) && bytesSame(a.ResponseTopic, b.ResponseTopic) &&
		bytesSame(a.Correlation, b.Correlation) && bytes.Equal(a.UserProperties, b.UserProperties) &&
		bytesSame(a.Publisher, b.Publisher)
}

// roundTrip sends a message through a table and back and checks what holds for every message.
func roundTrip(t testing.TB, table *Table, to *Target, m *Message) {
	t.Helper()
	var rec record.Record
	var back Message
	to.Record(m, &rec)
	if err := stream.CheckTopicName(to.Topic); err != nil || strings.HasPrefix(to.Topic, stream.InternalPrefix) {
		t.Fatalf("%q goes to the log topic %q: %v", m.Topic, to.Topic, err)
	}
	if !table.Message(to.Topic, asView(t, &rec), &back) || !same(m, &back) {
		t.Fatalf("in:  %q %+v\nlog: %s %q %q\nout: %q %+v", m.Topic, m, to.Topic, rec.Key, rec.Headers, back.Topic, &back)
	}
	if !stemmed(table, string(m.Topic), to.Topic) {
		t.Fatalf("no stem of %q is one of %q", to.Topic, m.Topic)
	}
}

func TestRoundTrip(t *testing.T) {
	s := source{rand.New(rand.NewPCG(1, 1))}
	for _, opt := range []Options{{}, {PlainQoS: 1}, {CatchAll: "a"}} {
		for _, rules := range [][]Rule{nil, rulesOfEveryKind} {
			table := mustNew(t, opt, rules...)
			var to Target
			for range 5_000 {
				m := s.message()
				if s.rng.IntN(10) == 0 {
					table.CatchAllTarget(m.Topic, &to)
					if to.Topic != table.CatchAll() {
						t.Fatalf("the catch-all of %q is %q", m.Topic, to.Topic)
					}
				} else if err := table.Target(m.Topic, &to); err != nil {
					t.Fatal(err)
				}
				roundTrip(t, table, &to, m)
			}
		}
	}
}

func TestTargetErrors(t *testing.T) {
	table := mustNew(t, Options{})
	var to Target
	for name, kind := range map[string]fault.Kind{
		"$SYS/x": fault.Denied, "$": fault.Denied, "": fault.Invalid, "a/+": fault.Invalid, "a\x00": fault.Invalid,
	} {
		if err := table.Target([]byte(name), &to); !fault.Is(err, kind) {
			t.Errorf("Target(%q): %v, want %v", name, err, kind)
		}
	}
}

// TestHeaderOnlyWhenNeeded: the MQTT topic is in a header exactly when nothing else tells it.
// h is like e/h there: log topic h, key h.
func TestHeaderOnlyWhenNeeded(t *testing.T) {
	table := mustNew(t, Options{}, rulesOfEveryKind...)
	var to Target
	for name, inHeader := range map[string]bool{
		"sensors/a": false, "factory/x/y": true, "factory/x/y/z": true, "a/x/b/y": false, "a/p-q/b/r": true, "c/x/y/z": false,
		"c/x": true, "d/x/y": true, "e/x": false, "f/x": false, "g/x/y": false, "h": true, "i/x/y": false, "j/x/y": false,
		"k/special/x": false, "ü": false,
	} {
		if err := table.Target([]byte(name), &to); err != nil || to.InHeader != inHeader {
			t.Errorf("%q: log topic %q, key %q, in the header: %v, %v", name, to.Topic, to.Key, to.InHeader, err)
		}
	}
}

// TestTargetRemembers fills one Target with names and tables in turn, as a connection does.
func TestTargetRemembers(t *testing.T) {
	a, b := mustNew(t, Options{}), mustNew(t, Options{}, Rule{MQTT: "x/#", Topic: "other"})
	var to Target
	for _, step := range []struct {
		table *Table
		name  string
		topic string
	}{
		{a, "x/1", "x"}, {a, "x/1", "x"}, {b, "x/1", "other"}, {a, "x/1", "x"}, {a, "y/1", "y"}, {b, "y/1", "y"},
		{b, "x/1", "other"},
	} {
		if err := step.table.Target([]byte(step.name), &to); err != nil || to.Topic != step.topic {
			t.Errorf("%q goes to %q, %v; want %q", step.name, to.Topic, err, step.topic)
		}
	}
	if err := a.Target([]byte("$x"), &to); err == nil {
		t.Error("$x is taken")
	}
	if err := a.Target([]byte("x/1"), &to); err != nil || to.Topic != "x" {
		t.Errorf("after an error: %q, %v", to.Topic, err)
	}
	a.CatchAllTarget([]byte("x/1"), &to)
	if err := a.Target([]byte("x/1"), &to); err != nil || to.Topic != "x" {
		t.Errorf("after the catch-all: %q, %v", to.Topic, err)
	}
}

func TestRemaining(t *testing.T) {
	for _, tt := range []struct {
		m    Message
		now  int64
		want uint32
		ok   bool
	}{
		{Message{}, 1 << 60, 0, true},
		{Message{HasExpiry: true, Expiry: 60, Timestamp: 1000}, 1000, 60, true},
		{Message{HasExpiry: true, Expiry: 60, Timestamp: 1000}, 1999, 60, true},
		{Message{HasExpiry: true, Expiry: 60, Timestamp: 1000}, 2000, 59, true},
		{Message{HasExpiry: true, Expiry: 60, Timestamp: 1000}, 60_999, 1, true},
		{Message{HasExpiry: true, Expiry: 60, Timestamp: 1000}, 61_000, 0, false},
		{Message{HasExpiry: true, Expiry: 60, Timestamp: 1000}, 1 << 60, 0, false},
		{Message{HasExpiry: true, Expiry: 60, Timestamp: 5000}, 1000, 60, true}, // a sender's clock that is ahead
		{Message{HasExpiry: true, Expiry: 0, Timestamp: 1000}, 1000, 0, false},
		{Message{HasExpiry: true, Expiry: 1<<32 - 1}, 1000, 1<<32 - 2, true},
	} {
		if got, ok := tt.m.Remaining(tt.now); got != tt.want || ok != tt.ok {
			t.Errorf("%+v at %d: %d, %v", tt.m, tt.now, got, ok)
		}
	}
}

func TestLegalTopicIsTheLogs(t *testing.T) {
	for _, name := range []string{"", ".", "..", "...", "a", "A-Z_0.9", "a b", "a/b", "ä", "_a", strings.Repeat("a", 249),
		strings.Repeat("a", 250)} {
		if got, want := legalTopic([]byte(name)), stream.CheckTopicName(name) == nil; got != want {
			t.Errorf("legalTopic(%q) = %v", name, got)
		}
	}
	if legalTopic([]byte("__a")) {
		t.Error("an internal topic is legal")
	}
}

// TestPublisher: a message comes back as published by its client and by no other, and one under another topic name, or
// whose header is none of ours, by nobody.
func TestPublisher(t *testing.T) {
	tables := map[string]*Table{"default": mustNew(t, Options{}), "rules": mustNew(t, Options{}, rulesOfEveryKind...)}
	for name, table := range tables {
		var to Target
		var rec record.Record
		m := &Message{Topic: []byte("factory/berlin/line1/press/temperature"), Payload: []byte("x")}
		m.SetPublisher("device 1")
		if err := table.Target(m.Topic, &to); err != nil {
			t.Fatal(err)
		}
		to.Record(m, &rec)
		var back Message
		if !table.Message(to.Topic, asView(t, &rec), &back) || len(back.UserProperties) > 0 {
			t.Fatalf("%s: user properties %q", name, back.UserProperties)
		}
		for client, want := range map[string]bool{"device 1": true, "device 2": false, "device": false, "": false} {
			if got := back.PublishedBy(client); got != want {
				t.Errorf("%s: published by %q: %v", name, client, got)
			}
		}
		back.Topic = []byte("factory/berlin/line1/press/pressure")
		if back.PublishedBy("device 1") {
			t.Errorf("%s: a copy under another name is published by the client", name)
		}
		if m.PublisherSum() != back.PublisherSum() || m.PublisherSum() == 0 {
			t.Errorf("%s: sums %08x and %08x", name, m.PublisherSum(), back.PublisherSum())
		}
		m.SetPublisher("")
		to.Record(m, &rec)
		if table.Message(to.Topic, asView(t, &rec), &back) && (back.Publisher != nil || back.PublisherSum() != 0) {
			t.Errorf("%s: published by %q", name, back.Publisher)
		}
	}
	for _, value := range []string{"", "device 1", "00000000 ", "00000000 device 1", "0"} {
		m := Message{Topic: []byte("a"), Publisher: []byte(value)}
		if m.PublishedBy("device 1") || m.PublishedBy("") {
			t.Errorf("%q", value)
		}
	}
}

// TestFiltersOf has every name be one that its log topic can hold.
func TestFiltersOf(t *testing.T) {
	table, err := New([]Rule{
		{MQTT: "factory/{site}/{line}/#", Topic: "factory-{site}"},
		{MQTT: "a/{x}/{y}", Topic: "{x}{y}"},
		{MQTT: "+/{kind}/raw", Topic: "raw.{kind}"},
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, topic := range map[string]string{
		"factory/east/1/t": "factory-east", "factory/west/1": "factory-west", "a/b/c": "bc", "x/temp/raw": "raw.temp",
		"sensors/1": "sensors", "sensors": "sensors", "f a/b": "mqtt", "": "", "$SYS/x": "",
	} {
		if got := table.TopicOf([]byte(name)); got != topic {
			t.Errorf("%s goes to %q, want %q", name, got, topic)
		}
		held := slices.ContainsFunc(table.FiltersOf(topic), func(f string) bool { return names.Match(f, name) })
		if topic != "" && !held {
			t.Errorf("%s is in %s, which holds %v", name, topic, table.FiltersOf(topic))
		}
	}
	want := []string{"factory-east/#", "factory/east/+/#", "a/+/+"}
	if got := table.FiltersOf("factory-east"); !slices.Equal(got, want) {
		t.Errorf("factory-east holds %v", got)
	}
	if got := table.FiltersOf("__firth_topics"); got != nil {
		t.Errorf("an internal topic holds %v", got)
	}
}

// TestShredded hides what is left of a record that was shredded, and lets no device make such a record.
func TestShredded(t *testing.T) {
	table := mustNew(t, Options{})
	left := record.Record{Key: []byte("plant/a"), Value: []byte{}, Headers: []record.Header{{Key: HeaderShredded}}}
	var m Message
	if table.Message("plant", asView(t, &left), &m) || table.Known("plant", []byte("plant/a"), asView(t, &left), &m) {
		t.Error("it is a message")
	}
	left.Headers = nil
	if !table.Message("plant", asView(t, &left), &m) {
		t.Error("the next one is none")
	}
	var to Target
	var rec record.Record
	m = Message{Topic: []byte("plant/a"), UserProperties: appendUser(nil, []byte(HeaderShredded), []byte("1"))}
	if err := table.Target(m.Topic, &to); err != nil {
		t.Fatal(err)
	}
	if to.Record(&m, &rec); !table.Message(to.Topic, asView(t, &rec), &m) || len(m.UserProperties) == 0 {
		t.Error("a device has made a message that others do not see")
	}
}
