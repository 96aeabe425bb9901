package torture

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/conformance/outside"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

var (
	fleetFlag  = flag.Int("fleet", 100, "how many devices publish while TestHandOver hands over")
	flightFlag = flag.Int("flight", 64, "how many records each of its producers has in flight")
)

const (
	fleetTopic     = "alpha" // of the devices of a hand-over
	fleetParts     = 4
	fleetProducers = 4
	fleetPause     = 200 * time.Millisecond // of a device, from an acknowledgement to the next message
	upgrades       = 3
	someAcks       = 200 // acknowledgements between two steps
	listenerExpiry = 3600
)

// What a program does that takes over badly; they speak as docs/format/hand-over.md says.
const (
	failsAtOnce = "#!/bin/sh\nexit 3\n"
	failsLater  = "#!/bin/sh\necho prepared >&4\nread sockets <&3\nread go <&3\nexit 4\n"
)

// What the process that stays logs as an error then.
const (
	goesOn      = "the process that was to take over ended: this one goes on"
	servesAgain = "the process that took over ended before it served: this one serves again"
)

// chain is a row of processes of one binary on one data directory, each of which takes the place of the one before.
type chain struct {
	t                    *testing.T
	program              string // what is started next
	data, mqtt, kafka    string
	pid                  int             // of the process that served last
	first                *exec.Cmd       // the one that the test has started
	ready                chan readyLine  // of each that serves
	gone                 <-chan struct{} // closed when none is left
	log                  *os.File        // standard error of all of them
	expected             []string
	refused, cut, served atomic.Int64 // connections of clients: refused, cut before they were served, served
}

// readyLine is what a process writes when it serves.
type readyLine struct {
	PID       int
	Addresses outside.Addresses
}

func newChain(t *testing.T) *chain {
	t.Helper()
	at := quiet(t, 2)
	c := &chain{t: t, data: t.TempDir(), program: filepath.Join(t.TempDir(), "firth"), mqtt: at[0], kafka: at[1]}
	c.install("")
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	c.log = log
	t.Cleanup(func() {
		c.kill(c.pid)
		if t.Failed() {
			t.Logf("the last log:\n%s", tail(c.logged(), 6000))
		}
		log.Close()
	})
	return c
}

func (c *chain) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// install puts a script, or the binary, where the next process is started from.
func (c *chain) install(script string) {
	c.t.Helper()
	text := []byte(script)
	if script == "" {
		name, err := binary()
		c.must(err)
		text, err = os.ReadFile(name)
		c.must(err)
	}
	c.must(os.WriteFile(c.program+".new", text, 0o700))
	c.must(os.Rename(c.program+".new", c.program))
}

func (c *chain) logged() string {
	text, err := os.ReadFile(c.log.Name())
	c.must(err)
	return string(text)
}

// start starts the first process of a row, and returns when it serves.
func (c *chain) start() {
	c.t.Helper()
	args := []string{"serve", "-o", "json"}
	for _, set := range []string{"data=" + c.data, "listen.mqtt=" + c.mqtt, "listen.kafka=" + c.kafka, "listen.ws=",
		"listen.http=", "limits.journal_file=8MiB"} {
		args = append(args, "--set", set)
	}
	cmd := exec.Command(c.program, args...)
	cmd.Env, cmd.Stderr = environment(), c.log
	out, err := cmd.StdoutPipe()
	c.must(err)
	c.must(cmd.Start())
	c.first, c.pid = cmd, cmd.Process.Pid
	go cmd.Process.Wait() // the others are not our children; gone tells of all
	ready, gone := make(chan readyLine, 64), make(chan struct{})
	c.ready, c.gone = ready, gone
	go func() {
		defer close(gone)
		for in := bufio.NewScanner(out); in.Scan(); {
			var r readyLine
			if json.Unmarshal(in.Bytes(), &r) == nil {
				ready <- r
			}
		}
		io.Copy(io.Discard, out)
	}()
	at := c.await().Addresses
	if c.mqtt != at.MQTT || c.kafka != at.Kafka { // the first time: from then on others read them
		c.mqtt, c.kafka = at.MQTT, at.Kafka
	}
}

// await waits until a process serves.
func (c *chain) await() readyLine {
	c.t.Helper()
	select {
	case r := <-c.ready:
		c.pid = r.PID
		return r
	case <-c.gone:
		c.t.Fatalf("no process is left:\n%s", tail(c.logged(), 6000))
	case <-time.After(startLimit):
		c.t.Fatalf("nobody serves after %v:\n%s", startLimit, tail(c.logged(), 6000))
	}
	return readyLine{}
}

// next asks the process that serves to hand over.
func (c *chain) next() {
	c.t.Helper()
	c.must(syscall.Kill(c.pid, syscall.SIGUSR2))
}

// kill ends processes at once and waits until none of the row is left.
func (c *chain) kill(pids ...int) {
	for _, pid := range pids {
		if pid > 0 {
			syscall.Kill(pid, syscall.SIGKILL) // it may be gone
		}
	}
	if c.gone != nil {
		<-c.gone
	}
	c.pid = 0
}

// awaitLog waits until a text is logged so many times.
func (c *chain) awaitLog(text string, times int) {
	c.t.Helper()
	for deadline := time.Now().Add(startLimit); strings.Count(c.logged(), text) < times; <-time.After(pace) {
		if time.Now().After(deadline) {
			c.t.Fatalf("%q is not logged %d times in %v", text, times, startLimit)
		}
	}
}

// wantQuiet fails the test for what was logged as an error and is not expected.
func (c *chain) wantQuiet() {
	c.t.Helper()
	for line := range strings.Lines(c.logged()) {
		bad := strings.Contains(line, "level=ERROR") || strings.HasPrefix(line, "panic:")
		if bad && !slices.ContainsFunc(c.expected, func(e string) bool { return strings.Contains(line, `msg="`+e) }) {
			c.t.Errorf("logged: %s", line)
		}
	}
}

// dial connects and counts who is refused.
func (c *chain) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n, err := new(net.Dialer).DialContext(ctx, network, address)
	if errors.Is(err, syscall.ECONNREFUSED) {
		c.refused.Add(1)
	}
	return n, err
}

// delays are how long acknowledgements took, and when they came.
type delays struct {
	mu   sync.Mutex
	took []time.Duration
	at   []time.Time
}

func (d *delays) note(sent time.Time) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took, d.at = append(d.took, now.Sub(sent)), append(d.at, now)
}

// reset forgets what came so far.
func (d *delays) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took, d.at = nil, nil
}

// String gives the percentiles, and the longest time in which none came.
func (d *delays) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.took) == 0 {
		return "none"
	}
	took, at := slices.Sorted(slices.Values(d.took)), slices.SortedFunc(slices.Values(d.at), time.Time.Compare)
	var gap time.Duration
	for i := range at[1:] {
		gap = max(gap, at[i+1].Sub(at[i]))
	}
	of := func(part float64) time.Duration {
		return took[int(part*float64(len(took)-1))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("%d acknowledged, p50 %v, p99 %v, longest %v; longest time without any %v",
		len(took), of(0.5), of(0.99), of(1), gap.Round(100*time.Microsecond))
}

// fleet is everybody who talks to the processes of a chain.
type fleet struct {
	c         *chain
	h         *history
	devices   delays
	producers delays
	got       map[string]bool // values that the device was given that listens
	gotMu     sync.Mutex
	all       sync.WaitGroup
	stop      context.CancelFunc // ends those who send
	leave     context.CancelFunc // ends those who listen
	listening sync.WaitGroup
}

// fleetOptions say who is in a fleet.
type fleetOptions struct {
	devices, producers, flight int
	words                      func() words
}

// begin has everybody connect and work.
func (c *chain) begin(o fleetOptions) *fleet {
	c.t.Helper()
	f := &fleet{c: c, h: newHistory(), got: map[string]bool{}}
	admin, err := dialKafka(c.kafka)
	c.must(err)
	defer admin.Close()
	for topic, parts := range map[string]int32{fleetTopic: fleetParts, ledger: ledgerParts} {
		_, err := kadm.NewClient(admin).CreateTopic(c.t.Context(), parts, 1, nil, topic)
		c.must(err)
	}
	sending, stop := context.WithCancel(context.Background())
	listening, leave := context.WithCancel(context.Background())
	f.stop, f.leave = stop, leave
	c.t.Cleanup(func() { stop(); leave() })
	subscribed := make(chan struct{})
	f.listening.Go(func() { f.listen(listening, subscribed) })
	f.listening.Go(func() {
		if err := follow(listening, f.h, c.kafka, []string{fleetTopic, ledger}); err != nil {
			c.t.Error(err)
		}
	})
	select {
	case <-subscribed:
	case <-time.After(startLimit):
		c.t.Fatalf("no subscription in %v", startLimit)
	}
	for n := range o.devices {
		name, words := fmt.Sprintf("device%04d", n), o.words()
		f.all.Go(func() { f.device(sending, name, words) })
	}
	for n := range o.producers {
		p := &producer{name: fmt.Sprint("producer", n), topic: ledger, parts: ledgerParts, words: o.words(), h: f.h}
		p.c, err = dialKafka(c.kafka, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
			kgo.MaxBufferedRecords(o.flight), kgo.Dialer(c.dial))
		c.must(err)
		c.t.Cleanup(p.c.Close)
		f.all.Go(func() { f.produce(sending, p) })
	}
	return f
}

// device publishes one message after the other with QoS 1, each until it is acknowledged, and connects again at once
// where its connection ends.
func (f *fleet) device(ctx context.Context, name string, words words) {
	answers := make(chan error, 1)
	var m *message
	var sent time.Time
	for seq := 0; m != nil || ctx.Err() == nil; {
		o := client.Options{ClientID: name, Dial: f.c.dial, OnAck: func(_ uint64, reason packet.ReasonCode, err error) {
			if err == nil && reason >= 0x80 {
				f.h.complain("%s was refused: %v", name, reason)
			}
			answers <- err
		}}
		limit, cancel := context.WithTimeout(context.Background(), startLimit)
		c, err := client.Dial(limit, f.c.mqtt, o)
		cancel()
		if err != nil {
			f.c.cut.Add(1)
			<-time.After(pace) // refused, or nobody is there: not in a tight loop
			continue
		}
		f.c.served.Add(1)
		for m != nil || ctx.Err() == nil {
			if m == nil {
				m = &message{actor: name, seq: seq, topic: fleetTopic, key: fleetTopic + "/" + name, value: words.next(name, seq)}
				f.h.add(m)
				seq++
				sent = time.Now()
			}
			m.sends.Add(1)
			if c.Publish(&packet.Publish{Topic: []byte(m.key), Payload: []byte(m.value), QoS: 1}, m.ticket) != nil {
				break
			}
			if <-answers != nil {
				break
			}
			m.acked.Store(true)
			f.devices.note(sent)
			m = nil
			pauseFor(ctx, fleetPause)
		}
		c.Close()
	}
}

// produce keeps as many records in flight as its client holds.
func (f *fleet) produce(ctx context.Context, p *producer) {
	for ctx.Err() == nil {
		m := &message{actor: p.name, seq: p.seq, topic: p.topic, once: true, value: p.words.next(p.name, p.seq)}
		p.seq++
		m.sends.Store(1)
		f.h.add(m)
		sent := time.Now()
		r := &kgo.Record{Topic: p.topic, Partition: int32(m.seq % p.parts), Value: []byte(m.value)}
		p.c.Produce(context.Background(), r, func(r *kgo.Record, err error) {
			if err != nil {
				f.h.complain("%s gave up record %d: %v", p.name, m.seq, err)
				return
			}
			m.index, m.offset = r.Partition, r.Offset
			m.acked.Store(true)
			f.producers.note(sent)
		})
	}
	limit, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if err := p.c.Flush(limit); err != nil {
		f.h.complain("%s has %d records left: %v", p.name, p.c.BufferedProduceRecords(), err)
	}
}

// listen is a device whose session outlives its connections: it is given everything of the fleet.
func (f *fleet) listen(ctx context.Context, subscribed chan<- struct{}) {
	for first := true; ctx.Err() == nil; {
		o := client.Options{ClientID: "listener", Resume: true, Dial: f.c.dial, OnMessage: func(p *packet.Publish) {
			f.gotMu.Lock()
			defer f.gotMu.Unlock()
			f.got[string(p.Payload)] = true
		}}
		o.Props.SetSessionExpiry(listenerExpiry)
		c, err := client.Dial(ctx, f.c.mqtt, o)
		if err != nil {
			pauseFor(ctx, pace)
			continue
		}
		if first {
			codes, err := c.Subscribe(ctx, packet.Properties{}, packet.Subscription{Filter: []byte(fleetTopic + "/#"), QoS: 1})
			if err == nil && codes[0] == 1 {
				first = false
				close(subscribed)
			}
		} else if !c.Server().SessionPresent {
			f.h.complain("the session of the listener is gone")
		}
		select {
		case <-c.Done():
		case <-ctx.Done():
			c.Close()
		}
	}
}

// missing is how many messages of devices were acknowledged and not delivered.
func (f *fleet) missing() (n int) {
	f.gotMu.Lock()
	defer f.gotMu.Unlock()
	for m := range f.h.ackedNow() {
		if m.topic == fleetTopic && !f.got[m.value] {
			n++
		}
	}
	return n
}

// acked is how much was acknowledged by now, of devices and of producers.
func (f *fleet) acked() (devices, producers int) {
	f.devices.mu.Lock()
	defer f.devices.mu.Unlock()
	f.producers.mu.Lock()
	defer f.producers.mu.Unlock()
	return len(f.devices.took), len(f.producers.took)
}

// progress waits until more was acknowledged of both, or no process is left; it tells which.
func (f *fleet) progress(more int) bool {
	f.c.t.Helper()
	devices, producers := f.acked()
	for deadline := time.Now().Add(startLimit); ; {
		d, p := f.acked()
		if d >= devices+more && p >= producers+more {
			return true
		}
		if time.Now().After(deadline) {
			f.c.t.Fatalf("in %v %d and %d were acknowledged, of devices and producers", startLimit, d-devices, p-producers)
		}
		select {
		case <-f.c.gone:
			return false
		case <-time.After(pace):
		}
	}
}

// finish has everybody bring home what is open, and holds the log to what was acknowledged and seen.
func (f *fleet) finish() {
	f.c.t.Helper()
	f.stop()
	f.all.Wait()
	for deadline := time.Now().Add(startLimit); f.missing() > 0; <-time.After(10 * pace) {
		if time.Now().After(deadline) {
			f.c.t.Fatalf("%d messages were acknowledged and not delivered", f.missing())
		}
	}
	f.leave()
	f.listening.Wait()
	ctx, cancel := context.WithTimeout(f.c.t.Context(), startLimit)
	defer cancel()
	var now finds
	f.c.must(readAll(ctx, f.c.kafka, &now))
	now.seen, now.promised = f.h.consumed()
	for at := range now.log {
		if strings.HasPrefix(at.topic, "__") {
			delete(now.log, at) // the node's own
		}
	}
	v := &verdict{}
	checkOffsets(v, now)
	checkPlaces(v, f.h, snapshot{}, &now)
	checkMessages(v, f.h, &now, checkValues(v, f.h, now.log))
	checkOrder(v, f.h, now.log)
	for _, c := range f.h.complaint {
		v.add("complaint", "%s", c)
	}
	if len(v.lines) > 0 {
		f.c.t.Fatalf("after all:\n%s", v)
	}
}

// end ends the last process in order, and looks at the directory that is left.
func (c *chain) end() {
	c.t.Helper()
	c.must(syscall.Kill(c.pid, syscall.SIGTERM))
	select {
	case <-c.gone:
		c.pid = 0
	case <-time.After(startLimit):
		c.t.Fatal("it does not end")
	}
	c.wantQuiet()
	c.must((&server{binary: c.program, data: c.data}).checkLog(c.t.Context()))
}

func fleetOf(t *testing.T, devices, producers, flight int) fleetOptions {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	return fleetOptions{devices: devices, producers: producers, flight: flight,
		words: func() words { return words{rand.New(rand.NewPCG(dice.Uint64(), dice.Uint64()))} }}
}

// TestHandOver hands over to new processes under devices and producers at full load, several times in a row, then to
// one that does not start and to one that ends before it serves: no connection is refused, all that was acknowledged is
// there and was delivered, and a failing program changes nothing, or cuts connections once.
func TestHandOver(t *testing.T) {
	c := newChain(t)
	c.expected = []string{goesOn, servesAgain}
	c.start()
	f := c.begin(fleetOf(t, *fleetFlag, fleetProducers, *flightFlag))
	more := max(someAcks, 2**fleetFlag)
	f.progress(more)
	t.Logf("before: devices: %v", &f.devices)
	t.Logf("before: producers: %v", &f.producers)
	f.devices.reset()
	f.producers.reset()
	handOver := func() {
		t.Helper()
		before := c.pid
		c.install("")
		c.next()
		if c.await(); c.pid == before {
			t.Fatal("the same process serves")
		}
		f.progress(more)
	}
	for range upgrades {
		handOver()
	}
	if n := c.refused.Load(); n > 0 {
		t.Errorf("%d connections were refused", n)
	}
	t.Logf("%d hand-overs: devices: %v", upgrades, &f.devices)
	t.Logf("%d hand-overs: producers: %v", upgrades, &f.producers)
	t.Logf("connections of devices: %d served, %d cut before they were served, %d refused, of clients of Kafka too",
		c.served.Load(), c.cut.Load(), c.refused.Load())

	at, served := c.pid, c.served.Load()
	c.install(failsAtOnce)
	c.next()
	c.awaitLog(goesOn, 1)
	f.progress(more)
	if n := c.served.Load(); n > served {
		t.Errorf("%d connections began anew, though nobody took over", n-served)
	}
	c.install(failsLater)
	c.next()
	if c.await(); c.pid != at {
		t.Errorf("process %d serves again, it was %d", c.pid, at)
	}
	f.progress(more)
	handOver()
	f.finish()
	if n := c.refused.Load(); n > 0 {
		t.Errorf("%d connections were refused in the end", n)
	}
	c.end()
}

var nextPID = regexp.MustCompile(`msg="a new process gets ready to take over" pid=(\d+)`)

// TestHandOverKilled kills one of the two processes with SIGKILL at any moment of a hand-over, as often as -rounds
// says: whoever is left serves, or nobody is and another start does, and all that was acknowledged is there.
func TestHandOverKilled(t *testing.T) {
	dice := rand.New(rand.NewPCG(rand.Uint64(), 2))
	c := newChain(t)
	c.expected = []string{goesOn, servesAgain}
	c.start()
	f := c.begin(fleetOf(t, 10, 2, 16))
	ends := map[string]int{}
	for range *roundsFlag {
		f.progress(20)
		old := c.pid
		began := len(nextPID.FindAllString(c.logged(), -1))
		c.next()
		var next int
		for deadline := time.Now().Add(startLimit); next == 0; <-time.After(time.Millisecond) {
			if found := nextPID.FindAllStringSubmatch(c.logged(), -1); len(found) > began {
				fmt.Sscan(found[len(found)-1][1], &next)
			} else if time.Now().After(deadline) {
				t.Fatalf("no new process in %v", startLimit)
			}
		}
		<-time.After(time.Duration(dice.IntN(250)) * time.Millisecond)
		victim, who := old, "old"
		if dice.IntN(2) == 0 {
			victim, who = next, "new"
		}
		syscall.Kill(victim, syscall.SIGKILL) // the old one may have ended by itself
		if f.progress(20) {
			ends[who+" killed, the other serves"]++
		} else {
			ends[who+" killed, nobody is left"]++
		}
		c.kill(old, next)
		c.start()
	}
	t.Logf("%v", ends)
	f.finish()
	c.end()
}
