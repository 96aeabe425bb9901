package hinge

import (
	"fmt"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/log/record"
)

func fullMessage() *Message {
	m := &Message{
		Topic: []byte("factory/berlin/line1/press/temperature"), Payload: make([]byte, 100), QoS: 1, Retain: true,
		HasExpiry: true, Expiry: 3600, HasPayloadFormat: true, PayloadFormat: 1,
		ContentType: []byte("application/json"), ResponseTopic: []byte("answers/1"), Correlation: []byte{1, 2, 3},
	}
	m.UserProperties = appendUser(m.UserProperties, []byte("traceparent"), []byte("00-4bf92f3577b34da6a3ce929d0e0e4736"))
	m.UserProperties = appendUser(m.UserProperties, []byte("site"), []byte("berlin"))
	return m
}

// steady is one connection at work: plain and full messages, with and without rules, a name again and
// again and names in turn.
func steady(t testing.TB) map[string]func() {
	plain, ruled := mustNew(t, Options{}), mustNew(t, Options{}, rulesOfEveryKind...)
	out := map[string]func(){}
	for name, table := range map[string]*Table{"default": plain, "rules": ruled} {
		simple := &Message{Topic: []byte("factory/berlin/line1/press/temperature"), Payload: make([]byte, 100), QoS: 1}
		full := fullMessage()
		names := make([][]byte, 16)
		for i := range names {
			names[i] = fmt.Appendf(nil, "factory/berlin/line%d/press/temperature", i)
		}
		var to, turning Target
		var rec record.Record
		i := 0
		out["forward-"+name] = func() {
			if err := table.Target(simple.Topic, &to); err != nil {
				t.Fatal(err)
			}
			to.Record(simple, &rec)
		}
		out["forward-full-"+name] = func() {
			if err := table.Target(full.Topic, &to); err != nil {
				t.Fatal(err)
			}
			full.SetPublisher("a client with a name of more than 32 bytes")
			to.Record(full, &rec)
		}
		out["forward-names-in-turn-"+name] = func() {
			i++
			if err := table.Target(names[i%len(names)], &turning); err != nil {
				t.Fatal(err)
			}
			turning.Record(simple, &rec)
		}
		for kind, m := range map[string]*Message{"": simple, "full-": full} {
			var from Target
			if m == full {
				m.SetPublisher("a client")
			}
			if err := table.Target(m.Topic, &from); err != nil {
				t.Fatal(err)
			}
			var r record.Record
			from.Record(m, &r)
			v := asView(t, &r)
			var back Message
			out["back-"+kind+name] = func() {
				if !table.Message(from.Topic, v, &back) || back.PublishedBy("a client") != (m == full) {
					t.Fatal("no message")
				}
			}
		}
	}
	v := asView(t, &record.Record{Key: []byte("m7/rpm"), Value: []byte("900")})
	plant := Rule{MQTT: "plant/{site}/{machine}/{metric}", Topic: "plant-{site}", Key: "{machine}/{metric}"}
	table := mustNew(t, Options{}, plant)
	var back Message
	out["back-of-kafka"] = func() {
		if !table.Message("plant-a-site-with-a-name-of-more-than-32-bytes", v, &back) {
			t.Fatal("no message")
		}
	}
	return out
}

func TestAllocs(t *testing.T) {
	for name, f := range steady(t) {
		if n := alloctest.PerRun(100, 0, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkMapping(b *testing.B) {
	for name, f := range steady(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}

func BenchmarkPartition(b *testing.B) {
	key := []byte("factory/berlin/line1/press/temperature")
	for b.Loop() {
		Partition(key, 12)
	}
}
