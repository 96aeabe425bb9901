package mqtt

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Principal is who a connection belongs to.
type Principal struct {
	ClientID string
	UserName string        // empty: none given
	pass     *access.Pass  // nil: nobody was asked who it is
	grant    *access.Grant // of the token by which a method of authentication has told who it is; nil: none
	operator *audit.By     // it is no client, but the operator, who may do everything; nil: it is one
}

// Logins finds out who clients are. It may wait until ctx ends. *access.Access is one.
type Logins interface {
	// Enter lets a client in that says who it is, or not. Errors: access.ErrCredentials, Denied, Limited, Timeout,
	// Unavailable.
	Enter(ctx context.Context, who rule.Subject, password []byte) (*access.Pass, error)
	// Admit makes the pass of a client whose user is known.
	Admit(who rule.Subject) *access.Pass
	// AdmitBy makes the pass of a client that has shown a token.
	AdmitBy(who rule.Subject, g *access.Grant) *access.Pass
	// Recall makes the pass of a client that was let in before, and need not be there. From is what its pass told then.
	Recall(who rule.Subject, from string) *access.Pass
	// Unsure tells why it is not known now who may come in; nil: it is known.
	Unsure() error
}

// Guard answers what a client may do, on every path. It must not block and is called from many goroutines. Names are
// valid only during the call. *access.Access is one.
type Guard interface {
	// MayName tells whether a message may be published to a topic name (Write), also as a will, or may be had from it
	// (Read): live, retained or from the log. Topic is its topic of the log; "": it is not at hand.
	MayName(p *access.Pass, o rule.Operation, name []byte, topic string) bool
	// MaskName is what the client may not see of a message that it may have; nil: it may see all of it.
	MaskName(p *access.Pass, name []byte, topic string) *mask.Set
	// MayFilter tells whether a client may subscribe to a topic filter.
	MayFilter(p *access.Pass, filter string) bool
}

func (d *Door) may(who *Principal, o rule.Operation, name []byte) bool {
	return d.opt.Guard == nil || who.operator != nil || d.opt.Guard.MayName(who.pass, o, name, "")
}

// masks is what a client may not see of a message that it may have; nil: it may see all of it.
func (d *Door) masks(who *Principal, name []byte) *mask.Set {
	if d.opt.Guard == nil || who.operator != nil {
		return nil
	}
	return d.opt.Guard.MaskName(who.pass, name, "")
}

func (d *Door) maySubscribe(who *Principal, filter string) bool {
	return d.opt.Guard == nil || who.operator != nil || d.opt.Guard.MayFilter(who.pass, filter)
}

// enter finds out who a client is, by the user name and the password of its CONNECT, or by the method of authentication
// that has told. Errors: *packet.Error.
func (c *conn) enter(hello *packet.Connect, who *Principal) (*access.Pass, error) {
	logins := c.door.opt.Logins
	if logins == nil {
		return nil, nil
	}
	switch {
	case who.grant != nil:
		return logins.AdmitBy(c.subject(who), who.grant), nil
	case c.auth != nil:
		return logins.Admit(c.subject(who)), nil
	case c.listener.opt.Inside:
		inside := c.subject(who)
		inside.User = cmp.Or(inside.User, rule.Anonymous)
		return logins.Admit(inside), nil
	}
	password := hello.Password
	if hello.HasPassword && password == nil {
		password = []byte{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.door.opt.ConnectTimeout)
	defer cancel()
	pass, err := logins.Enter(ctx, c.subject(who), password)
	switch {
	case err == nil:
		return pass, nil
	case fault.Is(err, fault.Limited), fault.Is(err, fault.Timeout):
		return nil, &packet.Error{Reason: packet.ServerBusy, Detail: err.Error()}
	case fault.Is(err, fault.Unavailable):
		return nil, &packet.Error{Reason: packet.ServerUnavailable, Detail: err.Error()}
	case errors.Is(err, access.ErrCredentials):
		return nil, &packet.Error{Reason: packet.BadUserNameOrPassword, Detail: badCredentials(err)}
	}
	return nil, &packet.Error{Reason: packet.NotAuthorized, Detail: err.Error()}
}

// badCredentials is what a client is told whose login failed: of a token it may know why.
func badCredentials(err error) string {
	if err == access.ErrCredentials { //nolint:errorlint // one that says more wraps it
		return "bad user name or password"
	}
	return err.Error()
}

// owner is whose session it is: of who has proven who it is.
func (p *Principal) owner() string {
	if p.pass == nil || !p.pass.Proven() {
		return ""
	}
	return p.UserName
}

// known notes whose the connection is by what was proven, and refuses who may not be here. Errors: *packet.Error.
func (p *Principal) known() error {
	if p.pass == nil {
		return nil
	}
	if err := p.pass.Over(); err != nil {
		return &packet.Error{Reason: packet.NotAuthorized, Detail: err.Error()}
	}
	if p.UserName = p.pass.Who().User; p.UserName == rule.Anonymous {
		p.UserName = "" // a name that was not proven is none
	}
	return nil
}

// subject is a connection as rules know it.
func (c *conn) subject(who *Principal) rule.Subject {
	s := rule.Subject{User: who.UserName, ClientID: who.ClientID, Listener: c.listener.opt.Name, Protocol: "mqtt",
		Encrypted: c.encrypted, Address: c.address()}
	if c.peer != nil {
		s.CommonName, s.Certificate = c.peer.CommonName, c.peer
	}
	return s
}

// address is where the client comes from; zero: from a Unix socket.
func (c *conn) address() netip.Addr {
	at, err := netip.ParseAddrPort(c.wire.remote())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr()
}

// from tells how the client is here, for when it is gone.
func (p *Principal) from() string {
	if p.pass == nil {
		return ""
	}
	return p.pass.From()
}

// absent is a client that need not be there, by the user that it had, and by how it was here. What comes of no client
// the operator asked for.
func (d *Door) absent(client, user, from string) Principal {
	who := Principal{ClientID: client, UserName: user}
	if client == "" {
		who.operator = &audit.By{}
	}
	if d.opt.Logins != nil {
		if user == "" {
			user = rule.Anonymous
		}
		who.pass = d.opt.Logins.Recall(rule.Subject{User: user, ClientID: client}, from)
	}
	return who
}

// Unsure tells why nobody new is let in now: other nodes change who may come in, and that is not known. nil: it is.
func (d *Door) Unsure() error {
	if err := d.UnsureOfBans(); err != nil || d.opt.Logins == nil {
		return err
	}
	return d.opt.Logins.Unsure()
}

// Recheck ends the connections that may not be here any more: a user was removed, or has another password.
func (d *Door) Recheck() {
	for holder := range d.holders {
		if holder.isOver() {
			holder.disconnect(packet.NotAuthorized)
		}
	}
	d.followers.look()
}

// heedEnd has the connection end when the token of its client does.
func (c *conn) heedEnd() {
	pass := c.link.principal.pass
	if pass == nil || pass.Ends().IsZero() {
		return
	}
	if c.expiry == nil {
		c.expiry = time.AfterFunc(time.Hour, c.checkEnd)
	}
	c.expiry.Reset(time.Until(pass.Ends()))
}

// checkEnd is called when the token of the client should have ended: another clock may think it has not, and it may
// have shown another one.
func (c *conn) checkEnd() {
	defer c.rescue()
	if c.isOver() {
		c.disconnect(packet.NotAuthorized)
		return
	}
	c.expiry.Reset(max(time.Until(c.link.principal.pass.Ends()), 10*time.Millisecond))
}

// isOver tells whether the connection may not be here any more.
func (c *conn) isOver() bool {
	return c.link.principal.pass != nil && c.link.principal.pass.Over() != nil
}
