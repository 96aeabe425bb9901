package roster_test

import (
	"testing"

	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// willTo is a CONNECT of a session that lasts, with a will to a topic that waits as long.
func willTo(id, topic string) *session.Opening {
	c := &packet.Connect{Version: packet.V5, ClientID: []byte(id), Will: &packet.Will{Topic: []byte(topic), QoS: 1}}
	c.Props.SetSessionExpiry(1000)
	c.Will.Props.SetWillDelay(1000)
	return session.Open(c, &limits, "")
}

func to(topic string) func(*session.Will) bool {
	return func(w *session.Will) bool { return string(w.Message.Topic) == topic }
}

// willsOf are the clients that have a will.
func willsOf(r *roster.Roster) (ids string) {
	for _, id := range r.IDs("", "") {
		r.Look(id, func(state *session.State, _ roster.Holder) {
			if state.Will() != nil {
				ids += id
			}
		})
	}
	return ids
}

// TestDropWills: a will that is dropped is not published, nor after a crash, whether its client is there or not.
func TestDropWills(t *testing.T) {
	fs := vfs.NewMemory()
	seats, _ := open(t, fs, nil)
	take(t, seats, willTo("a", "secret"), &holder{})
	away, _ := take(t, seats, willTo("b", "secret"), &holder{})
	leave(t, &away)
	take(t, seats, willTo("c", "other"), &holder{})
	if got := willsOf(seats); got != "abc" {
		t.Fatalf("%q have a will", got)
	}
	if err := seats.DropWills(t.Context(), to("secret")); err != nil {
		t.Fatal(err)
	}
	if got := willsOf(seats); got != "c" {
		t.Errorf("%q have a will", got)
	}
	again, _ := open(t, clone(t, fs), nil)
	if got := willsOf(again); got != "c" {
		t.Errorf("after a crash %q have a will", got)
	}
}

// TestLostDrop: the log did not take that a will is dropped. That is told, and the next checkpoint makes up for it.
func TestLostDrop(t *testing.T) {
	fs := vfs.NewMemory()
	var log *lossy
	seats, _ := open(t, fs, func(o *roster.Options) {
		log = &lossy{Keeper: o.Log}
		o.Log = log
	})
	take(t, seats, willTo("a", "secret"), &holder{})
	away, _ := take(t, seats, willTo("b", "secret"), &holder{})
	leave(t, &away)
	for range 2 {
		log.set(true)
		if err := seats.DropWills(t.Context(), to("secret")); err == nil {
			t.Fatal("nobody hears that a will was not dropped")
		}
		log.set(false)
	}
	seats.Checkpoint(t.Context())
	again, _ := open(t, clone(t, fs), nil)
	if got := willsOf(again); got != "" {
		t.Errorf("after a crash %q have a will", got)
	}
}
