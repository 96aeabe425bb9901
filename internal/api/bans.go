package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Bans is what the API asks of who is kept out.
type Bans interface {
	// Bans lists those that are not over.
	Bans() []Ban
	// Ban keeps somebody out. Errors: Invalid, Limited; those of the log.
	Ban(ctx context.Context, b *NewBan) (*Ban, error)
	// Unban lets somebody in again. Errors: Invalid, NotFound; those of the log.
	Unban(ctx context.Context, kind, who string) (*Ban, error)
}

// Ban is somebody who is kept out.
type Ban struct {
	Kind   string     `json:"kind" enum:"client,user,address"`
	Who    string     `json:"who" doc:"a client identifier, a user, or an address or network"`
	Since  time.Time  `json:"since"`
	Until  *time.Time `json:"until,omitempty" doc:"without it: for ever"`
	By     string     `json:"by,omitempty" doc:"who has set it"`
	Reason string     `json:"reason,omitempty"`
}

// NewBan keeps somebody out: for a time, until one, or for ever.
type NewBan struct {
	Kind   string     `json:"kind" enum:"client,user,address"`
	Who    string     `json:"who" doc:"a client identifier, a user, or an address or network"`
	For    string     `json:"for,omitempty" doc:"how long, as 90s, 12h or 7d"`
	Until  *time.Time `json:"until,omitempty" doc:"in place of for"`
	Reason string     `json:"reason,omitempty"`
}

func banRoutes() []route {
	kinds := []string{"client", "user", "address"}
	kind := named("kind", "whether who is a client identifier, a user or an address")
	kind.values = kinds
	path := []param{kind, named("who", "who is kept out; / in it is %2F")}
	return []route{
		{method: "GET", path: "/bans", id: "listBans", tag: "access", summary: "List who is kept out", right: watching,
			walks: true, params: append(listParams("who", "since", "until"),
				search("only those with this text in who or reason"),
				param{name: "kind", kind: "string", values: kinds, doc: "only those"}),
			answer: Page[Ban]{}, do: (*API).bans},
		{method: "POST", path: "/bans", id: "addBan", tag: "access", summary: "Keep somebody out", right: managing,
			text: "Its connections end. A ban that is there for the same is replaced.", makes: true, body: NewBan{},
			answer: Ban{}, do: (*API).ban},
		{method: "DELETE", path: "/bans/{kind}/{who}", id: "removeBan", tag: "access", summary: "Let somebody in again",
			right: managing, params: path, answer: Ban{}, do: func(a *API, q *ask) (any, error) {
				return a.opt.Bans.Unban(q.r.Context(), q.r.PathValue("kind"), q.r.PathValue("who"))
			}},
	}
}

func (a *API) bans(q *ask) (any, error) {
	p, err := newPager[Ban](q)
	if err != nil {
		return nil, err
	}
	text, kind := q.text("search"), q.text("kind")
	for _, b := range a.opt.Bans.Bans() {
		if kind != "" && b.Kind != kind || !strings.Contains(b.Who, text) && !strings.Contains(b.Reason, text) {
			continue
		}
		at := place{Text: b.Who, ID: b.Kind + " " + b.Who}
		switch p.sort {
		case "since":
			at = place{Number: b.Since.UnixMilli(), ID: at.ID}
		case "until":
			at = place{Number: endOf(b.Until), ID: at.ID}
		}
		p.offer(at, func() Ban { return b })
	}
	return page(p, func(b Ban) Ban { return b }), nil
}

// endOf is where something that ends stands among others: what never does comes last.
func endOf(t *time.Time) int64 {
	if t == nil {
		return 1<<63 - 1
	}
	return t.UnixMilli()
}

func (a *API) ban(q *ask) (any, error) {
	var said NewBan
	if err := q.read(&said); err != nil {
		return nil, err
	}
	if said.For != "" && said.Until != nil {
		return nil, fault.New(fault.Invalid, op, "for and until exclude each other")
	}
	b, err := a.opt.Bans.Ban(q.r.Context(), &said)
	return reply{value: b, made: true}, err
}

// Certificates is what the API asks of the certificate authority.
type Certificates interface {
	// Authority tells of the authority itself. Errors: NotFound.
	Authority() (*Authority, error)
	// Certificates lists those that it has issued.
	Certificates() []Certificate
	// Revoke ends the one of a serial number. Errors: NotFound; those of the log and of files.
	Revoke(ctx context.Context, serial, reason string) error
}

// Authority is the certificate authority of the node.
type Authority struct {
	Name  string    `json:"name"`
	Until time.Time `json:"until" doc:"when its own certificate ends"`
	PEM   string    `json:"pem" doc:"its certificate, for who is to trust it"`
}

// Certificate is one that the authority has issued.
type Certificate struct {
	Serial  string     `json:"serial" doc:"hexadecimal"`
	Name    string     `json:"name" doc:"the common name: the user that it stands for"`
	State   string     `json:"state" enum:"valid,ending,revoked,over" doc:"ending: in less than 14 days"`
	Server  bool       `json:"server" doc:"it is one of a server"`
	Names   []string   `json:"names" doc:"of a server: its DNS names and addresses"`
	Issued  time.Time  `json:"issued"`
	Until   time.Time  `json:"until"`
	By      string     `json:"by,omitempty" doc:"whose wish it was"`
	Revoked *time.Time `json:"revoked,omitempty"`
	Reason  string     `json:"reason,omitempty" doc:"why it was revoked"`
}

func certificateRoutes() []route {
	serial := named("serial", "its serial number, hexadecimal")
	return []route{
		{method: "GET", path: "/authority", id: "getAuthority", tag: "access", summary: "Show the certificate authority",
			right: watching, answer: Authority{},
			do: func(a *API, _ *ask) (any, error) { return a.opt.Certificates.Authority() }},
		{method: "GET", path: "/certificates", id: "listCertificates", tag: "access", right: watching, walks: true,
			summary: "List certificates that the authority has issued",
			params: append(listParams("name", "until", "issued"), search("only those with this text in their name"),
				param{name: "state", kind: "string", values: []string{"valid", "ending", "revoked", "over"}, doc: "only those"}),
			answer: Page[Certificate]{}, do: (*API).certificates},
		{method: "GET", path: "/certificates/{serial}", id: "getCertificate", tag: "access", summary: "Show a certificate",
			right: watching, params: []param{serial}, answer: Certificate{},
			do: func(a *API, q *ask) (any, error) { return a.certificate(q) }},
		{method: "DELETE", path: "/certificates/{serial}", id: "revokeCertificate", tag: "access", right: managing,
			summary: "Revoke a certificate", text: "Its connections have ended when this is answered.",
			params: []param{serial, only("reason", "why")}, answer: Certificate{}, do: (*API).revoke},
	}
}

func (a *API) certificates(q *ask) (any, error) {
	p, err := newPager[Certificate](q)
	if err != nil {
		return nil, err
	}
	state := q.text("state")
	for _, c := range a.opt.Certificates.Certificates() {
		if state != "" && c.State != state || !strings.Contains(c.Name, q.text("search")) {
			continue
		}
		at := place{Text: c.Name, ID: c.Serial}
		switch p.sort {
		case "until":
			at = place{Number: c.Until.UnixMilli(), ID: c.Serial}
		case "issued":
			at = place{Number: c.Issued.UnixMilli(), ID: c.Serial}
		}
		p.offer(at, func() Certificate { return c })
	}
	return page(p, func(c Certificate) Certificate { return c }), nil
}

// certificate finds one. Errors: NotFound.
func (a *API) certificate(q *ask) (*Certificate, error) {
	serial, all := q.r.PathValue("serial"), a.opt.Certificates.Certificates()
	if at := slices.IndexFunc(all, func(c Certificate) bool { return c.Serial == serial }); at >= 0 {
		return &all[at], nil
	}
	return nil, fault.New(fault.NotFound, "certificate "+fault.Text(serial), "there is no such certificate").
		WithHint("GET %s/certificates lists them", Path)
}

func (a *API) revoke(q *ask) (any, error) {
	c, err := a.certificate(q)
	if err != nil {
		return nil, err
	}
	if err := a.opt.Certificates.Revoke(q.r.Context(), c.Serial, q.text("reason")); err != nil {
		return nil, err
	}
	return a.certificate(q)
}
