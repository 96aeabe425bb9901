package torture

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

var sessionsFlag = flag.Duration("sessions", 10*time.Second, "how long TestSessions and TestShares kill the binary")

// devices are the sessions of TestSessions.
func devices() []habits {
	const v3, v5 = packet.V311, packet.V5
	all, ms := []string{"alpha/#", "beta/#"}, time.Millisecond
	return []habits{
		{id: "steady3", version: v3, filters: all},
		{id: "steady5", version: v5, filters: []string{"alpha/+", "beta/device02/temp"}},
		{id: "visitor3", version: v3, filters: []string{"beta/#"}, stays: 800 * ms, away: 800 * ms, again: true},
		{id: "visitor5", version: v5, filters: all, stays: 500 * ms, away: 1500 * ms, cut: true},
		{id: "absent3", version: v3, filters: []string{"alpha/device01"}, stays: 300 * ms, away: 15 * time.Second},
		{id: "absent5", version: v5, filters: all, stays: 300 * ms, away: 30 * time.Second, cut: true, again: true},
		{id: "narrow", version: v5, filters: []string{"alpha/#"}, window: 2, again: true},
		{id: "slow", version: v5, filters: []string{"beta/#"}, takes: 2 * ms},
		{id: "holder3", version: v3, filters: all, holds: 40, stays: 2 * time.Second},
		{id: "holder5", version: v5, filters: all, holds: 7, window: 20, stays: 400 * ms, cut: true},
		{id: "twins3", version: v3, filters: all, twins: 2, stays: 60 * ms},
		{id: "twins5", version: v5, filters: all, twins: 1, stays: 20 * ms, holds: 5, cut: true},
		{id: "fickle", version: v5, filters: all, fickle: true, stays: 300 * ms, away: 300 * ms},
		{id: "clean3", version: v3, filters: all, clean: 3, stays: 500 * ms, away: 500 * ms},
		{id: "clean5", version: v5, filters: []string{"alpha/#"}, clean: 4, stays: 300 * ms, cut: true, holds: 3},
		{id: "brief", version: v5, filters: []string{"alpha/#"}, expiry: 2 * time.Second, stays: 500 * ms,
			away: 12 * time.Second},
	}
}

// TestSessions is the promise of sessions that outlive their connection, asked of the real binary: kill -9 at random
// moments, again and again, under publishers of QoS 1 and devices of many habits, which go on with their sessions as
// soon as they can. A session is present whenever it should be; each gets what it subscribed to, in order, as far as it
// was acknowledged to its publisher, and nothing else; what is sent again has its packet id of before.
func TestSessions(t *testing.T) {
	n, dice := newNights(t)
	n.open(dice)
	n.kill(dice)
	n.await()
	n.finish()
}

// await waits until each device was given something: one whose session expires may have been away nearly all the time.
func (n *nights) await() {
	n.t.Helper()
	for _, s := range n.sleepers {
		for limit := time.Now().Add(startLimit); s.messages() == 0; pauseFor(n.t.Context(), pace) {
			if time.Now().After(limit) {
				n.t.Fatalf("%s is given nothing in %v", s.id, startLimit)
			}
		}
	}
}

// newNights makes a server that does not run yet, and the dice of the test.
func newNights(t *testing.T) (*nights, *rand.Rand) {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%v, seed %d (again: -args -sessions %v -seed %d)", *sessionsFlag, seed, *sessionsFlag, seed)
	n := &nights{t: t, s: newServer(t, "limits.journal_file=1MiB"), h: newHistory()}
	return n, rand.New(rand.NewPCG(seed, 2))
}

// kill kills the server at random moments, for as long as the flag says or until something is wrong.
func (n *nights) kill(dice *rand.Rand) {
	n.t.Helper()
	for end := time.Now().Add(*sessionsFlag); time.Now().Before(end) && !n.t.Failed(); {
		<-time.After(time.Duration(100+dice.IntN(1400)) * time.Millisecond)
		n.crash(dice)
	}
}

// nights are the sleepers and whoever publishes for them.
type nights struct {
	t          *testing.T
	s          *server
	h          *history
	publishers []*publisher
	sleepers   []*sleeper
	kills      atomic.Int32
	stop       []func() // of the publishers, of the sleepers
}

func (n *nights) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *nights) open(dice *rand.Rand) {
	_, err := n.s.start()
	n.must(err)
	address := n.s.mqtt // the same after every start
	publish := n.publishing(dice)
	var sleep []func(ctx context.Context)
	for _, habits := range devices() {
		s := newSleeper(habits, n.h, &n.kills, dice)
		n.sleepers = append(n.sleepers, s)
		for range 1 + s.twins {
			sleep = append(sleep, func(ctx context.Context) { s.run(ctx, address) })
		}
	}
	n.stop = []func(){inBackground(publish), inBackground(sleep)}
	n.t.Cleanup(func() {
		for _, stop := range n.stop {
			stop()
		}
	})
}

// publishing is what the publishers do.
func (n *nights) publishing(dice *rand.Rand) (run []func(ctx context.Context)) {
	address := n.s.mqtt
	some := func() words { return words{rand.New(rand.NewPCG(dice.Uint64(), dice.Uint64()))} }
	for i := range 4 {
		name := fmt.Sprintf("device%02d", i)
		p := &publisher{name: name, topics: []string{"alpha/" + name, "beta/" + name + "/temp"}, words: some(), h: n.h}
		n.publishers = append(n.publishers, p)
		run = append(run, func(ctx context.Context) {
			for ctx.Err() == nil {
				if p.run(ctx, address) != nil {
					pauseFor(ctx, pace)
				}
				p.settle()
			}
		})
	}
	return run
}

// inBackground runs all of them until stop, which waits for them.
func inBackground(all []func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, one := range all {
		wg.Go(func() { one(ctx) })
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// crash kills the server and starts it again.
func (n *nights) crash(dice *rand.Rand) {
	n.t.Helper()
	n.kills.Add(1)
	if !n.s.kill() {
		n.t.Fatalf("the server had ended before it was killed:\n%s", n.s.log)
	}
	n.kills.Add(1)
	if dice.IntN(4) == 0 {
		n.must(n.s.stillborn(time.Duration(dice.IntN(60)) * time.Millisecond))
	}
	_, err := n.s.start()
	n.must(err)
	n.complaints()
}

func (n *nights) complaints() {
	n.t.Helper()
	n.h.mu.Lock()
	defer n.h.mu.Unlock()
	told := map[string]int{}
	for _, c := range n.h.complaint {
		who, _, _ := strings.Cut(c, ":")
		if told[who]++; told[who] <= 5 {
			n.t.Error(c)
		}
	}
	n.h.complaint = nil
}

// finish has everything come to rest, and looks for what is missing.
func (n *nights) finish() {
	for _, stop := range n.stop {
		stop()
	}
	n.stop = nil
	ctx, cancel := context.WithTimeout(n.t.Context(), startLimit)
	defer cancel()
	var all []func(context.Context)
	for _, s := range n.sleepers {
		all = append(all, func(context.Context) { s.settle(ctx, n.s.mqtt) })
	}
	inBackground(all)()
	n.complaints()
	n.must(n.s.stop())
	n.must(n.s.checkLog(n.t.Context()))
	sent, acked := n.h.counts()
	n.t.Logf("%d kills; %d messages, %d acknowledged", n.kills.Load()/2, sent, acked)
	for _, s := range n.sleepers {
		n.t.Logf("%-9s %7d messages, %5d with DUP; %5d returns", s.id, s.count, s.repeats, s.returns)
	}
}
