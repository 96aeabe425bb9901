package torture

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

var (
	outageFlag     = flag.Duration("outage", time.Second, "for how long TestOutage has all brokers away, at least")
	outageCalmFlag = flag.Duration("outage.calm", 0, "how long everybody works before that")
)

const (
	outageTopic      = "plant"
	outagePublishers = 8
	outagePace       = 5 * time.Millisecond // between two messages of one of them
)

// TestOutage has Kafka away under load. With a spool everything is acknowledged and arrives once Kafka is back, once
// and in order, at a subscriber and at a consumer; without one nothing that was published meanwhile is acknowledged
// before Kafka is back, and then it arrives just so. No connection ends.
//
//	FIRTH_TEST_KAFKA_JARS=$classpath go test ./torture -run TestOutage -v -timeout 60m -args -outage 5m
func TestOutage(t *testing.T) {
	for _, ack := range []string{"spool", "log"} {
		t.Run(ack, func(t *testing.T) { newKafkaAway(t, ack).run() })
	}
}

// kafkaAway is one run.
type kafkaAway struct {
	t      *testing.T
	ack    string
	b      *brokers
	s      *server
	began  time.Time
	pubs   []*outagePublisher
	heard  *outageEars
	left   sync.WaitGroup
	enough context.CancelFunc // of publishing
}

func newKafkaAway(t *testing.T, ack string) *kafkaAway {
	t.Helper()
	o := &kafkaAway{t: t, ack: ack, b: newBrokers(t), began: time.Now()}
	o.s = newServer(t, "listen.kafka=", "listen.http=127.0.0.1:0", "log.kafka.brokers="+strings.Join(o.b.addresses, ","),
		"log.kafka.ack="+ack, "log.kafka.takeover=5m")
	if _, err := o.s.start(); err != nil {
		t.Fatal(err)
	}
	return o
}

// outagePublisher sends numbers to a topic of its own. What it knows of each message is when it was sent and when it
// was acknowledged, since the beginning of the run.
type outagePublisher struct {
	o   *kafkaAway
	id  string
	qos byte
	c   *client.Client

	mu          sync.Mutex
	sent, acked []time.Duration // 0: not yet
	wrong       []string
}

func (p *outagePublisher) run(ctx context.Context) {
	tick := time.NewTicker(outagePace)
	defer tick.Stop()
	for n := uint64(0); ctx.Err() == nil; n++ {
		p.mu.Lock()
		p.sent, p.acked = append(p.sent, time.Since(p.o.began)), append(p.acked, 0)
		p.mu.Unlock()
		m := &packet.Publish{Topic: []byte(outageTopic + "/" + p.id), QoS: p.qos,
			Payload: fmt.Appendf(nil, "%s %d %s", p.id, n, strings.Repeat("x", 80))}
		if err := p.c.Publish(m, n); err != nil {
			p.o.t.Errorf("%s %d: %v", p.id, n, err)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// note is called by the client's reader.
func (p *outagePublisher) note(n uint64, reason packet.ReasonCode, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || reason.Failed() {
		p.wrong = append(p.wrong, fmt.Sprintf("%d: %v %v", n, reason, err))
		return
	}
	p.acked[n] = time.Since(p.o.began)
}

// since counts what was sent after a time, and how much of that is acknowledged.
func (p *outagePublisher) since(from time.Duration) (sent, acked int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := len(p.sent) - 1; n >= 0 && p.sent[n] > from; n-- {
		sent++
		if p.acked[n] > 0 {
			acked++
		}
	}
	return sent, acked
}

// each tells whether every publisher has done so much after a time.
func (o *kafkaAway) each(from time.Duration, sent, acked int) bool {
	return !slices.ContainsFunc(o.pubs, func(p *outagePublisher) bool {
		s, a := p.since(from)
		return s < sent || a < acked
	})
}

// outageEars hold what a subscriber was given: the numbers of each publisher, which have to go up one by one.
type outageEars struct {
	mu    sync.Mutex
	next  map[string]int
	wrong []string
}

func (e *outageEars) note(payload []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id, rest, _ := bytes.Cut(payload, []byte(" "))
	number, _, _ := bytes.Cut(rest, []byte(" "))
	n, err := strconv.Atoi(string(number))
	if want := e.next[string(id)]; (err != nil || n != want) && len(e.wrong) < 20 {
		e.wrong = append(e.wrong, fmt.Sprintf("%s %s in place of %d", id, number, want))
	}
	e.next[string(id)] = n + 1
}

func (e *outageEars) count() (sum int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.next {
		sum += n
	}
	return sum
}

// await waits for what has to come, however busy the machine is.
func (o *kafkaAway) await(what string, is func() bool) {
	o.t.Helper()
	for end := time.Now().Add(startLimit + *outageFlag); !is(); pauseFor(o.t.Context(), pace) {
		if o.t.Failed() || time.Now().After(end) {
			o.t.Fatalf("%s: it did not come to %s", o.ack, what)
		}
	}
}

func (o *kafkaAway) run() {
	o.open()
	o.await("a load that is acknowledged", func() bool { return o.each(0, 20, 20) })
	pauseFor(o.t.Context(), *outageCalmFlag)
	if cpu, err := o.s.cpu(); err == nil {
		o.t.Logf("ack: %s: %v of CPU time before Kafka goes away", o.ack, cpu)
	}
	o.b.leave()
	away := time.Since(o.began)
	peak := o.endure(away)
	acked := 0
	for _, p := range o.pubs {
		_, n := p.since(away)
		acked += n
	}
	if o.ack == "log" && acked > 0 {
		o.t.Errorf("%d messages are acknowledged that were sent while Kafka was away", acked)
	}
	lasted := time.Since(o.began) - away
	begun := time.Now()
	o.b.come()
	back, came := time.Since(o.began), time.Since(begun)
	o.await("what was held", func() bool { return o.each(back, 20, 20) && o.counter("firth_spool_bytes") == 0 })
	drained := time.Since(o.began) - back
	o.finish()
	o.t.Logf("ack: %s: Kafka away for %v under %d messages/s, back after %v: %d acknowledged meanwhile, %d bytes held at "+
		"most, all at its place %v after it was back", o.ack, lasted.Round(time.Millisecond),
		outagePublishers*int(time.Second/outagePace), came.Round(time.Millisecond), acked, peak,
		drained.Round(time.Millisecond))
	o.tellLatency(away, away+lasted)
	cpu, err := o.s.cpu()
	if memory, err2 := o.s.resident(); err == nil && err2 == nil {
		o.t.Logf("the gateway: %v of CPU time, %d MiB of memory", cpu, memory>>20)
	}
	if err := o.s.stop(); err != nil {
		o.t.Error(err)
	}
}

// open puts a subscriber and the publishers in place.
func (o *kafkaAway) open() {
	o.heard = &outageEars{next: map[string]int{}}
	var props packet.Properties
	props.SetSessionExpiry(3600)
	dial := func(c client.Options) *client.Client {
		c.KeepAlive = -1
		up, err := client.Dial(o.t.Context(), o.s.mqtt, c)
		if err != nil {
			o.t.Fatal(err)
		}
		o.t.Cleanup(up.Abort)
		return up
	}
	sub := dial(client.Options{ClientID: "ears", Props: props,
		OnMessage: func(m *packet.Publish) { o.heard.note(m.Payload) }})
	all := packet.Subscription{Filter: []byte(outageTopic + "/#"), QoS: 2}
	if _, err := sub.Subscribe(o.t.Context(), packet.Properties{}, all); err != nil {
		o.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(o.t.Context())
	o.enough = cancel
	o.t.Cleanup(cancel)
	for n := range outagePublishers {
		p := &outagePublisher{o: o, id: fmt.Sprint("p", n), qos: byte(1 + n%2)}
		p.c = dial(client.Options{ClientID: p.id, OnAck: p.note})
		o.pubs = append(o.pubs, p)
		o.left.Go(func() { p.run(ctx) })
	}
}

// endure has Kafka away for as long as is asked for, and until everybody has noticed. It gives how much was held at
// most.
func (o *kafkaAway) endure(away time.Duration) (peak int64) {
	ready, enough := "wait in the spool", 20
	if o.ack == "log" {
		ready, enough = "Kafka", 0
	}
	o.await("what tells that Kafka is away", func() bool {
		return o.each(away, 20, enough) && strings.Contains(o.get("/readyz?verbose"), ready)
	})
	for time.Since(o.began)-away < *outageFlag {
		peak = max(peak, o.counter("firth_spool_bytes"))
		pauseFor(o.t.Context(), 20*pace)
	}
	return max(peak, o.counter("firth_spool_bytes"))
}

func (o *kafkaAway) get(path string) string {
	answer, err := http.Get("http://" + o.s.http + path)
	if err != nil {
		o.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return string(text)
}

// counter reads a metric; 0: there is none.
func (o *kafkaAway) counter(name string) int64 {
	for line := range strings.Lines(o.get("/metrics")) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				o.t.Fatal(err)
			}
			return int64(n)
		}
	}
	return 0
}

// finish has every message end, and counts.
func (o *kafkaAway) finish() {
	o.enough()
	o.left.Wait()
	ctx, cancel := context.WithTimeout(o.t.Context(), startLimit)
	defer cancel()
	want := map[string]int{}
	sum := 0
	for _, p := range o.pubs {
		if err := p.c.Drain(ctx); err != nil {
			o.t.Errorf("%s: %v", p.id, err)
		}
		p.mu.Lock()
		want[p.id] = len(p.sent)
		sum += len(p.sent)
		open := slices.Index(p.acked, 0)
		if open >= 0 || len(p.wrong) > 0 {
			o.t.Errorf("%s: %d has no acknowledgement; %q", p.id, open, p.wrong)
		}
		p.mu.Unlock()
	}
	o.await("the last delivery", func() bool { return o.heard.count() >= sum })
	logged := o.readLog(ctx, sum)
	for where, e := range map[string]*outageEars{"the subscriber": o.heard, "the log": logged} {
		e.mu.Lock()
		if len(e.wrong) > 0 {
			o.t.Errorf("%s: %q", where, e.wrong)
		}
		for id, n := range want {
			if e.next[id] != n {
				o.t.Errorf("%s has %d of %d messages of %s", where, e.next[id], n, id)
			}
		}
		e.mu.Unlock()
	}
	o.t.Logf("ack: %s: %d messages, each acknowledged, delivered and in the log once, in order", o.ack, sum)
}

// readLog reads what a Kafka consumer of committed records finds, up to the end that it has now.
func (o *kafkaAway) readLog(ctx context.Context, sum int) *outageEars {
	o.t.Helper()
	c := o.b.dial(kgo.ConsumeTopics(outageTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer c.Close()
	ends, err := kadm.NewClient(c).ListCommittedOffsets(ctx, outageTopic)
	if err != nil {
		o.t.Fatal(err)
	}
	found := &outageEars{next: map[string]int{}}
	at := map[int32]int64{}
	there := func() bool {
		all := true
		ends.Each(func(l kadm.ListedOffset) { all = all && at[l.Partition] >= l.Offset })
		return all
	}
	for read := 0; !there(); {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			o.t.Fatalf("the log, after %d of %d messages: %v", read, sum, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if at[r.Partition] = r.Offset + 1; !r.Attrs.IsControl() {
				found.note(r.Value)
				read++
			}
		})
	}
	return found
}

// tellLatency tells how long acknowledgements took of what was sent before, in and after the outage.
func (o *kafkaAway) tellLatency(away, back time.Duration) {
	var took [3][]time.Duration
	for _, p := range o.pubs {
		for n, sent := range p.sent {
			phase := 0
			switch {
			case sent >= back:
				phase = 2
			case sent >= away:
				phase = 1
			}
			took[phase] = append(took[phase], p.acked[n]-sent)
		}
	}
	for phase, name := range []string{"before", "meanwhile", "after"} {
		all := took[phase]
		if len(all) == 0 {
			continue
		}
		slices.Sort(all)
		at := func(share float64) time.Duration {
			return all[int(float64(len(all)-1)*share)].Round(10 * time.Microsecond)
		}
		o.t.Logf("sent %s: %d messages, acknowledged after %v (half), %v (99 %%), %v (all)", name, len(all), at(0.5),
			at(0.99), at(1))
	}
}
