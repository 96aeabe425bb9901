package api

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Retained is what the API asks of the retained messages of the device door.
type Retained interface {
	// Names are the first topic names, at most limit of them, that a filter matches and that come behind one, sorted.
	// Errors: Invalid; Timeout; those of the log.
	Names(ctx context.Context, filter, after string, limit int) ([]string, error)
	// Message is the retained message of a topic name, as who asks may see it; nil: there is none. Errors: those of the
	// log.
	Message(ctx context.Context, v Visitor, name string) (*RetainedMessage, error)
	// Versions are those that the log still has, the newest first, at most so many. Errors: those of the log.
	Versions(ctx context.Context, v Visitor, name string, most int) ([]RetainedVersion, error)
	// Clear clears the retained message of a topic name. Errors: as of Messages.Publish, and NotFound.
	Clear(ctx context.Context, v Visitor, name string) (*Published, error)
	// Restore publishes again what was there before what is there now, or at a place. Errors: as of Clear.
	Restore(ctx context.Context, v Visitor, name string, at *Place) (*Published, error)
}

// RetainedMessage is the retained message of a topic name.
type RetainedMessage struct {
	Name   string    `json:"name" doc:"its topic name"`
	Since  time.Time `json:"since" doc:"it was published, to the millisecond"`
	Bytes  int       `json:"payload_bytes" doc:"the length of the payload"`
	Hidden bool      `json:"payload_hidden,omitempty" doc:"a mask of access lets nothing of the payload be seen"`
	Message
}

// RetainedVersion is a retained message that is there, or was.
type RetainedVersion struct {
	RetainedMessage
	Version string `json:"version" doc:"names it, for a restore"`
	Current bool   `json:"current" doc:"it is the one that is there"`
	At      Place  `json:"-"`
}

// RetainedPage is a page of retained messages, by topic name.
type RetainedPage struct {
	Items []RetainedMessage `json:"items"`
	Next  string            `json:"next,omitempty" doc:"cursor of the next page; without it this is the last"`
}

// RetainedHistory is what the log has of the retained messages of a topic name.
type RetainedHistory struct {
	Items []RetainedVersion `json:"items" doc:"the newest first"`
}

// RestoreRequest says what is restored.
type RestoreRequest struct {
	Version string `json:"version,omitempty" doc:"one of the history; without it what was there before"`
}

// Place is a record of the log.
type Place struct {
	Partition uint32
	Offset    int64
}

// String is the place as a version.
func (p Place) String() string {
	b := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(p.Partition)), uint64(p.Offset))
	return base64.RawURLEncoding.EncodeToString(b)
}

// parsePlace reads what String wrote. Errors: Invalid.
func parsePlace(text string) (p Place, err error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	partition, n := binary.Uvarint(b)
	if err == nil && n > 0 && partition < 1<<32 {
		offset, m := binary.Uvarint(b[n:])
		if m > 0 && n+m == len(b) && int64(offset) >= 0 {
			return Place{uint32(partition), int64(offset)}, nil
		}
	}
	return p, fault.New(fault.Invalid, op, "the version is none that was given out here").
		WithHint("GET …/history shows those there are")
}

// mostVersions is how many versions a history shows.
const mostVersions = 100

func retainedRoutes() []route {
	name := param{name: "name", kind: "string", inPath: true, doc: "topic name of MQTT; / in it is %2F"}
	reads := right{operation: rule.Read, on: rule.Topic, by: "name", of: ofName}
	writes := right{operation: rule.Write, on: rule.Topic, by: "name", of: ofName}
	return []route{
		{method: "GET", path: "/retained", id: "listRetained", tag: "messages", summary: "List retained messages",
			text: "By topic name, those that who asks may read. A request looks for 2 seconds at most: a page may be short, " +
				"and there may be more as long as it has next.",
			right: right{operation: rule.Read, on: rule.Topic, each: true, of: ofName}, walks: true,
			params: []param{
				{name: "filter", kind: "string", value: "#", doc: "only those that this topic filter of MQTT matches"},
				{name: "limit", kind: "integer", low: 1, high: mostPage, value: "100", doc: "how many there are on a page at most"},
				{name: "cursor", kind: "string", doc: "next of the page before; the filter has to be the same"},
			}, answer: RetainedPage{}, do: (*API).listRetained},
		{method: "GET", path: "/retained/{name}", id: "getRetained", tag: "messages", summary: "Show a retained message",
			right: reads, params: []param{name}, answer: RetainedMessage{}, do: (*API).getRetained},
		{method: "GET", path: "/retained/{name}/history", id: "listRetainedVersions", tag: "messages",
			summary: "Show what a retained message was",
			text:    "As far as retention leaves it in the log, also of one that was cleared.",
			right:   reads, walks: true,
			params: []param{name, {name: "limit", kind: "integer", low: 1, high: mostVersions, value: "20",
				doc: "how many at most"}}, answer: RetainedHistory{}, do: (*API).retainedHistory},
		{method: "DELETE", path: "/retained/{name}", id: "clearRetained", tag: "messages",
			summary: "Clear a retained message",
			text:    "As a PUBLISH without payload does. A restore brings it back.",
			right:   writes, params: []param{name}, answer: Published{},
			do: func(a *API, q *ask) (any, error) {
				if a.opt.Retained == nil {
					return nil, errNoDoor("messages of MQTT")
				}
				return a.opt.Retained.Clear(q.r.Context(), q.v, q.r.PathValue("name"))
			}},
		{method: "POST", path: "/retained/{name}/restore", id: "restoreRetained", tag: "messages",
			summary: "Restore a retained message",
			text: "It is published again as it was, to subscribers too. Without a version, the one before what is there " +
				"now, or the last one where nothing is.",
			right: writes, walks: true, params: []param{name}, body: RestoreRequest{}, answer: Published{},
			do: (*API).restoreRetained},
	}
}

// listRetained goes through the names until there is a page that who asks may read.
func (a *API) listRetained(q *ask) (any, error) {
	if a.opt.Retained == nil {
		return nil, errNoDoor("messages of MQTT")
	}
	after := ""
	if text := q.text("cursor"); text != "" {
		var c cursor
		if err := parseCursor(text, &c); err != nil {
			return nil, err
		}
		after = c.At.ID
	}
	page, until := RetainedPage{Items: []RetainedMessage{}}, time.Now().Add(scanTime)
	for limit, size := int(q.number("limit")), 0; ; {
		names, err := a.opt.Retained.Names(q.r.Context(), q.text("filter"), after, mostPage)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if len(page.Items) == limit || size >= mostAnswer || time.Now().After(until) {
				page.Next = cursor{At: place{ID: after}}.String()
				return page, nil
			}
			after = name
			if !q.v.SeesName(rule.Read, name) {
				continue
			}
			m, err := a.opt.Retained.Message(q.r.Context(), q.v, name)
			if err != nil {
				return nil, err
			}
			if m != nil {
				page.Items = append(page.Items, *m)
				size += m.Bytes
			}
		}
		if len(names) < mostPage {
			return page, nil
		}
	}
}

func (a *API) getRetained(q *ask) (any, error) {
	if a.opt.Retained == nil {
		return nil, errNoDoor("messages of MQTT")
	}
	name := q.r.PathValue("name")
	m, err := a.opt.Retained.Message(q.r.Context(), q.v, name)
	if err == nil && m == nil {
		err = fault.New(fault.NotFound, "retained "+fault.Text(name), "there is no retained message").
			WithHint("GET %s/retained lists them; …/history shows what was there", Path)
	}
	return m, err
}

func (a *API) retainedHistory(q *ask) (any, error) {
	if a.opt.Retained == nil {
		return nil, errNoDoor("messages of MQTT")
	}
	ctx, cancel := context.WithTimeout(q.r.Context(), historyTime)
	defer cancel()
	all, err := a.opt.Retained.Versions(ctx, q.v, q.r.PathValue("name"), int(q.number("limit")))
	for i := range all {
		all[i].Version = all[i].At.String()
	}
	if all == nil {
		all = []RetainedVersion{}
	}
	return RetainedHistory{Items: all}, err
}

// historyTime is for how long the log is looked through: a history is whole or is none.
const historyTime = 20 * time.Second

func (a *API) restoreRetained(q *ask) (any, error) {
	if a.opt.Retained == nil {
		return nil, errNoDoor("messages of MQTT")
	}
	var said RestoreRequest
	if err := q.read(&said); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(q.r.Context(), historyTime)
	defer cancel()
	var at *Place
	if said.Version != "" {
		p, err := parsePlace(said.Version)
		if err != nil {
			return nil, err
		}
		at = &p
	}
	return a.opt.Retained.Restore(ctx, q.v, q.r.PathValue("name"), at)
}
