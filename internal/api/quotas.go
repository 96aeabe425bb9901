package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"net/url"
	"strings"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Quotas is what the API asks of the quotas of Kafka clients.
type Quotas interface {
	// EachQuota visits those that are set.
	EachQuota(visit func(*Quota))
	// SetQuota makes rates be those of somebody; without one they are removed. judge is told what they were before, nil:
	// none. Errors: Invalid, Limited; those of judge and of the log.
	SetQuota(ctx context.Context, who *QuotaEntity, rates *Rates, judge func(was *Rates) error) error
}

// QuotaEntity is whom a quota is for: a user, a client id, both, or an address. An empty name is everybody who has no
// quota of its own.
type QuotaEntity struct {
	User     *string `json:"user,omitempty" doc:"empty: every user that has none of its own"`
	ClientID *string `json:"client_id,omitempty" doc:"of Kafka clients; empty: every one that has none of its own"`
	Address  *string `json:"address,omitempty" doc:"empty: every one that has none of its own"`
}

// Rates are the quotas of somebody, by Kafka's names.
type Rates struct {
	Produce     *float64 `json:"producer_byte_rate,omitempty" doc:"bytes a second"`
	Fetch       *float64 `json:"consumer_byte_rate,omitempty" doc:"bytes a second"`
	Request     *float64 `json:"request_percentage,omitempty" doc:"of the time of one processor"`
	Mutations   *float64 `json:"controller_mutation_rate,omitempty" doc:"topics and partitions made or deleted a second"`
	Connections *float64 `json:"connection_creation_rate,omitempty" doc:"of an address: connections a second"`
}

// Quota is a quota that is set.
type Quota struct {
	ID string `json:"id" doc:"as the path has it: user=alice, user=alice&client_id=app, address=192.0.2.1"`
	QuotaEntity
	Rates
}

// id names an entity in a path.
func (e *QuotaEntity) id() string {
	var parts []string
	for _, p := range []struct {
		name  string
		value *string
	}{{"user", e.User}, {"client_id", e.ClientID}, {"address", e.Address}} {
		if p.value != nil {
			parts = append(parts, p.name+"="+url.QueryEscape(*p.value))
		}
	}
	return strings.Join(parts, "&")
}

// entityOf reads what id wrote. Errors: Invalid.
func entityOf(id string) (*QuotaEntity, error) {
	const hint = "write user=NAME, client_id=NAME, user=NAME&client_id=NAME or address=ADDRESS; without a name it is " +
		"for all that have none of their own"
	parts, err := url.ParseQuery(id)
	e := &QuotaEntity{}
	for name, values := range parts {
		at := map[string]**string{"user": &e.User, "client_id": &e.ClientID, "address": &e.Address}[name]
		if at == nil || len(values) > 1 {
			return nil, fault.New(fault.Invalid, op, "%s names nobody who may have a quota", fault.Text(id)).WithHint(hint)
		}
		*at = &values[0]
	}
	if err != nil || *e == (QuotaEntity{}) {
		return nil, fault.New(fault.Invalid, op, "%s names nobody who may have a quota", fault.Text(id)).WithHint(hint)
	}
	if e.Address != nil && *e.Address != "" {
		at, err := netip.ParseAddr(*e.Address)
		if err != nil {
			return nil, fault.New(fault.Invalid, op, "%s is no address", fault.Text(*e.Address))
		}
		e.Address = new(at.Unmap().String()) // as others write it
	}
	return e, nil
}

// tag is the entity tag of rates; "": there are none.
func (r *Rates) tag() string {
	if r == nil {
		return ""
	}
	text, _ := json.Marshal(r) // numbers that are finite always have a JSON form
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

func quotaRoutes() []route {
	look, change := right{operation: rule.DescribeConfigs, on: rule.Cluster}, right{operation: rule.AlterConfigs,
		on: rule.Cluster}
	id := named("quota", "whom it is for: user=alice, client_id=app, user=alice&client_id=app or address=192.0.2.1; "+
		"without a name behind = all that have none of their own. Names in it are escaped as in a query")
	return []route{
		{method: "GET", path: "/quotas", id: "listQuotas", tag: "access", summary: "List quotas of Kafka clients",
			right: look, walks: true, params: append(listParams("id"), search("only those with this text in their id")),
			answer: Page[Quota]{}, do: (*API).quotas},
		{method: "GET", path: "/quotas/{quota}", id: "getQuota", tag: "access", summary: "Show a quota", right: look,
			params: []param{id}, tagged: true, answer: Quota{}, do: (*API).quota},
		{method: "PUT", path: "/quotas/{quota}", id: "setQuota", tag: "access", summary: "Set a quota", right: change,
			text:   "In force when it is answered. What is not said has no bound.",
			params: []param{id}, edits: true, makes: true, body: Rates{}, tagged: true, answer: Quota{}, do: (*API).setQuota},
		{method: "DELETE", path: "/quotas/{quota}", id: "removeQuota", tag: "access", summary: "Remove a quota",
			right: change, params: []param{id}, edits: true, answer: Quota{}, do: (*API).removeQuota},
	}
}

func (a *API) quotas(q *ask) (any, error) {
	p, err := newPager[Quota](q)
	if err != nil {
		return nil, err
	}
	if a.opt.Quotas != nil {
		a.opt.Quotas.EachQuota(func(one *Quota) {
			if one.ID = one.id(); strings.Contains(one.ID, q.text("search")) {
				p.offer(place{ID: one.ID}, func() Quota { return *one })
			}
		})
	}
	return page(p, func(one Quota) Quota { return one }), nil
}

// quotaOf finds the quota of somebody. Errors: Invalid, NotFound.
func (a *API) quotaOf(q *ask) (*Quota, error) {
	who, err := entityOf(q.r.PathValue("quota"))
	if err != nil {
		return nil, err
	}
	var found *Quota
	if a.opt.Quotas != nil {
		a.opt.Quotas.EachQuota(func(one *Quota) {
			if one.ID = one.id(); one.ID == who.id() {
				is := *one
				found = &is
			}
		})
	}
	if found == nil {
		return nil, fault.New(fault.NotFound, "quota "+fault.Text(who.id()), "there is no such quota").
			WithHint("GET %s/quotas lists them", Path)
	}
	return found, nil
}

func (a *API) quota(q *ask) (any, error) {
	one, err := a.quotaOf(q)
	if err != nil {
		return nil, err
	}
	return reply{value: one, tag: one.tag()}, nil
}

func (a *API) setQuota(q *ask) (any, error) {
	var said Rates
	if err := q.read(&said); err != nil {
		return nil, err
	}
	who, err := entityOf(q.r.PathValue("quota"))
	switch {
	case err != nil:
		return nil, err
	case a.opt.Quotas == nil:
		return nil, fault.New(fault.Unsupported, op, "Kafka itself has the quotas").WithHint("kafka-configs.sh sets them")
	case said == Rates{}:
		return nil, fault.New(fault.Invalid, op, "a quota that bounds nothing").
			WithHint("DELETE %s/quotas/WHO removes one", Path)
	}
	made := false
	err = a.opt.Quotas.SetQuota(q.r.Context(), who, &said, func(was *Rates) error {
		made = was == nil
		return q.only(was.tag())
	})
	if err != nil {
		return nil, err
	}
	return reply{value: Quota{ID: who.id(), QuotaEntity: *who, Rates: said}, tag: said.tag(), made: made}, nil
}

func (a *API) removeQuota(q *ask) (any, error) {
	one, err := a.quotaOf(q)
	if err != nil {
		return nil, err
	}
	return one, a.opt.Quotas.SetQuota(q.r.Context(), &one.QuotaEntity, &Rates{}, func(was *Rates) error {
		return q.only(was.tag())
	})
}

// Map is the rates that are said, by their names.
func (r *Rates) Map() map[string]float64 {
	all := map[string]float64{}
	for _, one := range r.fields() {
		if *one.at != nil {
			all[one.name] = **one.at
		}
	}
	return all
}

// Set sets a rate by its name.
func (r *Rates) Set(name string, rate float64) {
	for _, one := range r.fields() {
		if one.name == name {
			*one.at = &rate
		}
	}
}

type rateField struct {
	name string
	at   **float64
}

func (r *Rates) fields() []rateField {
	return []rateField{{"producer_byte_rate", &r.Produce}, {"consumer_byte_rate", &r.Fetch},
		{"request_percentage", &r.Request}, {"controller_mutation_rate", &r.Mutations},
		{"connection_creation_rate", &r.Connections}}
}
