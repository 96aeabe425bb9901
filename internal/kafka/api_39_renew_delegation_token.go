package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// RenewDelegationToken (39): v1-2.
//
// Behaviour
//   - Has a delegation token end later: after what is asked for, after 24 h at most and if nothing is, and never behind
//     its last end. A connection that logged in by it before ends when it was told to, unless it authenticates again
//     (KIP-368).
//   - DELEGATION_TOKEN_NOT_FOUND, DELEGATION_TOKEN_EXPIRED, and DELEGATION_TOKEN_OWNER_MISMATCH for who is neither the
//     owner nor a renewer; DELEGATION_TOKEN_REQUEST_NOT_ALLOWED as CreateDelegationToken.
//
// Versions: 2 flexible.

// renewDelegationToken answers RenewDelegationToken.
func (d *Door) renewDelegationToken(
	ctx context.Context, c *conn, req *kmsg.RenewDelegationTokenRequest,
) (*kmsg.RenewDelegationTokenResponse, error) {
	resp := kmsg.NewPtrRenewDelegationTokenResponse()
	if resp.ErrorCode = d.asksForTokens(c); resp.ErrorCode != wire.None {
		return resp, nil
	}
	ends, err := d.opt.Delegations.Renew(c.as(ctx), req.HMAC, c.asking(), lifeOf(req.RenewTimeMillis))
	if resp.ErrorCode = delegationCode(err); err == nil {
		resp.ExpiryTimestamp = ends.UnixMilli()
	}
	return resp, nil
}
