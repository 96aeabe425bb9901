package members

import (
	"bufio"
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt/handout"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

// far is the other end of a link.
type far struct {
	t *testing.T
	r *bufio.Reader
}

// next is what comes next, but for pings where they are not asked for.
func (f *far) next(pings bool) handout.Frame {
	f.t.Helper()
	for {
		got, err := handout.Read(f.r)
		if err != nil {
			return nil
		}
		if _, is := got.(*handout.Ping); !is || pings {
			return got
		}
	}
}

// TestIdle: where no session has a shared subscription, a link tells of the shards that came, and ends; one that has a
// member stays, and tells of it.
func TestIdle(t *testing.T) {
	links := make(chan net.Conn)
	m := New(Options{Beat: time.Millisecond, Dial: func(ctx context.Context) (net.Conn, error) {
		here, there := net.Pipe()
		select {
		case links <- there:
			return here, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) })
	defer running.Wait()
	defer cancel()
	link := func() *far {
		t.Helper()
		select {
		case c := <-links:
			t.Cleanup(func() { _ = c.Close() })
			return &far{t, bufio.NewReader(c)}
		case <-time.After(time.Minute):
			t.Fatal("there is no link")
			return nil
		}
	}
	m.Serves(3, 7)
	first := link()
	if _, is := first.next(false).(*handout.Hello); !is {
		t.Error("it does not begin with a hello")
	}
	if f, _ := first.next(false).(*handout.Serves); f == nil || f.Shard != 3 || f.Last != 7 || len(f.Groups) > 0 {
		t.Errorf("it tells %+v", f)
	}
	if f := first.next(false); f != nil {
		t.Errorf("it goes on with %+v", f)
	}
	sub := &session.Subscription{Filter: "$share/g/a", QoS: 2}
	m.Join(sub, nil, Joining{Client: "c", Shard: 3, Version: packet.V5, Share: 1, Window: 1000, MaxPacket: 100})
	second := link()
	second.next(false)
	if f, _ := second.next(false).(*handout.Serves); f == nil || len(f.Groups) != 1 || f.Groups[0].Share != "g" {
		t.Errorf("it tells %+v", f)
	}
	if f, _ := second.next(false).(*handout.Join); f == nil || f.QoS != 1 || f.Window != mostGiven ||
		f.Group.Filter != "a" {
		t.Errorf("it tells %+v", f)
	}
	for range 5 * idleBeats {
		if _, is := second.next(true).(*handout.Ping); !is {
			t.Fatal("it does not stay")
		}
	}
}
