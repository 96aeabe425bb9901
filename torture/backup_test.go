package torture

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var backupPlaceFlag = flag.String("backup.place", "",
	"where TestBackup makes backups, and the flags for that; else a folder")

const (
	backupsMade   = 3
	backupTopic   = "alpha"
	backupParts   = 4
	ackedAtLeast  = 300 // between two backups
	behindTheHole = "restored"
)

// backedUp is a backup, and what was acknowledged before it was asked for.
type backedUp struct {
	id     string
	before map[*message]bool
}

// TestBackup makes backups under the load of both doors, kills the server in the middle of one more, restores each into
// another folder and serves it: what was acknowledged before is there and where it was, and what is written next comes
// behind every offset that the server ever gave. conformance/s3.sh runs it with a bucket as the place.
func TestBackup(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	l := &load{t: t, s: newServer(t, "limits.journal_file=1MiB", "listen.http=127.0.0.1:0"), h: newHistory()}
	_, err := l.s.start()
	l.must(err)
	l.backupTopics()
	stop := l.backupLoad(dice)
	store := strings.Fields(*backupPlaceFlag)
	if len(store) == 0 {
		store = []string{filepath.Join(t.TempDir(), "store")}
	}
	var made []backedUp
	for n := range backupsMade {
		l.await((n + 1) * ackedAtLeast)
		one := backedUp{before: l.h.ackedNow()}
		out, err := l.backup(store).Output()
		l.must(err)
		var said struct{ ID string }
		l.must(json.Unmarshal(out, &said))
		one.id = said.ID
		made = append(made, one)
	}
	last := l.backup(store)
	l.must(last.Start())
	time.AfterFunc(time.Duration(dice.IntN(30))*time.Millisecond, func() { l.s.cmd.Process.Kill() })
	t.Logf("killed in a backup: %v", last.Wait()) // it may have been quicker
	given := l.h.given()
	if !l.s.kill() {
		t.Fatalf("the server had ended before it was killed:\n%s", l.s.log)
	}
	stop()
	for _, one := range made {
		l.restore(store, one, given)
	}
}

// backup is the command that makes a backup of the server.
func (l *load) backup(store []string) *exec.Cmd {
	args := append([]string{"backup", "create", "--http", l.s.http, "--data", l.s.data, "--timeout", startLimit.String(),
		"-o", "json"}, store...)
	cmd := exec.CommandContext(l.t.Context(), l.s.binary, args...)
	cmd.Env = environment()
	return cmd
}

func (l *load) backupTopics() {
	l.t.Helper()
	c, err := dialKafka(l.s.kafka)
	l.must(err)
	defer c.Close()
	for topic, parts := range map[string]int32{backupTopic: backupParts, ledger: ledgerParts} {
		_, err := kadm.NewClient(c).CreateTopic(l.t.Context(), parts, 1, nil, topic)
		l.must(err)
	}
}

// backupLoad has devices and producers at work until stop is called, when the server is gone.
func (l *load) backupLoad(dice *rand.Rand) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	some := func() words { return words{rand.New(rand.NewPCG(dice.Uint64(), dice.Uint64()))} }
	var all sync.WaitGroup
	for n := range 8 {
		name := fmt.Sprintf("device%02d", n)
		p := &publisher{name: name, topics: []string{backupTopic + "/" + name}, words: some(), h: l.h}
		all.Go(func() {
			if err := p.run(ctx, l.s.mqtt); err != nil {
				l.t.Logf("%s: %v", p.name, err)
			}
		})
	}
	for n := range producers {
		p, err := newProducer(fmt.Sprintf("producer%d", n), some(), l.h, l.s.kafka)
		l.must(err)
		l.t.Cleanup(p.c.Close)
		all.Go(func() { p.run(ctx) })
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// await waits until so many messages are acknowledged.
func (l *load) await(least int) {
	l.t.Helper()
	for deadline := time.Now().Add(startLimit); ; <-time.After(pace) { // how often it looks
		if _, acked := l.h.counts(); acked >= least {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("no %d messages are acknowledged in %v", least, startLimit)
		}
	}
}

// ackedNow is what is acknowledged by now.
func (h *history) ackedNow() map[*message]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	acked := map[*message]bool{}
	for _, m := range h.messages {
		if m.acked.Load() {
			acked[m] = true
		}
	}
	return acked
}

// given is the highest offset of each partition that a producer was told.
func (h *history) given() map[place]int64 {
	top := map[place]int64{}
	for m := range h.ackedNow() {
		if m.once {
			at := place{m.topic, m.index}
			top[at] = max(top[at], m.offset)
		}
	}
	return top
}

// as is the history as it was when only some messages were acknowledged.
func (h *history) as(acked map[*message]bool) *history {
	h.mu.Lock()
	defer h.mu.Unlock()
	then := newHistory()
	for _, m := range h.messages {
		c := &message{actor: m.actor, seq: m.seq, topic: m.topic, key: m.key, value: m.value, once: m.once}
		c.sends.Store(m.sends.Load())
		if acked[m] {
			c.index, c.offset = m.index, m.offset
			c.acked.Store(true)
		}
		then.messages = append(then.messages, c)
		then.byValue[c.value] = c
	}
	return then
}

// restore restores a backup, serves it, and holds it to what was acknowledged before.
func (l *load) restore(store []string, one backedUp, given map[place]int64) {
	l.t.Helper()
	other := newServer(l.t)
	for _, args := range [][]string{
		{"backup", "verify", "--id", one.id}, {"backup", "restore", "--id", one.id, "--to", other.data},
	} {
		cmd := exec.CommandContext(l.t.Context(), l.s.binary, slices.Concat(args, store)...)
		cmd.Env = environment()
		if out, err := cmd.CombinedOutput(); err != nil {
			l.t.Fatalf("firth %v: %v\n%s", args, err, tail(string(out), 4000))
		}
	}
	l.must(other.checkLog(l.t.Context()))
	_, err := other.start()
	l.must(err)
	h := l.h.as(one.before)
	next := l.writeBehind(other, h)
	ctx, cancel := context.WithTimeout(l.t.Context(), startLimit)
	defer cancel()
	var now finds
	l.must(readWritten(ctx, other.kafka, next, &now))
	v := &verdict{}
	for at, offset := range next {
		if offset <= given[at] {
			v.add("again", "%s: offset %d is given, the other server had got to %d", at, offset, given[at])
		}
	}
	checkPlaces(v, h, snapshot{}, &now)
	checkMessages(v, h, &now, checkValues(v, h, now.log))
	checkOrder(v, h, now.log)
	for at, rs := range now.log { // behind the hole there is one record
		now.log[at] = rs[:len(rs)-1]
	}
	checkOffsets(v, now)
	if len(v.lines) > 0 {
		l.t.Fatalf("backup %s:\n%s", one.id, v)
	}
	l.t.Logf("backup %s: all of %d that were acknowledged before it are there", one.id, len(one.before))
	l.must(other.stop())
}

// writeBehind appends a record to each partition, and tells where it is.
func (l *load) writeBehind(s *server, h *history) map[place]int64 {
	l.t.Helper()
	c, err := dialKafka(s.kafka, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	l.must(err)
	defer c.Close()
	next := map[place]int64{}
	for topic, parts := range map[string]int32{backupTopic: backupParts, ledger: ledgerParts} {
		for p := range parts {
			m := &message{actor: behindTheHole, topic: topic, value: fmt.Sprint(behindTheHole, topic, p), once: true}
			m.sends.Store(1)
			h.add(m)
			r, err := c.ProduceSync(l.t.Context(), &kgo.Record{Topic: topic, Partition: p, Value: []byte(m.value)}).First()
			l.must(err)
			m.index, m.offset = r.Partition, r.Offset
			m.acked.Store(true)
			next[place{topic, p}] = r.Offset
		}
	}
	return next
}

// readWritten reads the partitions up to the records at some offsets.
func readWritten(ctx context.Context, address string, to map[place]int64, into *finds) error {
	from := map[string]map[int32]kgo.Offset{}
	for at := range to {
		if from[at.topic] == nil {
			from[at.topic] = map[int32]kgo.Offset{}
		}
		from[at.topic][at.index] = kgo.NewOffset().AtStart()
	}
	c, err := dialKafka(address, kgo.ConsumePartitions(from), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer c.Close()
	into.log, into.starts = snapshot{}, map[place]int64{}
	for left := len(to); left > 0; {
		fetches := c.PollFetches(ctx)
		if err := fetchError(fetches); err != nil || ctx.Err() != nil {
			return fmt.Errorf("%d partitions left: %w, %w", left, err, ctx.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at := place{r.Topic, r.Partition}
			into.log[at] = append(into.log[at], rec{r.Offset, string(r.Key), string(r.Value)})
			if r.Offset == to[at] {
				left--
			}
		})
	}
	return nil
}
