package sarama

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// patience is how long anything may take that is bound to happen.
const patience = 3 * time.Minute

// broker is where the server listens.
var broker = os.Getenv("kafka")

func TestMain(m *testing.M) {
	if broker == "" {
		fmt.Fprintln(os.Stderr, "kafka in the environment names no server")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// versions are what sarama is told to speak: its default up to 1.38, its default, the newest.
var versions = []sarama.KafkaVersion{sarama.V1_0_0_0, sarama.DefaultVersion, sarama.MaxVersion}

// each runs a test at every version that has what it needs.
func each(t *testing.T, needs sarama.KafkaVersion, test func(t *testing.T, v sarama.KafkaVersion)) {
	for _, v := range versions {
		if v.IsAtLeast(needs) {
			t.Run(v.String(), func(t *testing.T) {
				t.Parallel()
				test(t, v)
			})
		}
	}
}

// config is the configuration that nobody changed, at a version.
func config(v sarama.KafkaVersion) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = v
	return c
}

// named gives topics and groups of a test a name of their own.
func named(t *testing.T) string {
	return "sarama." + strings.NewReplacer("/", ".").Replace(t.Name())
}

// check ends a test that something went wrong for.
func check(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// administer gives a client for administration, closed when the test ends.
func administer(t *testing.T, v sarama.KafkaVersion) sarama.ClusterAdmin {
	t.Helper()
	admin, err := sarama.NewClusterAdmin([]string{broker}, config(v))
	check(t, "admin", err)
	t.Cleanup(func() { admin.Close() })
	return admin
}

// topic makes a topic of its own for the test.
func topic(t *testing.T, admin sarama.ClusterAdmin, partitions int32) string {
	t.Helper()
	name := named(t)
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}
	check(t, "create topic", admin.CreateTopic(name, detail, false))
	return name
}

// fill has count records produced to a partition, idempotently where the version allows: "0", "1" and so on.
func fill(t *testing.T, v sarama.KafkaVersion, topic string, partition int32, count int) {
	t.Helper()
	c := config(v)
	c.Producer.Return.Successes = true
	c.Producer.Partitioner = sarama.NewManualPartitioner
	p, err := sarama.NewSyncProducer([]string{broker}, c)
	check(t, "producer", err)
	defer p.Close()
	var all []*sarama.ProducerMessage
	for i := range count {
		value := sarama.StringEncoder(fmt.Sprint(i))
		all = append(all, &sarama.ProducerMessage{Topic: topic, Partition: partition, Value: value})
	}
	check(t, "produce", p.SendMessages(all))
}

// consume reads count records of partition 0 from the beginning.
func consume(t *testing.T, c *sarama.Config, topic string, count int) []*sarama.ConsumerMessage {
	t.Helper()
	consumer, err := sarama.NewConsumer([]string{broker}, c)
	check(t, "consumer", err)
	defer consumer.Close()
	part, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	check(t, "consume", err)
	defer part.Close()
	var got []*sarama.ConsumerMessage
	late := time.After(patience)
	for len(got) < count {
		select {
		case m := <-part.Messages():
			got = append(got, m)
		case <-late:
			t.Fatalf("%d of %d records came", len(got), count)
		}
	}
	return got
}
