package kafka

import (
	"context"
	"slices"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeDelegationToken (41): v1-3.
//
// Behaviour
//   - Lists the delegation tokens that are good, with their HMACs: those that the client owns, has asked for or may
//     renew, and those that it may describe (DESCRIBE on DELEGATION_TOKEN, or DESCRIBE_TOKENS on the owner's USER).
//     With owners, those of them that concern one of these; with an empty list of owners none.
//   - DELEGATION_TOKEN_REQUEST_NOT_ALLOWED as CreateDelegationToken.
//
// Versions: 2 flexible, 3 tells who asked for a token.

// describeDelegationToken answers DescribeDelegationToken.
func (d *Door) describeDelegationToken(
	_ context.Context, c *conn, req *kmsg.DescribeDelegationTokenRequest,
) (*kmsg.DescribeDelegationTokenResponse, error) {
	resp := kmsg.NewPtrDescribeDelegationTokenResponse()
	if resp.ErrorCode = d.asksForTokens(c); resp.ErrorCode != wire.None {
		return resp, nil
	}
	for _, t := range d.opt.Delegations.List() {
		wanted := req.Owners == nil || slices.ContainsFunc(req.Owners,
			func(o kmsg.DescribeDelegationTokenRequestOwner) bool {
				return o.PrincipalType == userType && t.Concerns(o.PrincipalName)
			})
		if wanted && d.showsToken(c, t) {
			resp.TokenDetails = append(resp.TokenDetails, d.detailsOf(t))
		}
	}
	return resp, nil
}

// showsToken tells whether a client may see a delegation token.
func (d *Door) showsToken(c *conn, t *access.Delegation) bool {
	return t.Concerns(c.asking()) || d.sees(c, rule.Describe, rule.DelegationToken, t.ID) ||
		d.sees(c, rule.DescribeTokens, rule.User, tokensOf(t.Owner))
}

func (d *Door) detailsOf(t *access.Delegation) kmsg.DescribeDelegationTokenResponseTokenDetail {
	details := kmsg.DescribeDelegationTokenResponseTokenDetail{
		PrincipalType: userType, PrincipalName: t.Owner,
		TokenRequesterPrincipalType: userType, TokenRequesterPrincipalName: t.Requester,
		IssueTimestamp: t.Issued.UnixMilli(), ExpiryTimestamp: t.Ends.UnixMilli(), MaxTimestamp: t.Last.UnixMilli(),
		TokenID: t.ID, HMAC: d.opt.Delegations.HMAC(t),
	}
	for _, name := range t.Renewers {
		details.Renewers = append(details.Renewers,
			kmsg.DescribeDelegationTokenResponseTokenDetailRenewer{PrincipalType: userType, PrincipalName: name})
	}
	return details
}
