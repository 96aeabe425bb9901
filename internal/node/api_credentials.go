package node

import (
	"context"
	"net/url"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/kafka"
	"github.com/firthmq/firth/internal/mqtt"
)

// apiBans are who is kept out as the API has it. It implements api.Bans.
type apiBans struct{ n *Node }

func apiBan(line *mqtt.BanLine) *api.Ban {
	return &api.Ban{Kind: line.Kind, Who: line.Who, Since: line.Since, Until: line.Until, By: line.By, Reason: line.Reason}
}

// Bans implements api.Bans.
func (a apiBans) Bans() []api.Ban {
	all := []api.Ban{}
	for _, line := range a.n.mqtt.Bans() {
		all = append(all, *apiBan(&line))
	}
	return all
}

// Ban implements api.Bans.
func (a apiBans) Ban(ctx context.Context, b *api.NewBan) (*api.Ban, error) {
	line := mqtt.BanLine{Kind: b.Kind, Who: b.Who, Until: b.Until, Reason: b.Reason}
	if who, is := ctx.Value(askerKey{}).(asker); is {
		line.By = who.by.Actor.Principal
	}
	if b.For != "" {
		var err error
		if line.Until, err = banUntil(b.For, ""); err != nil {
			return nil, err
		}
	}
	made, err := a.n.ban(ctx, line)
	if err != nil {
		return nil, err
	}
	return apiBan(made), nil
}

// Unban implements api.Bans.
func (a apiBans) Unban(ctx context.Context, kind, who string) (*api.Ban, error) {
	gone, err := a.n.unban(ctx, kind, who)
	if err != nil {
		return nil, err
	}
	return apiBan(gone), nil
}

// apiTokens are the tokens of programs as the API has them. It implements api.Tokens.
type apiTokens struct{ n *Node }

func apiToken(line *tokenLine) api.Token {
	rules := make([]rule.Rule, len(line.Rules))
	for i := range line.Rules {
		rules[i] = line.Rules[i].Rule
	}
	return api.Token{ID: line.ID, Kind: line.Kind, Owner: line.Owner, Name: line.Name, Issued: line.Issued,
		Ends: line.Ends, Roles: orEmpty(line.Roles), Rules: api.RulesAs(rules), Requester: line.Requester,
		Renewers: line.Renewers, Last: line.Last}
}

// EachToken implements api.Tokens.
func (a apiTokens) EachToken(visit func(*api.Token)) {
	for _, line := range a.n.tokens() {
		t := apiToken(&line)
		visit(&t)
	}
}

// CreateToken implements api.Tokens.
func (a apiTokens) CreateToken(ctx context.Context, t *api.NewToken, scope []rule.Rule) (*api.TokenMade, error) {
	line, err := a.n.createToken(ctx, &tokenWish{Owner: t.Owner, Name: t.Name, Expires: t.Expires, Roles: t.Roles,
		Rules: scope})
	if err != nil {
		return nil, err
	}
	return &api.TokenMade{Token: apiToken(&line), Text: line.Text}, nil
}

// RevokeToken implements api.Tokens.
func (a apiTokens) RevokeToken(ctx context.Context, id string) error {
	return a.n.access.RevokeToken(ctx, id)
}

// apiCertificates are those of the authority as the API has them. It implements api.Certificates.
type apiCertificates struct{ n *Node }

// Authority implements api.Certificates.
func (a apiCertificates) Authority() (*api.Authority, error) {
	text, err := a.n.authority.PEM()
	if err != nil {
		return nil, err
	}
	return &api.Authority{Name: a.n.authority.Name(), Until: a.n.authority.Until(), PEM: string(text)}, nil
}

// Certificates implements api.Certificates.
func (a apiCertificates) Certificates() []api.Certificate {
	all := []api.Certificate{}
	for _, c := range certificateLines(a.n.authority.Certificates()) {
		all = append(all, api.Certificate{Serial: c.Serial, Name: c.Name, State: c.State, Server: c.Server,
			Names: orEmpty(c.Names), Issued: c.Issued, Until: c.Until, By: c.By, Revoked: c.Revoked, Reason: c.Reason})
	}
	return all
}

// Revoke implements api.Certificates.
func (a apiCertificates) Revoke(ctx context.Context, serial, reason string) error {
	_, err := a.n.revoke(ctx, url.Values{"who": {serial}, "reason": {reason}})
	return err
}

// apiQuotas are those of Kafka clients as the API has them. It implements api.Quotas.
type apiQuotas struct{ door *kafka.Door }

// EachQuota implements api.Quotas.
func (a apiQuotas) EachQuota(visit func(*api.Quota)) {
	a.door.EachQuota(func(q *kafka.QuotaLook) {
		visit(&api.Quota{QuotaEntity: api.QuotaEntity{User: q.Who.User, ClientID: q.Who.ClientID, Address: q.Who.Address},
			Rates: *ratesOf(q.Rates)})
	})
}

func ratesOf(rates map[string]float64) *api.Rates {
	if len(rates) == 0 {
		return nil
	}
	r := &api.Rates{}
	for name, rate := range rates {
		r.Set(name, rate)
	}
	return r
}

// SetQuota implements api.Quotas.
func (a apiQuotas) SetQuota(
	ctx context.Context, who *api.QuotaEntity, rates *api.Rates, judge func(*api.Rates) error,
) error {
	look := &kafka.QuotaLook{Who: kafka.QuotaEntity{User: who.User, ClientID: who.ClientID, Address: who.Address},
		Rates: rates.Map()}
	return a.door.SetQuota(ctx, look, func(was map[string]float64) error { return judge(ratesOf(was)) })
}
