package kafka

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kafka/txn"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/kit/vfs/vfstest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// txnWho is a producer as the tests speak for it.
type txnWho struct {
	name  string
	id    int64
	epoch int16
}

// txnBatch is a batch of a transactional producer.
func txnBatch(who txnWho, sequence int32, values ...string) record.Batch {
	var bu record.Builder
	bu.Reset(nil, 1000)
	bu.SetProducer(who.id, who.epoch, sequence)
	bu.SetTransactional()
	for _, v := range values {
		bu.Append(&record.Record{Timestamp: 1000, Value: []byte(v)})
	}
	return bu.Seal(0, 0)
}

// initTxn is InitProducerId of somebody who has not had the id.
func (c *client) initTxn(name string, version int16) txnWho {
	c.t.Helper()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = new(name), 60_000
	resp := askFor[*kmsg.InitProducerIDResponse](c, version, req)
	wantCode(c.t, "init of "+name, resp.ErrorCode, wire.None)
	return txnWho{name, resp.ProducerID, resp.ProducerEpoch}
}

// initAgain is InitProducerId of a producer that comes back.
func (c *client) initAgain(who txnWho) *kmsg.InitProducerIDResponse {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = new(who.name), 60_000
	req.ProducerID, req.ProducerEpoch = who.id, who.epoch
	return askFor[*kmsg.InitProducerIDResponse](c, 5, req)
}

// produceIn writes one batch in a transaction.
func (c *client) produceIn(who txnWho, version int16, topic *stream.Topic, p int32, b record.Batch) wire.Code {
	req := produceTo(topic, p, -1, b)
	req.TransactionID = new(who.name)
	return produced(askFor[*kmsg.ProduceResponse](c, version, req)).ErrorCode
}

func (c *client) addPartition(who txnWho, topic *stream.Topic, ps ...int32) []wire.Code {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = who.name, who.id, who.epoch
	rt := kmsg.NewAddPartitionsToTxnRequestTopic()
	rt.Topic, rt.Partitions = topic.Name, ps
	req.Topics = append(req.Topics, rt)
	var codes []wire.Code
	for _, p := range askFor[*kmsg.AddPartitionsToTxnResponse](c, 3, req).Topics[0].Partitions {
		codes = append(codes, p.ErrorCode)
	}
	return codes
}

func (c *client) endTxn(who txnWho, version int16, commit bool) *kmsg.EndTxnResponse {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = who.name, who.id, who.epoch, commit
	return askFor[*kmsg.EndTxnResponse](c, version, req)
}

// txnCommit is TxnOffsetCommit of one offset of a group.
func (c *client) txnCommit(who txnWho, version int16, group string, topic *stream.Topic, offset int64) wire.Code {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = who.name, group, who.id, who.epoch
	req.Generation = -1
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic = topic.Name
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Offset, rp.LeaderEpoch = offset, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return askFor[*kmsg.TxnOffsetCommitResponse](c, version, req).Topics[0].Partitions[0].ErrorCode
}

// offset is the committed offset of partition 0, for who needs a stable one.
func (c *client) offset(group string, topic *stream.Topic) (int64, wire.Code) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = group
	rt := kmsg.NewOffsetFetchRequestGroupTopic()
	rt.Topic, rt.Partitions = topic.Name, []int32{0}
	rg.Topics = append(rg.Topics, rt)
	req.Groups = append(req.Groups, rg)
	p := askFor[*kmsg.OffsetFetchResponse](c, 8, req).Groups[0].Topics[0].Partitions[0]
	return p.Offset, p.ErrorCode
}

// read fetches all there is of partition 0 by an isolation level, as clients see it: without markers and what was
// aborted.
func (c *client) read(topic *stream.Topic, committed bool) (values []string) {
	c.t.Helper()
	for offset := int64(0); ; {
		req := fetchFrom(topic, 0, offset, 0, 0)
		if committed {
			req.IsolationLevel = 1
		}
		p := fetched(askFor[*kmsg.FetchResponse](c, 13, req))
		wantCode(c.t, "fetch", p.ErrorCode, wire.None)
		if len(p.RecordBatches) == 0 {
			return values
		}
		for rest := p.RecordBatches; len(rest) > 0; {
			b, behind, err := record.Next(rest)
			if err != nil {
				c.t.Fatal(err)
			}
			rest, offset = behind, int64(b.LastOffset())+1
			if b.Attributes().Control() || b.Attributes().Transactional() && aborts(&p, b) {
				continue
			}
			values = append(values, recordsOf(c.t, b)...)
		}
	}
}

// aborts goes through the aborted transactions of an answer as clients do: one is over at the producer's next marker.
func aborts(p *kmsg.FetchResponseTopicPartition, b record.Batch) bool {
	for _, a := range p.AbortedTransactions {
		if a.ProducerID == b.ProducerID() && a.FirstOffset <= int64(b.BaseOffset()) && !ended(p, &a, b) {
			return true
		}
	}
	return false
}

// ended tells whether a marker of the producer lies between the beginning of a transaction and a batch.
func ended(
	p *kmsg.FetchResponseTopicPartition, a *kmsg.FetchResponseTopicPartitionAbortedTransaction, b record.Batch,
) bool {
	for rest := p.RecordBatches; len(rest) > 0; {
		m, behind, err := record.Next(rest)
		if err != nil {
			return false
		}
		rest = behind
		if m.Attributes().Control() && m.ProducerID() == a.ProducerID &&
			int64(m.BaseOffset()) >= a.FirstOffset && m.BaseOffset() < b.BaseOffset() {
			return true
		}
	}
	return false
}

func recordsOf(t testing.TB, b record.Batch) (values []string) {
	t.Helper()
	var it record.Iter
	var s record.Scratch
	if err := it.Reset(b, &s); err != nil {
		t.Fatal(err)
	}
	for v := (record.View{}); it.Next(&v); {
		values = append(values, string(v.Value))
	}
	return values
}

func wantRead(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: read %q, want %q", what, got, want)
	}
}

// TestTransactions has a producer of KIP-890 commit, abort and be fenced, and readers see it.
// [Kafka-InitProducerId] [Kafka-EndTxn] [Kafka-Produce] [Kafka-Fetch] [Kafka-ListOffsets].
func TestTransactions(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 2)
	c := h.dial()
	a, b := c.initTxn("a", 5), c.initTxn("b", 5)
	produceOK := func(who txnWho, sequence int32, values ...string) {
		t.Helper()
		wantCode(t, "produce", c.produceIn(who, 12, topic, 0, txnBatch(who, sequence, values...)), wire.None)
	}
	produceOK(a, 0, "a1", "a2")
	produceOK(b, 0, "b1")
	produceOK(a, 2, "a3")
	wantRead(t, "committed, none is", c.read(topic, true))
	wantRead(t, "uncommitted", c.read(topic, false), "a1", "a2", "b1", "a3")
	wantEnd(t, c, topic, 1, 0)
	wantEnd(t, c, topic, 0, 4)
	resp := c.endTxn(b, 5, false)
	wantCode(t, "abort", resp.ErrorCode, wire.None)
	if resp.ProducerID != b.id || resp.ProducerEpoch != b.epoch+1 {
		t.Fatalf("b goes on as %d, %d", resp.ProducerID, resp.ProducerEpoch)
	}
	wantRead(t, "committed, a is open", c.read(topic, true))
	wantCode(t, "commit", c.endTxn(a, 5, true).ErrorCode, wire.None)
	wantRead(t, "committed", c.read(topic, true), "a1", "a2", "a3")
	wantEnd(t, c, topic, 1, 6)
	wantCode(t, "commit once more", c.endTxn(a, 5, true).ErrorCode, wire.None)
	wantCode(t, "abort it then", c.endTxn(a, 5, false).ErrorCode, wire.InvalidTxnState)
	wantCode(t, "a late batch", c.produceIn(a, 12, topic, 1, txnBatch(a, 3, "late")), wire.InvalidProducerEpoch)
	b.epoch++
	produceOK(b, 0, "b2")
	b2 := c.initTxn("b", 5) // another instance: what is under way is aborted
	wantCode(t, "fenced", c.produceIn(b, 12, topic, 1, txnBatch(b, 0, "late")), wire.InvalidProducerEpoch)
	wantCode(t, "fenced commit", c.endTxn(b, 5, true).ErrorCode, wire.ProducerFenced)
	wantCode(t, "fenced commit of old", c.endTxn(b, 1, true).ErrorCode, wire.InvalidProducerEpoch)
	wantCode(t, "fenced init", c.initAgain(b).ErrorCode, wire.ProducerFenced)
	produceOK(b2, 0, "b3")
	wantCode(t, "commit", c.endTxn(b2, 5, true).ErrorCode, wire.None)
	wantRead(t, "committed", c.read(topic, true), "a1", "a2", "a3", "b3")
	wantCode(t, "nobody", c.endTxn(txnWho{"nobody", 1, 1}, 5, true).ErrorCode, wire.InvalidProducerIDMapping)
}

// wantEnd asks where partition 0 ends for an isolation level.
func wantEnd(t testing.TB, c *client, topic *stream.Topic, isolation int8, want int64) {
	t.Helper()
	req := kmsg.NewPtrListOffsetsRequest()
	req.IsolationLevel = isolation
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic.Name
	rp := kmsg.NewListOffsetsRequestTopicPartition()
	rp.Timestamp = timeLatest
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	if got := askFor[*kmsg.ListOffsetsResponse](c, 7, req).Topics[0].Partitions[0].Offset; got != want {
		t.Errorf("isolation %d: the end is %d, want %d", isolation, got, want)
	}
}

// TestTransactionsBefore890 has a producer of the first protocol add what it writes to.
// [Kafka-AddPartitionsToTxn] [Kafka-AddOffsetsToTxn] [Kafka-TxnOffsetCommit].
func TestTransactionsBefore890(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 2)
	c := h.dial()
	a := c.initTxn("a", 1)
	wantCode(t, "not added", c.produceIn(a, 9, topic, 0, txnBatch(a, 0, "x")), wire.InvalidTxnState)
	wantCode(t, "not added, a newer client", c.produceIn(a, 11, topic, 0, txnBatch(a, 0, "x")), wire.TransactionAbortable)
	if got := c.addPartition(a, topic, 0, 9); !slices.Equal(got, []wire.Code{wire.OperationNotAttempted,
		wire.UnknownTopicOrPartition}) {
		t.Errorf("one of two is there: %v", got)
	}
	if got := c.addPartition(a, topic, 0); got[0] != wire.None {
		t.Errorf("add: %v", got)
	}
	if got := c.addPartition(txnWho{"a", a.id, a.epoch + 1}, topic, 0); got[0] != wire.ProducerFenced {
		t.Errorf("add in another epoch: %v", got)
	}
	wantCode(t, "added", c.produceIn(a, 9, topic, 0, txnBatch(a, 0, "x")), wire.None)
	wantCode(t, "offsets first", c.txnCommit(a, 3, "g", topic, 5), wire.InvalidTxnState)
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = a.name, a.id, a.epoch, "g"
	wantCode(t, "add offsets", askFor[*kmsg.AddOffsetsToTxnResponse](c, 3, add).ErrorCode, wire.None)
	wantCode(t, "offsets", c.txnCommit(a, 3, "g", topic, 5), wire.None)
	if _, code := c.offset("g", topic); code != wire.UnstableOffsetCommit {
		t.Errorf("an offset that may change: code %d", code)
	}
	wantCode(t, "commit", c.endTxn(a, 3, true).ErrorCode, wire.None)
	if got, code := c.offset("g", topic); got != 5 || code != wire.None {
		t.Errorf("the committed offset is %d, code %d", got, code)
	}
	wantRead(t, "committed", c.read(topic, true), "x")
	wantCode(t, "commit once more", c.endTxn(a, 3, true).ErrorCode, wire.None)
	wantCode(t, "a late batch", c.produceIn(a, 9, topic, 0, txnBatch(a, 1, "late")), wire.InvalidTxnState)
}

// TestTransactionOverRestart stops the door in the middle of transactions: all that was acknowledged of them is there.
func TestTransactionOverRestart(t *testing.T) {
	disk := vfs.NewMemory()
	h := openHouseOn(t, disk, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	old, modern := c.initTxn("old", 1), c.initTxn("modern", 5)
	if got := c.addPartition(old, topic, 0); got[0] != wire.None {
		t.Fatalf("add: %v", got)
	}
	wantCode(t, "produce", c.produceIn(modern, 12, topic, 0, txnBatch(modern, 0, "m1")), wire.None)
	wantCode(t, "offsets", c.txnCommit(modern, 5, "g", topic, 7), wire.None)
	h.stop()

	h = openHouseOn(t, disk, Options{})
	topic = h.store.Topics().ByName("t")
	c = h.dial()
	wantCode(t, "what was added is", c.produceIn(old, 9, topic, 0, txnBatch(old, 0, "o1")), wire.None)
	wantCode(t, "produce on", c.produceIn(modern, 12, topic, 0, txnBatch(modern, 1, "m2")), wire.None)
	if _, code := c.offset("g", topic); code != wire.UnstableOffsetCommit {
		t.Errorf("a pending offset: code %d", code)
	}
	wantCode(t, "commit", c.endTxn(modern, 5, true).ErrorCode, wire.None)
	wantCode(t, "abort", c.endTxn(old, 3, false).ErrorCode, wire.None)
	h.stop()

	h = openHouseOn(t, disk, Options{})
	topic = h.store.Topics().ByName("t")
	c = h.dial()
	wantRead(t, "committed", c.read(topic, true), "m1", "m2")
	if got, code := c.offset("g", topic); got != 7 || code != wire.None {
		t.Errorf("the committed offset is %d, code %d", got, code)
	}
	wantCode(t, "the answer that was lost", c.endTxn(modern, 5, true).ErrorCode, wire.None)
	if next := c.initTxn("modern", 5); next.id != modern.id || next.epoch != modern.epoch+2 {
		t.Errorf("goes on as %+v from %+v", next, modern)
	}
}

// TestTransactionTimesOut has a transaction end by itself when its time is over, and its producer fenced.
func TestTransactionTimesOut(t *testing.T) {
	set := telemetry.New()
	var now atomic.Int64
	h := openHouse(t, Options{Metrics: set, steady: now.Load})
	topic := h.topic("t", 1)
	c := h.dial()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = new("slow"), 50
	resp := askFor[*kmsg.InitProducerIDResponse](c, 5, req)
	slow := txnWho{"slow", resp.ProducerID, resp.ProducerEpoch}
	wantCode(t, "produce", c.produceIn(slow, 12, topic, 0, txnBatch(slow, 0, "x")), wire.None)
	wantCode(t, "offsets", c.txnCommit(slow, 5, "g", topic, 7), wire.None)
	until(t, "it is aborted", func() bool {
		now.Add(10) // it was seen a while ago, or just now
		return len(h.store.Transactions()) == 0
	})
	wantCode(t, "late", c.produceIn(slow, 12, topic, 0, txnBatch(slow, 1, "y")), wire.InvalidProducerEpoch)
	wantCode(t, "late commit", c.endTxn(slow, 5, true).ErrorCode, wire.ProducerFenced)
	if got, code := c.offset("g", topic); got != -1 || code != wire.None {
		t.Errorf("the offset is %d, code %d", got, code)
	}
	wantRead(t, "committed", c.read(topic, true))
	page := httptest.NewRecorder()
	set.Handler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		`firth_kafka_transactions_total{end="expired"} 1`, "firth_kafka_open_transactions 0",
		"firth_kafka_transactional_ids 1",
	} {
		if !strings.Contains(page.Body.String(), line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
	req.TransactionTimeoutMillis = int32((16 * time.Minute).Milliseconds())
	wantCode(t, "too long", askFor[*kmsg.InitProducerIDResponse](c, 5, req).ErrorCode, wire.InvalidTransactionTimeout)
}

// TestTransactionsAreShown has an operator see what is under way, and end it.
// [Kafka-DescribeProducers] [Kafka-DescribeTransactions] [Kafka-ListTransactions] [Kafka-WriteTxnMarkers].
func TestTransactionsAreShown(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	a := c.initTxn("a", 5)
	c.initTxn("quiet", 5)
	wantCode(t, "produce", c.produceIn(a, 12, topic, 0, txnBatch(a, 0, "x")), wire.None)

	list := kmsg.NewPtrListTransactionsRequest()
	list.StateFilters, list.DurationFilterMillis = []string{"Ongoing", "Sleeping"}, -1
	listed := askFor[*kmsg.ListTransactionsResponse](c, 2, list)
	if got := fmt.Sprint(listed.TransactionStates, listed.UnknownStateFilters); len(listed.TransactionStates) != 1 ||
		listed.TransactionStates[0].TransactionalID != "a" || listed.UnknownStateFilters[0] != "Sleeping" {
		t.Errorf("listed: %s", got)
	}
	list = kmsg.NewPtrListTransactionsRequest()
	list.DurationFilterMillis, list.TransactionalIDPattern = -1, new("qu.*")
	if listed = askFor[*kmsg.ListTransactionsResponse](c, 2, list); len(listed.TransactionStates) != 1 ||
		listed.TransactionStates[0].TransactionState != "Empty" {
		t.Errorf("by pattern: %+v", listed.TransactionStates)
	}
	list.TransactionalIDPattern = new("[")
	wantCode(t, "a pattern that is none", askFor[*kmsg.ListTransactionsResponse](c, 2, list).ErrorCode,
		wire.InvalidRegularExpression)

	describe := kmsg.NewPtrDescribeTransactionsRequest()
	describe.TransactionalIDs = []string{"a", "quiet", "nobody"}
	states := askFor[*kmsg.DescribeTransactionsResponse](c, 0, describe).TransactionStates
	if s := &states[0]; s.State != "Ongoing" || len(s.Topics) != 1 || s.StartTimestamp <= 0 || s.TimeoutMillis != 60_000 {
		t.Errorf("described: %+v", s)
	}
	if s := &states[1]; s.State != "Empty" || s.StartTimestamp != -1 {
		t.Errorf("described: %+v", s)
	}
	wantCode(t, "nobody", states[2].ErrorCode, wire.TransactionalIDNotFound)
	if got := producers(c, topic); len(got) != 1 || got[0].CurrentTxnStartOffset != 0 || got[0].LastSequence != 0 {
		t.Errorf("producers: %+v", got)
	}

	mark := kmsg.NewPtrWriteTxnMarkersRequest()
	m := kmsg.NewWriteTxnMarkersRequestMarker()
	m.ProducerID, m.ProducerEpoch = a.id, a.epoch
	mt := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	mt.Topic, mt.Partitions = "t", []int32{0, 7}
	m.Topics = append(m.Topics, mt)
	mark.Markers = append(mark.Markers, m)
	ps := askFor[*kmsg.WriteTxnMarkersResponse](c, 1, mark).Markers[0].Topics[0].Partitions
	wantCode(t, "mark", ps[0].ErrorCode, wire.None)
	wantCode(t, "mark what is not there", ps[1].ErrorCode, wire.UnknownTopicOrPartition)
	if got := producers(c, topic); len(got) != 1 || got[0].CurrentTxnStartOffset != -1 {
		t.Errorf("producers behind the marker: %+v", got)
	}
	wantRead(t, "committed", c.read(topic, true))
	ps = askFor[*kmsg.WriteTxnMarkersResponse](c, 1, mark).Markers[0].Topics[0].Partitions
	wantCode(t, "mark once more", ps[0].ErrorCode, wire.InvalidProducerEpoch)
}

func producers(c *client, topic *stream.Topic) []kmsg.DescribeProducersResponseTopicPartitionActiveProducer {
	req := kmsg.NewPtrDescribeProducersRequest()
	rt := kmsg.NewDescribeProducersRequestTopic()
	rt.Topic, rt.Partitions = topic.Name, []int32{0}
	req.Topics = append(req.Topics, rt)
	return askFor[*kmsg.DescribeProducersResponse](c, 0, req).Topics[0].Partitions[0].ActiveProducers
}

// TestIdleTransactionalIDsAreForgotten has an id go that nobody used for as long as the options say.
func TestIdleTransactionalIDsAreForgotten(t *testing.T) {
	h := openHouse(t, Options{Transactions: TxnOptions{IDExpiry: time.Millisecond}})
	c := h.dial()
	c.initTxn("a", 5)
	until(t, "it is old enough", func() bool {
		h.door.txns.sweep(context.Background())
		return h.door.txns.find("a") == nil
	})
	if again := c.initTxn("a", 5); again.epoch != 0 {
		t.Errorf("it begins anew with %+v", again)
	}
}

// TestStableOffsetIsTheNewest has somebody ask for stable offsets while transactions commit others: what it is told is
// never older than what was committed before it asked (KIP-447).
func TestStableOffsetIsTheNewest(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	const last = 300
	var known atomic.Int64
	known.Store(-1)
	var all sync.WaitGroup
	for range 3 {
		c := h.dial()
		all.Go(func() {
			for known.Load() < last {
				before := known.Load()
				if got, code := c.offset("g", topic); code == wire.None && got < before {
					t.Errorf("told offset %d, %d was to be waited for", got, before)
					return
				}
			}
		})
	}
	c := h.dial()
	who := c.initTxn("a", 5)
	for i := range int64(last + 1) {
		wantCode(t, "offsets", c.txnCommit(who, 5, "g", topic, i), wire.None)
		known.Store(i) // pending is as good as committed
		wantCode(t, "commit", c.endTxn(who, 5, true).ErrorCode, wire.None)
		who.epoch++
	}
	all.Wait()
}

// TestOffsetIsPendingBeforeTheGroupIsAsked has who asks for stable offsets wait for one from the moment on in which its
// committer was judged: it may not own the partition any more when that is on the disk.
func TestOffsetIsPendingBeforeTheGroupIsAsked(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c, other := h.dial(), h.dial()
	who := c.initTxn("a", 5)
	ot, err := h.door.txns.enter(t.Context(), "a", false) // somebody else has the turn
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() { wantCode(t, "offsets", c.txnCommit(who, 5, "g", topic, 7), wire.None) })
	until(t, "the offset is pending", func() bool {
		_, code := other.offset("g", topic)
		return code == wire.UnstableOffsetCommit
	})
	h.door.txns.leave(ot)
	done.Wait()
	wantCode(t, "abort", c.endTxn(who, 5, false).ErrorCode, wire.None)
	if got, code := other.offset("g", topic); got != -1 || code != wire.None {
		t.Errorf("the offset is %d, code %d", got, code)
	}
	who.epoch += 2
	wantCode(t, "in an epoch that nobody has", c.txnCommit(who, 5, "g", topic, 7), wire.InvalidProducerEpoch)
	if got, code := other.offset("g", topic); got != -1 || code != wire.None {
		t.Errorf("after one that was refused the offset is %d, code %d", got, code)
	}
}

// TestTopicIsMadeAnewInATransaction has a producer of the first protocol go on in a topic that was deleted and made
// anew while its transaction was under way.
func TestTopicIsMadeAnewInATransaction(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	a := c.initTxn("a", 1)
	for i := range int32(2) {
		if got := c.addPartition(a, topic, 0); got[0] != wire.None {
			t.Fatalf("add: %v", got)
		}
		wantCode(t, "produce", c.produceIn(a, 9, topic, 0, txnBatch(a, i, fmt.Sprint(i))), wire.None)
		if i == 0 {
			if err := h.store.DeleteTopic(t.Context(), "t"); err != nil {
				t.Fatal(err)
			}
			topic = h.topic("t", 1)
		}
	}
	wantCode(t, "commit", c.endTxn(a, 3, true).ErrorCode, wire.None)
	wantRead(t, "committed", c.read(topic, true), "1")
}

// TestClockThatIsSetEndsNoTransaction has the log's clock go an hour on: a transaction is as old as it really is.
func TestClockThatIsSetEndsNoTransaction(t *testing.T) {
	ctx := t.Context()
	var wall, passed atomic.Int64
	begin := time.Now()
	s, err := store.Open(ctx, store.Options{FS: vfs.NewMemory(), Logger: logtest.New(t), Clock: func() time.Time {
		return begin.Add(time.Duration(wall.Load()))
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	opt := Options{Store: s, Logger: logtest.New(t)}.withDefaults()
	groups, err := openCoordinator(ctx, opt, s, &budget{limit: opt.HeldBytes})
	if err != nil {
		t.Fatal(err)
	}
	ts, err := openTransactions(ctx, opt, groups)
	if err != nil {
		t.Fatal(err)
	}
	ts.now = func() int64 { return begin.UnixMilli() + passed.Load() }
	ts.opened = ts.now()
	topic, err := s.CreateTopic(ctx, stream.TopicSpec{Name: "t", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	value, code := ts.init(ctx, "a", txn.Who{ProducerID: txn.NoProducer, Epoch: txn.NoEpoch}, 60_000)
	wantCode(t, "init", code, wire.None)
	done := make(settled, 1)
	b := txnBatch(txnWho{id: value.ProducerID, epoch: value.Epoch}, 0, "v")
	write := store.BatchWrite{Partition: topic.Partitions[0], Batch: b, Implicit: true}
	if err := s.AppendBatch(write, done, 0); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ts.expire(ctx) // it is seen
	wall.Store(int64(time.Hour))
	passed.Store(59_000)
	ts.expire(ctx)
	if len(s.Transactions()) != 1 {
		t.Fatal("aborted after 59 s of 60")
	}
	passed.Store(61_000)
	ts.expire(ctx)
	if len(s.Transactions()) != 0 {
		t.Error("still open after 61 s of 60")
	}
}

// TestDeletedOffsetsAreInNoTransaction deletes offsets that an open transaction would commit, by OffsetDelete and with
// the group: they do not come back with its end, also not after a restart, and others do.
func TestDeletedOffsetsAreInNoTransaction(t *testing.T) {
	disk := vfs.NewMemory()
	h := openHouseOn(t, disk, Options{})
	kept, gone := h.topic("kept", 1), h.topic("gone", 1)
	c := h.dial()
	a, b := c.initTxn("a", 5), c.initTxn("b", 5)
	for _, who := range []txnWho{a, b} {
		for _, topic := range []*stream.Topic{kept, gone} {
			wantCode(t, "offsets", c.txnCommit(who, 5, "g", topic, 7), wire.None)
		}
		wantCode(t, "offsets", c.txnCommit(who, 5, "whole", gone, 7), wire.None)
	}
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = "g"
	rt := kmsg.NewOffsetDeleteRequestTopic()
	rt.Topic = "gone"
	rt.Partitions = []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}
	req.Topics = append(req.Topics, rt)
	deleted := askFor[*kmsg.OffsetDeleteResponse](c, 0, req)
	wantCode(t, "offset delete", deleted.ErrorCode, wire.None)
	wantCode(t, "of the partition", deleted.Topics[0].Partitions[0].ErrorCode, wire.None)
	del := kmsg.NewPtrDeleteGroupsRequest()
	del.Groups = []string{"whole", "none"}
	groups := askFor[*kmsg.DeleteGroupsResponse](c, 2, del).Groups
	wantCode(t, "delete group", groups[0].ErrorCode, wire.None)
	wantCode(t, "delete a group that is not there", groups[1].ErrorCode, wire.GroupIDNotFound)
	for group, want := range map[string]wire.Code{"g": wire.None, "whole": wire.None} {
		if _, code := c.offset(group, gone); code != want {
			t.Errorf("group %s: code %d: something of it is pending", group, code)
		}
	}
	wantCode(t, "commit", c.endTxn(a, 5, true).ErrorCode, wire.None)
	h.stop()

	h = openHouseOn(t, disk, Options{})
	c = h.dial()
	wantCode(t, "commit after a restart", c.endTxn(b, 5, true).ErrorCode, wire.None)
	for group, topics := range map[string]map[*stream.Topic]int64{"g": {kept: 7, gone: -1}, "whole": {gone: -1}} {
		for topic, want := range topics {
			if got, code := c.offset(group, topic); got != want || code != wire.None {
				t.Errorf("group %s, topic %s: offset %d, code %d; want %d", group, topic.Name, got, code, want)
			}
		}
	}
}

// TestDamagedTransactionsHoldNobodyBack loses the transactional ids while a transaction is open: nobody can end it, so
// it is aborted, and who reads committed records gets past it.
func TestDamagedTransactionsHoldNobodyBack(t *testing.T) {
	disk := vfs.NewMemory()
	h := openHouseOn(t, disk, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	who := c.initTxn("an-id-to-find", 5)
	wantCode(t, "produce", c.produceIn(who, 12, topic, 0, txnBatch(who, 0, "x")), wire.None)
	h.put(c, topic, 0, batchOf(1, 10))
	wantEnd(t, c, topic, 1, 0)
	h.stop()
	vfstest.Flip(t, disk, "log", []byte("an-id-to-find"), 0)

	h = openHouseOn(t, disk, Options{Logger: logtest.New(t, "damaged records cannot be read", "the log is damaged",
		"transactions are not served")})
	topic = h.store.Topics().ByName("t")
	c = h.dial()
	until(t, "the transaction is aborted", func() bool {
		bounds, err := h.store.Bounds(topic.Partitions[0])
		return err == nil && bounds.Stable == bounds.High
	})
	if got := c.read(topic, true); len(got) != 1 || got[0] == "x" {
		t.Errorf("committed are %q", got)
	}
	wantCode(t, "its producer", c.produceIn(who, 12, topic, 0, txnBatch(who, 1, "y")), wire.CoordinatorNotAvailable)
}

// TestClockLooksAtBusyTransactions has the clock look at those of many transactional ids that have something under way.
func TestClockLooksAtBusyTransactions(t *testing.T) {
	h := openHouse(t, Options{})
	topic := h.topic("t", 1)
	c := h.dial()
	var all []txnWho
	for i := range 50 {
		all = append(all, c.initTxn(fmt.Sprint("id ", i), 5))
	}
	ts := h.door.txns
	busy := func() int { return len(ts.underway(map[int64]seenTxn{all[3].id: {}})) }
	if n := busy(); n != 1 {
		t.Errorf("%d are looked at, only one writes", n)
	}
	wantCode(t, "offsets", c.txnCommit(all[7], 5, "g", topic, 7), wire.None)
	wantCode(t, "offsets", c.txnCommit(all[3], 5, "g", topic, 7), wire.None)
	if n := busy(); n != 2 {
		t.Errorf("%d are looked at, want 2", n)
	}
	wantCode(t, "commit", c.endTxn(all[7], 5, true).ErrorCode, wire.None)
	wantCode(t, "abort", c.endTxn(all[3], 5, false).ErrorCode, wire.None)
	if n := len(ts.underway(nil)); n != 0 {
		t.Errorf("%d are looked at, all have ended", n)
	}
}
