package delay

import (
	"bytes"
	"math/rand"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		seconds uint32
		topic   string
		ok      bool
	}{
		"$delayed/5/a/b": {5, "a/b", true}, "$delayed/0/a": {0, "a", true}, "$delayed/4294967/a": {MaxSeconds, "a", true},
		"$delayed/007//": {7, "/", true}, "$delayed/5": {5, "", true}, "$delayed/4294968/a": {},
		"$delayed//a": {}, "$delayed/-1/a": {}, "$delayed/+1/a": {}, "$delayed/1.5/a": {}, "$delayed/x/a": {},
		"$delayed/99999999999/a": {}, "$delayed/ 1/a": {}, "$delayed/1_0/a": {},
	} {
		seconds, topic, ok := Parse([]byte(name))
		if seconds != c.seconds || string(topic) != c.topic || ok != c.ok || !Delayed([]byte(name)) {
			t.Errorf("%s: %d %q %v", name, seconds, topic, ok)
		}
	}
	for _, name := range []string{"", "$delayed", "delayed/5/a", "$SYS/x"} {
		if Delayed([]byte(name)) {
			t.Errorf("%q is delayed", name)
		}
	}
}

func TestMessage(t *testing.T) {
	var p packet.Publish
	p.Topic, p.Payload, p.QoS, p.Retain, p.PacketID = []byte("a/b"), []byte("hello"), 2, true, 77
	p.Props.SetContentType([]byte("text/plain"))
	p.Props.SetTopicAlias(5)
	m := Message{Client: "me", User: "mine", From: "here", Publish: p}
	b := m.appendTo(nil)
	got, err := parse(bytes.Clone(b))
	q := &got.Publish
	if err != nil || got.Client != "me" || got.User != "mine" || got.From != "here" {
		t.Errorf("got %+v, %v", got, err)
	}
	old := append([]byte("\x01\x02me\x04mine"), b[len("\x02\x02me\x04mine\x04here"):]...)
	if m, err := parse(old); err != nil || m.User != "mine" || m.From != "" || string(m.Publish.Topic) != "a/b" {
		t.Errorf("one of before: %+v, %v", m, err)
	}
	if string(q.Topic) != "a/b" || string(q.Payload) != "hello" || q.QoS != 2 ||
		!q.Retain || q.PacketID != 0 || string(q.Props.ContentType) != "text/plain" || q.Props.Has(packet.PropTopicAlias) {
		t.Errorf("got %+v, %v", got, err)
	}
	for n := range b {
		if _, err := parse(bytes.Clone(b[:n])); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%d bytes of it: %v", n, err)
		}
	}
	if _, err := parse(append(bytes.Clone(b), 0)); !fault.Is(err, fault.Corrupt) {
		t.Errorf("with a byte behind it: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	m := Message{Client: "me", Publish: packet.Publish{Topic: []byte("a"), Payload: []byte("x"), QoS: 1}}
	f.Add(m.appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(bytes.Clone(b))
		if err != nil {
			return
		}
		again, err := parse(m.appendTo(nil))
		if err != nil || again.Client != m.Client || again.User != m.User || again.From != m.From ||
			!bytes.Equal(again.Publish.Payload, m.Publish.Payload) {
			t.Errorf("%x became %+v, %v", b, again, err)
		}
	})
}

// TestWheel: messages come when they are due, by due and then by place; each once, those that are over never.
func TestWheel(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	var w wheel
	type one struct {
		due    int64
		offset record.Offset
	}
	var want []one
	for i := range 1000 {
		due := int64(rng.Intn(50))
		k := newKey(due, uint64(i))
		w.add(k, record.Offset(i))
		if i%10 == 0 {
			w.remove(k)
			continue
		}
		want = append(want, one{due, record.Offset(i)})
	}
	slices.SortStableFunc(want, func(a, b one) int { return int(a.due - b.due) })
	if _, due, at, waits := w.next(-1); due || at != 0 || !waits {
		t.Errorf("before the first: %v %d %v", due, at, waits)
	}
	var got []one
	for now := int64(0); ; {
		e, due, at, waits := w.next(now)
		switch {
		case due && e.due > now:
			t.Fatalf("%+v came at %d", e, now)
		case due:
			got = append(got, one{e.due, e.offset})
		case waits:
			now = at
			continue
		}
		if !due {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	k := newKey(5, 7)
	w.add(k, 2000)
	e, _, _, _ := w.next(5)
	w.again(e, 9)
	if _, due, at, _ := w.next(8); due || at != 9 {
		t.Errorf("one that comes again: %v %d", due, at)
	}
	if e, due, _, _ := w.next(9); !due || e.key != k || len(w.pending) != len(want)+1 {
		t.Errorf("one that comes again: %v %v", e, due)
	}
	w.remove(k)
	w.again(e, 9)
	if _, due, _, waits := w.next(100); due || waits {
		t.Error("one that is over came again")
	}
}

// TestWheelWaiting: what was taken waits no more, until it is put back.
func TestWheelWaiting(t *testing.T) {
	var w wheel
	for i := range 3 {
		w.add(newKey(int64(i), uint64(i)), record.Offset(i))
	}
	counts := []int{w.waiting()}
	first, _, _, _ := w.next(9)
	counts = append(counts, w.waiting())
	second, _, _, _ := w.next(9)
	counts = append(counts, w.waiting())
	w.remove(first.key)
	counts = append(counts, w.waiting())
	w.again(second, 9)
	counts = append(counts, w.waiting())
	w.again(first, 9) // is over
	counts = append(counts, w.waiting())
	w.remove(second.key)
	counts = append(counts, w.waiting())
	if want := []int{3, 2, 1, 1, 2, 2, 1}; !slices.Equal(counts, want) || len(w.pending) != 1 {
		t.Errorf("%v waited, want %v; %d are left", counts, want, len(w.pending))
	}
}
