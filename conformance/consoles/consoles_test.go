package consoles

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firthmq/firth/conformance/outside"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// patience is how long anything may take that is bound to happen.
const patience = 3 * time.Minute

// console is one of them: what it is called, and the versions of the client that it is built with.
type console struct {
	name     string
	versions *kversion.Versions
}

var consoles = []console{
	{"redpanda-console", kversion.Stable()},    // franz-go, which speaks the newest that both know
	{"kafka-ui", javaAdmin(kversion.V3_9_0())}, // kafka-clients 7.9.5-ccs
	{"akhq", javaAdmin(kversion.V3_7_0())},
}

// javaAdmin are the versions of Kafka's Java client: those of a broker of its time, and what only KRaft's brokers have.
func javaAdmin(v *kversion.Versions) *kversion.Versions {
	v.SetMaxKeyVersion(kmsg.DescribeQuorum.Int16(), 2)
	return v
}

// serve starts the binary and gives the address of its Kafka door; when the test ends, the process has to end well.
func serve(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	name, err := outside.Build(dir)
	check(t, "build", err)
	args := []string{"serve", "--data", filepath.Join(dir, "data"), "-o", "json", "--set", "listen.ws=off"}
	for _, door := range []string{"mqtt", "kafka", "http"} {
		args = append(args, "--set", "listen."+door+"=127.0.0.1:0")
	}
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	check(t, "pipe", err)
	check(t, "start", cmd.Start())
	out := bufio.NewReader(pipe)
	at, err := outside.Serving(out)
	check(t, "serve", err)
	ended := outside.Ended(cmd, out)
	t.Cleanup(func() {
		check(t, "stop", cmd.Process.Signal(syscall.SIGTERM))
		check(t, "end", <-ended)
	})
	return at.Kafka
}

func check(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// house is what a console looks at: a topic with 30 records and a group that has committed 20 of them.
type house struct {
	client         *kgo.Client
	topic, group   string
	topicID        [16]byte
	patient, stuck string // groups: one without members, one that does not exist
}

// open makes the house of a console.
func open(t *testing.T, addr string, c console) *house {
	t.Helper()
	h := &house{
		topic: c.name + ".orders", group: c.name + ".billing", patient: c.name + ".patient", stuck: c.name + ".none",
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	admin := dial(t, addr, kgo.MaxVersions(c.versions))
	h.client = admin
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Topics = []kmsg.CreateTopicsRequestTopic{topicOf(h.topic, 3)}
	ask(ctx, t, h, create, nil)
	p := dial(t, addr, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range 30 {
		at := time.UnixMilli(int64(1000 * (i + 1)))
		r := &kgo.Record{Topic: h.topic, Value: fmt.Appendf(nil, "order %d", i), Timestamp: at}
		check(t, "produce", p.ProduceSync(ctx, r).FirstErr())
	}
	member := dial(t, addr, kgo.ConsumerGroup(h.group), kgo.ConsumeTopics(h.topic), kgo.ClientID("biller"),
		kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for got := 0; got < 30; {
		fetched := member.PollFetches(ctx)
		check(t, "poll", fetched.Err())
		got += fetched.NumRecords()
	}
	check(t, "commit", member.CommitRecords(ctx, &kgo.Record{Topic: h.topic, Partition: 0, Offset: 19}))
	return h
}

func dial(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
	check(t, "client", err)
	t.Cleanup(client.Close)
	return client
}

func topicOf(name string, partitions int32) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
	return t
}

// ask sends a request and wants no error code in the answer but those allowed.
func ask(ctx context.Context, t *testing.T, h *house, req kmsg.Request, allowed []int16) kmsg.Response {
	t.Helper()
	// What kgo would merge of several brokers it takes from one as it is.
	shards := h.client.RequestSharded(ctx, req)
	if len(shards) != 1 || shards[0].Err != nil {
		t.Fatalf("%s: %d answers, %v", kmsg.NameForKey(req.Key()), len(shards), shards[0].Err)
	}
	resp := shards[0].Resp
	for _, e := range codes(reflect.ValueOf(resp), kmsg.NameForKey(req.Key()), allowed) {
		t.Errorf("v%d: %s", req.GetVersion(), e)
	}
	return resp
}

// codes finds the error codes of an answer, wherever they stand in it.
func codes(v reflect.Value, where string, allowed []int16) (found []string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			found = codes(v.Elem(), where, allowed)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			for i := range v.Len() {
				found = append(found, codes(v.Index(i), fmt.Sprintf("%s[%d]", where, i), allowed)...)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.Name == "ErrorCode" {
				code := int16(v.Field(i).Int())
				if code != 0 && !slices.Contains(allowed, code) {
					found = append(found, fmt.Sprintf("%s has error code %d", where, code))
				}
			} else if field.IsExported() {
				found = append(found, codes(v.Field(i), where+"."+field.Name, allowed)...)
			}
		}
	}
	return found
}

// TestConsoles has each console make its calls. [Kafka-AlterClientQuotas] [Kafka-AlterConfigs]
// [Kafka-AlterPartitionReassignments] [Kafka-AlterReplicaLogDirs] [Kafka-ApiVersions] [Kafka-CreatePartitions]
// [Kafka-CreateTopics] [Kafka-DeleteGroups] [Kafka-DeleteRecords] [Kafka-DeleteTopics] [Kafka-DescribeClientQuotas]
// [Kafka-DescribeCluster] [Kafka-DescribeConfigs] [Kafka-DescribeGroups] [Kafka-DescribeLogDirs]
// [Kafka-DescribeProducers] [Kafka-DescribeQuorum] [Kafka-Fetch] [Kafka-FindCoordinator]
// [Kafka-IncrementalAlterConfigs] [Kafka-ListGroups] [Kafka-ListOffsets] [Kafka-ListPartitionReassignments]
// [Kafka-Metadata] [Kafka-OffsetCommit] [Kafka-OffsetDelete]
// [Kafka-OffsetFetch].
func TestConsoles(t *testing.T) {
	addr := serve(t)
	for _, c := range consoles {
		t.Run(c.name, func(t *testing.T) {
			h := open(t, addr, c)
			for _, call := range calls {
				if call.by != "" && !strings.Contains(call.by, c.name) {
					continue
				}
				t.Run(call.name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					resp := ask(ctx, t, h, call.ask(h), call.allowed)
					if call.want != nil && !t.Failed() {
						if wrong := call.want(h, resp); wrong != "" {
							t.Errorf("v%d: %s", resp.GetVersion(), wrong)
						}
					}
				})
			}
		})
	}
}
