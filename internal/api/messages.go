package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Messages is what the API asks of the device door for who has no connection to it.
type Messages interface {
	// Publish publishes a message as a PUBLISH of QoS 1 does: it is stored when it returns. Errors: Denied; Invalid;
	// Limited; TooLarge; those of the log.
	Publish(ctx context.Context, v Visitor, name string, m *Message) (*Published, error)
	// Follow begins to follow a filter. Errors: Denied; Invalid; Limited; Closed; those of the log.
	Follow(ctx context.Context, v Visitor, o Following) (Follower, error)
}

// Following is what somebody wants to follow.
type Following struct {
	Filter   string
	After    string // the id of the last event that it got; "": it begins
	From     string // where it begins: earliest, an offset, a time or how long ago; "": at what is news
	Retained bool   // the retained messages come first
}

// Follower is a subscription that somebody follows. It belongs to one goroutine.
type Follower interface {
	// Next is the next event; nil: none came within a time. Errors: those that end it.
	Next(ctx context.Context, within time.Duration) (*Event, error)
	Close()
}

// Message is a message of MQTT, but for its topic name.
type Message struct {
	Payload       *Bytes     `json:"payload,omitempty"`
	QoS           *int       `json:"qos,omitempty" doc:"0 to 2: the most that it is delivered with; without it 1"`
	Retain        bool       `json:"retain,omitempty" doc:"it becomes the retained message; no payload clears that"`
	Format        *int       `json:"payload_format,omitempty" doc:"1: the payload is UTF-8"`
	Expiry        *uint32    `json:"message_expiry,omitempty" doc:"seconds until nobody wants it any more"`
	ContentType   string     `json:"content_type,omitempty"`
	ResponseTopic string     `json:"response_topic,omitempty"`
	Correlation   *Bytes     `json:"correlation_data,omitempty"`
	User          []Property `json:"user_properties,omitempty"`
}

// Property is a user property.
type Property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Published is where in the log a message is.
type Published struct {
	Topic     string `json:"topic" doc:"of the log"`
	Partition int    `json:"partition"`
	Offset    int64  `json:"offset,string"`
	Delayed   bool   `json:"delayed,omitempty" doc:"it waits there to be published ($delayed/SECONDS/NAME)"`
}

// Event is a message as who follows gets it.
type Event struct {
	ID     string `json:"-"` // of the event; "": it has none
	Missed int64  `json:"-"` // above 0: how many records were missed, and nothing else
	Name   string `json:"name" doc:"its topic name"`
	Message
	Bytes    int        `json:"payload_bytes" doc:"the length of the payload"`
	Hidden   bool       `json:"payload_hidden,omitempty" doc:"a mask of access lets nothing of the payload be seen"`
	Retained bool       `json:"retained,omitempty" doc:"it was there before as the retained message"`
	Time     *time.Time `json:"time,omitempty" doc:"it was published, to the millisecond"`
	Place    *Published `json:"place,omitempty" doc:"where it is in the log"`
}

// MissedEvent tells of records that retention took before who follows got to them.
type MissedEvent struct {
	Records int64 `json:"records,string" doc:"how many were not looked at; some may have been for the filter"`
}

// SkippedEvent tells of messages that were not sent, because who follows wanted only so many a second.
type SkippedEvent struct {
	Messages int64 `json:"messages,string" doc:"how many"`
}

const (
	rawType   = "application/octet-stream"
	eventType = "text/event-stream"
)

func messageRoutes() []route {
	name := param{name: "name", kind: "string", inPath: true, doc: "topic name of MQTT; / in it is %2F"}
	return []route{
		{method: "POST", path: "/names/{name}/messages", id: "publishMessage", tag: "messages",
			summary: "Publish a message to a topic name",
			text: "As a device does with QoS 1: it is answered when the message is stored. The body is a message as JSON, or " +
				"with Content-Type application/octet-stream the payload as it is; then the parameters say the rest.",
			right: right{operation: rule.Write, on: rule.Topic, by: "name", of: ofName}, body: Message{}, raw: true,
			params: []param{name,
				{name: "qos", kind: "integer", low: 0, high: 2, doc: "of a payload as it is: as in the message"},
				{name: "retain", kind: "boolean", doc: "of a payload as it is: true has it be the retained message"},
				{name: "message_expiry", kind: "integer", low: 0, high: 1<<32 - 1, doc: "of a payload as it is: seconds"},
				{name: "content_type", kind: "string", doc: "of a payload as it is"},
				{name: "response_topic", kind: "string", doc: "of a payload as it is"},
			}, answer: Published{}, do: (*API).publish},
		{method: "GET", path: "/filters/{filter}/messages", id: "followMessages", tag: "messages",
			summary: "Follow the messages of a topic filter",
			text: "As server-sent events (text/event-stream): message with an event as data, missed when retention was " +
				"faster, skipped (see rate), end with a problem when it ends for a reason; a comment each 15 seconds shows that " +
				"it is alive. Who is slow is caught up from the log, and loses nothing that is there. The id of an event, as " +
				"Last-Event-ID or after, goes on behind it. Messages that come twice are the same place. A filter whose messages " +
				"may be in more than 64 partitions has no ids.",
			right: right{operation: rule.Read, on: rule.Topic, by: "filter", of: ofFilter},
			params: []param{
				{name: "filter", kind: "string", inPath: true, doc: "topic filter of MQTT; / in it is %2F, # is %23, + is %2B"},
				{name: "after", kind: "string", doc: "id of an event: goes on behind it. The header Last-Event-ID comes first"},
				{name: "from", kind: "string", doc: "begins in the past: earliest, an offset, a time, or -1h, -7d; " +
					"without it at what is news"},
				{name: "retained", kind: "boolean", value: "true", doc: "the retained messages come first, where it begins"},
				{name: "rate", kind: "integer", low: 0, high: 10_000, value: "0", doc: "so many messages a second at most, for " +
					"people: the first of each second are sent, and skipped tells how many were not; 0: all"},
			}, answer: Event{}, flow: (*API).follow},
	}
}

// errNoDoor is for what a node has no door for.
func errNoDoor(what string) *fault.Error {
	return fault.New(fault.Unsupported, op, "%s are not served here", what)
}

// smallBody is up to which size requests that say something do not wait for their turn.
const smallBody = 64 << 10

// hold waits for the turn of a request that says much. Errors: Unavailable.
func (a *API) hold(q *ask) (func(), error) {
	if n := q.r.ContentLength; n >= 0 && n <= smallBody {
		return func() {}, nil
	}
	if err := a.takeTurn(q.r.Context(), a.turns); err != nil {
		return nil, err
	}
	return func() { <-a.turns }, nil
}

func (a *API) publish(q *ask) (any, error) {
	if a.opt.Messages == nil {
		return nil, errNoDoor("messages of MQTT")
	}
	done, err := a.hold(q)
	if err != nil {
		return nil, err
	}
	defer done()
	m, err := q.message()
	if err != nil {
		return nil, err
	}
	return a.opt.Messages.Publish(q.r.Context(), q.v, q.r.PathValue("name"), m)
}

// message is what a request has published. Errors: Invalid; TooLarge.
func (q *ask) message() (*Message, error) {
	m := &Message{}
	if SaidAs(q.r) != rawType {
		for _, name := range []string{"qos", "retain", "message_expiry", "content_type", "response_topic"} {
			if q.has(name) {
				return nil, fault.New(fault.Invalid, op, "%s stands in the message", name).
					WithHint("it is a parameter only where the body is %s", rawType)
			}
		}
		return m, q.read(m)
	}
	payload, err := q.bytes()
	if err != nil {
		return nil, err
	}
	m.Payload = &Bytes{raw: payload}
	m.Retain, m.ContentType, m.ResponseTopic = q.is("retain"), q.text("content_type"), q.text("response_topic")
	if q.has("qos") {
		m.QoS = new(int(q.number("qos")))
	}
	if q.has("message_expiry") {
		m.Expiry = new(uint32(q.number("message_expiry")))
	}
	return m, nil
}

// bytes reads what a request says as it is. Errors: Invalid; TooLarge.
func (q *ask) bytes() ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(nil, q.r.Body, mostBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return nil, fault.New(fault.TooLarge, op, "what is said is longer than %d bytes", mostBody)
	}
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "what is said cannot be read: %w", err)
	}
	return b, nil
}

// Value is what b stands for; nil: there is none. Errors: Invalid.
func (b *Bytes) Value() ([]byte, error) {
	switch {
	case b == nil:
		return nil, nil
	case b.raw != nil:
		return b.raw, nil
	case b.Text != nil && b.Base64 != nil:
		return nil, fault.New(fault.Invalid, op, "text and base64 exclude each other")
	case b.Text != nil:
		return []byte(*b.Text), nil
	case b.Base64 == nil:
		return []byte{}, nil
	}
	value, err := base64.StdEncoding.DecodeString(*b.Base64)
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "base64 is none: %w", err)
	}
	return value, nil
}

// BytesOf is bytes for an answer; nil stays nil.
func BytesOf(b []byte) *Bytes { return bytesOf(b) }

// follow answers with events.
func (a *API) follow(q *ask, w http.ResponseWriter) error {
	if a.opt.Messages == nil {
		return errNoDoor("messages of MQTT")
	}
	ctx, cancel := context.WithCancel(q.r.Context())
	defer cancel()
	if a.opt.AtEnd != nil {
		defer a.opt.AtEnd(cancel)()
	}
	f, err := a.opt.Messages.Follow(ctx, q.v, Following{Filter: q.r.PathValue("filter"), From: q.text("from"),
		After: cmp.Or(q.r.Header.Get("Last-Event-ID"), q.text("after")), Retained: q.is("retained")})
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := newEvents(w)
	if err != nil {
		return err
	}
	s.send(ctx, f, &share{most: int(q.number("rate"))})
	return nil
}
