package roster_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/roster"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// withWill is the CONNECT of a session that lasts 1000 s, with a will of so many bytes that is due after a delay in
// seconds.
func withWill(id string, size int, delay uint32) *session.Opening {
	c := &packet.Connect{Version: packet.V5, ClientID: []byte(id),
		Will: &packet.Will{Topic: []byte("w"), Payload: make([]byte, size)}}
	c.Props.SetSessionExpiry(1000)
	c.Will.Props.SetWillDelay(delay)
	return session.Open(c, &limits, "")
}

// come has a session come, or tells that it does not fit.
func come(t *testing.T, r *roster.Roster, o *session.Opening) (term roster.Term, fits bool) {
	t.Helper()
	_, err := tryTake(r, o, &holder{}, &term)
	if err != nil && !fault.Is(err, fault.Limited) {
		t.Fatal(err)
	}
	return term, err == nil
}

// comeAndGo has a session come and leave, or tells that it does not fit.
func comeAndGo(t *testing.T, r *roster.Roster, o *session.Opening) (fits bool) {
	t.Helper()
	term, fits := come(t, r, o)
	if fits {
		leave(t, &term)
	}
	return fits
}

// TestWillsWeigh: sessions that are away pay for their wills in MaxBytes, also after a restart, until those are
// published. Who has a session comes back to it, but not with a larger will than fits.
func TestWillsWeigh(t *testing.T) {
	const size, most = 200 << 10, 1 << 20
	var mu sync.Mutex
	now := time.Now()
	bounded := func(o *roster.Options) {
		o.MaxBytes = most
		o.Clock = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	}
	fs := vfs.NewMemory()
	seats, _ := open(t, fs, bounded)
	if !comeAndGo(t, seats, opening("small", 1000, false)) {
		t.Fatal("the first does not fit")
	}
	in := 0
	for comeAndGo(t, seats, withWill(fmt.Sprint(in), size, 100)) {
		if in++; in*size > most {
			t.Fatalf("%d wills of %d bytes fit into %d", in, size, most)
		}
	}
	if in < most/size-1 {
		t.Errorf("only %d wills of %d bytes fit into %d", in, size, most)
	}
	full := func(seats *roster.Roster) {
		t.Helper()
		if comeAndGo(t, seats, withWill("new", size, 100)) || comeAndGo(t, seats, withWill("small", size, 100)) {
			t.Error("there is room for another will")
		}
		for range 3 {
			if !comeAndGo(t, seats, withWill("small", 100, 100)) || !comeAndGo(t, seats, withWill("0", size, 100)) ||
				!comeAndGo(t, seats, opening("small", 1000, false)) {
				t.Error("one that has a session does not fit")
			}
		}
	}
	full(seats)
	again, published := open(t, clone(t, fs), bounded)
	full(again)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	run := make(chan error, 1)
	mu.Lock()
	now = now.Add(200 * time.Second)
	mu.Unlock()
	go func() { run <- again.Run(ctx) }()
	until(t, "the wills are published", func() bool { return published.count() == in })
	if !comeAndGo(t, again, withWill("new", size, 100)) {
		t.Error("no room though the wills are published")
	}
	cancel()
	if err := <-run; err != nil {
		t.Fatal(err)
	}
}

// TestWillAtOnce: a will without a delay never waits, and needs no room.
func TestWillAtOnce(t *testing.T) {
	const most = 64 << 10
	seats, published := open(t, vfs.NewMemory(), func(o *roster.Options) { o.MaxBytes = most })
	const count = 5
	for i := range count {
		if !comeAndGo(t, seats, withWill(fmt.Sprint(i), 2*most, 0)) {
			t.Errorf("%d does not fit", i)
		}
	}
	if n := published.count(); n != count {
		t.Errorf("%d wills are published", n)
	}
}

// TestLastsNow: a session that comes to last in the seat of one that does not is one more.
func TestLastsNow(t *testing.T) {
	seats, _ := open(t, vfs.NewMemory(), func(o *roster.Options) { o.MaxSessions = 1 })
	if !comeAndGo(t, seats, opening("lasts", 1000, false)) {
		t.Fatal("the first does not fit")
	}
	if _, fits := come(t, seats, opening("short", 0, false)); !fits {
		t.Fatal("a session that does not last does not fit")
	}
	if _, fits := come(t, seats, opening("short", 1000, false)); fits {
		t.Error("two sessions last")
	}
	if _, fits := come(t, seats, opening("lasts", 1000, true)); !fits {
		t.Error("one in place of another does not fit")
	}
}
