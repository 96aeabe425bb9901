package kafka

import (
	"errors"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kafka/wire"
)

// What the four APIs of delegation tokens (KIP-48, KIP-373) have in common.

// userType is the type of the principals that there are.
const userType = "User"

// asksForTokens tells whether a client may ask for anything that is about delegation tokens: who it is was proven, and
// not by a token, for a token would never end that could make the next one.
func (d *Door) asksForTokens(c *conn) wire.Code {
	switch p := c.pass.Load(); {
	case p == nil || !p.MayDelegate():
		return wire.DelegationTokenRequestNotAllowed
	case d.opt.Delegations == nil:
		return wire.DelegationTokenAuthDisabled
	}
	return wire.None
}

// asking is the user who asks, whom asksForTokens has let through.
func (c *conn) asking() string { return c.pass.Load().Who().User }

// delegationCode is the code of an error of delegation tokens.
func delegationCode(err error) wire.Code {
	switch {
	case errors.Is(err, access.ErrNoDelegation):
		return wire.DelegationTokenNotFound
	case errors.Is(err, access.ErrDelegationEnded):
		return wire.DelegationTokenExpired
	case errors.Is(err, access.ErrNotRenewer):
		return wire.DelegationTokenOwnerMismatch
	}
	return createCode(err)
}

// lifeOf is a length of time of a request in milliseconds, as far as one can be.
func lifeOf(millis int64) time.Duration {
	return time.Duration(min(max(millis, -1), access.DelegationLife.Milliseconds())) * time.Millisecond
}

// tokensOf is the name of the resource User that rules about the tokens of a user are about.
func tokensOf(user string) string { return rule.UserPrefix + user }
