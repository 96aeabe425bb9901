package sarama

import (
	"errors"
	"fmt"
	"testing"

	"github.com/IBM/sarama"
)

// TestTransactions has records and offsets of a group committed and aborted together, and a second instance fence the
// first. [Kafka-AddOffsetsToTxn] [Kafka-AddPartitionsToTxn] [Kafka-EndTxn]
// [Kafka-InitProducerId] [Kafka-TxnOffsetCommit]
func TestTransactions(t *testing.T) {
	each(t, sarama.V0_11_0_0, func(t *testing.T, v sarama.KafkaVersion) {
		admin := administer(t, v)
		name := topic(t, admin, 1)
		p := transactional(t, v, name)
		for i := range int64(6) {
			check(t, "begin", p.BeginTxn())
			send(t, p, name, fmt.Sprint("a", i))
			send(t, p, name, fmt.Sprint("b", i))
			offsets := map[string][]*sarama.PartitionOffsetMetadata{name: {{Partition: 0, Offset: 10 + i}}}
			check(t, "offsets", p.AddOffsetsToTxn(offsets, name))
			if i%2 == 1 {
				check(t, "abort", p.AbortTxn())
			} else {
				check(t, "commit", p.CommitTxn())
			}
		}
		committed(t, admin, name, 14)

		fenced(t, v, name, p)

		c := config(v)
		c.Consumer.IsolationLevel = sarama.ReadCommitted
		want := []string{"a0", "b0", "a2", "b2", "a4", "b4", "last"}
		for i, m := range consume(t, c, name, len(want)) {
			if string(m.Value) != want[i] {
				t.Errorf("committed record %d is %q, want %q", i, m.Value, want[i])
			}
		}
		if all := consume(t, config(v), name, 14); string(all[2].Value) != "a1" {
			t.Errorf("a reader of all records finds %q, want a1", all[2].Value)
		}
	})
}

// fenced has a second instance of a transactional producer fence the first in a transaction, and commit one of its own.
func fenced(t *testing.T, v sarama.KafkaVersion, name string, p sarama.SyncProducer) {
	t.Helper()
	check(t, "begin", p.BeginTxn())
	send(t, p, name, "late")
	second := transactional(t, v, name)
	check(t, "begin", second.BeginTxn())
	send(t, second, name, "last")
	if err := p.CommitTxn(); err == nil {
		t.Error("a producer that was fenced has committed")
	} else if !errors.Is(err, sarama.ErrProducerFenced) && !errors.Is(err, sarama.ErrInvalidProducerEpoch) {
		t.Errorf("a producer that was fenced is told: %v", err)
	}
	check(t, "commit", second.CommitTxn())
	check(t, "close", second.Close())
	p.Close()
}

func transactional(t *testing.T, v sarama.KafkaVersion, id string) sarama.SyncProducer {
	t.Helper()
	c := config(v)
	c.Producer.Return.Successes = true
	c.Producer.Idempotent = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Transaction.ID = id
	c.Net.MaxOpenRequests = 1
	p, err := sarama.NewSyncProducer([]string{broker}, c)
	check(t, "transactional producer", err)
	return p
}

// committed wants a group to stand at an offset of partition 0.
func committed(t *testing.T, admin sarama.ClusterAdmin, name string, want int64) {
	t.Helper()
	offsets, err := admin.ListConsumerGroupOffsets(name, map[string][]int32{name: {0}})
	check(t, "offsets of the group", err)
	if b := offsets.GetBlock(name, 0); b == nil || b.Err != sarama.ErrNoError || b.Offset != want {
		t.Errorf("the group stands at %+v, want %d", b, want)
	}
}
