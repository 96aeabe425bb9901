package kafka

import (
	"context"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/kit/fault"
)

// TokenLogins judges tokens. *access.Access is one.
type TokenLogins interface {
	// Token tells what a token gives. Errors: access.ErrCredentials.
	Token(ctx context.Context, raw string) (*access.Grant, error)
}

// Bearer is the mechanism OAUTHBEARER (RFC 7628, KIP-255), for tokens. Its extensions are read and mean nothing.
func Bearer(logins TokenLogins) Mechanism { return bearerMechanism{logins} }

type bearerMechanism struct{ logins TokenLogins }

func (bearerMechanism) Name() string { return "OAUTHBEARER" }

func (bearerMechanism) Bare() bool { return true }

func (m bearerMechanism) Begin(Peer) Exchange { return &bearerExchange{logins: m.logins} }

type bearerExchange struct {
	logins TokenLogins
	failed error // the client was told, and has to ask for the end (RFC 7628, section 3.2.3)
}

func (e *bearerExchange) Step(ctx context.Context, message []byte) ([]byte, *Identity, error) {
	if e.failed != nil {
		return nil, nil, e.failed
	}
	said, err := credential.ParseBearer(message)
	if err != nil {
		return nil, nil, err
	}
	g, err := e.logins.Token(ctx, said.Token)
	if err == nil && said.User != "" && said.User != g.User {
		err = errOtherUser
	}
	if e.failed = err; e.failed == nil {
		return nil, byGrant(g), nil
	}
	return []byte(credential.InvalidToken), nil, nil
}

// errOtherUser refuses who says it is somebody else than its token does.
var errOtherUser = fault.New(fault.Denied, "kafka.authenticate", "the token is not of the user that the client says")

// byGrant is who a client is that has shown a token.
func byGrant(g *access.Grant) *Identity {
	who := user(g.User)
	who.Grant = g
	if !g.Ends.IsZero() {
		who.Lifetime = max(time.Until(g.Ends), time.Millisecond)
	}
	return who
}
