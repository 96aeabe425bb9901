package kafka

import (
	"context"
	"net/netip"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/kit/fault"
)

// PasswordMechanisms are the mechanisms of SASL for users with passwords, the strongest first: SCRAM-SHA-512 and
// SCRAM-SHA-256 (RFC 5802, KIP-84), and PLAIN (RFC 4616), which shows the password to us and to who listens on a
// connection without TLS. Others know what a password of PLAIN is good for besides; nil: nothing. Delegations are the
// delegation tokens that SCRAM takes; nil: there are none.
func PasswordMechanisms(
	logins *verify.Logins, users verify.Users, others PasswordLogins, delegations *access.Delegations,
) []Mechanism {
	return []Mechanism{
		scramMechanism{credential.SHA512, logins, users, delegations},
		scramMechanism{credential.SHA256, logins, users, delegations},
		plainMechanism{logins, users, others},
	}
}

// PasswordLogins knows what passwords are good for that are not of a user's verifiers. *access.Access does.
type PasswordLogins interface {
	// Granted tells what a password gives; nil: it is the user's verifiers that know. Errors: Denied; Unavailable, Limited
	// and Timeout when that cannot be found out now.
	Granted(ctx context.Context, who rule.Subject, password []byte) (*access.Grant, error)
}

// user is who a client has shown to be.
func user(name string) *Identity { return &Identity{Principal: "User:" + name} }

// address is that of a client, or none.
func (p Peer) address() netip.Addr {
	a, err := netip.ParseAddr(p.Host)
	if err != nil {
		return netip.Addr{}
	}
	return a
}

// subject is a client that says it is a user.
func (p Peer) subject(user string) rule.Subject {
	return rule.Subject{User: user, ClientID: p.ClientID, CommonName: p.CommonName, Address: p.address(),
		Listener: p.Listener, Protocol: "kafka", Encrypted: p.Encrypted}
}

// plainMechanism is PLAIN.
type plainMechanism struct {
	logins *verify.Logins
	users  verify.Users
	others PasswordLogins // nil: a password is the user's, or good for nothing
}

func (plainMechanism) Name() string { return "PLAIN" }

func (plainMechanism) Bare() bool { return true }

func (m plainMechanism) Begin(from Peer) Exchange {
	return &plainExchange{plainMechanism: m, from: from}
}

type plainExchange struct {
	plainMechanism
	from   Peer
	claims string
}

// Claims implements Claimant.
func (e *plainExchange) Claims() string { return e.claims }

func (e *plainExchange) Step(ctx context.Context, token []byte) ([]byte, *Identity, error) {
	p, err := credential.ParsePlain(token)
	e.claims = p.User
	if err == nil && e.others != nil {
		g, err := e.others.Granted(ctx, e.from.subject(p.User), p.Password)
		if err != nil {
			return nil, nil, err
		}
		if g != nil {
			return nil, byGrant(g), nil
		}
	}
	name, err := e.logins.Plain(ctx, e.users, e.from.address(), token)
	if err != nil {
		return nil, nil, err
	}
	return nil, user(name), nil
}

// scramMechanism is one of SCRAM.
type scramMechanism struct {
	mechanism   credential.Mechanism
	logins      *verify.Logins
	users       verify.Users
	delegations *access.Delegations
}

func (m scramMechanism) Name() string { return m.mechanism.String() }

func (scramMechanism) Bare() bool { return false }

func (m scramMechanism) Begin(from Peer) Exchange {
	var tokens verify.Users
	if m.delegations != nil {
		tokens = m.delegations
	}
	return scramExchange{m.logins.SCRAM(m.mechanism, m.users, tokens, from.address()), m.delegations}
}

type scramExchange struct {
	run         *verify.Exchange
	delegations *access.Delegations
}

// Claims implements Claimant.
func (e scramExchange) Claims() string {
	if e.run.Token() {
		return "" // whose it is is said nowhere; the error has its id
	}
	return e.run.User()
}

func (e scramExchange) Step(ctx context.Context, token []byte) ([]byte, *Identity, error) {
	answer, done, err := e.run.Step(ctx, token)
	var g *access.Grant
	if e.run.Token() {
		if done && err == nil {
			g, err = e.delegations.Grant(e.run.User())
		}
		if err != nil {
			err = fault.New(fault.KindOf(err), "kafka.authenticate", "delegation token %s: %w", fault.Text(e.run.User()), err)
		}
	}
	switch {
	case err != nil:
		return nil, nil, err
	case !done:
		return answer, nil, nil
	case g != nil:
		return answer, byGrant(g), nil
	}
	return answer, user(e.run.User()), nil
}
