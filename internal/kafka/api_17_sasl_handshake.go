package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// SaslHandshake (17): v0-1.
//
// Behaviour
//   - Begins to authenticate by a mechanism. One that is not offered is UNSUPPORTED_SASL_MECHANISM with the list of
//     those that are, which is empty where nobody can authenticate; where the listener demands it, the connection ends.
//     PLAIN and OAUTHBEARER are not offered without TLS to other machines, unless the operator says so.
//   - ILLEGAL_SASL_STATE: in the middle of an authentication; on a connection that has authenticated and need not do so
//     again, or does so with another mechanism, or twice in a second (KIP-368).
//
// Versions: behind 0 the messages of the mechanism come as they are, behind 1 in SaslAuthenticate.

// saslHandshake answers SaslHandshake.
func (d *Door) saslHandshake(
	_ context.Context, c *conn, req *kmsg.SASLHandshakeRequest,
) (*kmsg.SASLHandshakeResponse, error) {
	resp := kmsg.NewPtrSASLHandshakeResponse()
	resp.ErrorCode = c.handshake(req.Mechanism, req.GetVersion())
	for _, m := range c.mechanisms() {
		resp.SupportedMechanisms = append(resp.SupportedMechanisms, m.Name())
	}
	return resp, nil
}
