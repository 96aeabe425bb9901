package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// SaslAuthenticate (36): v0-2.
//
// Behaviour
//   - Carries one message of the mechanism that SaslHandshake named, and the mechanism's answer.
//   - SASL_AUTHENTICATION_FAILED, after a tenth of a second, ends the connection. It does not say what was wrong.
//   - REQUEST_TIMED_OUT ends it, too: too many logins wait, or who knows the user does not answer. Clients try again.
//   - ILLEGAL_SASL_STATE: no SaslHandshake came before. It ends a connection that has to authenticate.
//
// Versions: 1 tells for how long the connection is served before it has to authenticate again (KIP-368), 2 flexible.

// saslAuthenticate answers SaslAuthenticate.
func (d *Door) saslAuthenticate(
	ctx context.Context, c *conn, req *kmsg.SASLAuthenticateRequest,
) (*kmsg.SASLAuthenticateResponse, error) {
	resp := kmsg.NewPtrSASLAuthenticateResponse()
	if c.login.exchange == nil {
		resp.ErrorCode, resp.ErrorMessage = wire.IllegalSaslState, new("SaslHandshake has to come first")
		c.login.over = c.login.required && !c.login.known
		return resp, nil
	}
	answer, code := c.step(ctx, req.SASLAuthBytes)
	switch code {
	case wire.None:
	case wire.RequestTimedOut:
		resp.ErrorCode, resp.ErrorMessage = code, new("it cannot be found out now who you are, try again")
		return resp, nil
	default:
		resp.ErrorCode = code
		resp.ErrorMessage = new("authentication failed: invalid credentials with SASL mechanism " +
			c.login.mechanism.Name())
		return resp, nil
	}
	resp.SASLAuthBytes, resp.SessionLifetimeMillis = answer, c.lifetime()
	return resp, nil
}
