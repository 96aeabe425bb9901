package torture

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

var (
	migrateBytesFlag    = flag.Int("migrate.bytes", 4<<20, "bytes of messages that TestMigrate moves")
	migrateSessionsFlag = flag.Int("migrate.sessions", 24, "sessions that it moves")
)

const (
	farTopic   = "far"
	farParts   = 4
	farMissed  = 20    // messages that each session has missed
	farLooked  = 100   // of so many sessions, at most, it is looked at what they get
	farMessage = 1_000 // bytes of a message
)

// TestMigrate moves a node into a cluster by the command, which is killed twice in the middle: at a third and at two
// thirds of the records, or, before a cluster in memory, behind its second and its fourth write. All records are there
// afterwards, at their offsets, and sessions get what they missed, once.
//
//	FIRTH_TEST_KAFKA_JARS=$classpath go test ./torture -run TestMigrate -v -timeout 60m -args \
//		-migrate.bytes 1000000000 -migrate.sessions 10000
func TestMigrate(t *testing.T) {
	m := &moving{t: t, b: newBrokers(t), s: newServer(t)}
	m.to = strings.Join(m.b.addresses, ",")
	if _, err := m.s.start(); err != nil {
		t.Fatal(err)
	}
	m.fill()
	before := m.sums(m.s.kafka)
	if err := m.s.stop(); err != nil {
		t.Fatal(err)
	}
	for kill := range 2 {
		m.kill(kill)
	}
	out, err := m.command().CombinedOutput()
	if err != nil {
		t.Fatalf("firth migrate: %v\n%s", err, out)
	}
	t.Logf("firth migrate:\n%s", out)
	m.tell("to the end")
	if after := m.sums(m.b.addresses...); len(before) != farParts || !equalSums(before, after) {
		t.Errorf("the records of the node, by partition: %v; those of the cluster: %v", before, after)
	}
	if out, err := m.command().CombinedOutput(); err == nil || !bytes.Contains(out, []byte("was moved")) {
		t.Errorf("one run more: %v\n%s", err, out)
	}
	m.look()
}

// moving is one run.
type moving struct {
	t   *testing.T
	b   *brokers
	s   *server
	to  string
	cmd *exec.Cmd // the last firth migrate
	at  time.Time // it began
	all int64     // records
}

// fill has sessions away, messages in the log, and those that the sessions have missed.
func (m *moving) fill() {
	begun := time.Now()
	c, err := dialKafka(m.s.kafka, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)), kgo.MaxBufferedRecords(10_000))
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	if _, err := kadm.NewClient(c).CreateTopic(m.t.Context(), farParts, 1, nil, farTopic); err != nil {
		m.t.Fatal(err)
	}
	value := make([]byte, farMessage)
	dice := rand.NewChaCha8([32]byte{1})
	var failed atomic.Int64
	for n := range *migrateBytesFlag / farMessage {
		_, _ = dice.Read(value) // it never fails
		r := &kgo.Record{Topic: farTopic, Key: fmt.Appendf(nil, "far/x/%d", n%1000), Value: bytes.Clone(value)}
		c.Produce(m.t.Context(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Add(1)
			}
		})
	}
	if err := c.Flush(m.t.Context()); err != nil || failed.Load() > 0 {
		m.t.Fatalf("%d records were refused, %v", failed.Load(), err)
	}
	m.sessions()
	pub := m.visit(m.s.mqtt, client.Options{})
	for n := range farMissed {
		err := pub.Publish(&packet.Publish{Topic: []byte(farTopic + "/all"), Payload: fmt.Append(nil, n), QoS: 1}, 0)
		if err != nil {
			m.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), startLimit)
	defer cancel()
	if err := errors.Join(pub.Drain(ctx), pub.Close()); err != nil {
		m.t.Fatal(err)
	}
	m.all = int64(*migrateBytesFlag/farMessage) + farMissed
	m.t.Logf("%d records, %d sessions, made in %v", m.all, *migrateSessionsFlag, time.Since(begun).Round(time.Second))
}

func (m *moving) visit(address string, o client.Options) *client.Client {
	m.t.Helper()
	c, err := client.Dial(m.t.Context(), address, o)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(c.Abort)
	return c
}

// sessions are devices that subscribe and leave.
func (m *moving) sessions() {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(*migrateSessionsFlag); n = next.Add(1) {
				if err := m.session(n); err != nil {
					m.t.Errorf("session %d: %v", n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if m.t.Failed() {
		m.t.FailNow()
	}
}

func (m *moving) session(n int64) error {
	c, err := client.Dial(m.t.Context(), m.s.mqtt, away(n, nil))
	if err != nil {
		return err
	}
	var subs []packet.Subscription
	for _, filter := range []string{fmt.Sprint(farTopic, "/", n), farTopic + "/all"} {
		subs = append(subs, packet.Subscription{Filter: []byte(filter), QoS: 2})
	}
	_, err = c.Subscribe(m.t.Context(), packet.Properties{}, subs...)
	return errors.Join(err, c.Close())
}

// away are the options of the n-th device.
func away(n int64, got func(*packet.Publish)) client.Options {
	var p packet.Properties
	p.SetSessionExpiry(3600 * 24)
	return client.Options{ClientID: fmt.Sprint("away-", n), Props: p, Resume: got != nil, OnMessage: got}
}

// command is firth migrate, which has not started.
func (m *moving) command() *exec.Cmd {
	m.cmd = exec.Command(m.s.binary, "migrate", "--to", "kafka://"+m.to, "--data", m.s.data)
	m.cmd.Env, m.at = environment(), time.Now()
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return m.cmd
}

// kill begins to move, and kills that in the middle.
func (m *moving) kill(nth int) {
	m.t.Helper()
	stuck := m.stick()
	cmd := m.command()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	for end := time.Now().Add(2 * startLimit); !m.enough(nth, stuck); pauseFor(m.t.Context(), pace) {
		select {
		case <-ended:
			m.t.Fatalf("firth migrate ended before it was killed: %v\n%s", cmd.ProcessState, &out)
		default:
		}
		if time.Now().After(end) {
			m.t.Fatalf("firth migrate does not come to where it is to be killed\n%s", &out)
		}
	}
	_ = cmd.Process.Kill() // it may have ended
	<-ended
	m.tell(fmt.Sprintf("killed at %d of %d records", m.moved(), m.all))
	if stuck != nil {
		stuck.Store(-1 << 32)
	}
}

// stick has a cluster in memory answer two writes and no more, until the count that it gives is set far below 0.
func (m *moving) stick() *atomic.Int64 {
	if m.b.memory == nil {
		return nil
	}
	var writes atomic.Int64
	m.b.memory.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		m.b.memory.KeepControl()
		return nil, errors.New("no answer"), writes.Add(1) > 2
	})
	return &writes
}

// enough tells whether it is time for the kill.
func (m *moving) enough(nth int, stuck *atomic.Int64) bool {
	if stuck != nil {
		return stuck.Load() > 2
	}
	return m.moved() >= m.all*int64(nth+1)/3
}

// moved counts the records that are in the cluster, its own offsets included.
func (m *moving) moved() (sum int64) {
	c := m.b.dial()
	defer c.Close()
	ends, err := kadm.NewClient(c).ListEndOffsets(m.t.Context(), farTopic)
	if err != nil {
		return 0
	}
	ends.Each(func(o kadm.ListedOffset) { sum += max(o.Offset, 0) })
	return sum
}

func (m *moving) tell(what string) {
	if use, ok := m.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		m.t.Logf("%s: %v, %v of CPU time, %d MiB of memory", what, time.Since(m.at).Round(time.Millisecond),
			m.cmd.ProcessState.UserTime()+m.cmd.ProcessState.SystemTime(), use.Maxrss>>10)
	}
}

// sum is what is compared of a partition.
type sum struct {
	records int
	hash    [sha256.Size]byte
}

func equalSums(a, b map[int32]sum) bool {
	for at, one := range a {
		if b[at] != one {
			return false
		}
	}
	return len(a) == len(b)
}

// sums reads all committed records.
func (m *moving) sums(addresses ...string) map[int32]sum {
	m.t.Helper()
	c, err := dialKafka(addresses[0], kgo.ConsumeTopics(farTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.SeedBrokers(addresses...))
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	all, read := map[int32]sum{}, int64(0)
	for ctx := m.t.Context(); read < m.all; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			m.t.Fatalf("after %d of %d records: %v", read, m.all, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			s := all[r.Partition]
			b := fmt.Append(s.hash[:], r.Offset)
			b = append(append(b, r.Key...), r.Value...)
			all[r.Partition] = sum{s.records + 1, sha256.Sum256(b)}
			read++
		})
	}
	return all
}

// look starts a gateway before the cluster: sessions get what they missed, once and in order.
func (m *moving) look() {
	g := newServer(m.t, "listen.kafka=", "log.kafka.brokers="+m.to, "log.kafka.takeover=1m")
	took, err := g.start()
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Logf("the gateway served after %v", took.Round(time.Millisecond))
	step := max(1, *migrateSessionsFlag/farLooked)
	for n := int64(1); n <= int64(*migrateSessionsFlag); n += int64(step) {
		got := make(chan string, 2*farMissed)
		c := m.visit(g.mqtt, away(n, func(p *packet.Publish) { got <- string(p.Payload) }))
		for want := range farMissed {
			select {
			case one := <-got:
				if one != fmt.Sprint(want) {
					m.t.Fatalf("session %d got %s in place of %d", n, one, want)
				}
			case <-time.After(startLimit):
				m.t.Fatalf("session %d got %d of %d messages", n, want, farMissed)
			}
		}
		if err := c.Close(); err != nil || len(got) > 0 {
			m.t.Errorf("session %d: %d messages more, %v", n, len(got), err)
		}
	}
	if err := g.stop(); err != nil {
		m.t.Error(err)
	}
}
