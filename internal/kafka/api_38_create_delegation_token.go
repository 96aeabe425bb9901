package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateDelegationToken (38): v1-3.
//
// Behaviour
//   - Makes a token by which its owner logs in with SCRAM and tokenauth=true (KIP-48): the token's id is the user, its
//     HMAC in base64 the password. It ends after 24 h unless it is renewed, and after 7 days, or sooner if that is
//     asked for, whatever is done. The owner is who asks, or somebody else (KIP-373) whose tokens it may make
//     (CREATE_TOKENS on the resource USER).
//   - DELEGATION_TOKEN_REQUEST_NOT_ALLOWED for who has not proven who it is, or has by a token;
//     DELEGATION_TOKEN_AUTHORIZATION_FAILED; INVALID_PRINCIPAL_TYPE for an owner or renewer that is no User;
//     INVALID_REQUEST for a name that no user can have, or more than 100 renewers; POLICY_VIOLATION for more than 1,000
//     tokens of one requester.
//
// Versions: 2 flexible, 3 the owner.

// createDelegationToken answers CreateDelegationToken.
func (d *Door) createDelegationToken(
	ctx context.Context, c *conn, req *kmsg.CreateDelegationTokenRequest,
) (*kmsg.CreateDelegationTokenResponse, error) {
	resp := kmsg.NewPtrCreateDelegationTokenResponse()
	resp.PrincipalType, resp.TokenRequesterPrincipalType = userType, userType
	if resp.ErrorCode = d.asksForTokens(c); resp.ErrorCode != wire.None {
		return resp, nil
	}
	said := access.Delegation{Owner: c.asking(), Requester: c.asking()}
	ownerType := userType
	if req.OwnerPrincipalName != nil && *req.OwnerPrincipalName != "" {
		said.Owner, ownerType = *req.OwnerPrincipalName, ""
		if req.OwnerPrincipalType != nil {
			ownerType = *req.OwnerPrincipalType
		}
	}
	resp.PrincipalName, resp.TokenRequesterPrincipalName = said.Owner, said.Requester
	if resp.ErrorCode = d.mayMakeFor(c, ownerType, &said, req); resp.ErrorCode != wire.None {
		return resp, nil
	}
	made, err := d.opt.Delegations.Create(c.as(ctx), said, lifeOf(req.MaxLifetimeMillis))
	if err != nil {
		resp.ErrorCode = delegationCode(err)
		return resp, nil
	}
	resp.IssueTimestamp, resp.ExpiryTimestamp = made.Issued.UnixMilli(), made.Ends.UnixMilli()
	resp.MaxTimestamp, resp.TokenID, resp.HMAC = made.Last.UnixMilli(), made.ID, d.opt.Delegations.HMAC(made)
	return resp, nil
}

// mayMakeFor tells whether a client may make a token, and notes its renewers.
func (d *Door) mayMakeFor(
	c *conn, ownerType string, said *access.Delegation, req *kmsg.CreateDelegationTokenRequest,
) wire.Code {
	if ownerType != userType {
		return wire.InvalidPrincipalType
	}
	if said.Owner != said.Requester && !d.may(c, rule.CreateTokens, rule.User, tokensOf(said.Owner)) {
		return wire.DelegationTokenAuthorizationFailed
	}
	for _, r := range req.Renewers {
		if r.PrincipalType != userType {
			return wire.InvalidPrincipalType
		}
		said.Renewers = append(said.Renewers, r.PrincipalName)
	}
	return wire.None
}
