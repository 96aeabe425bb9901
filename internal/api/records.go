package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/names"
)

// Bytes is a key, a value or the like: one of the two, by whether it is text.
type Bytes struct {
	Text   *string `json:"text,omitempty" doc:"it, where it is UTF-8"`
	Base64 *string `json:"base64,omitempty" doc:"it, where it is not"`

	raw []byte // of a request: it, as it came; nil: it did not
}

// Record is one record of the log, as who asks may see it.
type Record struct {
	Partition int            `json:"partition"`
	Offset    int64          `json:"offset,string"`
	Time      time.Time      `json:"time" doc:"its stamp, to the millisecond"`
	MQTTTopic string         `json:"mqtt_topic,omitempty" doc:"the topic name under which devices get it"`
	Key       *Bytes         `json:"key" doc:"null: there is none"`
	Value     *Bytes         `json:"value" doc:"null: there is none, it is a tombstone"`
	Bytes     int            `json:"value_bytes" doc:"the length of the value"`
	Cut       bool           `json:"value_cut,omitempty" doc:"value is only the beginning of it: it is longer than 1 MiB"`
	Hidden    bool           `json:"value_hidden,omitempty" doc:"a mask of access lets nothing of the value be seen"`
	Headers   []RecordHeader `json:"headers"`
}

// RecordHeader is one header of a record.
type RecordHeader struct {
	Name  string `json:"name"`
	Value *Bytes `json:"value"`
}

// RecordPage is what was found in a partition.
type RecordPage struct {
	Items   []Record `json:"items"`
	Next    string   `json:"next" doc:"goes on behind what was looked at, also at the end, where more may come"`
	Scanned int      `json:"scanned" doc:"how many records were looked at"`
	At      int64    `json:"at,string" doc:"the offset where Next goes on"`
	Stable  int64    `json:"stable,string" doc:"where the committed records end now"`
	End     bool     `json:"end" doc:"everything that is committed was looked at"`
	Lost    []Lost   `json:"lost,omitempty" doc:"offsets that are damaged on the disk"`
}

// Lost are offsets that cannot be read.
type Lost struct {
	From int64 `json:"from,string"`
	Next int64 `json:"next,string" doc:"the first offset behind them"`
}

// What one request reads at most.
const (
	mostValue   = 1 << 20 // bytes of a value that are shown
	mostAnswer  = 4 << 20 // bytes of keys, values and headers, and one record
	scanTime    = 2 * time.Second
	mostRecords = 1000
)

func recordRoutes() []route {
	return []route{{method: "GET", path: "/topics/{topic}/records", id: "readRecords", tag: "topics",
		summary: "Read committed records of a partition",
		text: "With the rights of a consumer: the right to read the topic, and the masks that hold for who asks. limit " +
			"counts what is found, not what is looked at. A request looks for 2 seconds at most, and says how far it has " +
			"come: next goes on from there, so that an empty page is not the end unless end says so.",
		right: right{operation: rule.Read, on: rule.Topic, by: "topic"}, walks: true,
		params: []param{inTopic(),
			{name: "partition", kind: "integer", low: 0, high: 1 << 20, value: "0", doc: "which one, from 0 on"},
			{name: "offset", kind: "int64", doc: "begin at this offset; without offset, time and last: at the first"},
			{name: "time", kind: "time", doc: "begin at the first record that is stamped this time or later"},
			{name: "last", kind: "int64", doc: "begin so many offsets before the end"},
			{name: "limit", kind: "integer", low: 1, high: mostRecords, value: "100", doc: "how many records at most"},
			{name: "cursor", kind: "string", doc: "next of the page before; in place of offset, time and last"},
			{name: "filter", kind: "string", doc: "only messages whose topic name this filter of MQTT matches"},
			{name: "key", kind: "string", doc: "only records with this key"},
			{name: "contains", kind: "string", doc: "only records with this text in their value, as who asks sees it"},
		}, answer: RecordPage{}, do: (*API).records}}
}

// reading is one read of a partition.
type reading struct {
	topic  *stream.Topic
	table  *hinge.Table
	want   wanted
	masks  *mask.Set
	masker *mask.Masker // nil: all is seen
	page   RecordPage
	limit  int
	size   int // bytes of what was found
	index  int // of the partition
	until  time.Time
	now    func() time.Time

	message hinge.Message
}

// wanted is what a record has to have.
type wanted struct {
	filter        string
	key, contains []byte
	byKey         bool
}

// recordCursor is where a read goes on.
type recordCursor struct {
	Partition int64 `json:"p"`
	Offset    int64 `json:"o"`
}

func (c recordCursor) String() string {
	text, _ := json.Marshal(c) // it always has a JSON form
	return base64.RawURLEncoding.EncodeToString(text)
}

func (a *API) records(q *ask) (any, error) {
	t, err := a.named(q)
	if err != nil {
		return nil, err
	}
	r := &reading{topic: t, table: a.opt.Mapping(), masks: q.v.MaskTopic(t.Name), limit: int(q.number("limit")),
		index: int(q.number("partition")), now: time.Now,
		want: wanted{filter: q.text("filter"), key: []byte(q.text("key")), byKey: q.has("key"),
			contains: []byte(q.text("contains"))}}
	r.until, r.page.Items = r.now().Add(scanTime), []Record{}
	if err := r.check(); err != nil {
		return nil, err
	}
	id, err := partition(t, int64(r.index))
	if err != nil {
		return nil, err
	}
	bounds, err := a.opt.Log.Bounds(id)
	if err != nil {
		return nil, err
	}
	from, err := a.begin(q, id, bounds)
	if err != nil {
		return nil, err
	}
	next, err := r.run(q, a.opt.Log, id, from)
	if err != nil {
		return nil, err
	}
	if bounds, err = a.opt.Log.Bounds(id); err != nil {
		return nil, err
	}
	r.page.At, r.page.Stable, r.page.End = int64(next), int64(bounds.Stable), next >= bounds.Stable
	r.page.Next = recordCursor{int64(r.index), int64(next)}.String()
	return &r.page, nil
}

// begin is where a read begins: at a cursor, which goes on at the first offset that is left, or where it says.
func (a *API) begin(q *ask, id stream.PartitionID, b stream.Bounds) (record.Offset, error) {
	text := q.text("cursor")
	if text == "" {
		return a.start(q, id, b)
	}
	var c recordCursor
	if err := parseCursor(text, &c); err != nil {
		return 0, err
	}
	if c.Partition != q.number("partition") || q.has("offset") || q.has("time") || q.has("last") {
		return 0, fault.New(fault.Invalid, op, "the cursor is of another read: of partition %d", c.Partition)
	}
	return min(max(record.Offset(c.Offset), b.Start), b.High), nil
}

// check prepares the masks and looks at the filter. Errors: Invalid; Denied, where a filter by name would tell what a
// mask hides.
func (r *reading) check() error {
	if r.masks != nil {
		r.masker = r.masks.Masker()
	}
	if r.want.filter == "" {
		return nil
	}
	if err := names.CheckFilter([]byte(r.want.filter)); err != nil {
		return fault.New(fault.Invalid, op, "%q is no topic filter: %w", r.want.filter, err)
	}
	if r.masker != nil {
		return fault.New(fault.Denied, op, "who does not see all of a topic cannot look for names in it").
			WithHint("firth acl explain read --topic %s shows the masks", r.topic.Name)
	}
	return nil
}

// run looks at the records from an offset on, until there are enough. Errors: those of the log.
func (r *reading) run(q *ask, log Log, id stream.PartitionID, from record.Offset) (next record.Offset, err error) {
	for next = from; ; {
		was := next
		next, err = r.step(log, id, was)
		if err != nil || next == was || r.full() || q.r.Context().Err() != nil || r.now().After(r.until) ||
			len(r.page.Lost) >= r.limit {
			return next, err
		}
	}
}

// step looks at some of the records from an offset on. Errors: those of the log.
func (r *reading) step(log Log, id stream.PartitionID, from record.Offset) (record.Offset, error) {
	next, err := log.Scan(id, from, stream.ScanOptions{Names: r.names()}, r.visit)
	switch lost := lostIn(err); {
	case lost != nil:
		r.page.Lost = append(r.page.Lost, Lost{int64(next), int64(lost.Next)})
		next, err = max(lost.Next, next), nil
	case fault.Is(err, fault.OutOfRange): // it went by retention meanwhile
		var b stream.Bounds
		b, err = log.Bounds(id)
		next = max(next, b.Start)
	}
	return next, err
}

// names tells the log that most records are of no interest.
func (r *reading) names() *stream.Names {
	if r.want.filter == "" {
		return nil
	}
	return &stream.Names{Mapping: r.table.Fingerprint(),
		Match: func(name []byte) bool { return names.Match(r.want.filter, name) }}
}

func (r *reading) full() bool { return len(r.page.Items) >= r.limit || r.size >= mostAnswer }

// visit takes a record, unless the page is full. What is not to be seen of it is not looked for either.
func (r *reading) visit(v *record.View) bool {
	if r.full() {
		return false
	}
	r.page.Scanned++
	name := r.name(v)
	key, value, hidden := v.Key, v.Value, false
	if r.masker != nil {
		r.masker.Reset()
		key = r.masker.Key(key)
		var shown bool
		value, shown = r.masker.Payload(value)
		hidden = !shown
	}
	switch {
	case r.want.filter != "" && (name == nil || !names.Match(r.want.filter, name)),
		r.want.byKey && (key == nil || !bytes.Equal(key, r.want.key)),
		len(r.want.contains) > 0 && !bytes.Contains(value, r.want.contains):
		return true
	}
	one := Record{Partition: r.index, Offset: int64(v.Offset), Time: time.UnixMilli(v.Timestamp).UTC(),
		MQTTTopic: string(name), Key: bytesOf(key), Value: bytesOf(value[:min(len(value), mostValue)]), Bytes: len(value),
		Cut: len(value) > mostValue, Hidden: hidden, Headers: r.headersOf(v)}
	r.size += len(key) + min(len(value), mostValue) + len(v.EncodedHeaders())
	r.page.Items = append(r.page.Items, one)
	return true
}

// name is the topic name of MQTT of a record; nil: it has none, or it would tell what a mask hides.
func (r *reading) name(v *record.View) []byte {
	if r.masker != nil || !r.table.Message(r.topic.Name, v, &r.message) {
		return nil
	}
	return r.message.Topic
}

// headersOf are the headers of a record that may be seen.
func (r *reading) headersOf(v *record.View) []RecordHeader {
	all := make([]RecordHeader, 0, v.HeaderCount)
	for name, value := range v.Headers {
		shown := true
		if r.masker != nil {
			value, shown = r.masker.Header(name, value)
		}
		if shown {
			all = append(all, RecordHeader{Name: string(name), Value: bytesOf(value)})
		}
	}
	return all
}

// bytesOf is bytes for JSON; nil stays nil.
func bytesOf(b []byte) *Bytes {
	if b == nil {
		return nil
	}
	if utf8.Valid(b) {
		return &Bytes{Text: new(string(b))}
	}
	return &Bytes{Base64: new(base64.StdEncoding.EncodeToString(b))}
}
