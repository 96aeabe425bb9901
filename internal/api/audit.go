package api

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// AuditEvent is one record of the audit.
type AuditEvent struct {
	Sequence uint64          `json:"sequence,string" doc:"its number in the chain of the node"`
	Source   string          `json:"source" doc:"the node"`
	Time     time.Time       `json:"time"`
	Type     string          `json:"type" doc:"firth.login, firth.access.refused, firth.change and the like"`
	Action   string          `json:"action,omitempty" doc:"what was done, or tried: write, connect, user.set"`
	Outcome  string          `json:"outcome,omitempty" doc:"success, failure, denied, let_through, or begun of a change"`
	Reason   string          `json:"reason,omitempty"`
	Rule     string          `json:"rule,omitempty" doc:"the id of the rule that decided"`
	Actor    AuditActor      `json:"actor"`
	Origin   AuditOrigin     `json:"origin"`
	On       []AuditResource `json:"resources" doc:"what it was done to"`
	Count    int             `json:"count,omitempty" doc:"how many such events it tells of, if not one"`
	Until    *time.Time      `json:"until,omitempty" doc:"the time of the last of them"`
	Of       uint64          `json:"of,omitempty,string" doc:"the number of the record that says what has ended so"`
	Before   json.RawMessage `json:"before,omitempty" doc:"what was there before a change"`
	After    json.RawMessage `json:"after,omitempty" doc:"what is there behind it"`
}

// AuditActor is who did it.
type AuditActor struct {
	Principal   string   `json:"principal,omitempty" doc:"User:alice"`
	Method      string   `json:"method,omitempty" doc:"how it has proven that"`
	Roles       []string `json:"roles,omitempty"`
	Certificate string   `json:"certificate,omitempty" doc:"the common name of its certificate"`
	Token       string   `json:"token,omitempty" doc:"the id of the token that it has proven that with"`
}

// AuditOrigin is where it came from.
type AuditOrigin struct {
	Address  string `json:"address,omitempty"`
	Listener string `json:"listener,omitempty"`
	Client   string `json:"client,omitempty" doc:"its client identifier"`
	TLS      bool   `json:"tls,omitempty"`
}

// AuditResource is what it was done to.
type AuditResource struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// AuditPage is what was found in the audit.
type AuditPage struct {
	Items   []AuditEvent `json:"items"`
	Next    string       `json:"next,omitempty" doc:"goes on behind what was looked at; with sort=time also at the end"`
	Scanned int          `json:"scanned" doc:"how many records were looked at"`
	End     bool         `json:"end" doc:"everything there is was looked at"`
	Lost    []Lost       `json:"lost,omitempty" doc:"offsets that are damaged on the disk"`
}

// auditCursor is where a search goes on: from an offset on, or from the one before it back.
type auditCursor struct {
	Sort   string `json:"s"`
	Offset int64  `json:"o"`
}

func (c auditCursor) String() string {
	text, _ := json.Marshal(c) // it always has a JSON form
	return base64.RawURLEncoding.EncodeToString(text)
}

func auditRoutes() []route {
	return []route{{method: "GET", path: "/audit", id: "searchAudit", tag: "audit", summary: "Search the audit",
		text: "The newest first. A request looks for 2 seconds at most, and says how far it has come: next goes on from " +
			"there, so that an empty page is not the end unless end says so. Secrets are not in the audit.",
		right: watching, walks: true, params: []param{
			{name: "limit", kind: "integer", low: 1, high: mostRecords, value: "100", doc: "how many are found at most"},
			{name: "cursor", kind: "string", doc: "next of the page before; the other parameters have to be the same"},
			{name: "sort", kind: "string", values: []string{"time", "-time"}, value: "-time", doc: "-time: the newest first"},
			{name: "since", kind: "time", doc: "only from this time on"},
			{name: "until", kind: "time", doc: "only before this time"},
			only("type", "only of this type, or what it begins or ends with: firth.login, login, access"),
			only("principal", "only by this one: User:alice, or alice"),
			only("action", "only this: write, connect, user.set"),
			only("resource", "only on this: a name, or a pattern as of a shell such as topic:plant*"),
			{name: "outcome", kind: "string", values: []string{"success", "failure", "denied", "begun", "let_through"},
				doc: "only what ended so"},
			only("address", "only from this address"),
		}, answer: AuditPage{}, do: (*API).audit}}
}

// auditSearch is one search.
type auditSearch struct {
	log    Log
	id     stream.PartitionID
	want   chain.Query
	action string
	limit  int
	until  time.Time
	page   AuditPage
}

func (a *API) audit(q *ask) (any, error) {
	s := &auditSearch{log: a.opt.Log, limit: int(q.number("limit")), until: time.Now().Add(scanTime),
		action: q.text("action"), want: chain.Query{Since: q.time("since"), Until: q.time("until"),
			Principal: q.text("principal"), Type: q.text("type"), Resource: q.text("resource"),
			Outcome: chain.Outcome(q.text("outcome")), Address: q.text("address")}}
	s.page.Items = []AuditEvent{}
	c := auditCursor{Sort: q.text("sort"), Offset: -1}
	if text := q.text("cursor"); text != "" {
		if err := parseCursor(text, &c); err != nil {
			return nil, err
		}
		if c.Sort != q.text("sort") || c.Offset < 0 {
			return nil, fault.New(fault.Invalid, op, "the cursor is of a search that is sorted by %s", fault.Text(c.Sort))
		}
	}
	topic := a.opt.Log.Topics().ByName(a.opt.AuditTopic)
	if topic == nil { // nothing was told yet
		s.page.End = true
		return &s.page, nil
	}
	s.id = topic.Partitions[0]
	err := s.run(q, &c)
	return &s.page, err
}

// run searches, and says where it goes on. Errors: those of the log.
func (s *auditSearch) run(q *ask, c *auditCursor) error {
	b, err := s.log.Bounds(s.id)
	if err != nil {
		return err
	}
	floor := b.Start
	if !s.want.Since.IsZero() { // a record is written when its event has happened, or later
		at, _, err := s.log.OffsetForTime(q.r.Context(), s.id, s.want.Since.UnixMilli())
		if err != nil {
			return err
		}
		if floor = max(floor, at); at < 0 {
			floor = b.High
		}
	}
	next := record.Offset(c.Offset)
	if c.Sort == "time" {
		next = min(max(next, floor), b.High)
		for next < b.High && !s.over(q) {
			if next, err = s.forward(next, b.High); err != nil {
				return err
			}
		}
		s.page.End = next >= b.High
	} else {
		if c.Offset < 0 || next > b.High {
			next = b.High
		}
		for next > floor && !s.over(q) {
			if next, err = s.back(next, floor); err != nil {
				return err
			}
		}
		if s.page.End = next <= floor; s.page.End {
			return nil
		}
	}
	s.page.Next = auditCursor{c.Sort, int64(next)}.String()
	return nil
}

func (s *auditSearch) over(q *ask) bool {
	return len(s.page.Items) >= s.limit || q.r.Context().Err() != nil || time.Now().After(s.until) ||
		len(s.page.Lost) >= s.limit
}

// forward looks at records from an offset on, until there are enough, and tells where it goes on. Errors: those of the
// log.
func (s *auditSearch) forward(from, end record.Offset) (record.Offset, error) {
	return s.scan(from, end, func(_ record.Offset, e *AuditEvent) bool {
		if len(s.page.Items) == s.limit {
			return false
		}
		s.page.Items = append(s.page.Items, *e)
		return true
	})
}

// auditChunk is how many offsets are looked at in one go where the newest comes first.
const auditChunk = 512

// back looks at the records before an offset, down to another one, and tells where it goes on. Errors: those of the
// log.
func (s *auditSearch) back(end, floor record.Offset) (record.Offset, error) {
	begin := max(floor, end-auditChunk)
	type found struct {
		at record.Offset
		e  AuditEvent
	}
	var all []found
	for next := begin; next < end; {
		was := next
		var err error
		next, err = s.scan(next, end, func(at record.Offset, e *AuditEvent) bool {
			all = append(all, found{at, *e})
			return true
		})
		if err != nil {
			return end, err
		}
		if next == was { // there are no more
			break
		}
	}
	for _, one := range slices.Backward(all) {
		if len(s.page.Items) == s.limit {
			return one.at + 1, nil
		}
		s.page.Items = append(s.page.Items, one.e)
	}
	return begin, nil
}

// scan looks at records from an offset on, up to another one, and visits those that are looked for; false: it is not
// taken. Errors: those of the log.
func (s *auditSearch) scan(
	from, end record.Offset, visit func(record.Offset, *AuditEvent) bool,
) (next record.Offset, err error) {
	next, err = s.log.Scan(s.id, from, stream.ScanOptions{}, func(v *record.View) bool {
		if v.Offset >= end {
			return false
		}
		r, err := chain.Parse(v.Value)
		if err == nil && s.want.Match(r) && (s.action == "" || s.action == r.Data.Action) &&
			!visit(v.Offset, auditEventOf(r)) {
			return false
		}
		s.page.Scanned++
		return true
	})
	switch lost := lostIn(err); {
	case lost != nil:
		s.page.Lost = append(s.page.Lost, Lost{int64(next), int64(lost.Next)})
		next, err = max(lost.Next, next), nil
	case fault.Is(err, fault.OutOfRange): // it went by retention meanwhile
		var b stream.Bounds
		b, err = s.log.Bounds(s.id)
		next = max(next, b.Start)
	}
	return next, err
}

func auditEventOf(r *chain.Record) *AuditEvent {
	d := &r.Data
	e := &AuditEvent{Sequence: uint64(r.Sequence), Source: r.Source, Time: r.Time, Type: r.Type, Action: d.Action,
		Outcome: string(d.Outcome), Reason: d.Reason, Rule: d.Rule, Count: d.Count, Until: d.Until, Of: d.Of,
		Before: d.Before, After: d.After, On: []AuditResource{},
		Actor: AuditActor{Principal: d.Actor.Principal, Method: d.Actor.Method, Roles: d.Actor.Roles,
			Certificate: d.Actor.CN, Token: d.Actor.Token},
		Origin: AuditOrigin{Address: d.Origin.Address, Listener: d.Origin.Listener, Client: d.Origin.Client,
			TLS: d.Origin.TLS}}
	if d.Resource != (chain.Resource{}) {
		e.On = append(e.On, AuditResource{d.Resource.Kind, d.Resource.Name})
	}
	for _, also := range d.Also {
		e.On = append(e.On, AuditResource{also.Kind, also.Name})
	}
	return e
}
