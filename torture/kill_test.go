package torture

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

var (
	roundsFlag = flag.Int("rounds", 5, "how often TestKill kills the binary")
	seedFlag   = flag.Uint64("seed", 0, "seed of TestKill; 0: another one each time")
)

const (
	publishers = 16
	producers  = 2
	startBound = 2 * time.Second // from the start of the process to serving, after a kill
	unlucky    = 10              // one start in so many may take longer by the clock, because the disk is busy
	seldom     = 10              // rounds between the checks that take long: firth log check, kcat, retention
)

// load is everybody who talks to the server while it is killed.
type load struct {
	t          *testing.T
	s          *server
	h          *history
	publishers []*publisher
	producers  []*producer

	transactors []*transactor
	seenTxns    map[*transaction]bool
	before      snapshot
	starts      map[place]int64 // where partitions began then
	slowest     time.Duration
	late        int // starts beyond startBound by the clock
}

// TestKill is the promise of the log, asked of the real binary: kill -9 in the middle of 16 publishers of QoS 1, 4
// idempotent producers, 2 transactional ones, a consumer group that commits, a device that sets retained messages,
// somebody who makes and deletes topics and somebody who deletes records, as often as -rounds says; all that was
// acknowledged is there, where it was.
func TestKill(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("%d rounds, seed %d (again: -args -rounds %d -seed %d)", *roundsFlag, seed, *roundsFlag, seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	// Small journal files, so that roll-ups, too, are under way when the process dies.
	l := &load{t: t, s: newServer(t, "limits.journal_file=1MiB"), h: newHistory(), before: snapshot{}}
	l.open(dice)
	for round := 1; round <= *roundsFlag; round++ {
		began := time.Now()
		if round%seldom == 2 {
			l.outgrow()
		}
		live, from := l.suffer(round, time.Duration(200+dice.IntN(1300))*time.Millisecond, 0)
		offline := round%seldom == 1
		if offline {
			l.must(l.s.checkLog(t.Context()))
		}
		if dice.IntN(4) == 0 {
			l.must(l.s.stillborn(time.Duration(dice.IntN(60)) * time.Millisecond))
		}
		took := l.start()
		l.flush()
		now := l.look(round)
		now.live, now.liveFrom = live, from
		l.judge(now, round)
		all, acked := l.h.counts()
		t.Logf("round %d: %d sent so far, %d acknowledged; %d delivered live; up again in %v; checked%s; %v for the round",
			round, all, acked, len(live), took.Round(time.Millisecond),
			map[bool]string{true: ", offline and with kcat, too"}[offline], time.Since(began).Round(time.Millisecond))
	}
	l.finish()
}

func (l *load) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// open starts the server for the first time, makes the topics and the actors.
func (l *load) open(dice *rand.Rand) {
	_, err := l.s.start()
	l.must(err)
	c, err := dialKafka(l.s.kafka)
	l.must(err)
	defer c.Close()
	keep, file := fmt.Sprint(briefBytes), "16384"
	for topic, parts := range map[string]int32{
		"alpha": 4, "beta": 3, ledger: ledgerParts, brief: briefParts, keyed: 1, transacted: transactedParts,
	} {
		var settings map[string]*string
		if topic == brief {
			settings = map[string]*string{"retention.bytes": &keep, "segment.bytes": &file}
		}
		if topic == keyed {
			settings = map[string]*string{"cleanup.policy": new("compact"), "min.cleanable.dirty.ratio": new("0.01")}
		}
		answer, err := kadm.NewClient(c).CreateTopic(l.t.Context(), parts, 1, settings, topic)
		l.must(err)
		l.h.created(topic, answer.ID)
	}
	some := func() words { return words{rand.New(rand.NewPCG(dice.Uint64(), dice.Uint64()))} }
	for n := range publishers {
		name := fmt.Sprintf("device%02d", n)
		topics := []string{"alpha/" + name, "beta/" + name + "/temp", "gamma/" + name} // gamma makes itself
		l.publishers = append(l.publishers, &publisher{name: name, topics: topics, words: some(), h: l.h})
	}
	state := &publisher{name: "setter", retain: true, words: some(), h: l.h}
	for n := range 10 {
		state.topics = append(state.topics, fmt.Sprintf("%s/d%d", retainedTopic, n))
	}
	l.publishers = append(l.publishers, state)
	for n := range producers + 2 {
		p, err := newProducer(fmt.Sprintf("producer%d", n), some(), l.h, l.s.kafka)
		l.must(err)
		if n == producers {
			p.topic, p.parts = brief, briefParts
		}
		if n == producers+1 {
			p.topic, p.parts = keyed, 1
		}
		l.producers = append(l.producers, p)
		l.t.Cleanup(p.c.Close)
	}
	l.seenTxns = map[*transaction]bool{}
	for n := range transactors {
		l.transactors = append(l.transactors, &transactor{name: fmt.Sprint("transactor", n), words: some(), h: l.h})
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- follow(ctx, l.h, l.s.kafka, []string{"alpha", "beta", "gamma", ledger, retainedTopic}) }()
	l.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	})
}

// start starts the server after a kill; it has to be quick. The work must always stay within the bound; by the
// clock, without the time that a busy machine gave to others, the disk may delay one start in ten.
func (l *load) start() time.Duration {
	l.t.Helper()
	took, err := l.s.start()
	l.must(err)
	l.slowest = max(l.slowest, took)
	worked, err := l.s.cpu()
	l.must(err)
	if waited := l.s.waited(); took-waited > startBound {
		l.late++
		l.t.Logf("a late start: %v, of which %v of CPU time, %v waiting for it", took, worked, waited)
	}
	if worked > startBound || l.late > 1+*roundsFlag/unlucky {
		l.t.Errorf("start after a kill: %v, %v of CPU time; at most %v (%d were late)", took, worked, startBound, l.late)
	}
	return took
}

// suffer lets everybody work for a while, and until so many messages are acknowledged, then kills the server. It
// returns what the subscriber was given, and from where on.
func (l *load) suffer(round int, after time.Duration, least int) (live map[string]bool, from map[place]int64) {
	sub, stop := l.work(round)
	from = l.ends()
	<-time.After(after)
	for deadline := time.Now().Add(startLimit); ; <-time.After(pace) { // how often it looks
		if _, acked := l.h.counts(); acked >= least {
			break
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("round %d: no %d messages are acknowledged in %v", round, least, startLimit)
		}
	}
	if !l.s.kill() {
		l.t.Fatalf("round %d: the server had ended before it was killed:\n%s", round, l.s.log)
	}
	stop()
	<-sub.c.Done()
	return sub.received(), from
}

// outgrow has more in the brief topic than it keeps, and waits until retention removes some and compaction, too.
func (l *load) outgrow() {
	l.t.Helper()
	for range 2000 {
		l.producers[producers].send()
	}
	for range 10_000 { // more than a journal file
		l.producers[producers+1].send()
	}
	l.flush()
	l.awaitCompaction()
	c, err := dialKafka(l.s.kafka)
	l.must(err)
	defer c.Close()
	for deadline := time.Now().Add(startLimit); ; <-time.After(10 * pace) {
		starts, err := kadm.NewClient(c).ListStartOffsets(l.t.Context(), brief)
		l.must(err)
		at := place{brief, briefParts - 1}
		if o, _ := starts.Lookup(at.topic, at.index); o.Offset > l.starts[at] {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("retention has removed nothing of %s in %v", at, startLimit)
		}
	}
}

// awaitCompaction waits until the compacted topic has lost some of the records that it had at the end.
func (l *load) awaitCompaction() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), startLimit)
	defer cancel()
	for at := (place{keyed, 0}); ; <-time.After(100 * pace) {
		var now finds
		l.must(readAll(ctx, l.s.kafka, &now))
		if rs := now.log[at]; int64(len(rs)) < rs[len(rs)-1].offset-now.starts[at] {
			return
		}
	}
}

// ends is where the log ends in the partitions that the subscriber hears of. Somebody is publishing already:
// what is stored by now may have been delivered or not, what comes after must be.
func (l *load) ends() map[place]int64 {
	l.t.Helper()
	c, err := dialKafka(l.s.kafka)
	l.must(err)
	defer c.Close()
	ends, err := kadm.NewClient(c).ListEndOffsets(l.t.Context(), "alpha", "beta", "gamma", retainedTopic)
	l.must(err)
	found := map[place]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err == nil {
			found[place{o.Topic, o.Partition}] = o.Offset
		}
	})
	return found
}

// work puts the subscriber in place and starts everybody. stop ends them and waits until they have ended.
func (l *load) work(round int) (sub *subscriber, stop func()) {
	sub, err := subscribe(l.t.Context(), l.s.mqtt, "listener", "alpha/#", "beta/#", "gamma/#", retainedTopic+"/#")
	l.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, p := range l.publishers {
		all.Go(func() {
			if err := p.run(ctx, l.s.mqtt); err != nil {
				l.t.Logf("%s: %v", p.name, err) // killed while it connected
			}
		})
	}
	for _, p := range l.producers {
		all.Go(func() { p.run(ctx) })
	}
	for _, p := range l.transactors {
		all.Go(func() { p.run(ctx, l.s.kafka) })
	}
	all.Go(func() {
		if err := create(ctx, l.h, l.s.kafka, fmt.Sprintf("extra-%d", round)); err != nil {
			l.t.Errorf("create: %v", err)
		}
	})
	all.Go(func() {
		if err := trim(ctx, l.h, l.s.kafka); err != nil {
			l.t.Errorf("trim: %v", err)
		}
	})
	return sub, func() {
		cancel()
		all.Wait()
		for _, p := range l.publishers {
			p.settle()
		}
	}
}

// flush waits until the producers have brought home what they had in hand when the server died.
func (l *load) flush() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), startLimit)
	defer cancel()
	for _, p := range l.producers {
		if err := p.c.Flush(ctx); err != nil {
			l.t.Fatalf("%s has %d records left: %v", p.name, p.c.BufferedProduceRecords(), err)
		}
	}
}

// look reads everything, through Kafka and through MQTT.
func (l *load) look(round int) finds {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), startLimit)
	defer cancel()
	var now finds
	var err error
	// The consumer goes on: what it sees and commits from here on is for the next time.
	now.seen, now.promised = l.h.consumed()
	if len(now.promised) > 0 {
		now.committed, err = commits(ctx, l.s.kafka)
		l.must(err)
	}
	now.startsAt = l.starts
	l.must(readAll(ctx, l.s.kafka, &now))
	now.retained, err = readRetained(ctx, l.s.mqtt, len(lastByKey(now.log, retainedTopic)))
	l.must(err)
	for _, p := range l.transactors {
		l.must(p.takeOver(ctx, l.s.kafka))
	}
	stable, err := readTransacted(ctx, l.s.kafka, transacted)
	l.must(err)
	now.transacted = valuesOf(stable, transacted)
	now.seenTxns = l.seenTxns
	if round%seldom == 1 {
		l.compareKcat(ctx, now.log)
	}
	return now
}

// judge holds what was found against the history, and keeps it for the next time.
func (l *load) judge(now finds, round int) {
	l.t.Helper()
	for at := range now.log {
		if strings.HasPrefix(at.topic, "__") {
			delete(now.log, at) // the node's own
		}
	}
	if v := check(l.h, l.before, now); len(v.lines) > 0 {
		l.t.Fatalf("round %d:\n%s", round, v)
	}
	l.before, l.starts = now.log, now.starts
}

// compareKcat reads a topic with another implementation, librdkafka's, if it is installed.
func (l *load) compareKcat(ctx context.Context, log snapshot) {
	l.t.Helper()
	name, err := exec.LookPath("kcat")
	if err != nil {
		l.t.Log("kcat is not installed: read with franz-go only")
		return
	}
	for _, topic := range []string{"alpha", ledger} {
		var out, errs bytes.Buffer
		cmd := exec.CommandContext(ctx, name, "-C", "-b", l.s.kafka, "-t", topic, "-o", "beginning", "-e", "-q",
			"-f", "%p %o %s\n")
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			l.t.Fatalf("kcat: %v\n%s", err, &errs)
		}
		var want []string
		for at, rs := range log {
			for _, r := range rs {
				if at.topic == topic {
					want = append(want, fmt.Sprintf("%d %d %s", at.index, r.offset, r.value))
				}
			}
		}
		got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			l.t.Fatalf("%s: kcat reads %d records, franz-go %d, and not the same", topic, len(got), len(want))
		}
	}
}

// awaitAll waits until everything that is asked for now and then has happened once: on a slow machine a kill may have
// come before it in every round.
func (l *load) awaitAll() {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), startLimit)
	defer cancel()
	c, err := dialKafka(l.s.kafka)
	l.must(err)
	defer c.Close()
	for lacks := "nothing"; lacks != ""; {
		if pauseFor(ctx, pace); ctx.Err() != nil {
			l.t.Fatalf("in all the time there was no %s", lacks)
		}
		starts, err := kadm.NewClient(c).ListStartOffsets(ctx, brief)
		l.must(err)
		lacks = l.h.lacks()
		starts.Each(func(o kadm.ListedOffset) {
			if o.Err != nil || o.Offset <= 0 {
				lacks = fmt.Sprintf("removal from %s/%d", o.Topic, o.Partition)
			}
		})
	}
}

// lacks names what nobody was told of: that a group has committed, that a topic is gone or a transaction committed.
func (h *history) lacks() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	committed := func(t *transaction) bool { return t.fate.Load() == fateCommitted }
	switch {
	case len(h.committed) == 0:
		return "commit of the group"
	case len(h.gone) == 0:
		return "deletion of a topic"
	case !slices.ContainsFunc(h.transactions, committed):
		return "transaction"
	}
	return ""
}

// finish brings everything home without a kill: then nothing is unacknowledged, undelivered or uncommitted.
func (l *load) finish() {
	sub, stop := l.work(*roundsFlag + 1)
	from := l.ends()
	<-time.After(300 * time.Millisecond)
	l.awaitAll()
	stop()
	l.flush()
	for _, p := range l.publishers {
		if n := len(p.open); n > 0 {
			l.t.Errorf("%s: %d messages without acknowledgement", p.name, n)
		}
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), startLimit)
	defer cancel()
	now := l.look(seldom + 1)
	now.liveFrom, now.complete = from, true
	err := sub.await(ctx, func(live map[string]bool, _ map[string]string) bool {
		for at, offset := range from {
			rs := now.log[at]
			if len(rs) > 0 && rs[len(rs)-1].offset >= offset && !live[rs[len(rs)-1].value] {
				return false
			}
		}
		return true
	})
	if err != nil {
		l.t.Errorf("waiting for the last deliveries: %v", err)
	}
	now.live = sub.received()
	sub.c.Close()
	l.judge(now, *roundsFlag+1)
	l.must(l.s.stop())
	l.must(l.s.checkLog(ctx))
	if len(now.promised) == 0 {
		l.t.Error("the group has committed nothing")
	}
	if len(l.seenTxns) == 0 {
		l.t.Error("no transaction was seen in all the time")
	}
	all, acked := l.h.counts()
	l.t.Logf("%d messages, %d acknowledged, every one in its place; slowest start %v", all, acked, l.slowest)
}
