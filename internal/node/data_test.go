package node

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// unpack puts a data directory of testdata/data into a folder, with holes where there is nothing.
func unpack(t *testing.T, archive, folder string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, b, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestDataOfOlderVersions opens a data directory of each format that was ever written, by a binary of that time and
// killed with SIGKILL: nothing is damaged, all is there, by both doors, and it is written on.
func TestDataOfOlderVersions(t *testing.T) {
	archives, err := filepath.Glob("testdata/data/*.tar.gz")
	if err != nil || len(archives) < store.FormatVersion {
		t.Fatalf("%d directories for %d formats: %v", len(archives), store.FormatVersion, err)
	}
	for _, archive := range archives {
		name := strings.TrimSuffix(filepath.Base(archive), ".tar.gz")
		t.Run(name, func(t *testing.T) {
			c := local(t)
			c.Encryption = keysOf(t, name)
			unpack(t, archive, c.Data)
			sound(t, c)
			text, err := os.ReadFile(filepath.Join("testdata", "data", name+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(strings.TrimSpace(string(text)), "\n")
			c.Logger = logtest.New(t)
			n := start(t, c)
			for _, lack := range lacks(n.holds(t), want) {
				t.Errorf("not there: %s", lack)
			}
			goOn(t, n)
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			sound(t, c)
			n = start(t, c)
			n.await(t, "plain", "written on")
		})
	}
}

// lacks lists the lines that are wanted and not there.
func lacks(have, want []string) (lacks []string) {
	for _, line := range want {
		if !slices.Contains(have, line) {
			lacks = append(lacks, line)
		}
	}
	return lacks
}

// keysOf are the keys of a directory of testdata/data, if it is encrypted.
func keysOf(t *testing.T, name string) (e Encryption) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "data", name+".keys"))
	if errors.Is(err, os.ErrNotExist) {
		return e
	}
	e = Encryption{KeyFile: filepath.Join(t.TempDir(), "keys"), NewFiles: true}
	if err := errors.Join(err, os.WriteFile(e.KeyFile, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	return e
}

// sound checks a stopped log.
func sound(t *testing.T, c *Config) {
	t.Helper()
	keys, err := c.Encryption.Keys()
	if err != nil {
		t.Fatal(err)
	}
	fs, err := vfs.OpenDisk(c.Data)
	if err != nil {
		t.Fatal(err)
	}
	o, err := store.OpenOffline(t.Context(), fs, keys)
	if err != nil {
		t.Fatal(err)
	}
	report := func(f store.Finding) { t.Errorf("%s: %s", f.File, f.What) }
	if _, err := o.Check(t.Context(), report, nil); err != nil {
		t.Error(err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}

// kafkaClient is a client of a node's Kafka door.
func (n *Node) kafkaClient(t *testing.T, more ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(more, kgo.SeedBrokers(n.Addresses().Kafka))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// holds lists what a node holds, in the words of testdata/data: topics with the checksum of their records, records of
// each partition, committed offsets of groups, retained messages.
func (n *Node) holds(t *testing.T) (lines []string) {
	t.Helper()
	admin := kadm.NewClient(n.kafkaClient(t))
	topics, err := admin.ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ends, err := admin.ListEndOffsets(t.Context(), topics.Names()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range topics.Names() {
		lines = append(lines, n.records(t, topic, ends)...)
	}
	groups, err := admin.ListGroups(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range groups.Groups() {
		offsets, err := admin.FetchOffsets(t.Context(), group)
		if err != nil {
			t.Fatal(err)
		}
		offsets.Each(func(o kadm.OffsetResponse) {
			lines = append(lines, fmt.Sprintf("group %s %s %d %d", group, o.Topic, o.Partition, o.At))
		})
	}
	return append(lines, n.retained(t)...)
}

// records reads a topic: its checksum, as sha256sum makes it of what kcat -f '%p %o %T %k %S %s\n' prints, and how
// many records each partition has.
func (n *Node) records(t *testing.T, topic string, ends kadm.ListedOffsets) (lines []string) {
	t.Helper()
	sum := sha256.New()
	for p := int32(0); ; p++ {
		end, ok := ends.Lookup(topic, p)
		if !ok {
			return append(lines, fmt.Sprintf("topic %s %x", topic, sum.Sum(nil)))
		}
		count := 0
		from := map[string]map[int32]kgo.Offset{topic: {p: kgo.NewOffset().AtStart()}}
		c := n.kafkaClient(t, kgo.ConsumePartitions(from))
		for next := int64(0); next < end.Offset; {
			fetches := c.PollFetches(t.Context())
			if err := fetches.Err(); err != nil {
				t.Fatal(err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				next = r.Offset + 1
				count++
				fmt.Fprintf(sum, "%d %d %d %s %d %s\n", p, r.Offset, r.Timestamp.UnixMilli(), r.Key, len(r.Value), r.Value)
			})
		}
		c.Close()
		if count > 0 {
			lines = append(lines, fmt.Sprintf("count %s %d %d", topic, p, count))
		}
	}
}

// retained lists the retained messages. A last message, retained for the occasion, tells that there are no more.
func (n *Node) retained(t *testing.T) (lines []string) {
	t.Helper()
	got := make(chan string, 100)
	acked := make(chan packet.ReasonCode, 1)
	c, err := client.Dial(t.Context(), n.Addresses().MQTT, client.Options{
		OnMessage: func(m *packet.Publish) { got <- fmt.Sprintf("retained %s %s", m.Topic, m.Payload) },
		OnAck:     func(_ uint64, reason packet.ReasonCode, _ error) { acked <- reason },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Abort()
	for _, filter := range []string{"devices/#", "last"} {
		if filter == "last" {
			m := &packet.Publish{Topic: []byte(filter), Payload: []byte("one"), QoS: 1, Retain: true}
			if err := c.Publish(m, 0); err != nil {
				t.Fatal(err)
			}
			if reason := <-acked; reason.Failed() {
				t.Fatalf("reason %v", reason)
			}
		}
		sub := packet.Subscription{Filter: []byte(filter), QoS: 1}
		if _, err := c.Subscribe(t.Context(), packet.Properties{}, sub); err != nil {
			t.Fatal(err)
		}
	}
	for line := range got {
		if line == "retained last one" {
			return lines
		}
		lines = append(lines, line)
	}
	return nil
}

// goOn writes to a topic and commits.
func goOn(t *testing.T, n *Node) {
	t.Helper()
	c := n.kafkaClient(t)
	r := &kgo.Record{Topic: "plain", Partition: 0, Key: []byte("k"), Value: []byte("written on")}
	if err := c.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	at := kadm.Offsets{}
	at.Add(kadm.Offset{Topic: "plain", Partition: 0, At: 250})
	if err := kadm.NewClient(c).CommitAllOffsets(t.Context(), "golden", at); err != nil {
		t.Fatal(err)
	}
}

// await reads a topic until a record has the value.
func (n *Node) await(t *testing.T, topic, value string) {
	t.Helper()
	c := n.kafkaClient(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for found := false; !found; {
		fetches := c.PollFetches(t.Context())
		if err := fetches.Err(); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { found = found || string(r.Value) == value })
	}
	offsets, err := kadm.NewClient(c).FetchOffsets(t.Context(), "golden")
	if o, ok := offsets.Lookup("plain", 0); err != nil || !ok || o.At != 250 {
		t.Errorf("the group is at %+v: %v", o, err)
	}
}

// TestPoisonedNames is E13: a record over which the mapping panics costs its name in the index, and one log line.
func TestPoisonedNames(t *testing.T) {
	n := &naming{log: logtest.New(t, "a record has no MQTT name")} // without a table it panics over every record
	for range 3 {
		if name, ok := n.TopicName("a", &record.View{}); ok || name != nil {
			t.Errorf("the name is %q", name)
		}
	}
	if !n.failed {
		t.Error("nothing was logged")
	}
}
