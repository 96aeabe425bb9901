package mqtt_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// guests is the way of those who have no connection.
func (h *house) guests() *mqtt.Listener {
	h.t.Helper()
	l, err := h.door.Listener(mqtt.ListenerOptions{Name: "http"})
	if err != nil {
		h.t.Fatal(err)
	}
	return l
}

func (h *house) follow(o mqtt.Follow) *mqtt.Follower {
	h.t.Helper()
	f, err := h.door.Follow(h.t.Context(), mqtt.Guest{}, o)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(f.Close)
	return f
}

// next is the next message of a follower, which has to come.
func nextOf(t testing.TB, f *mqtt.Follower) *mqtt.Followed {
	t.Helper()
	one, err := f.Next(t.Context(), patience)
	if err != nil || one == nil {
		t.Fatalf("%+v, %v", one, err)
	}
	return one
}

func says(topic, payload string, retain bool) *packet.Publish {
	return &packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, Retain: retain}
}

// TestGuestPublishes: what a guest publishes comes to a device as another device's would, with all that belongs to it,
// is retained when it is answered, and is refused for what a PUBLISH is refused for.
func TestGuestPublishes(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.MaxPacketBytes = 4096 })
	way := h.guests()
	c := h.connect(t, packet.V5, "c", nil)
	c.subscribe(1, "a/#")
	p := says("a/b", "x", true)
	p.Props.SetContentType([]byte("text/plain"))
	p.Props.SetResponseTopic([]byte("answers"))
	p.Props.SetCorrelationData([]byte{1})
	p.Props.SetMessageExpiry(3600)
	p.Props.AddUser("n", "1")
	at, err := way.Publish(t.Context(), mqtt.Guest{}, p)
	if err != nil || at != (mqtt.Stored{Topic: "a", Offset: 0, Partition: at.Partition}) {
		t.Errorf("%+v, %v", at, err)
	}
	got := c.gets("a/b", "x")
	if string(got.Props.ContentType) != "text/plain" || string(got.Props.ResponseTopic) != "answers" ||
		string(got.Props.CorrelationData) != "\x01" || !got.Props.Has(packet.PropMessageExpiry) ||
		got.Props.User.Len() != 1 || got.QoS != 1 {
		t.Errorf("%+v", got)
	}
	if m, err := h.door.RetainedMessage(t.Context(), "a/b"); err != nil || string(m.Payload) != "x" {
		t.Errorf("retained: %+v, %v", m, err)
	}
	if at, err := way.Publish(t.Context(), mqtt.Guest{}, says("$delayed/3600/a/b", "later", false)); err != nil ||
		!at.Delayed {
		t.Errorf("delayed: %+v, %v", at, err)
	}
	text := says("a/b", "\xff", false)
	text.Props.SetPayloadFormat(1)
	for what, tc := range map[string]struct {
		p    *packet.Publish
		kind fault.Kind
	}{
		"wildcard": {says("a/+", "x", false), fault.Invalid},
		"nothing":  {says("", "x", false), fault.Invalid},
		"$":        {says("$SYS/x", "x", false), fault.Denied},
		"large":    {says("a/b", strings.Repeat("x", 4096), false), fault.TooLarge},
		"no text":  {text, fault.Invalid},
	} {
		if _, err := way.Publish(t.Context(), mqtt.Guest{}, tc.p); !fault.Is(err, tc.kind) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestFollow: a follower gets what is retained, then what is published, each with its place; one that comes again with
// the last of them goes on behind it, and one that begins in the past gets all there is.
func TestFollow(t *testing.T) {
	h := open(t, nil)
	way := h.guests()
	say := func(name, payload string, retain bool) {
		t.Helper()
		if _, err := way.Publish(t.Context(), mqtt.Guest{}, says(name, payload, retain)); err != nil {
			t.Fatal(err)
		}
	}
	say("a/kept", "0", true)
	say("a/old", "0", false)
	f := h.follow(mqtt.Follow{Filter: "a/#", Retained: true})
	if one := nextOf(t, f); !one.Retained || string(one.Publish.Topic) != "a/kept" || one.ID != "" ||
		one.Publish.QoS != 1 {
		t.Errorf("%+v", one)
	}
	c := h.connect(t, packet.V311, "c", nil)
	c.published("a/x", "1", false)
	first := nextOf(t, f)
	if string(first.Publish.Payload) != "1" || first.At.Topic != "a" || first.Time.IsZero() || first.ID == "" ||
		first.Publish.Props.User.Len() != 0 {
		t.Errorf("%+v", first)
	}
	say("a/x", "2", false)
	if one := nextOf(t, f); string(one.Publish.Payload) != "2" || one.At.Offset != first.At.Offset+1 {
		t.Errorf("%+v", one)
	}
	if one, err := f.Next(t.Context(), time.Millisecond); one != nil || err != nil {
		t.Errorf("there is nothing more: %+v, %v", one, err)
	}
	f.Close()
	again := h.follow(mqtt.Follow{Filter: "a/#", After: first.ID, Retained: true})
	if one := nextOf(t, again); string(one.Publish.Payload) != "2" {
		t.Errorf("again: %+v", one)
	}
	all := h.follow(mqtt.Follow{Filter: "a/#", From: "earliest"})
	got := map[string]int{}
	for range 4 {
		one := nextOf(t, all)
		got[string(one.Publish.Topic)+"="+string(one.Publish.Payload)]++
	}
	if want := map[string]int{"a/kept=0": 1, "a/old=0": 1, "a/x=1": 1, "a/x=2": 1}; !maps.Equal(got, want) {
		t.Errorf("from the beginning: %v", got)
	}
	for filter, kind := range map[string]fault.Kind{"a/#/b": fault.Invalid, "$SYS/#": fault.Invalid,
		"$share/g/a": fault.Invalid, "": fault.Invalid} {
		if _, err := h.door.Follow(t.Context(), mqtt.Guest{}, mqtt.Follow{Filter: filter}); !fault.Is(err, kind) {
			t.Errorf("%q: %v", filter, err)
		}
	}
	if _, err := h.door.Follow(t.Context(), mqtt.Guest{}, mqtt.Follow{Filter: "a", After: "x"}); !fault.Is(err,
		fault.Invalid) {
		t.Errorf("%v", err)
	}
}

// TestFollowSlowly: one that takes nothing for long holds up nobody, and gets everything in order when it does, of
// QoS 0 too, which a connection would lose.
func TestFollowSlowly(t *testing.T) {
	h := open(t, nil)
	slow, quick := h.follow(mqtt.Follow{Filter: "a/#"}), h.follow(mqtt.Follow{Filter: "a/b"})
	c := h.connect(t, packet.V311, "c", nil)
	const messages = 400
	payload := func(n int) string { return fmt.Sprint(n, strings.Repeat(".", 1000)) }
	for n := range messages {
		c.send(&packet.Publish{Topic: []byte("a/b"), Payload: []byte(payload(n))})
		if one := nextOf(t, quick); string(one.Publish.Payload) != payload(n) {
			t.Fatalf("%d: %.20s", n, one.Publish.Payload)
		}
	}
	for n := range messages {
		if one := nextOf(t, slow); string(one.Publish.Payload) != payload(n) || one.Publish.QoS != 0 {
			t.Fatalf("%d: %.20s", n, one.Publish.Payload)
		}
	}
}

// TestFollowEnds when the server does, whatever it waits for.
func TestFollowEnds(t *testing.T) {
	h := open(t, nil)
	f := h.follow(mqtt.Follow{Filter: "#"})
	ended := make(chan error, 1)
	go func() {
		_, err := f.Next(t.Context(), patience)
		ended <- err
	}()
	h.stop()
	if err := <-ended; !fault.Is(err, fault.Closed) {
		t.Error(err)
	}
	if _, err := h.door.Follow(t.Context(), mqtt.Guest{}, mqtt.Follow{Filter: "#"}); !fault.Is(err, fault.Closed) {
		t.Error(err)
	}
}

// FuzzParsePlaces: what is read is written again as it means, and nothing else is taken.
func FuzzParsePlaces(f *testing.F) {
	f.Add(mqtt.Places{1: 2, 300: 1 << 40}.String())
	f.Add(mqtt.Places{}.String())
	f.Add("AQ")
	f.Add("AQEC_w")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := mqtt.ParsePlaces(text)
		if err != nil {
			if !fault.Is(err, fault.Invalid) {
				t.Fatal(err)
			}
			return
		}
		again, err := mqtt.ParsePlaces(p.String())
		if err != nil || !maps.Equal(p, again) {
			t.Fatal(errors.Join(err, fmt.Errorf("%v, %v", p, again)))
		}
	})
}
