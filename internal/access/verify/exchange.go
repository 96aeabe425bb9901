package verify

import (
	"context"
	"net/netip"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Plain checks a message of the mechanism PLAIN (RFC 4616) and tells whose it is. Errors: Invalid for what is no such
// message; those of Password.
func (l *Logins) Plain(ctx context.Context, users Users, from netip.Addr, message []byte) (user string, err error) {
	p, err := credential.ParsePlain(message)
	if err != nil {
		return "", err
	}
	v, _ := users.Lookup(p.User)
	if err := l.Password(ctx, Login{User: p.User, Address: from, Password: p.Password}, v); err != nil {
		return "", err
	}
	if now, is := users.Lookup(p.User); !is || now.OfPassword() != v.OfPassword() { // it was changed while it waited
		return "", fault.New(fault.Denied, op, "the user got another password, or is gone, while it authenticated")
	}
	return p.User, nil
}

// Exchange is one run of SCRAM, that is slowed down when others failed before it. It is not safe for concurrent use.
type Exchange struct {
	logins *Logins
	from   netip.Addr
	find   credential.Find
	scram  *credential.Exchange
	proven string // the verifier that the client was challenged by
	held   bool   // it has waited
}

// SCRAM begins a run of a mechanism with a client at an address. Tokens are the delegation tokens that it may log in
// with, by their ids; nil: with none.
func (l *Logins) SCRAM(m credential.Mechanism, users, tokens Users, from netip.Addr) *Exchange {
	find := func(user string, token bool) (s credential.SCRAM, found bool) {
		among := users
		if token {
			among = tokens
		}
		if among == nil {
			return s, false
		}
		if v, is := among.Lookup(user); is {
			s = v.SCRAM(m)
		}
		return s, !s.IsZero()
	}
	e := &Exchange{logins: l, from: from, find: find}
	e.scram = m.Begin(func(user string, token bool) (credential.SCRAM, bool) {
		s, found := find(user, token)
		e.proven = s.Text()
		return s, found
	}, l.opt.Secret, Nonce())
	return e
}

// User is who the client says it is; it is proven when Step has told that it is done.
func (e *Exchange) User() string { return e.scram.User() }

// Token tells whether User is the id of a delegation token.
func (e *Exchange) Token() bool { return e.scram.Token() }

// Step takes a message of the client and gives the answer to it; done tells that the client is who it says. It may
// wait, because others failed. Errors: Denied; Invalid for what is no message of SCRAM; that of ctx when it ends.
func (e *Exchange) Step(ctx context.Context, message []byte) (answer []byte, done bool, err error) {
	answer, done, err = e.scram.Step(message)
	if user := e.scram.User(); user != "" && !e.held {
		e.held = true
		if err := e.logins.Hold(ctx, user, e.from); err != nil {
			return nil, false, err
		}
	}
	if s, _ := e.find(e.scram.User(), e.scram.Token()); done && s.Text() != e.proven {
		answer, done = nil, false
		err = fault.New(fault.Denied, op, "the user got another password, or is gone, while it authenticated")
	}
	if done || fault.Is(err, fault.Denied) {
		e.logins.Settle(e.scram.User(), e.from, done)
	}
	return answer, done, err
}
