package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(patient{m}) }

// patient waits for goroutines that are about to end: goleak does so for half a second, too little on a busy machine.
type patient struct{ *testing.M }

func (p patient) Run() int {
	code := p.M.Run()
	for limit := time.Now().Add(time.Minute); code == 0 && goleak.Find() != nil && time.Now().Before(limit); {
	}
	return code
}

// local is a configuration for a test: a folder of its own and free ports on loopback.
func local(t *testing.T) *Config {
	t.Helper()
	c := Default()
	c.Data, c.Logger = filepath.Join(t.TempDir(), "data"), logtest.New(t)
	c.Listen = Listen{MQTT: "127.0.0.1:0", WS: "127.0.0.1:0", Kafka: "127.0.0.1:0", HTTP: "127.0.0.1:0"}
	c.Limits.JournalFile = 1 << 20
	return c
}

func start(t *testing.T, c *Config) *Node {
	t.Helper()
	n, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// words is a writer that a test can wait on.
type words struct {
	mu   sync.Mutex
	text bytes.Buffer
	news chan struct{}
}

func newWords() *words { return &words{news: make(chan struct{}, 1)} }

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(b)
	select {
	case w.news <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// await waits until the text matches, and gives the match.
func (w *words) await(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	deadline := time.After(time.Minute)
	for {
		if m := re.FindStringSubmatch(w.String()); m != nil {
			return m
		}
		select {
		case <-w.news:
		case <-deadline:
			t.Fatalf("no %q in\n%s", pattern, w)
		}
	}
}

func TestRoomsOpenInOrderAndCloseInReverse(t *testing.T) {
	var log words
	c := local(t)
	c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	n, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{n.Addresses().MQTT, n.Addresses().WS, n.Addresses().Kafka, n.Addresses().HTTP} {
		if host, port, err := net.SplitHostPort(address); err != nil || host != "127.0.0.1" || port == "0" {
			t.Errorf("a door is at %q", address)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	var closed []string
	for _, m := range regexp.MustCompile(`msg="?closed ([a-z ]+)"? took=`).FindAllStringSubmatch(log.String(), -1) {
		closed = append(closed, m[1])
	}
	want := []string{"bridges", "ws", "mqtt", "kafka", "http", "metrics", "certificates", "sessions of people", "erasures",
		"mqtt delivery", "kafka groups", "audit", "log"}
	if !slices.Equal(closed, want) {
		t.Errorf("closed %q, want %q", closed, want)
	}
}

// TestStartIsQuick holds the start of an empty directory to 300 ms; it takes about 10 on an idle machine.
// One start of many has to be that quick: other tests run beside.
func TestStartIsQuick(t *testing.T) {
	best := time.Hour
	for end := time.Now().Add(time.Minute); best > 300*time.Millisecond && time.Now().Before(end); {
		c := local(t)
		begin := time.Now()
		n, err := Start(t.Context(), c)
		best = min(best, time.Since(begin))
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if best > 300*time.Millisecond {
		t.Errorf("the start of an empty directory took %s", best)
	}
}

func TestDoorsThatAreOff(t *testing.T) {
	c := local(t)
	c.Listen = Listen{MQTT: "127.0.0.1:0"}
	n := start(t, c)
	if a := n.Addresses(); a.MQTT == "" || a.WS+a.Kafka+a.HTTP != "" {
		t.Errorf("got %+v", a)
	}
}

func TestDefaultsReachTheLog(t *testing.T) {
	c := local(t)
	c.Topics.Defaults = TopicDefaults{
		Partitions: 3, Retention: forever, RetentionBytes: 1 << 20, Durability: "memory", MaxMessage: 12345,
		Segment: 1 << 20, Timestamp: "LogAppendTime",
	}
	n := start(t, c)
	topic, err := n.Log().CreateTopic(t.Context(), stream.TopicSpec{Name: "a"})
	if err != nil {
		t.Fatal(err)
	}
	s := topic.Settings
	if len(topic.Partitions) != 3 || s.RetentionMs != -1 || s.RetentionBytes != 1<<20 || !s.Memory ||
		s.MaxMessageBytes != 12345 || s.SegmentBytes != 1<<20 || !s.LogAppendTime {
		t.Errorf("got %d partitions, %+v", len(topic.Partitions), s)
	}
}

func TestRefusedStarts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	running := start(t, local(t))
	for name, tc := range map[string]struct {
		change func(c *Config)
		want   string // a pattern
		hint   string
		kind   fault.Kind
	}{
		"taken": {func(c *Config) { c.Listen.Kafka = taken.Addr().String() },
			`^listen.kafka: 127\.0\.0\.1:\d+ is in use by another program$`, "--set listen.kafka=HOST:PORT", fault.Exists},
		"all that is wrong with addresses": {func(c *Config) {
			c.Listen.Kafka, c.Listen.HTTP = taken.Addr().String(), taken.Addr().String()
		}, `(?s)^listen.kafka: .*\nlisten.http: .*in use`, "ss -ltnp", fault.Exists},
		"not ours": {func(c *Config) { c.Listen.MQTT, c.AllowRemoteWithoutAuth = "192.0.2.1:0", true },
			`^listen.mqtt: 192.0.2.1:0 is no address of this machine$`, "choose another", fault.NotFound},
		"remote": {func(c *Config) { c.Listen.MQTT = "0.0.0.0:0" },
			`^listen.mqtt: 0.0.0.0:0 can be reached from other machines`, "", fault.Denied},
		"locked": {func(c *Config) { c.Data = running.folder },
			`LOCK is locked`, "another firth runs on this data directory", fault.Exists},
		"no folder": {func(c *Config) { c.Data = "/dev/null/x" }, `^data: .*not a directory`, "", fault.IO},
		"rules": {func(c *Config) { c.Mapping = []hinge.Rule{{MQTT: "a/#/b", Topic: "a"}} }, `^mapping: rule 1: mqtt`,
			"docs/format/mapping.md", fault.Invalid},
		"advertise": {func(c *Config) { c.Advertise = "nonsense" },
			`cannot advertise "nonsense"`, "host:port", fault.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			c := local(t)
			tc.change(c)
			n, err := Start(t.Context(), c)
			if err == nil {
				t.Fatal("it started", n.Close())
			}
			if !regexp.MustCompile(tc.want).MatchString(err.Error()) || fault.KindOf(err) != tc.kind {
				t.Errorf("got %q of kind %v", err, fault.KindOf(err))
			}
			var f *fault.Error
			if errors.As(err, &f) && !strings.Contains(fault.HintOf(f), tc.hint) {
				t.Errorf("hint %q, want %q", fault.HintOf(f), tc.hint)
			}
			if c.Data != running.folder && c.Data != "/dev/null/x" { // nothing is left locked
				c2 := local(t)
				c2.Data = c.Data
				start(t, c2)
			}
		})
	}
}

// process is a node under Run in a goroutine.
type process struct {
	signals  chan os.Signal
	out, log *words
	ended    chan error
}

func run(t *testing.T, load func() (*Config, error)) *process {
	t.Helper()
	p := &process{signals: make(chan os.Signal, 2), out: newWords(), log: newWords(), ended: make(chan error, 1)}
	go func() {
		p.ended <- Run(t.Context(), Process{
			Load: load, Out: p.out, Err: p.log, JSON: true, Signals: p.signals,
		})
	}()
	return p
}

func (p *process) ready(t *testing.T) (r Ready) {
	t.Helper()
	line := p.out.await(t, `.*\n`)[0]
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (p *process) end(t *testing.T) {
	t.Helper()
	p.signals <- syscall.SIGTERM
	if err := <-p.ended; err != nil {
		t.Error(err)
	}
}

// fileConfig is a Loader on a file of its own that a test may rewrite.
func fileConfig(t *testing.T, text string) (Loader, func(text string)) {
	t.Helper()
	dir := t.TempDir()
	l := Loader{File: filepath.Join(dir, "firth.yaml"), Flags: []Assignment{
		{"--data", "data=" + filepath.Join(dir, "data")}, {"--set", "listen.mqtt=0"}, {"--set", "listen.ws=0"},
		{"--set", "listen.kafka=0"}, {"--set", "listen.http=0"}, {"--set", "limits.journal_file=1MiB"},
	}}
	write := func(text string) {
		if err := os.WriteFile(l.File, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	return l, write
}

// TestReload: SIGHUP changes the mapping under a connected client, which notices nothing; a bad file
// changes nothing; what needs a restart is named.
func TestReload(t *testing.T) {
	l, write := fileConfig(t, "log: {level: warn}\n")
	p := run(t, l.Load)
	a := p.ready(t).Addresses
	acked := make(chan packet.ReasonCode, 10)
	got := make(chan string, 10)
	c, err := client.Dial(t.Context(), a.MQTT, client.Options{
		OnAck:     func(_ uint64, reason packet.ReasonCode, _ error) { acked <- reason },
		OnMessage: func(m *packet.Publish) { got <- string(m.Topic) + "=" + string(m.Payload) },
	})
	if err != nil {
		t.Fatal(err)
	}
	all := packet.Subscription{Filter: []byte("#"), QoS: 1}
	if _, err := c.Subscribe(t.Context(), packet.Properties{}, all); err != nil {
		t.Fatal(err)
	}
	sendTo := func(topic, payload string) {
		t.Helper()
		m := &packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 1}
		if err := c.Publish(m, 0); err != nil {
			t.Fatal(err)
		}
		if reason := <-acked; reason.Failed() {
			t.Fatalf("reason %v", reason)
		}
		if want, m := "factory/bern/3="+payload, <-got; m != want {
			t.Fatalf("got %s, want %s", m, want)
		}
	}
	send := func(payload string) { sendTo("factory/bern/3", payload) }
	send("before")

	write("log: {level: info}\nlimits: {packet: 1MiB, message_rate: 1000}\n" +
		"mapping: [{mqtt: 'factory/{site}/#', topic: 'site-{site}'}]\n" +
		"rewrite: [{from: 'old/#', match: '^old/(.+)$', to: 'factory/$1'}]\n")
	p.signals <- syscall.SIGHUP
	p.log.await(t, `msg="reloaded the configuration" changed="\[mapping limits.message_rate rewrite log.level\]"`)
	p.log.await(t, `level=WARN msg="these keys have changed and wait for a restart" keys=\[limits.packet\]`)
	send("after")
	sendTo("old/bern/3", "rewritten")

	write("mapping: [{mqtt: a}]\nlisten: 5\n")
	p.signals <- syscall.SIGHUP
	p.log.await(t, `stays in force" problem=".*firth.yaml:1:11: mapping: rule 1: has no key`)
	p.log.await(t, `stays in force" problem=".*firth.yaml:2:9: listen: want keys`)
	send("still")

	if err := c.Close(); err != nil {
		t.Error(err)
	}
	p.end(t)
	topics := topicsOf(t, l)
	if topics["factory"] != 1 || topics["site-bern"] != 3 {
		t.Errorf("records by topic: %v", topics)
	}
}

// topicsOf starts a node again and counts the records of its topics.
func topicsOf(t *testing.T, l Loader) map[string]record.Offset {
	t.Helper()
	l.File = "/dev/null" // the test has left a bad one
	c, err := l.Load()
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, c)
	count := map[string]record.Offset{}
	for _, topic := range n.Log().Topics().All() {
		for _, p := range topic.Partitions {
			b, err := n.Log().Bounds(p)
			if err != nil {
				t.Fatal(err)
			}
			count[topic.Name] += b.High - b.Start
		}
	}
	return count
}

func TestReadyFileIsTheLine(t *testing.T) {
	l, _ := fileConfig(t, "")
	file := filepath.Join(t.TempDir(), "ready.json")
	out, signals := newWords(), make(chan os.Signal, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- Run(t.Context(), Process{
			Load: l.Load, Out: out, Err: io.Discard, JSON: true, ReadyFile: file, Signals: signals,
		})
	}()
	out.await(t, `\n`)
	signals <- os.Interrupt
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || string(text) != out.String() {
		t.Errorf("file %q, output %q, %v", text, out, err)
	}
	var r Ready
	if err := json.Unmarshal(text, &r); err != nil || r.PID != os.Getpid() || r.Cluster == "" || r.Addresses.Kafka == "" {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestSecondSignalEndsAtOnce: whatever keeps the node from closing, the second signal does not wait, unless it is the
// echo of the first.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	n := start(t, local(t))
	release := make(chan struct{})
	n.opened("a room that takes its time", func(context.Context) error { <-release; return nil })
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGTERM
	done := make(chan struct{})
	var ending sync.WaitGroup
	ending.Go(func() {
		for {
			select {
			case <-time.After(2 * echo): // the node may have begun to close late, and taken one for an echo
			case <-done:
				return
			}
			select {
			case signals <- syscall.SIGINT:
			case <-done:
				return
			}
		}
	})
	_, err := Process{Signals: signals}.close(n)
	close(done)
	ending.Wait()
	if !strings.Contains(err.Error(), syscall.SIGINT.String()) {
		t.Errorf("it was not the second one: %v", err)
	}
	if !fault.Is(err, fault.Closed) || !strings.Contains(fault.HintOf(err), "nothing that was acknowledged is lost") {
		t.Errorf("got %v", err)
	}
	close(release)
}

// TestSignalDuringStart: whoever ends a node that is still opening its log does not wait for it to serve.
func TestSignalDuringStart(t *testing.T) {
	l, _ := fileConfig(t, "")
	signals := make(chan os.Signal, 2)
	signals <- syscall.SIGHUP
	signals <- syscall.SIGTERM
	var out words
	err := Run(t.Context(), Process{Load: l.Load, Out: &out, Err: io.Discard, Signals: signals})
	if !fault.Is(err, fault.Closed) || out.String() != "" {
		t.Errorf("got %v and %q", err, out.String())
	}
	l.File = "/dev/null"
	topicsOf(t, l) // the folder is not locked
}

func TestFailureOfARoomEndsTheNode(t *testing.T) {
	n := start(t, local(t))
	if err := n.sockets["mqtt"][0].Close(); err != nil { // as if the kernel had taken it
		t.Fatal(err)
	}
	err := <-n.Failed()
	if err == nil || !strings.HasPrefix(err.Error(), "mqtt ended: ") {
		t.Errorf("got %v", err)
	}
	why, _, err := Process{}.wait(t.Context(), failing{n}.again(err), nil)
	if err == nil || why == "" {
		t.Errorf("got %q, %v", why, err)
	}
}

// failing puts a failure back, for a second reader.
type failing struct{ *Node }

func (f failing) again(err error) *Node {
	f.fail(err)
	return f.Node
}

func TestLoaderNeedsNoFile(t *testing.T) {
	t.Chdir(t.TempDir())
	c, err := Loader{}.Load()
	if err != nil || dump(t, c) != dump(t, Default()) {
		t.Errorf("without a file: %v", err)
	}
	if _, err := (Loader{File: "missing.yaml"}).Load(); !fault.Is(err, fault.NotFound) {
		t.Errorf("a missing file that was named: %v", err)
	}
	if err := os.Mkdir(DefaultFile, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := (Loader{}).Load(); !fault.Is(err, fault.IO) {
		t.Errorf("a folder as a file: %v", err)
	}
}

func TestTopicNameForTheIndex(t *testing.T) {
	n := start(t, local(t))
	topic, err := n.Log().CreateTopic(t.Context(), stream.TopicSpec{Name: "sensors"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(receipt, 1)
	w := stream.Write{Partition: topic.Partitions[0], Record: &record.Record{Key: []byte("sensors/a"), Value: []byte("1")}}
	err = streamtest.Append(n.Log(), done, w)
	if err != nil || <-done != nil {
		t.Fatal(err)
	}
	batches, err := n.Log().Read(topic.Partitions[0], 0, 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	var it record.Iter
	if err := it.Reset(batches[0], nil); err != nil {
		t.Fatal(err)
	}
	var v record.View
	if !it.Next(&v) {
		t.Fatal(it.Err())
	}
	if name, ok := n.naming().TopicName("sensors", &v); !ok || string(name) != "sensors/a" {
		t.Errorf("got %q, %v", name, ok)
	}
	if _, ok := n.naming().TopicName("__firth_topics", &v); ok {
		t.Error("an internal topic has MQTT names")
	}
}

type receipt chan error

func (r receipt) Appended(_ uint64, _ stream.Placed, err error) { r <- err }
