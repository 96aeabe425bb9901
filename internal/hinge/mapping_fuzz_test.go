package hinge

import (
	"bytes"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/names"
)

// FuzzForward sends messages into the log and back: they come back as they were.
func FuzzForward(f *testing.F) {
	for _, name := range []string{"a/1/b/2", "factory/x/y/z", "c/x", "c/x/", "e/mqtt", "f/a", "g/x/y", "h", "i/a/b",
		"j/x/y", "mqtt", "/", "x/special/y", "__x/y", "$SYS/x", "ü"} {
		f.Add(name, []byte("payload"), byte(1), true, uint32(60), "text/plain", "name", "value")
	}
	f.Add("h", []byte(nil), byte(2), false, uint32(0), "", "mqtt.user.site", "site")
	tables := []*Table{mustNew(f, Options{}), mustNew(f, Options{PlainQoS: 2, CatchAll: "h"}, rulesOfEveryKind...)}
	valid := func(s string) bool { return validString([]byte(s)) }
	f.Fuzz(func(t *testing.T, name string, payload []byte, qos byte, retain bool, expiry uint32, text, key, value string) {
		if names.CheckName(name) != nil || !valid(text) || !valid(key) || !valid(value) {
			return
		}
		m := &Message{
			Topic: []byte(name), Payload: payload, QoS: qos % 3, Retain: retain, HasExpiry: expiry%2 == 0,
			ContentType: []byte(text), UserProperties: appendUser(nil, []byte(key), []byte(value)),
		}
		if m.HasExpiry {
			m.Expiry = expiry
		}
		for _, table := range tables {
			var to Target
			if err := table.Target(m.Topic, &to); err != nil {
				if name[0] != '$' {
					t.Fatal(err)
				}
				continue
			}
			roundTrip(t, table, &to, m)
			table.CatchAllTarget(m.Topic, &to)
			roundTrip(t, table, &to, m)
		}
	})
}

// FuzzBack takes any record of any log topic: what comes out is a message that MQTT can carry, under a
// name that Stems knows of, and it can go into the log and come back.
func FuzzBack(f *testing.F) {
	for _, logTopic := range []string{"factory-x", "t-a-b-c", "c.x", "d", "mqtt", "f-a", "xy", "h", "j-x", "__x"} {
		f.Add(logTopic, []byte("key"), false, "mqtt.topic", []byte("a/x/b/y"), "mqtt.flags", []byte("6"))
		f.Add(logTopic, []byte("x/y"), false, "mqtt.expiry", []byte("60"), "content-type", []byte("\xff"))
		f.Add(logTopic, []byte(nil), true, "mqtt.user.x", []byte("v"), "x", []byte("v"))
	}
	tables := []*Table{mustNew(f, Options{}), mustNew(f, Options{PlainQoS: 1}, rulesOfEveryKind...)}
	f.Fuzz(func(t *testing.T, logTopic string, key []byte, null bool, h1 string, v1 []byte, h2 string, v2 []byte) {
		if stream.CheckTopicName(logTopic) != nil {
			return
		}
		rec := record.Record{Key: key, Value: v1, Headers: []record.Header{{Key: h1, Value: v1}, {Key: h2, Value: v2}}}
		if null {
			rec.Key, rec.Value = nil, nil
		}
		v := asView(t, &rec)
		for _, table := range tables {
			var m Message
			ok := table.Message(logTopic, v, &m)
			if ok == strings.HasPrefix(logTopic, stream.InternalPrefix) {
				t.Fatalf("a record of %q: %v", logTopic, ok)
			}
			if !ok {
				continue
			}
			if !bytes.Equal(m.Payload, rec.Value) {
				t.Fatalf("payload %q of value %q", m.Payload, rec.Value)
			}
			carried(t, &m)
			if !stemmed(table, string(m.Topic), logTopic) {
				t.Fatalf("%q came from %q, which Stems denies", m.Topic, logTopic)
			}
			var to Target
			if err := table.Target(m.Topic, &to); err != nil {
				t.Fatal(err)
			}
			roundTrip(t, table, &to, &m)
		}
	})
}

// carried checks that MQTT can carry a message.
func carried(t *testing.T, m *Message) {
	t.Helper()
	if err := names.CheckName(m.Topic); err != nil || m.Topic[0] == '$' || m.QoS > 2 || m.PayloadFormat > 1 {
		t.Fatalf("%q: %v, %+v", m.Topic, err, m)
	}
	if !validString(m.ContentType) || len(m.Correlation) > maxString {
		t.Fatalf("%+v", m)
	}
	if m.ResponseTopic != nil && names.CheckName(m.ResponseTopic) != nil {
		t.Fatalf("response topic %q", m.ResponseTopic)
	}
	u := m.UserProperties
	for len(u) > 0 {
		name, value, rest, ok := cutUser(u)
		if !ok || !validString(name) || !validString(value) {
			t.Fatalf("user properties %q", m.UserProperties)
		}
		u = rest
	}
}
