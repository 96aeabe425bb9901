package node

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// works is a member of a shared subscription, which gets what is for it until ctx ends, by any gateway there is.
func (f *fleet) works(ctx context.Context, id, filter string, ready func(), got func(string)) {
	for again := false; ctx.Err() == nil; again = true {
		w := f.join(ctx, id, again)
		if w == nil {
			return
		}
		stop := context.AfterFunc(ctx, func() { _ = w.Close() })
		err := w.Write((&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
			{Filter: []byte(filter), QoS: 1}}}).AppendTo(nil, packet.V5), time.Minute)
		for err == nil {
			var p packet.Packet
			p, _, err = w.Next()
			switch p := p.(type) {
			case *packet.Suback:
				if p.Reasons[0] != 1 {
					f.t.Errorf("SUBACK %v", p.Reasons)
				}
				ready()
			case *packet.Publish:
				got(fmt.Sprintf("%s %s", p.Topic, p.Payload))
				err = w.Write((&packet.Puback{PacketID: p.PacketID}).AppendTo(nil, packet.V5), time.Minute)
			}
		}
		stop()
		_ = w.Close()
	}
}

// home is the gateway that has the groups of shared subscriptions.
func home(t *testing.T, all ...*Node) (at int) {
	t.Helper()
	becomes(t, "one has the groups", func() bool {
		for i, n := range all {
			if n.mqtt.HasShard(0) {
				at = i
				return true
			}
		}
		return false
	})
	return at
}

// kill has the cluster forget a gateway, which ends by that as it would by a long pause.
func kill(t *testing.T, f *kfake.Cluster, n *Node) {
	t.Helper()
	name, err := n.instance()
	if err != nil {
		t.Fatal(err)
	}
	forget(t, f, name)
	select {
	case err := <-n.Failed():
		if !fault.Is(err, fault.Fenced) {
			t.Errorf("forgotten, it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not know that it was forgotten")
	}
	if err := n.Close(); err != nil && !fault.Is(err, fault.Fenced) {
		t.Errorf("closed with %v", err)
	}
}

// TestSharedGroupsMove: while devices publish, and the members of a group are on three gateways, the one with the
// groups leaves in order, and the next one is forgotten by the cluster. Every message that was acknowledged comes to a
// member, and what comes while no member is there is kept. Long: it is one history.
func TestSharedGroupsMove(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	begin := func() *Node {
		c := amongEquals(t, f)
		c.Logger = logtest.New(t, "closed shards", "sessions are another node's now", "closed mqtt", "fenced",
			"where sessions stand was not stored")
		n, err := Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	all := []*Node{begin(), begin(), begin()}
	share(t, all...)
	devices := &fleet{t: t}
	devices.are(all...)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	var working, sending sync.WaitGroup
	defer func() { cancel(); working.Wait(); sending.Wait() }()
	var mu sync.Mutex
	received, by := map[string]int{}, map[string]int{}
	toil, rest := context.WithCancel(ctx)
	work := func(ctx context.Context) {
		var ready sync.WaitGroup
		for i := range 3 {
			id := all[i%len(all)].idOf(fmt.Sprint("worker", i, "-"))
			ready.Add(1)
			var once sync.Once
			working.Go(func() {
				devices.works(ctx, id, "$share/g/fleet/#", func() { once.Do(ready.Done) }, func(one string) {
					mu.Lock()
					defer mu.Unlock()
					received[one]++
					by[id]++
				})
			})
		}
		ready.Wait()
	}
	work(toil)
	enough := make(chan struct{})
	var counts [3]atomic.Int64
	for i := range counts {
		sending.Go(func() {
			devices.sends(ctx, fmt.Sprint("sender", i), byte(1+i%2), enough, &counts[i])
		})
	}
	sum := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		return len(received)
	}
	goesOn := func(what string) {
		t.Helper()
		before := sum()
		becomes(t, "messages come "+what, func() bool { return sum() >= before+30 })
	}
	goesOn("at first")
	mu.Lock()
	if len(by) != 3 {
		t.Errorf("not all members get some: %v", by)
	}
	mu.Unlock()
	at := home(t, all...)
	leaves := all[at]
	all = append(all[:at:at], all[at+1:]...)
	devices.are(all...)
	if err := leaves.Close(); err != nil {
		t.Error(err)
	}
	goesOn("when the one with the groups has left")
	all = append(all, begin())
	devices.are(all...)
	share(t, all...)
	goesOn("with a new one")
	at = home(t, all...)
	dies := all[at]
	all = append(all[:at:at], all[at+1:]...)
	devices.are(all...)
	kill(t, f, dies)
	share(t, all...)
	goesOn("when the one with the groups was forgotten")
	rest()
	working.Wait()
	before := counts[0].Load()
	becomes(t, "more is published while nobody is there", func() bool { return counts[0].Load() >= before+20 })
	at = home(t, all...)
	kill(t, f, all[at])
	all = append(all[:at:at], all[at+1:]...)
	devices.are(all...)
	close(enough)
	sending.Wait()
	working.Go(func() {
		devices.works(ctx, "worker", "$share/g/fleet/#", func() {}, func(one string) {
			mu.Lock()
			defer mu.Unlock()
			received[one]++
		})
	})
	total, doubled := 0, 0
	for i := range counts {
		total += int(counts[i].Load())
	}
	becomes(t, "all is received", func() bool { return sum() >= total })
	cancel()
	working.Wait()
	for i := range counts {
		for k := range counts[i].Load() {
			if received[fmt.Sprintf("fleet/sender%d %d", i, k)] == 0 {
				t.Errorf("message %d of sender %d was lost", k, i)
			}
		}
	}
	for one, n := range received {
		if n > 1 && strings.Contains(one, "sender") {
			doubled++
		}
	}
	t.Logf("%d messages, %d of them more than once", total, doubled)
	for _, n := range all {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}
