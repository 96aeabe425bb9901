package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/node"
	"github.com/twmb/franz-go/pkg/kgo"
)

// broker is a node for the commands to talk to.
type broker struct {
	t     *testing.T
	http  []string // --http and the address
	kafka []string // -b and the address
	mqtt  []string // -p and the port
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	c := node.Default()
	c.Data, c.Logger = t.TempDir(), logtest.New(t)
	c.Listen.MQTT, c.Listen.Kafka, c.Listen.WS, c.Listen.HTTP = "127.0.0.1:0", "127.0.0.1:0", "", "127.0.0.1:0"
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	_, port, err := net.SplitHostPort(n.Addresses().MQTT)
	if err != nil {
		t.Fatal(err)
	}
	a := n.Addresses()
	return &broker{
		t: t, http: []string{"--http", a.HTTP}, kafka: []string{"-b", a.Kafka}, mqtt: []string{"-p", port},
	}
}

// try runs a command line, with what the broker's doors need, and gives what it printed and its code.
func (b *broker) try(in string, args ...string) (out, errs string, code int) {
	b.t.Helper()
	return execute(b.t, in, b.complete(args)...)
}

func (b *broker) complete(args []string) []string {
	switch args[0] {
	case "pub", "sub", "request":
		return slices.Concat(args[:1], b.mqtt, args[1:])
	case "session", "ban", "retained":
		return slices.Concat(args, b.http)
	}
	return slices.Concat(args, b.kafka)
}

func execute(t *testing.T, in string, args ...string) (out, errs string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var o, e bytes.Buffer
	code = run(ctx, args, stdio{in: strings.NewReader(in), out: &o, err: &e})
	return o.String(), e.String(), code
}

// ok runs a command line that must succeed and say nothing on standard error.
func (b *broker) ok(in string, args ...string) string {
	b.t.Helper()
	out, errs, code := b.try(in, args...)
	if code != 0 || errs != "" {
		b.t.Fatalf("firth %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// eq runs a command line that must succeed and print exactly want.
func (b *broker) eq(want, in string, args ...string) {
	b.t.Helper()
	if out := b.ok(in, args...); out != want {
		b.t.Errorf("firth %s printed\n%swant\n%s", strings.Join(args, " "), out, want)
	}
}

// json runs a command line that must print lines of JSON, and gives the first.
func (b *broker) json(args ...string) (first any) {
	b.t.Helper()
	out := b.ok("", args...)
	for i, line := range strings.Split(strings.TrimSuffix(out, "\n"), "\n") {
		var v any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			b.t.Fatalf("firth %s: line %d is no JSON: %s", strings.Join(args, " "), i+1, line)
		}
		if i == 0 {
			first = v
		}
	}
	return first
}

func TestPublishThenConsume(t *testing.T) {
	b := startBroker(t)
	b.ok("", "pub", "-t", "sensors/room1/temp", "-m", "21.5", "-q", "1")
	b.eq("sensors/room1/temp 21.5\n", "", "consume", "sensors", "-o", "beginning", "-e", "-f", `%k %s\n`)
	b.ok("a\nb\nc\n", "pub", "-t", "sensors/room2/temp", "-l", "-q", "1", "-V", "311")
	b.ok("a\nb\n", "pub", "-t", "sensors/room3/temp", "-s", "-D", "publish", "user-property", "unit", "C")
	b.eq("21.5\na\nb\nc\na\nb\n\n", "", "consume", "sensors", "-o", "start", "-n", "5")
	b.eq("1:a\n2:b\n", "", "consume", "sensors", "-o", "1", "-c", "2", "-f", `%o:%s\n`)
	b.eq("unit=C", "", "consume", "sensors", "-o", "-1", "-e", "-f", "%h")
	b.eq("", "", "consume", "sensors", "-o", "end", "-e")
	record, _ := b.json("consume", "sensors", "-o", "-1", "-e", "-J").(map[string]any)
	if record["key"] != "sensors/room3/temp" || record["payload"] != "a\nb\n" || record["offset"] != 4.0 ||
		!reflect.DeepEqual(record["headers"], []any{"unit", "C"}) {
		t.Errorf("got %v", record)
	}
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, []byte("\x00\xff"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.ok("", "pub", "-t", "bytes/x", "-f", file, "-q", "1", "--repeat", "3", "--repeat-delay", "0.01")
	record, _ = b.json("consume", "bytes", "-o", "start", "-n", "1", "--output", "json").(map[string]any)
	if record["payload_base64"] != "AP8=" {
		t.Errorf("got %v", record)
	}
}

// listening starts a sub and waits until it has subscribed; the returned function waits for its end.
func (b *broker) listening(args ...string) func() (out string, code int) {
	b.t.Helper()
	out, errs := &watched{}, &watched{want: "subscribed to", seen: make(chan struct{})}
	code := make(chan int, 1)
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
	go func() {
		defer cancel()
		code <- run(ctx, b.complete(append([]string{"sub", "-d"}, args...)), stdio{in: strings.NewReader(""),
			out: out, err: errs})
	}()
	select {
	case <-errs.seen:
	case <-ctx.Done():
		b.t.Fatal("no subscription: " + errs.String())
	}
	return func() (string, int) {
		got := <-code
		return out.String(), got
	}
}

// watched is a writer that tells when it has got a text.
type watched struct {
	mu   sync.Mutex
	b    bytes.Buffer
	want string
	seen chan struct{}
	once sync.Once
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.b.Write(p)
	if w.want != "" && strings.Contains(w.b.String(), w.want) {
		w.once.Do(func() { close(w.seen) })
	}
	return n, err
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func TestProduceThenSubscribe(t *testing.T) {
	b := startBroker(t)
	b.ok("", "topic", "create", "commands")
	end := b.listening("-t", "commands/#", "-v", "-C", "2", "-q", "1")
	b.ok("19.0\n20.0\n", "produce", "commands", "-k", "commands/room1/heating")
	out, code := end()
	if want := "commands/room1/heating 19.0\ncommands/room1/heating 20.0\n"; out != want || code != 0 {
		t.Errorf("exit code %d, got %q", code, out)
	}
}

func TestSubscribeFormats(t *testing.T) {
	b := startBroker(t)
	b.ok("", "pub", "-t", "a/kept", "-m", "old", "-r", "-q", "1")
	b.eq("a/kept old 1\n", "", "sub", "-t", "a/+", "-C", "1", "-F", "%t %p %r")
	b.eq("old", "", "sub", "-t", "a/+", "--retained-only", "-C", "1", "-N")
	m, _ := b.json("sub", "-t", "a/+", "-C", "1", "-J").(map[string]any)
	if m["topic"] != "a/kept" || m["payload"] != "old" || m["retain"] != 1.0 {
		t.Errorf("got %v", m)
	}
	b.eq("", "", "sub", "-t", "a/+", "-R", "-W", "0.2")
	b.eq("", "", "sub", "-t", "a/+", "-T", "a/kept", "-W", "0.2")
	if _, errs, code := b.try("", "sub", "-t", "a/+", "-R", "-W", "0.2", "-C", "1"); code != output.ExitFailed ||
		!strings.Contains(errs, "0 of 1 messages") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// TestSubscribeOptions: what a subscriber agrees with the server.
func TestSubscribeOptions(t *testing.T) {
	b := startBroker(t)
	end := b.listening("-t", "alias/#", "-C", "4", "-F", "%A %t %p", "-D", "connect", "topic-alias-maximum", "4")
	b.ok("1\n2\n3\n4\n", "pub", "-t", "alias/of/a/long/name", "-l", "-D", "publish", "topic-alias", "7")
	long := "alias/of/a/long/name"
	if out, code := end(); out != " "+long+" 1\n1 "+long+" 2\n1 "+long+" 3\n1 "+long+" 4\n" || code != 0 {
		t.Errorf("exit code %d, got\n%s", code, out)
	}
	end = b.listening("-t", "echo/#", "--no-local", "--respond", "heard: %p", "-F", "%t %p", "-C", "2")
	b.ok("", "pub", "-t", "echo/1", "-m", "hello", "-D", "publish", "response-topic", "echo/answers")
	b.eq("echo/answers heard: more\n", "", "request", "-t", "echo/1", "-m", "more", "-e", "echo/answers", "-F", "%t %p")
	if out, code := end(); out != "echo/1 hello\necho/1 more\n" || code != 0 {
		t.Errorf("exit code %d, got\n%s", code, out)
	}
}

// TestSubscribeAndLeave: sessions that are entered, left, and asked, as with mosquitto_sub.
func TestSubscribeAndLeave(t *testing.T) {
	b := startBroker(t)
	sleeper := []string{"sub", "-i", "sleeper", "-c", "-q", "1"}
	b.eq("", "", append(sleeper, "-E", "-t", "in/#", "-t", "out/#", "-D", "disconnect", "session-expiry-interval",
		"60")...)
	b.ok("", "pub", "-t", "out/1", "-m", "one", "-q", "1")
	b.eq("out/1 one\n", "", append(sleeper, "-t", "in/#", "-v", "-C", "1")...)
	b.eq("", "", append(sleeper, "-E", "-U", "out/#", "-D", "unsubscribe", "user-property", "for", "good")...)
	b.ok("", "pub", "-t", "out/1", "-m", "two", "-q", "1")
	b.ok("", "pub", "-t", "in/1", "-m", "two", "-q", "1")
	b.eq("in/1 two\n", "", append(sleeper, "-t", "in/#", "-v", "-C", "1")...)
	b.ok("", "pub", "-t", "kept/1", "-m", "old", "-r", "-q", "1")
	b.eq("kept/1 old\n", "", "sub", "-t", "kept/#", "--remove-retained", "-v", "-C", "1")
	b.eq("", "", "sub", "-t", "kept/#", "-W", "0.2")
}

func TestProduceForms(t *testing.T) {
	b := startBroker(t)
	b.ok("", "topic", "create", "t", "-p", "2")
	b.ok("a:1\nb:2\nc\n", "produce", "t", "-K", ":", "-p", "0", "-z", "zstd", "-H", "h=1")
	b.eq("a 1 h=1\nb 2 h=1\n c h=1\n", "", "consume", "t", "-p", "0", "-o", "start", "-e", "-f", `%k %s %h\n`)
	b.ok("k;x=1;v;k2;;v2;", "produce", "t", "-f", "%k;%h;%v;", "-p", "1", "--acks", "1", "-z", "gzip")
	b.eq("k v x=1\nk2 v2 \n", "", "consume", "t", "-p", "1", "-o", "start", "-e", "-f", `%k %s %h\n`)
	b.ok("k:||:x|", "produce", "-t", "t", "-K", ":", "-D", "|", "-Z", "-p", "1", "--acks", "0", "-z", "lz4")
	b.eq("kNULL\nNULLx\n", "", "consume", "-t", "t", "-p", "1", "-o", "2", "-n", "2", "-Z", "-f", `%k%s\n`)
	b.eq("1\n2\n", "1\n2\n3\n", "produce", "t", "-T", "-c", "2", "-z", "snappy")
	out := b.ok("x\n", "produce", "t", "-p", "0", "-o", "json")
	var got produced
	if err := json.Unmarshal([]byte(out), &got); err != nil || got.Topic != "t" || got.Partition != 0 || got.Offset < 3 {
		t.Errorf("got %s, %v", out, err)
	}
	if _, errs, _ := b.try("x\n", "produce", "t", "-p", "0",
		"-v"); !regexp.MustCompile(`^t\[0\] offset \d+\n$`).MatchString(errs) {
		t.Errorf("got %q", errs)
	}
}

func TestConsumeByTime(t *testing.T) {
	b := startBroker(t)
	b.ok("1\n2\n", "produce", "t")
	record, _ := b.json("consume", "t", "-o", "-1", "-e", "-J").(map[string]any)
	ts, _ := record["ts"].(float64)
	after := itoa(int64(ts) + 1)
	b.eq("", "", "consume", "t", "-o", "@"+after, "-e")
	b.eq("1\n2\n", "", "consume", "t", "-o", "@-1h", "-e")
	b.eq("1\n2\n", "", "consume", "t", "-o", "start", "-o", "e@"+after)
}

func TestTopicCommands(t *testing.T) {
	b := startBroker(t)
	b.eq("sensors: created, 3 partitions\n", "", "topic", "create", "sensors", "-p", "3", "-c", "retention.ms=1000")
	b.eq("sensors: exists already\n", "", "topic", "create", "sensors", "--if-not-exists")
	b.eq("other: would be created\n", "", "topic", "create", "other", "--dry-run")
	b.ok("1\n2\n", "produce", "sensors", "-p", "1")
	b.eq("TOPIC    PARTITIONS  RECORDS\nsensors           3        2\n", "", "topic", "list")
	out := b.ok("", "topic", "describe", "sensors")
	for _, want := range []string{"name        sensors", "retention.ms   1000", "        1       ",
		"PARTITION  LEADER  EPOCH"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	b.eq("sensors: would be changed\n", "", "topic", "config", "sensors", "--set", "retention.ms=5", "--dry-run")
	b.eq("sensors: changed\n", "", "topic", "config", "sensors", "--set", "max.message.bytes=5000", "--unset",
		"retention.ms")
	out = b.ok("", "topic", "config", "sensors")
	if !strings.Contains(out, "max.message.bytes") || strings.Contains(out, "retention.ms") {
		t.Errorf("got\n%s", out)
	}
	b.eq("sensors: would have 5 partitions\n", "", "topic", "partitions", "sensors", "--to", "5", "--dry-run")
	b.eq("sensors: has now 5 partitions\n", "", "topic", "partitions", "sensors", "--to", "5", "--yes")
	b.eq("sensors: would be deleted: 5 partitions, 2 records\n", "", "topic", "delete", "sensors", "--dry-run")
	b.eq("sensors: deleted\n", "", "topic", "delete", "sensors", "--yes")
	b.eq("TOPIC  PARTITIONS  RECORDS\n", "", "topic", "list")
}

func TestGroupCommands(t *testing.T) {
	b := startBroker(t)
	b.ok("1\n2\n3\n4\n", "produce", "t")
	b.eq("1\n2\n3\n", "", "consume", "t", "-g", "billing", "-n", "3")
	b.eq("GROUP    STATE  PROTOCOL\nbilling  Empty  consumer\n", "", "group", "list")
	if out := b.ok("", "group", "describe", "billing"); !strings.Contains(out, "lag       1") ||
		!regexp.MustCompile(`t +0 +3 +4 +1`).MatchString(out) {
		t.Errorf("got\n%s", out)
	}
	b.eq("4\n", "", "consume", "t", "-g", "billing", "-e")
	b.eq("", "", "consume", "t", "-g", "billing", "-e")
	moved := "TOPIC  PARTITION  FROM  TO\nt              0     4   0\n"
	b.eq(moved, "", "group", "seek", "billing", "--to", "start", "--dry-run")
	b.eq(moved, "", "group", "seek", "billing", "--to", "start", "--yes")
	b.eq("1\n2\n3\n4\n", "", "consume", "t", "-g", "billing", "-e")
	b.ok("", "group", "seek", "billing", "--to", "-1", "--yes")
	b.eq("4\n", "", "consume", "t", "-g", "billing", "-n", "1")
	b.eq("billing: would be deleted: 1 committed offsets\n", "", "group", "delete", "billing", "--dry-run")
	b.eq("billing: deleted\n", "", "group", "delete", "billing", "-y")
	b.eq("GROUP  STATE  PROTOCOL\n", "", "group", "list")
}

// A group of the consumer protocol is described as a classic one is, with its members.
func TestGroupCommandsOfConsumers(t *testing.T) {
	b := startBroker(t)
	b.ok("1\n2\n3\n4\n", "produce", "t")
	reader, err := kgo.NewClient(kgo.SeedBrokers(b.kafka[1]), kgo.ConsumerGroup("billing"), kgo.ServerSideBalancer(),
		kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	if n := reader.PollRecords(t.Context(), 3).NumRecords(); n == 0 {
		t.Fatal("nothing is read")
	}
	out := b.ok("", "group", "describe", "billing")
	if !strings.Contains(out, "assignor  uniform\nmembers   1\nlag       4") ||
		!regexp.MustCompile(`t +0 +- +4 +4 +\S+ +/127.0.0.1`).MatchString(out) {
		t.Errorf("got\n%s", out)
	}
	_, errs, code := b.try("", "group", "seek", "billing", "--to", "start", "--topics", "t", "--yes")
	if code != output.ExitFailed || !strings.Contains(errs, "it has 1 members") {
		t.Errorf("code %d: %s", code, errs)
	}
	if err := reader.CommitRecords(t.Context(), &kgo.Record{Topic: "t", Offset: 2}); err != nil {
		t.Fatal(err)
	}
	if err := reader.LeaveGroupContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := b.ok("", "group", "describe", "billing"); !regexp.MustCompile(`t +0 +3 +4 +1`).MatchString(out) {
		t.Errorf("got\n%s", out)
	}
	b.eq("billing: deleted\n", "", "group", "delete", "billing", "-y")
}

// TestGroupListShowsShares: the group of a shared subscription is beside Kafka's, with its lag, while a member is there
// and when none is.
func TestGroupListShowsShares(t *testing.T) {
	b := startBroker(t)
	b.ok("1\n", "produce", "t")
	b.ok("", "consume", "t", "-g", "billing", "-n", "1")
	b.share(t, "m", "$share/workers/jobs/#")
	b.ok("", "pub", "-t", "jobs/1", "-m", "one", "-q", "1")
	list := append([]string{"group", "list"}, b.http...)
	b.eq("GROUP                  STATE  PROTOCOL\nbilling                Empty  consumer\n"+
		"$share/workers/jobs/#  Empty  mqtt\n", "", list...)
	var lines []groupLine
	if err := json.Unmarshal([]byte(b.ok("", append(list, "-o", "json")...)), &lines); err != nil {
		t.Fatal(err)
	}
	if s := lines[1].Shared; s == nil || *s != (shareLine{Sessions: 1, Lag: 1}) {
		t.Errorf("got %+v", s)
	}
}

// share has a session subscribe that is away then.
func (b *broker) share(t *testing.T, id, filter string) {
	t.Helper()
	c, err := client.Dial(t.Context(), "127.0.0.1:"+b.mqtt[1],
		client.Options{ClientID: id, Version: packet.V311, Resume: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	one := packet.Subscription{Filter: []byte(filter), QoS: 1}
	if _, err := c.Subscribe(t.Context(), packet.Properties{}, one); err != nil {
		t.Fatal(err)
	}
}

// Every verb that prints data prints JSON when asked.
func TestEveryVerbSpeaksJSON(t *testing.T) {
	b := startBroker(t)
	b.json("topic", "create", "t", "-o", "json")
	b.json("topic", "list", "-o", "json")
	b.json("topic", "describe", "t", "-o", "json")
	b.json("topic", "config", "t", "--all", "-o", "json")
	b.json("topic", "config", "t", "--set", "retention.ms=7", "-o", "json")
	b.json("topic", "partitions", "t", "--to", "2", "-y", "-o", "json")
	b.ok("1\n", "produce", "t")
	b.json("consume", "t", "-g", "g", "-n", "1", "--output", "json")
	b.json("group", "list", "-o", "json")
	b.json("group", "describe", "g", "-o", "json")
	b.json("group", "seek", "g", "--to", "end", "--yes", "-o", "json")
	b.json("group", "delete", "g", "--dry-run", "-o", "json")
	b.json("group", "delete", "g", "-y", "-o", "json")
	b.json("topic", "delete", "t", "--dry-run", "-o", "json")
	b.json("topic", "delete", "t", "-y", "-o", "json")
}

func TestExitCodesAndHints(t *testing.T) {
	b := startBroker(t)
	b.ok("", "topic", "create", "t")
	b.ok("1\n", "produce", "t")
	cases := []struct {
		args string
		code int
		text string // in the error
	}{
		{"topic create t", output.ExitFailed, "--if-not-exists"},
		{"topic create t2 -c nonsense=1", output.ExitFailed, "nonsense"},
		{"topic create t2 -c nonsense", output.ExitUsage, "name=value"},
		{"topic create", output.ExitUsage, "--help"},
		{"topic describe missing", output.ExitNotFound, "firth topic list"},
		{"topic config missing", output.ExitNotFound, "firth topic list"},
		{"topic delete missing --yes", output.ExitNotFound, "firth topic list"},
		{"topic delete t", output.ExitUsage, "--yes"},
		{"topic partitions t", output.ExitUsage, "--to"},
		{"topic partitions t --to 3", output.ExitUsage, "--yes"},
		{"group describe missing", output.ExitNotFound, "firth group list"},
		{"group delete missing -y", output.ExitNotFound, "firth group list"},
		{"group seek missing --to start -y", output.ExitNotFound, "firth group list"},
		{"group seek g", output.ExitUsage, "--to"},
		{"group seek g --to nowhere", output.ExitUsage, "nowhere"},
		{"consume missing", output.ExitNotFound, "firth topic list"},
		{"consume", output.ExitUsage, "which topic"},
		{"consume t -p 7", output.ExitNotFound, "no partition 7"},
		{"consume t -o x", output.ExitUsage, `"x"`},
		{"consume t -f %z", output.ExitUsage, "%z"},
		{"consume t -g g -o 5", output.ExitUsage, "group seek"},
		{"consume t -g g -p 0", output.ExitUsage, "-p"},
		{"produce t -z brotli", output.ExitUsage, "brotli"},
		{"produce t --acks 2", output.ExitUsage, "acks"},
		{"produce t -f %k%v", output.ExitUsage, "separates"},
		{"pub -m x", output.ExitUsage, "-t"},
		{"pub -t t", output.ExitUsage, "-m"},
		{"pub -t a/# -m x", output.ExitUsage, "wildcard"},
		{"pub -t a -m x -q 3", output.ExitUsage, "QoS"},
		{"sub", output.ExitUsage, "-t"},
		{"sub -t a/#/b", output.ExitUsage, "a/#/b"},
		{"sub -t a -F %Z", output.ExitUsage, "%Z"},
		{"demo --devices 0", output.ExitUsage, "devices"},
	}
	for _, c := range cases {
		args := strings.Fields(c.args)
		if args[0] != "demo" {
			args = b.complete(args)
		}
		out, errs, code := execute(t, "", args...)
		if code != c.code || !strings.Contains(errs, c.text) || out != "" {
			t.Errorf("firth %s: exit code %d, want %d; %q is to be in\n%s%s", c.args, code, c.code, c.text, out, errs)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	for _, args := range []string{
		"topic list -b 127.0.0.1:1", "group list -b 127.0.0.1:1", "consume t -b 127.0.0.1:1",
		"pub -p 1 -t a -m x", "sub -p 1 -t a", "produce t -b 127.0.0.1:1",
	} {
		_, errs, code := execute(t, "x\n", strings.Fields(args)...)
		if code != output.ExitConnect || !strings.Contains(errs, "hint: is Firth running?") {
			t.Errorf("firth %s: exit code %d\n%s", args, code, errs)
		}
	}
	_, errs, _ := execute(t, "", "topic", "list", "-b", "127.0.0.1:1", "-o", "json")
	var got map[string]any
	if err := json.Unmarshal([]byte(errs), &got); err != nil || got["code"] != "connect" || got["exit"] != 3.0 {
		t.Errorf("got %s", errs)
	}
}

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	out, errs, code := execute(t, "", "demo", "--devices", "10", "--interval", "50ms", "--plain", "--duration", "2s")
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{`to Kafka p50 [0-9.]+ ms p99`,
		`[1-9][0-9]* were read by the Kafka consumer group`, `reached devices: p50 [0-9]`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s is not in\n%s", want, out)
		}
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("the demo left %v behind, %v", left, err)
	}
}
