package torture

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

var (
	campaignFlag     = flag.Int("campaign", 2, "how many runs TestCampaign makes")
	campaignOnlyFlag = flag.Int("campaign.only", -1, "the only one of them that it makes")
)

// TestCampaign is a checker in the manner of Jepsen's workload for Kafka. A run draws actors and nemeses from the seed:
// idempotent and transactional producers, workers that consume, transform and produce, groups of both protocols whose
// members come and go, devices, and administrators, under kill -9, pauses, orderly ends, full, failing and slow disks.
// What clients were told and given is then held against the log: lost, doubled, moved, aborted and torn records,
// polls that go back or skip, commits that are gone, and what else crash.md lists.
func TestCampaign(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%d runs, seed %d (again: -args -campaign %d -seed %d)", *campaignFlag, seed, *campaignFlag, seed)
	var table []string
	for n := range *campaignFlag {
		if *campaignOnlyFlag >= 0 && n != *campaignOnlyFlag {
			continue
		}
		c := &campaign{name: fmt.Sprint("run-", n), began: time.Now(), dice: rand.New(rand.NewPCG(seed, uint64(n)))}
		ok := t.Run(c.name, func(t *testing.T) {
			c.t = t
			c.run()
		})
		result := "sound"
		if !ok {
			result = fmt.Sprintf("BROKEN; again: -args -campaign %d -campaign.only %d -seed %d", n+1, n, seed)
		}
		table = append(table, fmt.Sprintf("%-7s %-34s %s; %.1f s; %s", c.name, c.evil(), c.summary(),
			time.Since(c.began).Seconds(), result))
		t.Log(table[len(table)-1])
	}
	t.Logf("%d runs:\n%s", len(table), strings.Join(table, "\n"))
}

// campaign is one run.
type campaign struct {
	t     *testing.T
	name  string
	began time.Time
	dice  *rand.Rand
	s     *server
	h     *history

	nemeses []nemesis
	struck  int

	sources []func(ctx context.Context) // what is stopped before it is looked at what came of it
	readers []func(ctx context.Context) // the groups
	etl     *etl
	device  *exactSubscriber
	given   map[place][]string // to the device

	publishers  []*publisher
	producers   []*producer
	transactors []*transactor
}

func (c *campaign) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *campaign) some() words {
	return words{rand.New(rand.NewPCG(c.dice.Uint64(), c.dice.Uint64()))}
}

// run is everything from the first start to the verdict.
func (c *campaign) run() {
	c.s = newServer(c.t, "limits.journal_file=1MiB", "groups.min_session_timeout=500ms",
		"groups.consumer_session_timeout=2s", "groups.consumer_heartbeat_interval=200ms")
	c.h = newHistory()
	c.choose()
	_, err := c.s.start()
	c.must(err)
	c.topics()
	c.cast()
	stopSources, stopReaders := inBackground(c.sources), inBackground(c.readers)
	stopWorkers := c.workers()
	stop := sync.OnceFunc(func() {
		stopSources()
		stopReaders()
		stopWorkers()
	})
	c.t.Cleanup(stop) // of a run that fails half-way
	for range 2 + c.dice.IntN(4) {
		pauseFor(c.t.Context(), time.Duration(200+c.dice.IntN(700))*time.Millisecond)
		c.nemeses[c.dice.IntN(len(c.nemeses))].strike(c)
		c.struck++
	}
	pauseFor(c.t.Context(), 300*time.Millisecond)
	c.etl.calm.Store(true)
	for _, q := range c.h.queues {
		q.calm.Store(true)
	}
	stopSources()
	before := c.settle()
	stop()
	c.judge(before)
}

// topics makes them.
func (c *campaign) topics() {
	client, err := dialKafka(c.s.kafka)
	c.must(err)
	defer client.Close()
	keep, file := fmt.Sprint(briefBytes), "16384"
	for topic, parts := range map[string]int32{
		"alpha": 4, ledger: ledgerParts, brief: briefParts, keyed: 1, transacted: transactedParts, wide: 1,
		etlFrom: etlParts, etlTo: etlParts, etlSide: etlSides,
	} {
		var settings map[string]*string
		if topic == brief {
			settings = map[string]*string{"retention.bytes": &keep, "segment.bytes": &file}
		}
		if topic == keyed {
			settings = map[string]*string{"cleanup.policy": new("compact"), "min.cleanable.dirty.ratio": new("0.01")}
		}
		answer, err := kadm.NewClient(client).CreateTopic(c.t.Context(), parts, 1, settings, topic)
		c.must(err)
		c.h.created(topic, answer.ID)
	}
}

// cast draws the actors.
func (c *campaign) cast() {
	address := c.s.kafka
	retry := func(run func(ctx context.Context) error) func(ctx context.Context) {
		return func(ctx context.Context) {
			for ctx.Err() == nil {
				if err := run(ctx); err != nil {
					c.t.Logf("%v", err)
				}
				pauseFor(ctx, pace)
			}
		}
	}
	for i := range c.dice.IntN(5) {
		name := fmt.Sprintf("device%02d", i)
		p := &publisher{name: name, topics: []string{"alpha/" + name, "gamma/" + name}, words: c.some(), h: c.h,
			refusable: c.s.faulty}
		if i == 0 {
			p.retain, p.topics = true, []string{retainedTopic + "/d0", retainedTopic + "/d1"}
		}
		c.publishers = append(c.publishers, p)
		c.sources = append(c.sources, func(ctx context.Context) {
			for ctx.Err() == nil {
				if p.run(ctx, c.s.mqtt) != nil {
					pauseFor(ctx, pace)
				}
				p.settle()
			}
		})
	}
	for _, at := range []place{{ledger, ledgerParts}, {etlFrom, etlParts}, {brief, briefParts}, {keyed, 1}} {
		p, err := newProducer("producer-"+at.topic, c.some(), c.h, address)
		c.must(err)
		c.t.Cleanup(p.c.Close)
		p.topic, p.parts = at.topic, int(at.index)
		c.producers = append(c.producers, p)
		c.sources = append(c.sources, p.run)
	}
	for i := range 1 + c.dice.IntN(3) {
		p := &transactor{name: fmt.Sprint("transactor", i), words: c.some(), h: c.h}
		c.transactors = append(c.transactors, p)
		c.sources = append(c.sources, func(ctx context.Context) { p.run(ctx, address) })
	}
	extra, grower := 0, c.some()
	c.sources = append(c.sources,
		retry(func(ctx context.Context) error {
			extra++
			defer pauseFor(ctx, 20*pace)
			return create(ctx, c.h, address, fmt.Sprint("extra-", extra))
		}),
		retry(func(ctx context.Context) error { return trim(ctx, c.h, address) }),
		retry(func(ctx context.Context) error { return grow(ctx, c.h, address, grower) }),
		retry(func(ctx context.Context) error { return configure(ctx, c.h, address) }))
	c.groups()
	c.queue()
}

// queue draws the members of a share group.
func (c *campaign) queue() {
	c.must(startQueue(c.t.Context(), c.s.kafka, "queue"))
	q := newQueueHistory("queue", ledger)
	c.h.queues = append(c.h.queues, q)
	for i := range 1 + c.dice.IntN(3) {
		m := &queueMember{name: fmt.Sprint("taker-", i), queue: q, h: c.h, words: c.some()}
		c.readers = append(c.readers, func(ctx context.Context) { m.run(ctx, c.s.kafka) })
	}
}

// groups draws the protocols of the groups.
func (c *campaign) groups() {
	kinds := []struct {
		name string
		opts []kgo.Opt
	}{
		{"cooperative", []kgo.Opt{kgo.Balancers(kgo.CooperativeStickyBalancer())}},
		{"eager", []kgo.Opt{kgo.Balancers(kgo.RangeBalancer())}},
		{"consumer-uniform", []kgo.Opt{kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer())}},
		{"consumer-range", []kgo.Opt{kgo.ServerSideBalancer(), kgo.Balancers(kgo.RangeBalancer())}},
	}
	classic, next := c.dice.IntN(2), 2+c.dice.IntN(2)
	for _, kind := range []int{classic, next} {
		k := kinds[kind]
		g := c.h.group(k.name, "alpha", ledger, wide, transacted)
		for i := range 2 + c.dice.IntN(2) {
			opts := append([]kgo.Opt{kgo.SessionTimeout(1500 * time.Millisecond)}, k.opts...)
			if c.dice.IntN(3) == 0 {
				opts = append(opts, kgo.InstanceID(fmt.Sprint(k.name, "-", i)))
			}
			m := &consumer{name: fmt.Sprint(k.name, "-", i), group: g, h: c.h, words: c.some(), opts: opts}
			c.readers = append(c.readers, func(ctx context.Context) { m.run(ctx, c.s.kafka) })
		}
	}
}

// workers starts those who copy, and the device that listens to the copies.
func (c *campaign) workers() (stop func()) {
	c.etl = &etl{t: c.t, s: c.s, h: c.h}
	c.given = map[place][]string{}
	c.device = &exactSubscriber{
		exactClient: exactClient{id: "watcher", version: packet.V5, h: c.h}, filter: etlTo + "/#", heard: map[uint16]bool{},
	}
	c.device.judge = func(value string, _ bool) {
		m := c.h.find(value)
		if m == nil {
			c.h.complain("the device was given %q", value)
			return
		}
		at := place{etlTo, int32(m.seq % etlParts)}
		c.given[at] = append(c.given[at], value)
	}
	listening := make(chan struct{})
	run := []func(ctx context.Context){
		func(ctx context.Context) { c.device.run(ctx, c.s.mqtt, func() { close(listening) }) },
	}
	for i := range 1 + c.dice.IntN(3) {
		w := &etlWorker{e: c.etl, id: fmt.Sprint("worker-", i), dice: rand.New(rand.NewPCG(c.dice.Uint64(), 1))}
		run = append(run, func(ctx context.Context) {
			select {
			case <-listening:
				w.run(ctx)
			case <-ctx.Done():
			}
		})
	}
	return inBackground(run)
}

// settle lets everybody come to the end of what there is, without the nemesis, and gives what is there then.
func (c *campaign) settle() finds {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), startLimit)
	defer cancel()
	for _, p := range c.producers {
		if err := p.c.Flush(ctx); err != nil {
			c.t.Fatalf("%s has %d records left: %v", p.name, p.c.BufferedProduceRecords(), err)
		}
	}
	for _, p := range c.transactors {
		c.must(p.takeOver(ctx, c.s.kafka))
	}
	c.awaitCopies(ctx)
	now := c.read(ctx)
	for _, g := range c.h.groups {
		c.awaitSeen(ctx, g.name, g.seenAll, now, g.topics...)
	}
	for _, q := range c.h.queues {
		c.awaitSeen(ctx, q.name, q.seenAll, now, q.topic)
	}
	due := 0
	for at, rs := range now.log {
		if at.topic == etlFrom {
			due += len(rs)
		}
	}
	for given, _ := c.device.count(); given < due; given, _ = c.device.count() {
		if pauseFor(ctx, pace); ctx.Err() != nil {
			c.t.Fatalf("the device was given %d of %d copies", given, due)
		}
	}
	return now
}

// awaitSeen waits until the members of a group were given all that topics have.
func (c *campaign) awaitSeen(
	ctx context.Context, group string, seenAll func(snapshot) string, now finds, topics ...string,
) {
	c.t.Helper()
	shown := snapshot{}
	for _, log := range []snapshot{now.log, now.stable} {
		for at, rs := range log {
			if slices.Contains(topics, at.topic) {
				shown[at] = rs
			}
		}
	}
	for missing := seenAll(shown); missing != ""; missing = seenAll(shown) {
		if pauseFor(ctx, 10*pace); ctx.Err() != nil {
			c.t.Fatalf("group %s does not come to the end: nobody was given %s", group, missing)
		}
	}
}

// awaitCopies waits until the workers have committed the end of their source.
func (c *campaign) awaitCopies(ctx context.Context) {
	c.t.Helper()
	client, err := dialKafka(c.s.kafka)
	c.must(err)
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, etlFrom)
	c.must(err)
	for {
		found, err := groupCommits(ctx, c.s.kafka, "etl")
		c.must(err)
		left := 0
		ends.Each(func(o kadm.ListedOffset) {
			if found[place{o.Topic, o.Partition}] < o.Offset {
				left++
			}
		})
		if left == 0 {
			return
		}
		if pauseFor(ctx, 10*pace); ctx.Err() != nil {
			c.t.Fatalf("the workers have %d partitions left: %v", left, found)
		}
	}
}

// read reads everything.
func (c *campaign) read(ctx context.Context) finds {
	c.t.Helper()
	var now finds
	var err error
	c.must(readAll(ctx, c.s.kafka, &now))
	for at := range now.log {
		if strings.HasPrefix(at.topic, "__") {
			delete(now.log, at) // the node's own
		}
	}
	now.stable, err = readTransacted(ctx, c.s.kafka, transacted, etlTo, etlSide)
	c.must(err)
	now.transacted = valuesOf(now.stable, transacted)
	return now
}

// judge kills the server once more, and holds what is there behind that against the history.
func (c *campaign) judge(before finds) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), startLimit)
	defer cancel()
	if !c.s.kill() {
		c.t.Fatalf("the server had ended before it was killed:\n%s", c.s.log)
	}
	_, err := c.s.start()
	c.must(err)
	now := c.read(ctx)
	now.startsAt, now.device = before.starts, c.given
	now.groups = map[string]map[place]int64{}
	for _, g := range c.h.groups {
		now.groups[g.name], err = groupCommits(ctx, c.s.kafka, g.name)
		c.must(err)
	}
	now.settings, err = settings(ctx, c.s.kafka)
	c.must(err)
	now.retained, err = readRetained(ctx, c.s.mqtt, len(lastByKey(now.log, retainedTopic)))
	c.must(err)
	if v := check(c.h, before.log, now); len(v.lines) > 0 {
		c.t.Error(v)
	}
	c.must(c.s.stop())
	c.must(c.s.checkLog(ctx))
}

// evil names what is done to the server.
func (c *campaign) evil() string {
	var names []string
	for _, n := range c.nemeses {
		names = append(names, n.name)
	}
	return strings.Join(names, ", ")
}

// summary says how much was done.
func (c *campaign) summary() string {
	all, acked := c.h.counts()
	ends := map[int32]int{}
	for _, t := range c.h.transactions {
		ends[t.fate.Load()]++
	}
	text := fmt.Sprintf("%d×; %d sent, %d acked; txns %d/%d/%d", c.struck, all, acked, ends[fateCommitted],
		ends[fateAborted], ends[fateUnknown])
	if c.etl != nil {
		text += fmt.Sprintf("; copies %d/%d/%d", c.etl.committed.Load(), c.etl.aborted.Load(), c.etl.unknown.Load())
	}
	holdings, polled := 0, 0
	for _, g := range c.h.groups {
		n, records := g.counts()
		holdings, polled = holdings+n, polled+records
	}
	taken := 0
	for _, q := range c.h.queues {
		taken += len(q.given)
	}
	return text + fmt.Sprintf("; %d polled in %d assignments; %d taken; %d partitions added", polled, holdings, taken,
		c.h.grown[wide]-1)
}
