package torture

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/roster"
)

var (
	gatewaysFlag = flag.Duration("gateways", 0, "for how long TestGateways strikes gateways and brokers; 0: it is skipped")
	takeoverFlag = flag.Duration("gateways.takeover", 6*time.Second, "log.kafka.takeover in TestGateways")
	blowsFlag    = flag.String("gateways.blows", "", "an expression of the names of blows that TestGateways strikes")
	withinFlag   = flag.Duration("gateways.within", 0,
		"how long after a blow, or after Kafka serves plain clients again, TestGateways wants all served; 0: it only tells")
)

const (
	zeroTopic = "zero"  // QoS 0
	willTopic = "wills" // of those who do not come back
)

// TestGateways has three gateways that share sessions before three brokers, under devices of all kinds that connect to
// any of them, one after the other, while gateways and brokers are killed, paused and restarted. Nothing that was
// acknowledged is lost, what has QoS 2 is stored and received once, each will is told once, and order is kept: at
// subscribers and at a Kafka consumer of committed records. It tells how long it took until everybody was served again.
//
//	FIRTH_TEST_KAFKA_JARS=$classpath go test ./torture -run TestGateways -v -timeout 60m -args -gateways 10m
func TestGateways(t *testing.T) {
	if *gatewaysFlag == 0 {
		t.Skip("it takes its time: -args -gateways 1m")
	}
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%v, seed %d (again: -args -gateways %v -seed %d)", *gatewaysFlag, seed, *gatewaysFlag, seed)
	s := &shared{t: t, h: newHistory(), dice: rand.New(rand.NewPCG(seed, 14)), served: map[string][]time.Duration{}}
	l, err := newLAN(t, 3)
	if err != nil {
		t.Logf("NO BROKER IS CUT OFF: %v", err)
	}
	s.b = newBrokersOn(t, l)
	s.open()
	defer func() {
		if t.Failed() {
			s.lastWords()
		}
	}()
	s.await("service for all", s.allServed(time.Now()))
	s.strike()
	s.finish()
}

// shared is three gateways, and who uses them.
type shared struct {
	t        *testing.T
	b        *brokers
	gateways []*server
	balancer *balancer
	h        *history
	dice     *rand.Rand

	exact    []*exactPublisher
	progress []*progress // of exact
	exactSub []*exactSubscriber
	nights   nights // QoS 1
	wills    willBook
	reader   *sharedReader
	enough   context.CancelFunc // of publishing
	left     sync.WaitGroup     // who publishes
	witness  *witness
	told     [3]int // how much of the log of each gateway the test has told

	served map[string][]time.Duration // by what was done: until all were served again
}

// progress is when the messages of a publisher were stored.
type progress struct {
	mu sync.Mutex
	at []time.Time // the last ones
}

const progressKept = 16

func (p *progress) note(string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = append(p.at, time.Now())
	if len(p.at) > progressKept {
		p.at = p.at[1:]
	}
}

// since is when a message was stored that was sent after a time, for who has so many in flight at most; false: none
// was.
func (p *progress) since(from time.Time, window int) (at time.Time, was bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.at, func(at time.Time) bool { return at.After(from) })
	if i < 0 || len(p.at)-i <= window {
		return at, false
	}
	return p.at[i+window], true
}

func (s *shared) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shared) open() {
	s.witness = newWitness(s.t, s.b)
	var at []string
	for range 3 {
		g := newServer(s.t, "listen.kafka=", "listen.http=127.0.0.1:0",
			"log.kafka.brokers="+strings.Join(s.b.addresses, ","), "log.kafka.gateways=shared",
			"log.kafka.peers.listen=127.0.0.1:0", "audit.enabled=false",
			"log.kafka.takeover="+takeoverFlag.String())
		g.expected = []string{
			"closed shards",            // of one that was paused for too long, with the reason
			"cannot read for delivery", // while Kafka is away for longer than log.kafka.request_timeout
		}
		_, err := g.start()
		s.must(err)
		s.gateways, at = append(s.gateways, g), append(at, g.mqtt)
	}
	s.balancer = newBalancer(s.t, at...)
	ctx, cancel := context.WithCancel(s.t.Context())
	s.enough = cancel
	s.subscribeExact()
	s.publishExact(ctx)
	s.openNights()
	s.wills.due = map[string]bool{}
	some := rand.New(rand.NewPCG(s.dice.Uint64(), 1))
	s.left.Go(func() { s.mourners(ctx, some) })
	for i := range 2 {
		s.left.Go(func() { s.zero(ctx, fmt.Sprint("zero", i)) })
	}
	s.reader = &sharedReader{s: s, exact: map[string]int{}, zero: map[string]int{}, first: map[string]int{},
		values: map[string]bool{}, wills: map[string]int{}}
	go s.reader.run()
}

// patience is how long a device waits for CONNACK before it tries the next gateway.
const patience = 5 * time.Second

func (s *shared) subscribeExact() {
	listening := make(chan struct{}, 3)
	for i, stays := range []time.Duration{0, 3 * time.Second, 500 * time.Millisecond} {
		sub := &exactSubscriber{
			exactClient: exactClient{id: fmt.Sprint("sub", i), version: []packet.Version{packet.V311, packet.V5}[i%2], h: s.h,
				patience: patience},
			filter: exactTopic + "/#", stays: stays, heard: map[uint16]bool{},
		}
		sub.judge = sub.inOrder(map[string]int{})
		s.exactSub = append(s.exactSub, sub)
		go sub.run(s.t.Context(), s.balancer.address, func() { listening <- struct{}{} })
	}
	for range s.exactSub {
		<-listening
	}
}

func (s *shared) publishExact(ctx context.Context) {
	for i := range 12 {
		w := &progress{}
		p := &exactPublisher{
			exactClient: exactClient{id: fmt.Sprint("pub", i), version: []packet.Version{packet.V311, packet.V5}[i%2], h: s.h,
				patience: patience},
			window: 1 + i%8, pause: 20 * time.Millisecond, stored: w.note,
		}
		s.exact, s.progress = append(s.exact, p), append(s.progress, w)
		s.left.Go(func() { p.run(ctx, s.t.Context(), s.balancer.address) })
	}
}

// openNights has devices with sessions of QoS 1 come and go.
func (s *shared) openNights() {
	n := &s.nights
	n.t, n.s, n.h = s.t, &server{mqtt: s.balancer.address}, s.h
	publish := n.publishing(s.dice)
	for _, p := range n.publishers {
		p.pause = 40 * time.Millisecond
	}
	all, second := []string{"alpha/#", "beta/#"}, time.Second
	var sleep []func(context.Context)
	for _, habits := range []habits{
		{id: "steady3", version: packet.V311, filters: all},
		{id: "steady5", version: packet.V5, filters: []string{"alpha/+", "beta/device02/temp"}},
		{id: "visitor3", version: packet.V311, filters: []string{"beta/#"}, stays: 2 * second, away: 2 * second},
		{id: "absent5", version: packet.V5, filters: all, stays: second, away: 30 * second, cut: true},
		{id: "narrow", version: packet.V5, filters: []string{"alpha/#"}, window: 2},
		{id: "holder5", version: packet.V5, filters: all, holds: 7, window: 20, stays: 2 * second, cut: true},
		{id: "twins5", version: packet.V5, filters: all, twins: 1, stays: second, holds: 5, cut: true},
	} {
		one := newSleeper(habits, s.h, &n.kills, s.dice)
		one.early = true
		n.sleepers = append(n.sleepers, one)
		for range 1 + one.twins {
			sleep = append(sleep, func(ctx context.Context) { one.run(ctx, s.balancer.address) })
		}
	}
	n.stop = []func(){inBackground(publish), inBackground(sleep)}
	s.t.Cleanup(func() {
		for _, stop := range n.stop {
			stop()
		}
	})
}

// willBook is which wills are to be told.
type willBook struct {
	mu  sync.Mutex
	due map[string]bool // false: it may be
}

// mourners come, one after the other, and are cut off, never to come back.
func (s *shared) mourners(ctx context.Context, dice *rand.Rand) {
	var all sync.WaitGroup
	defer all.Wait()
	for i := 0; ctx.Err() == nil; i++ {
		id, stays := fmt.Sprint("mourned", i), time.Duration(dice.IntN(4000))*time.Millisecond
		all.Go(func() { s.mourn(ctx, id, stays) })
		pauseFor(ctx, 400*time.Millisecond)
	}
}

func (s *shared) mourn(ctx context.Context, id string, stays time.Duration) {
	o := client.Options{ClientID: id, Resume: true, KeepAlive: 30 * time.Second,
		Will: &packet.Will{Topic: []byte(willTopic + "/" + id), Payload: []byte(id), QoS: 2}}
	o.Props.SetSessionExpiry(3600)
	limited, cancel := context.WithTimeout(s.t.Context(), 4*patience)
	defer cancel()
	c, err := client.Dial(limited, s.balancer.address, o)
	s.wills.mu.Lock()
	s.wills.due[id] = err == nil
	s.wills.mu.Unlock()
	if err != nil {
		return
	}
	select {
	case <-time.After(stays):
	case <-c.Done():
	case <-ctx.Done():
	}
	c.Abort()
}

// zero publishes numbers with QoS 0, from one connection after the other. They are in order as far as they are of one
// connection: what a gateway holds of the one before may come behind (docs/design/0014-gateway.md).
func (s *shared) zero(ctx context.Context, id string) {
	for n, connection := 0, 0; ctx.Err() == nil; pauseFor(ctx, 10*pace) {
		limited, cancel := context.WithTimeout(ctx, patience)
		c, err := client.Dial(limited, s.balancer.address, client.Options{ClientID: id, KeepAlive: 5 * time.Second})
		if cancel(); err != nil {
			continue
		}
		connection++
		for ; ctx.Err() == nil; n++ {
			m := &packet.Publish{Topic: []byte(zeroTopic + "/" + id), Payload: fmt.Append(nil, id, ".", connection, " ", n)}
			if c.Publish(m, 0) != nil {
				break
			}
			pauseFor(ctx, 10*pace)
		}
		c.Close()
	}
}

// sharedReader is a Kafka consumer of committed records.
type sharedReader struct {
	s *shared

	mu     sync.Mutex
	exact  map[string]int // by publisher: the number that is due
	zero   map[string]int // by connection of a publisher: the least number that may come
	first  map[string]int // by MQTT topic: the highest seq so far
	values map[string]bool
	wills  map[string]int
	count  int
}

func (r *sharedReader) run() {
	c := r.s.b.dial(kgo.ConsumeTopics(exactTopic, zeroTopic, willTopic, "alpha", "beta"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer c.Close()
	for {
		fetches := c.PollFetches(r.s.t.Context())
		if r.s.t.Context().Err() != nil {
			return
		}
		if err := fetchError(fetches); err != nil {
			r.s.h.complain("consumer: %v", err)
		}
		r.mu.Lock()
		fetches.EachRecord(r.judge)
		r.mu.Unlock()
	}
}

func (r *sharedReader) judge(rec *kgo.Record) {
	r.count++
	value, complain := string(rec.Value), r.s.h.complain
	where := fmt.Sprintf("%s/%d at %d", rec.Topic, rec.Partition, rec.Offset)
	from, number, _ := strings.Cut(value, " ")
	n := 0
	fmt.Sscan(number, &n)
	switch rec.Topic {
	case exactTopic:
		if n != r.exact[from] {
			complain("consumer: %s: %q where %d is due", where, value, r.exact[from])
		}
		r.exact[from] = n + 1
	case zeroTopic:
		if n < r.zero[from] {
			complain("consumer: %s: %q behind %d", where, value, r.zero[from]-1)
		}
		r.zero[from] = n + 1
	case willTopic:
		if r.wills[value]++; r.wills[value] > 1 {
			complain("consumer: %s: will %s is told again", where, value)
		}
	default:
		m := r.s.h.byText(value)
		if m == nil {
			complain("consumer: %s: %q was not sent", where, value)
			return
		}
		if last, some := r.first[m.key]; !r.values[value] && some && m.seq < last {
			complain("consumer: %s: %s %d came first behind %d", where, m.key, m.seq, last)
		}
		r.values[value], r.first[m.key] = true, max(r.first[m.key], m.seq)
	}
}

// revive starts gateways again that have ended by themselves. Brokers have no reason to.
func (s *shared) revive() {
	for _, a := range s.b.kafkas {
		if err := a.fell(); err != nil {
			s.t.Error(err)
		}
	}
	for i, g := range s.gateways {
		select {
		case err := <-g.ended:
			g.ended = nil
			g.wantQuiet()
			s.t.Logf("gateway %d has ended by itself: %v: %s", i, err, tail(g.log.String(), 300))
			s.comeUp(g)
		default:
		}
	}
}

// await waits for what has to come, however busy the machine is and however long Kafka itself is away, and has
// gateways begin again that have ended.
func (s *shared) await(what string, is func() bool) {
	s.t.Helper()
	from := time.Now()
	tell := from.Add(tellAfter)
	for end := from.Add(startLimit); !is(); pauseFor(s.t.Context(), 4*pace) {
		s.revive()
		s.nights.complaints()
		if time.Now().After(tell) {
			s.tell(from)
			tell = time.Now().Add(tellAfter)
		}
		if _, away := s.witness.until(from); away != "" && time.Since(from) < 4*startLimit {
			end = time.Now().Add(startLimit)
		}
		if s.t.Failed() || time.Now().After(end) {
			s.t.Fatalf("it did not come to %s", what)
		}
	}
}

// allServed tells whether all publishers had a message stored that they have sent after a time.
func (s *shared) allServed(from time.Time) func() bool {
	return func() bool {
		for i, p := range s.progress {
			if _, is := p.since(from, s.exact[i].window); !is {
				return false
			}
		}
		return true
	}
}

// blow is what is done to gateways and brokers.
type blow struct {
	name string
	do   func(s *shared)
}

func (s *shared) blows() []blow {
	all := []blow{
		{"kill -9 of a gateway", (*shared).killGateway},
		{"kill -9 of a gateway that is back at once", (*shared).killGatewayBriefly},
		{"pause of a gateway", (*shared).pauseGateway},
		{"long pause of a gateway", (*shared).pauseGatewayLong},
		{"rolling restart", (*shared).roll},
	}
	if len(s.b.kafkas) > 0 {
		all = append(all, []blow{
			{"kill -9 of a broker", (*shared).killBroker},
			{"kill -9 of the broker with the group", (*shared).killCoordinator},
			{"kill -9 of the broker with transactions", (*shared).killTransactions},
			{"kill -9 of the controller", (*shared).killController},
			{"pause of a broker", (*shared).pauseBroker},
			{"kill -9 of a gateway while a broker is away", (*shared).killBoth},
		}...)
	}
	if len(s.b.kafkas) > 0 && s.b.lan != nil {
		all = append(all, []blow{
			{"a broker cut off", (*shared).cutBroker},
			{"a broker cut off from the others", (*shared).partBroker},
		}...)
	}
	which := regexp.MustCompile(*blowsFlag)
	return slices.DeleteFunc(all, func(b blow) bool { return !which.MatchString(b.name) })
}

// strike strikes for as long as the flag says, each blow once before any comes again.
func (s *shared) strike() {
	blows := s.blows()
	for end := time.Now().Add(*gatewaysFlag); ; {
		for _, i := range s.dice.Perm(len(blows)) {
			if time.Now().After(end) {
				return
			}
			s.blow(blows[i])
		}
	}
}

func (s *shared) blow(b blow) {
	s.t.Helper()
	s.t.Logf("%v: %s", s.h.now().Round(time.Millisecond), b.name)
	b.do(s)
	s.await("service for all after "+b.name, s.allServed(time.Now()))
	s.await("brokers that are in sync after "+b.name, func() bool { return s.b.whole() == nil })
	s.nights.complaints()
}

// again waits until all publishers are served by whoever is there, and notes how long that took.
func (s *shared) again(what string, from time.Time) {
	s.await("service for all while it goes on: "+what, s.allServed(from))
	last := from
	for i, p := range s.progress {
		if at, _ := p.since(from, s.exact[i].window); at.After(last) {
			last = at
		}
	}
	s.served[what] = append(s.served[what], last.Sub(from))
	steady, _ := s.witness.until(from)
	s.t.Logf("%s: all were served again after %v, plain clients of Kafka after %v; sessions were given out%s", what,
		last.Sub(from).Round(time.Millisecond), steady.Sub(from).Round(time.Millisecond), s.givenOut(from))
	if within := *withinFlag; within > 0 && last.Sub(steady) > within {
		s.t.Errorf("%s: that is more than %v later than plain clients of Kafka", what, within)
	}
}

func (s *shared) wait(least, most int) {
	pauseFor(s.t.Context(), time.Duration(least+s.dice.IntN(most-least))*time.Millisecond)
}

func (s *shared) aGateway() *server { return s.gateways[s.dice.IntN(len(s.gateways))] }

func (s *shared) aBroker() *apache { return s.b.kafkas[s.dice.IntN(len(s.b.kafkas))] }

func (s *shared) kill(g *server) (at time.Time) {
	s.nights.kills.Add(2)
	at = time.Now()
	g.kill()
	return at
}

func (s *shared) start(g *server) {
	s.served["start of a gateway"] = append(s.served["start of a gateway"], s.comeUp(g))
}

// comeUp starts a gateway, over and over as who looks after it does: one that finds no Kafka ends. It tells how long
// the start took that succeeded.
func (s *shared) comeUp(g *server) time.Duration {
	for from := time.Now(); ; pauseFor(s.t.Context(), 40*pace) {
		needed, err := g.start()
		if err == nil {
			return needed
		}
		took := time.Since(from)
		if _, away := s.witness.until(from); away == "" && took > startLimit || took > 4*startLimit {
			s.t.Fatal(err)
		}
		s.t.Logf("a gateway has not started: %s", tail(err.Error(), 300))
	}
}

func (s *shared) killGateway() {
	g := s.aGateway()
	s.again("kill -9 of a gateway", s.kill(g))
	s.start(g)
}

func (s *shared) killGatewayBriefly() {
	g := s.aGateway()
	at := s.kill(g)
	s.start(g)
	s.again("kill -9 of a gateway, back at once", at)
}

// pauseGateway pauses one for less than others wait for it.
func (s *shared) pauseGateway() {
	g := s.aGateway()
	s.must(g.signal(syscall.SIGSTOP))
	s.wait(50, int(takeoverFlag.Milliseconds()/2))
	s.must(g.signal(syscall.SIGCONT))
}

// pauseGatewayLong pauses one until the others have its sessions. The load balancer finds that it is silent.
func (s *shared) pauseGatewayLong() {
	g, at := s.aGateway(), time.Now()
	s.must(g.signal(syscall.SIGSTOP))
	pauseFor(s.t.Context(), 3*time.Second)
	s.balancer.cut(g.mqtt)
	s.again("pause of a gateway", at)
	s.must(g.signal(syscall.SIGCONT))
}

// roll ends each gateway in order and starts it again.
func (s *shared) roll() {
	for _, g := range s.gateways {
		at := time.Now()
		s.must(g.stop())
		s.again("SIGTERM of a gateway", at)
		s.start(g)
	}
}

func (s *shared) killBroker() { s.killOne("kill -9 of a broker", s.aBroker()) }

func (s *shared) killOne(what string, a *apache) {
	at := time.Now()
	a.kill()
	s.again(what, at)
	s.must(a.start())
}

// killCoordinator kills the broker that knows which gateways there are.
func (s *shared) killCoordinator() {
	s.killOne("kill -9 of the broker with the group", s.broker(func(ctx context.Context, c *kgo.Client) (int32, error) {
		got := kadm.NewClient(c).FindGroupCoordinators(ctx, cluster.LeaseGroup)
		return got[cluster.LeaseGroup].NodeID, got.Error()
	}))
}

// killTransactions kills the broker that has the transactions of a shard of sessions.
func (s *shared) killTransactions() {
	shard := shardOf(s.exact[s.dice.IntN(len(s.exact))].id)
	s.killOne("kill -9 of the broker with transactions", s.broker(func(ctx context.Context, c *kgo.Client) (int32, error) {
		admin := kadm.NewClient(c)
		topics, err := admin.ListTopicsWithInternal(ctx, roster.TopicName)
		if err != nil {
			return -1, err
		}
		id := fmt.Sprintf("firth-%s-%d", record.UUID(topics[roster.TopicName].ID), shard)
		got := admin.FindTxnCoordinators(ctx, id)
		return got[id].NodeID, got.Error()
	}))
}

func (s *shared) killController() {
	s.killOne("kill -9 of the controller", s.broker(func(ctx context.Context, c *kgo.Client) (int32, error) {
		id, _, err := quorum(ctx, c)
		return id, err
	}))
}

// broker is the one that the cluster itself names, once it does.
func (s *shared) broker(ask func(context.Context, *kgo.Client) (id int32, err error)) *apache {
	c := s.b.dial()
	defer c.Close()
	for end := time.Now().Add(startLimit); ; pauseFor(s.t.Context(), 10*pace) {
		ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
		id, err := ask(ctx, c)
		if cancel(); err == nil && id >= 1 && int(id) <= len(s.b.kafkas) {
			return s.b.kafkas[id-1]
		}
		if time.Now().After(end) {
			s.t.Fatalf("the cluster does not tell which broker it is: %d, %v", id, err)
		}
	}
}

// cutBroker cuts a broker off from everybody.
func (s *shared) cutBroker() {
	a, at := s.aBroker(), time.Now()
	s.must(s.b.lan.cut(a.id))
	s.again("a broker cut off", at)
	s.must(s.b.lan.mend(a.id))
}

// partBroker cuts a broker off from the other brokers, for longer than they wait for it. Whoever uses it finds it: it
// takes itself for what it was, and who asks it waits for as long as that lasts, plain clients of Kafka as well.
func (s *shared) partBroker() {
	a := s.aBroker()
	s.must(s.b.lan.part(a.id))
	s.wait(12000, 20000)
	at := time.Now()
	s.must(s.b.lan.rejoin(a.id))
	s.again("a broker back that was cut off from the others", at)
}

func (s *shared) pauseBroker() {
	a := s.aBroker()
	s.must(a.signal(syscall.SIGSTOP))
	s.wait(50, 3000)
	s.must(a.signal(syscall.SIGCONT))
}

func (s *shared) killBoth() {
	a, g := s.aBroker(), s.aGateway()
	a.kill()
	s.again("kill -9 of a gateway while a broker is away", s.kill(g))
	s.must(a.start())
	s.start(g)
}

// finish has all come to rest, and counts.
func (s *shared) finish() {
	s.enough()
	s.left.Wait()
	sent, again := 0, 0
	for _, p := range s.exact {
		sent, again = sent+p.seq, again+p.publishes+p.releases
	}
	s.await("each message of QoS 2 with each subscriber", func() bool {
		return !slices.ContainsFunc(s.exactSub, func(sub *exactSubscriber) bool {
			given, _ := sub.count()
			return given < sent
		})
	})
	s.settleNights()
	due, _ := s.wills.count()
	acked, lacks := s.h.acknowledged(), "all"
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("the log has not: %s", lacks)
		}
	})
	s.await("each will, and all that was acknowledged, with the consumer", func() bool {
		lacks = s.reader.lacks(sent, acked)
		return lacks == ""
	})
	s.nights.complaints()
	for _, g := range s.gateways {
		s.must(g.stop())
	}
	all, _ := s.h.counts()
	s.t.Logf("QoS 2: %d messages, %d packets sent again; QoS 1: %d messages, %d acknowledged; %d wills; %d records", sent,
		again, all, len(acked), due, s.reader.count)
	for what, took := range s.served {
		slices.Sort(took)
		s.t.Logf("%s: %d times, %v (half) to %v", what, len(took), took[len(took)/2].Round(10*time.Millisecond),
			took[len(took)-1].Round(10*time.Millisecond))
	}
}

// settleNights has every sleeper get what it lacks.
func (s *shared) settleNights() {
	n := &s.nights
	for _, stop := range n.stop {
		stop()
	}
	n.stop = nil
	ctx, cancel := context.WithTimeout(s.t.Context(), startLimit)
	defer cancel()
	var all []func(context.Context)
	for _, one := range n.sleepers {
		all = append(all, func(context.Context) { one.settle(ctx, s.balancer.address) })
	}
	inBackground(all)()
	n.complaints()
}

func (w *willBook) count() (due, unsure int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, is := range w.due {
		if is {
			due++
		} else {
			unsure++
		}
	}
	return due, unsure
}

// lacks tells what is not in the log yet of what has to be there; "": nothing.
func (r *sharedReader) lacks(sent int, acked []*message) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	exact := 0
	for _, n := range r.exact {
		exact += n
	}
	if exact < sent {
		return fmt.Sprintf("%d of %d messages of QoS 2", sent-exact, sent)
	}
	if i := slices.IndexFunc(acked, func(m *message) bool { return !r.values[m.value] }); i >= 0 {
		return fmt.Sprintf("%s %d, which was acknowledged", acked[i].key, acked[i].seq)
	}
	r.s.wills.mu.Lock()
	defer r.s.wills.mu.Unlock()
	for id, due := range r.s.wills.due {
		if due && r.wills[id] == 0 {
			return "the will of " + id
		}
	}
	return ""
}
