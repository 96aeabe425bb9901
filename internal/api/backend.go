package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Backend is what the API asks of the back-end door for who has no connection to it. Errors of all: Denied; NotFound;
// Exists; Invalid; Limited; those of the log.
type Backend interface {
	// Produce stores records in partitions of a topic, and tells of each partition.
	Produce(ctx context.Context, v Visitor, topic string, to map[int32][]record.Record) (map[int32]Stored, error)
	// CreateTopic makes a topic; 0 partitions: as many as is the default.
	CreateTopic(ctx context.Context, v Visitor, topic string, partitions int, config map[string]string) error
	// GrowTopic has it have more partitions.
	GrowTopic(ctx context.Context, v Visitor, topic string, partitions int) error
	// ConfigureTopic changes some settings; nil: back to the default.
	ConfigureTopic(ctx context.Context, v Visitor, topic string, config map[string]*string) error
	DeleteTopic(ctx context.Context, v Visitor, topic string) error
	// DeleteRecords deletes those before an offset, and gives the first that is left.
	DeleteRecords(ctx context.Context, v Visitor, topic string, partition int, before record.Offset) (record.Offset, error)
	// CommitOffsets has a group without members go on at offsets, by topic and partition.
	CommitOffsets(ctx context.Context, v Visitor, group string, to map[string]map[int32]int64) error
	DeleteGroup(ctx context.Context, v Visitor, group string) error
}

// Stored is what became of the records for a partition.
type Stored struct {
	Offset record.Offset // of the first
	Err    error         // nil: they are stored
}

// Batch is records to store.
type Batch struct {
	Records []NewRecord `json:"records" doc:"1 to 1,000"`
}

// NewRecord is a record to store.
type NewRecord struct {
	Partition *int        `json:"partition,omitempty" doc:"without it by the key, as Kafka clients do; without that any"`
	Key       *Bytes      `json:"key,omitempty"`
	Value     *Bytes      `json:"value,omitempty" doc:"without it the record is a tombstone"`
	Time      *time.Time  `json:"time,omitempty" doc:"its stamp; without it now"`
	Headers   []NewHeader `json:"headers,omitempty"`
}

// NewHeader is a header of it.
type NewHeader struct {
	Name  string `json:"name"`
	Value *Bytes `json:"value,omitempty"`
}

// Produced is what became of records, in their order.
type Produced struct {
	Items []ProducedRecord `json:"items"`
}

// ProducedRecord is where a record is, or why it is not stored.
type ProducedRecord struct {
	Partition int    `json:"partition"`
	Offset    int64  `json:"offset,string" doc:"-1: it is not stored"`
	Error     string `json:"error,omitempty" doc:"why it is not stored; those of other partitions may be"`
}

// TopicChange is how a topic is made.
type TopicChange struct {
	Partitions int               `json:"partitions,omitempty" doc:"without it as many as is the default"`
	Config     map[string]string `json:"config,omitempty" doc:"settings by name"`
}

// ConfigChange is a change of settings of a topic.
type ConfigChange struct {
	Config map[string]*string `json:"config" doc:"settings by name; null takes one back to its default"`
}

// Growth is a change of the number of partitions.
type Growth struct {
	Partitions int `json:"partitions" doc:"how many there are then: more than there were"`
}

// Truncation is a deletion of records.
type Truncation struct {
	Partition int    `json:"partition"`
	Before    *int64 `json:"before,string,omitempty" doc:"those before this offset go; without it all"`
}

// Truncated is what is left of a partition.
type Truncated struct {
	Start int64 `json:"start,string" doc:"the first offset that is left"`
}

// Deleted is what is gone.
type Deleted struct {
	Name string `json:"name"`
}

func topicChangeRoutes() []route {
	to := func(o rule.Operation) right { return right{operation: o, on: rule.Topic, by: "topic"} }
	creates := to(rule.Create)
	creates.orCluster = true
	return []route{
		{method: "PUT", path: "/topics/{topic}", id: "createTopic", tag: "topics", summary: "Make a topic", right: creates,
			text:   "One that is there already is not changed (409).",
			params: []param{inTopic()}, body: TopicChange{}, makes: true, tagged: true,
			answer: TopicDetail{}, do: (*API).createTopic},
		{method: "PATCH", path: "/topics/{topic}/config", id: "configureTopic", tag: "topics",
			summary: "Change settings of a topic", text: "Those that are not named stay.", right: to(rule.AlterConfigs),
			params: []param{inTopic()}, body: ConfigChange{}, edits: true, tagged: true, answer: TopicDetail{},
			do: (*API).configureTopic},
		{method: "POST", path: "/topics/{topic}/partitions", id: "growTopic", tag: "topics",
			summary: "Give a topic more partitions",
			text:    "New records of a key may go to another partition from then on.", right: to(rule.Alter),
			params: []param{inTopic()}, body: Growth{}, edits: true, tagged: true, answer: TopicDetail{},
			do: (*API).growTopic},
		{method: "DELETE", path: "/topics/{topic}", id: "deleteTopic", tag: "topics", summary: "Delete a topic",
			text: "With all its records. There is no way back.", right: to(rule.Delete), params: []param{inTopic()},
			edits: true, answer: Deleted{}, do: (*API).deleteTopic},
		{method: "POST", path: "/topics/{topic}/truncate", id: "deleteRecords", tag: "topics",
			summary: "Delete the oldest records of a partition", right: to(rule.Delete), params: []param{inTopic()},
			body: Truncation{}, answer: Truncated{}, do: (*API).deleteRecords},
		{method: "POST", path: "/topics/{topic}/records", id: "produceRecords", tag: "topics",
			summary: "Produce records to a topic",
			text: "As a Kafka client does with acks=all. Records of one partition are stored together and in their order, or " +
				"none of them; what became of each is told. Where none is stored the answer is a refusal.",
			right: to(rule.Write), params: []param{inTopic()}, body: Batch{}, answer: Produced{}, do: (*API).produce},
	}
}

// tagOf names the state of a topic that somebody may edit: its settings and partitions, not its records.
func tagOf(t *stream.Topic) string {
	text, _ := json.Marshal(struct {
		ID         string
		Partitions int
		Config     map[string]string
	}{t.ID.String(), len(t.Partitions), t.Config}) // it always has a JSON form, its keys in order
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// editing has one change of a topic or group after the other, so that what an entity tag names is what is changed.
// Errors: Timeout.
func (a *API) editing(q *ask, do func(ctx context.Context, b Backend) error) error {
	if a.opt.Backend == nil {
		return errNoDoor("topics and groups of Kafka clients").WithHint("change them in the Kafka cluster itself")
	}
	ctx := q.r.Context()
	select {
	case a.edits <- struct{}{}:
		defer func() { <-a.edits }()
		return do(ctx, a.opt.Backend)
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, op, ctx.Err())
	}
}

// editTopic changes a topic that has to be as who asks has seen it, and shows it.
func (a *API) editTopic(q *ask, do func(ctx context.Context, b Backend, name string) error) (any, error) {
	name := q.r.PathValue("topic")
	err := a.editing(q, func(ctx context.Context, b Backend) error {
		tag := ""
		if t := a.opt.Log.Topics().ByName(name); t != nil {
			tag = tagOf(t)
		}
		if err := q.only(tag); err != nil {
			return err
		}
		return do(ctx, b, name)
	})
	if err != nil {
		return nil, err
	}
	return a.edited(q)
}

// edited shows a topic that was changed, as far as who asks may describe it.
func (a *API) edited(q *ask) (any, error) {
	name := q.r.PathValue("topic")
	if q.v.Sees(rule.Describe, rule.Topic, name) {
		return a.topic(q)
	}
	return TopicDetail{Topic: Topic{Name: name}, Bounds: []PartitionBounds{}, Config: []TopicSetting{},
		Filters: []string{}}, nil
}

func (a *API) createTopic(q *ask) (any, error) {
	var said TopicChange
	if err := q.read(&said); err != nil {
		return nil, err
	}
	if said.Partitions < 0 || said.Partitions > mostPartitions {
		return nil, fault.New(fault.Invalid, op, "%d partitions are not from 1 to %d", said.Partitions, mostPartitions)
	}
	err := a.editing(q, func(ctx context.Context, b Backend) error {
		return b.CreateTopic(ctx, q.v, q.r.PathValue("topic"), said.Partitions, said.Config)
	})
	if err != nil {
		return nil, err
	}
	shown, err := a.edited(q)
	if with, is := shown.(reply); is {
		with.made = true
		return with, err
	}
	return reply{value: shown, made: true}, err
}

// mostPartitions bounds what a request may say; the log has bounds of its own.
const mostPartitions = 1 << 20

func (a *API) configureTopic(q *ask) (any, error) {
	var said ConfigChange
	if err := q.read(&said); err != nil {
		return nil, err
	}
	if len(said.Config) == 0 {
		return nil, fault.New(fault.Invalid, op, "config names no setting")
	}
	return a.editTopic(q, func(ctx context.Context, b Backend, name string) error {
		return b.ConfigureTopic(ctx, q.v, name, said.Config)
	})
}

func (a *API) growTopic(q *ask) (any, error) {
	var said Growth
	if err := q.read(&said); err != nil {
		return nil, err
	}
	if said.Partitions < 1 || said.Partitions > mostPartitions {
		return nil, fault.New(fault.Invalid, op, "%d partitions are not from 1 to %d", said.Partitions, mostPartitions)
	}
	return a.editTopic(q, func(ctx context.Context, b Backend, name string) error {
		return b.GrowTopic(ctx, q.v, name, said.Partitions)
	})
}

func (a *API) deleteTopic(q *ask) (any, error) {
	if _, err := a.named(q); err != nil {
		return nil, err
	}
	name := q.r.PathValue("topic")
	return Deleted{name}, a.editing(q, func(ctx context.Context, b Backend) error {
		t, err := a.named(q)
		if err != nil {
			return err
		}
		if err := q.only(tagOf(t)); err != nil {
			return err
		}
		return b.DeleteTopic(ctx, q.v, name)
	})
}

func (a *API) deleteRecords(q *ask) (any, error) {
	var said Truncation
	if err := q.read(&said); err != nil {
		return nil, err
	}
	before := record.Offset(-1)
	if said.Before != nil {
		before = record.Offset(*said.Before)
	}
	if said.Partition < 0 || said.Partition > mostPartitions || said.Before != nil && before < 0 {
		return nil, fault.New(fault.Invalid, op, "partition and before are not below 0")
	}
	var left record.Offset
	err := a.editing(q, func(ctx context.Context, b Backend) (err error) {
		left, err = b.DeleteRecords(ctx, q.v, q.r.PathValue("topic"), said.Partition, before)
		return err
	})
	return Truncated{int64(left)}, err
}

func (a *API) produce(q *ask) (any, error) {
	if a.opt.Backend == nil {
		return nil, errNoDoor("topics of Kafka clients").WithHint("produce to the Kafka cluster itself")
	}
	t, err := a.named(q)
	if err != nil {
		return nil, err
	}
	done, err := a.hold(q)
	if err != nil {
		return nil, err
	}
	defer done()
	var said Batch
	if err := q.read(&said); err != nil {
		return nil, err
	}
	if len(said.Records) == 0 || len(said.Records) > mostRecords {
		return nil, fault.New(fault.Invalid, op, "%d records are not from 1 to %d", len(said.Records), mostRecords)
	}
	items, to, err := said.placed(len(t.Partitions), time.Now())
	if err != nil {
		return nil, err
	}
	stored, err := a.opt.Backend.Produce(q.r.Context(), q.v, t.Name, to)
	if err != nil {
		return nil, err
	}
	return told(items, stored)
}

// placed are the records by partition, and where each goes, its offset the number of those before it. Errors: Invalid.
func (b *Batch) placed(partitions int, now time.Time) ([]ProducedRecord, map[int32][]record.Record, error) {
	items, to := make([]ProducedRecord, len(b.Records)), map[int32][]record.Record{}
	whatever := rand.IntN(partitions) // one for all without a key, so that they are stored together
	for i := range b.Records {
		one := &b.Records[i]
		r, err := one.record(now)
		if err != nil {
			return nil, nil, err
		}
		at := whatever
		switch {
		case one.Partition != nil:
			at = *one.Partition
		case r.Key != nil:
			at = int(hinge.Partition(r.Key, partitions))
		}
		if at < 0 || at >= partitions {
			return nil, nil, fault.New(fault.NotFound, op, "record %d: there is no partition %d", i, at).
				WithHint("there are %d, from 0 on", partitions)
		}
		items[i] = ProducedRecord{Partition: at, Offset: int64(len(to[int32(at)]))}
		to[int32(at)] = append(to[int32(at)], r)
	}
	return items, to, nil
}

// record is the record to store. Errors: Invalid.
func (n *NewRecord) record(now time.Time) (r record.Record, err error) {
	if n.Time != nil {
		now = *n.Time
	}
	r.Timestamp = now.UnixMilli()
	if r.Key, err = n.Key.Value(); err != nil {
		return r, err
	}
	if r.Value, err = n.Value.Value(); err != nil {
		return r, err
	}
	for _, h := range n.Headers {
		value, err := h.Value.Value()
		if err != nil {
			return r, err
		}
		r.Headers = append(r.Headers, record.Header{Key: h.Name, Value: value})
	}
	return r, nil
}

// told is what became of each record. Errors: what all were refused for.
func told(items []ProducedRecord, stored map[int32]Stored) (any, error) {
	var refused error
	some := false
	for i := range items {
		one := stored[int32(items[i].Partition)]
		if one.Err != nil {
			items[i].Offset, items[i].Error, refused = -1, one.Err.Error(), one.Err
			continue
		}
		items[i].Offset += int64(one.Offset)
		some = true
	}
	if !some {
		return nil, refused
	}
	return Produced{items}, nil
}
