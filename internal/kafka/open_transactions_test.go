package kafka

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// keyedBatch is a batch of one record; of a transaction, if somebody is in one.
func keyedBatch(who *txnWho, sequence int32, key, value string) record.Batch {
	var bu record.Builder
	bu.Reset(nil, 1000)
	if who != nil {
		bu.SetProducer(who.id, who.epoch, sequence)
		bu.SetTransactional()
	}
	bu.Append(&record.Record{Timestamp: 1000, Key: []byte(key), Value: []byte(value)})
	return bu.Seal(0, 0)
}

// TestNothingPassesAnOpenTransaction has retention, DeleteRecords and compaction stop where a transaction is open, and
// go on when it has ended. Beside each topic stands one without a transaction that shows that they would do more.
func TestNothingPassesAnOpenTransaction(t *testing.T) {
	h := openHouseWith(t, store.Options{
		FS: vfs.NewMemory(), JournalBytes: 64 << 10, RetentionInterval: 5 * time.Millisecond, Logger: logtest.New(t),
	}, Options{})
	compacted := []string{"cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0.01"}
	held := []*stream.Topic{h.topic("aged", 1), h.topic("cut", 1), h.topic("keyed", 1, compacted...)}
	free := []*stream.Topic{h.topic("aged-2", 1), h.topic("cut-2", 1), h.topic("keyed-2", 1, compacted...)}
	c := h.dial()
	who := c.initTxn("a", 5)
	for _, topic := range slices.Concat(held, free) {
		h.put(c, topic, 0, keyedBatch(nil, 0, "key 0", "before"))
	}
	for _, topic := range held {
		wantCode(t, "produce", c.produceIn(who, 12, topic, 0, keyedBatch(&who, 0, "key 0", "in the transaction")), wire.None)
	}
	const behind = 300
	for i := range behind {
		for _, topic := range slices.Concat(held, free) {
			h.put(c, topic, 0, keyedBatch(nil, 0, fmt.Sprint("key ", i%3), fmt.Sprintf("%d %0500d", i, i)))
		}
	}
	for _, name := range []string{"aged", "aged-2"} { // all of it is from 1970
		change := stream.TopicChange{Set: map[string]string{"retention.ms": "1000"}}
		if _, err := h.store.AlterTopic(t.Context(), name, change); err != nil {
			t.Fatal(err)
		}
	}
	if low := c.deleteAll(t, "cut"); low != 1 {
		t.Errorf("DeleteRecords deletes up to %d, the transaction began at 1", low)
	}
	if low := c.deleteAll(t, "cut-2"); low != behind+1 {
		t.Errorf("DeleteRecords deletes up to %d without a transaction", low)
	}
	bounds := func(topic *stream.Topic) stream.Bounds {
		b, err := h.store.Bounds(topic.Partitions[0])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	until(t, "retention has gone through", func() bool { return bounds(free[0]).Start == behind+1 })
	until(t, "compaction has gone through", func() bool { return h.readCount(t, "keyed-2") < behind/2 })
	for _, topic := range held {
		if b := bounds(topic); b.Start > 1 || b.Stable != 1 || b.High != behind+2 {
			t.Errorf("%s: %+v, the transaction began at 1", topic.Name, b)
		}
	}
	if n := h.readCount(t, "keyed"); n != behind+2 {
		t.Errorf("%d records are left behind an open transaction, of %d", n, behind+2)
	}
	wantCode(t, "commit", c.endTxn(who, 5, true).ErrorCode, wire.None)
	until(t, "retention goes on", func() bool { return bounds(held[0]).Start > 1 })
	if low := c.deleteAll(t, "cut"); low != behind+3 {
		t.Errorf("DeleteRecords deletes up to %d when the transaction has ended", low)
	}
	until(t, "compaction goes on", func() bool { return h.readCount(t, "keyed") < behind/2 })
}

// deleteAll asks for all records of partition 0 to be deleted, and gives where it begins then.
func (c *client) deleteAll(t *testing.T, topic string) int64 {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.Topics = []kmsg.DeleteRecordsRequestTopic{
		{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 0, Offset: -1}}},
	}
	p := askFor[*kmsg.DeleteRecordsResponse](c, 1, req).Topics[0].Partitions[0]
	wantCode(t, "delete records", p.ErrorCode, wire.None)
	return p.LowWatermark
}
