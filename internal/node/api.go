package node

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/people"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
)

// The API for programs and people, below api.Path: what it asks of the rooms, and who may ask it.

// newAPI makes it. What goes on ends with ends.
func (n *Node) newAPI(ends context.Context) *api.API {
	messages := apiMessages{n, n.guests}
	opt := api.Options{
		Version: BuildVersion().Version, Enter: n.enterAPI, Log: n.keeper, Distant: n.store == nil,
		Mapping:       func() *hinge.Table { return n.mapping.Load() },
		TopicDefaults: func() map[string]string { return n.config().Topics.Defaults.settings() },
		Settings:      n.apiSettings, Checks: n.apiChecks, Clients: apiClients{n}, Users: apiUsers{n},
		Rules: apiRules{n}, Bans: apiBans{n}, Tokens: apiTokens{n}, Certificates: apiCertificates{n},
		AuditTopic: audit.TopicName, Messages: messages, Retained: apiRetained{messages},
		LastHour: n.lastHour,
		AtEnd:    func(call func()) func() bool { return context.AfterFunc(ends, call) },
	}
	if n.kafka != nil {
		opt.Groups, opt.Quotas, opt.Backend = apiGroups{n.kafka}, apiQuotas{n.kafka}, apiBackend{n.kafka}
	}
	if n.audit != nil {
		opt.AuditKey = n.apiAuditKey
	}
	return api.New(opt)
}

// apiAuditKey is what the audit is verified by.
func (n *Node) apiAuditKey() (key ed25519.PublicKey, head []byte, err error) {
	head = n.audit.Head() // before the records are looked at: it is among them
	key, err = n.audit.Key()
	return key, head, err
}

// config is the configuration in force.
func (n *Node) config() *Config {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cfg
}

// enterAPI lets in who asks the API: as long as nobody has made a user or a rule, programs of this machine; then who is
// known. The token of the node is good on this machine only, as for the commands that show it.
func (n *Node) enterAPI(r *http.Request) (api.Visit, error) {
	who, err := n.asks(r)
	switch {
	case errors.Is(err, people.ErrEnded), errors.Is(err, errUnknown), errors.Is(err, access.ErrCredentials),
		err == nil && who.token && !n.isHere(r):
		return api.Visit{}, &api.Unauthorized{Err: cmp.Or(err, error(errUnknown)), Challenge: challenge(r)}
	case err != nil:
		return api.Visit{}, err
	case who.pass == nil && !who.token && !n.isHere(r):
		err = fault.New(fault.Denied, "api", "as long as there are no users only programs of this machine are answered").
			WithHint("firth user add NAME --role admin")
	case r.Method != http.MethodGet && api.SaidAs(r) != adminType &&
		api.SaidAs(r) != bytesType: // no page sends either to another site unasked
		err = fault.New(fault.Denied, "api", "a change needs Content-Type: %s", adminType)
	}
	if err != nil {
		n.tellTurnedAway(r, err)
		return api.Visit{}, err
	}
	ctx, cancel := context.WithCancel(context.WithValue(audit.As(r.Context(), who.by), askerKey{}, who))
	leave := cancel
	if who.visit != nil {
		during := who.visit.During(cancel)
		leave = func() { during(); cancel() }
	}
	return api.Visit{Request: r.WithContext(ctx), Leave: leave, Visitor: &apiVisitor{n, who}}, nil
}

// bytesType is the type of what is as it is.
const bytesType = "application/octet-stream"

// apiVisitor is who asks the API. It implements api.Visitor.
type apiVisitor struct {
	n   *Node
	who asker
}

// Sees implements api.Visitor. Nobody sees the topic of the users and rules.
func (v *apiVisitor) Sees(o rule.Operation, on rule.Kind, name string) bool {
	if v.who.pass == nil {
		return on != rule.Topic || name != access.TopicName
	}
	return v.n.guard.May(v.who.pass, o, on, name)
}

// May implements api.Visitor.
func (v *apiVisitor) May(o rule.Operation, on rule.Kind, name string) error {
	resource := chain.Resource{Kind: on.String(), Name: name}
	if v.Sees(o, on, name) {
		v.who.pass.Tried(o, on, name)
		if o == rule.Read && on == rule.Topic && v.n.audit.WantsSome() && v.n.audit.Wants(name) {
			v.tellRead(name)
		}
		return nil
	}
	v.n.audit.Tell(audit.Refusal(v.who.by, o.String(), resource))
	if v.who.pass == nil {
		return fault.New(fault.Denied, "api", "nobody may read the topic of users and rules").
			WithHint("firth user list and firth acl list show what is in it")
	}
	user, flag := fault.Text(v.who.pass.Who().User), "--"+on.String()+" "+fault.Text(name)
	if on == rule.Cluster {
		flag = "--cluster"
	}
	return v.refused(o, resource, fault.New(fault.Denied, "api", "%s may not %s the %s %s", user, o, on,
		fault.Text(name)).WithHint("firth acl explain --as %s %s %s tells by which rule", user, o, flag))
}

// refused is a refusal that says what it is one of.
func (v *apiVisitor) refused(o rule.Operation, on chain.Resource, err error) error {
	return &api.RefusedError{Refused: api.Refused{User: v.who.pass.Who().User, Operation: o.String(), Kind: on.Kind,
		Name: on.Name}, Err: err}
}

// tellRead tells the audit that records of a topic are read.
func (v *apiVisitor) tellRead(topic string) {
	v.n.audit.Tell(chain.Event{Type: chain.TypeFetch, Actor: v.who.by.Actor, Origin: v.who.by.Origin,
		Action: rule.Read.String(), Resource: chain.Resource{Kind: rule.Topic.String(), Name: topic},
		Outcome: chain.Success})
}

// MaskTopic implements api.Visitor.
func (v *apiVisitor) MaskTopic(topic string) *mask.Set {
	if v.who.pass == nil {
		return nil
	}
	return v.n.guard.MaskTopic(v.who.pass, topic)
}

// apiSettings are the options as the API has them.
func (n *Node) apiSettings() []api.Setting {
	c, all := n.config(), []api.Setting{}
	for _, o := range Options() {
		all = append(all, api.Setting{Key: o.Key, Value: json.RawMessage(o.asJSON(o.show(c))),
			Origin: c.Origin(o.Key).String(), Live: o.Reload, Doc: o.Doc})
	}
	return all
}

// apiChecks are the conditions of readiness as the API has them.
func (n *Node) apiChecks() []api.Check {
	all := []api.Check{}
	for _, c := range n.checks() {
		one := api.Check{Name: c.name, OK: c.err == nil, Reason: c.note}
		if c.err != nil {
			one.Reason = c.err.Error()
		}
		all = append(all, one)
	}
	return all
}

var _ api.Log = stream.Keeper(nil)
