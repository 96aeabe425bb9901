package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ExpireDelegationToken (40): v1-2.
//
// Behaviour
//   - Has a delegation token end after so many milliseconds, never behind its last end; with fewer than 0 it is gone,
//     and its connections with it, before this is answered. A connection that logged in by it ends with it, also where
//     it had been told that it may stay longer.
//   - Errors as of RenewDelegationToken.
//
// Versions: 2 flexible.

// expireDelegationToken answers ExpireDelegationToken.
func (d *Door) expireDelegationToken(
	ctx context.Context, c *conn, req *kmsg.ExpireDelegationTokenRequest,
) (*kmsg.ExpireDelegationTokenResponse, error) {
	resp := kmsg.NewPtrExpireDelegationTokenResponse()
	if resp.ErrorCode = d.asksForTokens(c); resp.ErrorCode != wire.None {
		return resp, nil
	}
	ends, err := d.opt.Delegations.Expire(c.as(ctx), req.HMAC, c.asking(), lifeOf(req.ExpiryPeriodMillis))
	if resp.ErrorCode = delegationCode(err); err == nil {
		resp.ExpiryTimestamp = ends.UnixMilli()
	}
	return resp, nil
}
