package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/tenure"
)

// amongEquals is a configuration for a gateway that shares sessions with others.
func amongEquals(t *testing.T, f *kfake.Cluster) *Config {
	t.Helper()
	c := among(t, f)
	c.Log.Kafka.Gateways, c.Audit.Enabled = sharedGateways, false
	return c
}

// has tells how many shards a gateway serves, and whether these are all that it is to.
func (n *Node) has() (serves int, all bool) {
	for shard := range n.mqtt.Shards() {
		if n.mqtt.ShardState(shard) == tenure.Serving {
			serves++
		}
	}
	place := n.standing.place
	return serves, serves == len(place.Mine()) && len(place.Yielding()) == 0
}

// share waits until gateways share all sessions evenly.
func share(t *testing.T, all ...*Node) {
	t.Helper()
	becomes(t, "all shards are shared", func() bool {
		sum := 0
		for _, n := range all {
			serves, settled := n.has()
			if !settled || serves < 64/len(all) {
				return false
			}
			sum += serves
		}
		return sum == 64
	})
}

// idOf is a client identifier whose session a gateway has.
func (n *Node) idOf(prefix string) string {
	for i := 0; ; i++ {
		if id := fmt.Sprint(prefix, i); n.mqtt.HasShard(n.mqtt.ShardOf(id)) {
			return id
		}
	}
}

// TestSharedSessions: devices connect to any of three gateways that all serve, and find their sessions, wherever those
// are: QoS 1 and 2 both ways, retained messages, what they missed, and a takeover by another gateway.
func TestSharedSessions(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	var all []*Node
	for range 3 {
		all = append(all, start(t, amongEquals(t, f)))
	}
	share(t, all...)
	for i, n := range all { // the session is on each, and the device connects to the next one
		id := n.idOf(fmt.Sprint("device", i, "-"))
		other, third := all[(i+1)%3], all[(i+2)%3]
		got, seen := make(chan string, 100), map[string]bool{}
		c := other.visit(t, lasting(id, false, got))
		topic := fmt.Sprint("plant", i)
		sub := packet.Subscription{Filter: []byte(topic + "/#"), QoS: 2}
		if _, err := c.Subscribe(t.Context(), packet.Properties{}, sub); err != nil {
			t.Fatal(err)
		}
		for j, by := range all {
			by.stores(t, message(topic+"/a", fmt.Sprint(j), 1, false), message(topic+"/b", fmt.Sprint(j), 2, j == 2))
		}
		want := []string{"/a 0 1", "/a 1 1", "/a 2 1", "/b 0 2", "/b 1 2", "/b 2 2"}
		for k := range want {
			want[k] = topic + want[k]
		}
		if now := each(t, got, seen, 6); !slices.Equal(now, want) {
			t.Errorf("got %q", now)
		}
		over := third.visit(t, lasting(id, true, got))
		if !over.Server().SessionPresent {
			t.Error("the session is not on the other gateway")
		}
		select {
		case <-c.Done():
		case <-time.After(time.Minute):
			t.Fatal("the connection by the other gateway is still there")
		}
		if err := over.Close(); err != nil {
			t.Fatal(err)
		}
		other.stores(t, message(topic+"/c", "missed", 1, false))
		back := n.visit(t, lasting(id, true, got))
		if !back.Server().SessionPresent {
			t.Error("the session is gone")
		}
		if now := each(t, got, seen, 1); now[0] != topic+"/c missed 1" {
			t.Errorf("back, it got %q", now)
		}
		late := third.visit(t, lasting(n.idOf(fmt.Sprint("late", i, "-")), false, got))
		if _, err := late.Subscribe(t.Context(), packet.Properties{}, sub); err != nil {
			t.Fatal(err)
		}
		if now := received(t, got, 1); now[0] != topic+"/b 2 2" {
			t.Errorf("retained: %q", now)
		}
		anybody := other.visit(t, client.Options{})
		if err := anybody.Close(); err != nil {
			t.Error(err)
		}
	}
}

// fleet is devices that connect to any gateway there is, one after the other, and go on with their sessions.
type fleet struct {
	t *testing.T

	mu       sync.Mutex
	gateways []string // addresses
	turn     int
}

// are says which gateways there are.
func (f *fleet) are(all ...*Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gateways = nil
	for _, n := range all {
		f.gateways = append(f.gateways, n.Addresses().MQTT)
	}
}

func (f *fleet) next() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn++
	return f.gateways[f.turn%len(f.gateways)]
}

// join connects a device, as often as that takes, to go on with its session; ctx ends that.
func (f *fleet) join(ctx context.Context, id string, again bool) *client.Wire {
	o := lasting(id, true, nil)
	for ctx.Err() == nil {
		w, err := client.Join(ctx, f.next(), o)
		switch {
		case err != nil:
			_ = clock.Pause(ctx, 10*time.Millisecond)
		case again && !w.Server().SessionPresent:
			f.t.Errorf("%s: its session is gone", id)
			return w
		default:
			return w
		}
	}
	return nil
}

// sends publishes numbers, one after the other, each until it is acknowledged, until enough are; it counts them.
func (f *fleet) sends(ctx context.Context, id string, qos byte, wanted <-chan struct{}, count *atomic.Int64) {
	released, first := false, true
	var w *client.Wire
	stop := func() bool { return true }
	for more := true; more; {
		if w == nil {
			if w = f.join(ctx, id, count.Load() > 0 || !first); w == nil {
				return
			}
			now := w
			stop = context.AfterFunc(ctx, func() { _ = now.Close() })
		}
		p := packet.Publish{Topic: []byte("fleet/" + id), Payload: fmt.Append(nil, count.Load()), QoS: qos, PacketID: 7,
			Dup: !first}
		ask := p.AppendTo(nil, packet.V5)
		if released {
			ask = (&packet.Pubrel{PacketID: 7}).AppendTo(nil, packet.V5)
		}
		first = false
		var got packet.Packet
		err := w.Write(ask, time.Minute)
		if err == nil {
			got, _, _ = w.Next() // nil with an error
		}
		switch got := got.(type) {
		case *packet.Pubrec:
			released = !got.Reason.Failed()
			continue
		case *packet.Puback:
			if !got.Reason.Failed() {
				count.Add(1)
				first = true
			}
		case *packet.Pubcomp:
			count.Add(1)
			first, released = true, false
		default: // the end of the connection
			stop()
			_ = w.Close()
			w = nil
			continue
		}
		select {
		case <-wanted:
			more = false
		default:
		}
	}
	stop()
	_ = w.Close()
}

// receives subscribes to all, and gathers what comes until ctx ends, by the rules of QoS 2.
func (f *fleet) receives(ctx context.Context, id string, ready func(), got func(string)) {
	held := map[uint16]bool{} // arrived, and not released
	for again := false; ctx.Err() == nil; again = true {
		w := f.join(ctx, id, again)
		if w == nil {
			return
		}
		stop := context.AfterFunc(ctx, func() { _ = w.Close() })
		err := w.Write((&packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
			{Filter: []byte("fleet/#"), QoS: 2}}}).AppendTo(nil, packet.V5), time.Minute)
		for err == nil {
			var p packet.Packet
			p, _, err = w.Next()
			switch p := p.(type) {
			case *packet.Suback:
				ready()
			case *packet.Publish:
				answer := (&packet.Puback{PacketID: p.PacketID}).AppendTo(nil, packet.V5)
				if p.QoS == 2 {
					answer = (&packet.Pubrec{PacketID: p.PacketID}).AppendTo(nil, packet.V5)
				}
				if p.QoS == 1 || !held[p.PacketID] {
					got(fmt.Sprintf("%s %s %d", p.Topic, p.Payload, p.QoS))
				}
				held[p.PacketID] = p.QoS == 2
				err = w.Write(answer, time.Minute)
			case *packet.Pubrel:
				delete(held, p.PacketID)
				err = w.Write((&packet.Pubcomp{PacketID: p.PacketID}).AppendTo(nil, packet.V5), time.Minute)
			}
		}
		stop()
		_ = w.Close()
	}
}

// TestSharedSessionsMove: while devices publish and receive by any gateway, one leaves in order, one comes, and one is
// forgotten by the cluster while it serves. Nothing that was acknowledged is lost, on the way in or out, and what has
// QoS 2 is there once. Long: it is one history.
func TestSharedSessionsMove(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	with := func() *Config {
		c := amongEquals(t, f)
		c.Logger = logtest.New(t, "closed shards", "sessions are another node's now", "closed mqtt", "fenced",
			"where sessions stand was not stored")
		return c
	}
	begin := func() *Node {
		n, err := Start(t.Context(), with())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a, b, c := begin(), begin(), begin()
	share(t, a, b, c)
	devices := &fleet{t: t}
	devices.are(a, b, c)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	var working, sending sync.WaitGroup
	defer func() { cancel(); working.Wait(); sending.Wait() }()
	var mu sync.Mutex
	received := [2]map[string]int{{}, {}}
	var ready sync.WaitGroup
	for i := range received {
		ready.Add(1)
		var once sync.Once
		working.Go(func() {
			devices.receives(ctx, fmt.Sprint("receiver", i), func() { once.Do(ready.Done) }, func(one string) {
				mu.Lock()
				received[i][one]++
				mu.Unlock()
			})
		})
	}
	ready.Wait()
	enough := make(chan struct{})
	counts := make([]atomic.Int64, 6)
	for i := range counts {
		sending.Go(func() {
			devices.sends(ctx, fmt.Sprint("sender", i), byte(1+i%2), enough, &counts[i])
		})
	}
	goesOn := func(what string) {
		t.Helper()
		var before [6]int64
		for i := range counts {
			before[i] = counts[i].Load()
		}
		becomes(t, "all publish "+what, func() bool {
			for i := range counts {
				if counts[i].Load() < before[i]+10 {
					return false
				}
			}
			return true
		})
	}
	goesOn("at first")
	devices.are(b, c)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	goesOn("without the one that has left")
	d := begin()
	devices.are(b, c, d)
	share(t, b, c, d)
	goesOn("with a new one")
	devices.are(c, d)
	kill(t, f, b)
	share(t, c, d)
	goesOn("without the one that was forgotten")
	close(enough)
	sending.Wait()
	total := 0
	for i := range counts {
		total += int(counts[i].Load())
	}
	becomes(t, "all is received", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(received[0]) >= total && len(received[1]) >= total
	})
	cancel()
	working.Wait()
	stored := map[string]int{}
	for _, one := range readAll(t, f, "fleet", total) {
		stored[one]++
	}
	for i := range counts {
		qos := 1 + i%2
		for k := range counts[i].Load() {
			key := fmt.Sprintf("fleet/sender%d %d", i, k)
			if n := stored[key]; n == 0 || qos == 2 && n > 1 {
				t.Errorf("%s with QoS %d is stored %d times", key, qos, n)
			}
			for r := range received {
				if n := received[r][fmt.Sprint(key, " ", qos)]; n == 0 || qos == 2 && n > 1 {
					t.Errorf("%s with QoS %d was received %d times", key, qos, n)
				}
			}
		}
	}
	for _, n := range []*Node{c, d} {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSharedSessionsEncrypted: what a device encrypts is decrypted by the gateway that it connects to; the one that has
// its session looks at the certificate, and knows it by that.
func TestSharedSessionsEncrypted(t *testing.T) {
	t.Parallel() // it waits
	f, dir := brokers(t), t.TempDir()
	ca, devices := securetest.NewCA(t, "servers"), securetest.NewCA(t, "devices")
	certificate, key := ca.Server("broker.example", "localhost").Write(t, dir, "server")
	clients := securetest.Write(t, dir, "devices.pem", devices.PEM)
	others := securetest.Write(t, dir, "others.pem", securetest.NewCA(t, "others").PEM)
	with := func(authority string) *Config {
		c := amongEquals(t, f)
		c.Listen.MQTTS, c.Log.Kafka.Peers.Listen = "127.0.0.1:0", "127.0.0.1:0"
		c.TLS.Certificate, c.TLS.Key, c.TLS.ClientCA, c.TLS.ClientAuth = certificate, key, authority, "require"
		return c
	}
	a := start(t, with(clients))
	b := start(t, with(clients))
	share(t, a, b)
	pump := devices.Client("pump")
	connect := func(by *Node, id string, version uint16) *packet.Connack {
		t.Helper()
		c, err := tls.Dial("tcp", by.Addresses().MQTTS, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost",
			MaxVersion: version, Certificates: []tls.Certificate{pump.TLS(t)}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return knockAs(t, c, id)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		id := b.idOf(fmt.Sprint("pump", version))
		if ack := connect(a, id, version); ack.Reason != packet.Success {
			t.Errorf("CONNACK %s", ack.Reason)
		}
		if s, err := b.mqtt.Session(id); err != nil || s.User != "pump" {
			t.Errorf("the other gateway has %+v: %v", s, err)
		}
	}
	strict := with(others) // it knows no authority of the devices
	strict.Logger = logtest.New(t, "refused a device")
	c := start(t, strict)
	share(t, a, b, c)
	conn, err := tls.Dial("tcp", a.Addresses().MQTTS, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost",
		Certificates: []tls.Certificate{pump.TLS(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hello := &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: []byte(c.idOf("pump"))}
	ask := hello.AppendTo(nil, packet.V5)
	if _, err := conn.Write(ask); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(conn); len(answer) > 0 {
		t.Errorf("a gateway that knows no authority for it answers %q", answer)
	}
}

// knockAs sends the CONNECT of a client, and gives the CONNACK.
func knockAs(t *testing.T, c net.Conn, id string) *packet.Connack {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	ask := (&packet.Connect{Version: packet.V5, CleanStart: true, ClientID: []byte(id)}).AppendTo(nil, packet.V5)
	if _, err := c.Write(ask); err != nil {
		t.Fatal(err)
	}
	var head [2]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, head[1])
	if _, err := io.ReadFull(c, rest); err != nil {
		t.Fatal(err)
	}
	dec := packet.Decoder{Version: packet.V5, Client: true}
	p, err := dec.Decode(append(head[:], rest...))
	if err != nil {
		t.Fatal(err)
	}
	return p.(*packet.Connack)
}

// TestSharedStateIsFrozen: what has one writer is not changed while gateways share sessions, and the reason is told;
// delayed messages are refused.
func TestSharedStateIsFrozen(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	n := start(t, amongEquals(t, f))
	share(t, n)
	_, err := stream.EnsureState(t.Context(), n.keeper, "__firth_delayed")
	if !fault.Is(err, fault.Unsupported) || !strings.Contains(fault.HintOf(err), "stop all gateways") {
		t.Errorf("what is frozen: %v (%s)", err, fault.HintOf(err))
	}
	refused := make(chan packet.ReasonCode, 1)
	c := n.visit(t, client.Options{OnAck: func(_ uint64, reason packet.ReasonCode, _ error) { refused <- reason }})
	if err := c.Publish(message("$delayed/1/t", "late", 1, false), 0); err != nil {
		t.Fatal(err)
	}
	if reason := <-refused; reason != packet.TopicNameInvalid {
		t.Errorf("a delayed message: %s", reason)
	}
	topics := n.keeper.Topics()
	for _, frozen := range []string{"__firth_delayed", "__firth_audit"} {
		if topics.ByName(frozen) != nil {
			t.Errorf("%s was made", frozen)
		}
	}
}

// TestSharedKeys: what cannot be where gateways share sessions.
func TestSharedKeys(t *testing.T) {
	for _, c := range []struct{ settings, want string }{
		{"", "audit.enabled: cannot be with"},
		{"audit.enabled=false", ""},
		{"audit.enabled=false log.kafka.ack=spool", "cannot be with"},
		{"audit.enabled=false flapping.disconnects=5", ""},
		{"audit.enabled=false limits.delayed=5", "limits.delayed: cannot be with"},
		{"audit.enabled=false limits.delayed=0", ""},
	} {
		judgeGateway(t, "log.kafka.gateways=shared log.kafka.peers.listen=127.0.0.1:7883 "+c.settings, c.want)
	}
}

// TestWillOfASharedSession: a will is told once when the gateway of its device is gone for good, and not before its
// device had time to come back.
func TestWillOfASharedSession(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	cfg := amongEquals(t, f)
	cfg.Logger = logtest.New(t, "closed shards", "closed mqtt", "sessions are another node's now", "fenced")
	a, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, c := start(t, amongEquals(t, f)), start(t, amongEquals(t, f))
	share(t, a, b, c)
	for i, by := range []*Node{b, c} {
		dies := lasting(a.idOf(fmt.Sprint("dies", i)), false, nil)
		dies.Will = &packet.Will{Topic: []byte("wills/" + dies.ClientID), Payload: []byte("gone"), QoS: 1}
		by.visit(t, dies)
	}
	name, err := a.instance()
	if err != nil {
		t.Fatal(err)
	}
	forget(t, f, name)
	select {
	case <-a.Failed():
	case <-time.After(time.Minute):
		t.Fatal("it does not know that it was forgotten")
	}
	if err := a.Close(); err != nil && !fault.Is(err, fault.Fenced) {
		t.Errorf("closed with %v", err)
	}
	if all := readAll(t, f, "wills", 2); len(slices.Compact(all)) != 2 {
		t.Errorf("wills: %q", all)
	}
	b.stores(t, message("wills/end", "", 1, false))
	if all := readAll(t, f, "wills", 3); len(slices.Compact(all)) != 3 {
		t.Errorf("wills: %q", all)
	}
}
