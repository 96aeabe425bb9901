package mqtt

import (
	"context"
	"net/netip"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TokenLogins judges tokens. *access.Access is one.
type TokenLogins interface {
	// Token tells what a token gives. Errors: access.ErrCredentials.
	Token(ctx context.Context, raw string) (*access.Grant, error)
}

// Bearer is the method of enhanced authentication OAUTHBEARER (RFC 7628): a client that authenticates again in time,
// with a newer token, stays connected when the first has ended. Its data is a message of RFC 7628, or the token alone.
func Bearer(logins TokenLogins) map[string]Mechanism {
	return map[string]Mechanism{"OAUTHBEARER": bearer{logins}}
}

type bearer struct{ logins TokenLogins }

// Begin begins an exchange (Mechanism).
func (m bearer) Begin(who *Principal, _ netip.Addr) Exchange { return &bearerExchange{m.logins, who} }

type bearerExchange struct {
	logins TokenLogins
	who    *Principal
}

// Step takes the token (Exchange).
func (e *bearerExchange) Step(ctx context.Context, data []byte) (answer []byte, done bool, err error) {
	said := credential.Bearer{Token: string(data)}
	if len(data) > 1 && data[1] == ',' { // the header of GS2; a token has none
		if said, err = credential.ParseBearer(data); err != nil {
			return nil, false, &packet.Error{Reason: packet.NotAuthorized, Detail: err.Error()}
		}
	}
	g, err := e.logins.Token(ctx, said.Token)
	switch {
	case err != nil:
		return nil, false, &packet.Error{Reason: packet.NotAuthorized, Detail: err.Error()}
	case said.User != "" && said.User != g.User, !g.Fits(e.who.UserName):
		return nil, false, &packet.Error{Reason: packet.NotAuthorized,
			Detail: "the client authenticates as another user than it said"}
	}
	e.who.UserName, e.who.grant = g.User, g
	return nil, true, nil
}
