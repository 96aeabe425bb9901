package api

import (
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/names"
)

// Sought is a message of the log.
type Sought struct {
	Name      string // its topic name of MQTT
	Topic     string // of the log
	Partition int
	Offset    int64
	Time      int64 // in milliseconds since 1970; 0: it is not known
}

// Recipient is a session with a subscription that a message is for.
type Recipient struct {
	Client string `json:"client" doc:"its client identifier"`
	State  string `json:"state" enum:"connected,away"`
	Filter string `json:"filter" doc:"of the subscription; of several that by which the message came farthest"`
	QoS    int    `json:"qos"`
	Stage  string `json:"stage" enum:"waits,in_flight,has,shared,before" doc:"how far it has come"`
	Next   int64  `json:"next,string" doc:"all below was taken, or is not for it; -1: it is not known"`
}

// stages are those of a recipient, in the order of who asks where a message is.
func stages() []string { return []string{"waits", "in_flight", "has", "shared", "before"} }

func recipientRoutes() []route {
	return []route{{method: "GET", path: "/names/{name}/recipients", id: "listRecipients", tag: "messages",
		summary: "List the sessions that a message is for",
		text: "Those of this node with a subscription that matches the name, and how far the record has come to each: " +
			"has, it was acknowledged, or with QoS 0 handed to the connection; in_flight, it was sent and is not " +
			"acknowledged; waits, the session has not come so far; shared, one of the group of the subscription gets it; " +
			"before, it is older than the subscription, which is known to within some seconds.",
		right: watching, walks: true,
		params: append(listParams("client", "stage"),
			param{name: "name", kind: "string", inPath: true, doc: "topic name of MQTT; / in it is %2F"},
			param{name: "topic", kind: "string", doc: "topic of the log that has the record"},
			param{name: "partition", kind: "integer", low: 0, high: 1 << 20, value: "0", doc: "its partition"},
			param{name: "offset", kind: "int64", doc: "its offset"},
			param{name: "time", kind: "time", doc: "its stamp; without it sessions that end with their connection count " +
				"as older than the record"},
			param{name: "stage", kind: "string", values: stages(), doc: "only those where it has come so far"},
			param{name: "search", kind: "string", doc: "only those with this text in client identifier or filter"}),
		answer: Page[Recipient]{}, do: (*API).recipients}}
}

func (a *API) recipients(q *ask) (any, error) {
	p, err := newPager[Recipient](q)
	if err != nil {
		return nil, err
	}
	of := Sought{Name: q.r.PathValue("name"), Topic: q.text("topic"), Partition: int(q.number("partition")),
		Offset: q.number("offset")}
	if q.has("time") {
		of.Time = q.time("time").UnixMilli()
	}
	if err := names.CheckName([]byte(of.Name)); err != nil {
		return nil, fault.New(fault.Invalid, op, "%s is no topic name: %w", fault.Text(of.Name), err)
	}
	if of.Topic == "" || !q.has("offset") {
		return nil, fault.New(fault.Invalid, op, "which record it is say topic, partition and offset")
	}
	stage, text := q.text("stage"), q.text("search")
	err = a.opt.Clients.EachRecipient(of, func(r *Recipient) {
		if stage != "" && r.Stage != stage || !r.has(text) {
			return
		}
		at := place{ID: r.Client}
		if p.sort == "stage" {
			at.Number = int64(slices.Index(stages(), r.Stage))
		}
		p.offer(at, func() Recipient { return *r })
	})
	if err != nil {
		return nil, err
	}
	return page(p, func(r Recipient) Recipient { return r }), nil
}

func (r *Recipient) has(text string) bool {
	return strings.Contains(r.Client, text) || strings.Contains(r.Filter, text)
}
