package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeUserScramCredentials (50): v0.
//
// Behaviour
//   - Which mechanisms of SCRAM users have verifiers for, and of how many iterations (KIP-554); never a verifier. No
//     users, or null: all that have one.
//   - RESOURCE_NOT_FOUND for a user without one, DUPLICATE_RESOURCE for one that is named twice.

// describeUserScramCreds answers DescribeUserScramCredentials.
func (d *Door) describeUserScramCreds(
	_ context.Context, c *conn, req *kmsg.DescribeUserSCRAMCredentialsRequest,
) (*kmsg.DescribeUserSCRAMCredentialsResponse, error) {
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	if err := d.mayCredentials(c, OpDescribe); err != nil {
		resp.ErrorCode, resp.ErrorMessage = createCode(err), new(err.Error())
		return resp, nil
	}
	if len(req.Users) == 0 {
		for _, name := range d.opt.Credentials.Names() {
			if infos := d.scramInfos(name); len(infos) > 0 {
				resp.Results = append(resp.Results, kmsg.DescribeUserSCRAMCredentialsResponseResult{
					User: name, CredentialInfos: infos,
				})
			}
		}
		return resp, nil
	}
	times := map[string]int{}
	for _, u := range req.Users {
		times[u.Name]++
	}
	for _, u := range req.Users {
		n := times[u.Name]
		delete(times, u.Name)
		result := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		result.User = u.Name
		switch {
		case n == 0: // was answered
			continue
		case n > 1:
			result.ErrorCode, result.ErrorMessage = wire.DuplicateResource, new("the user is named more than once")
		default:
			if result.CredentialInfos = d.scramInfos(u.Name); len(result.CredentialInfos) == 0 {
				result.ErrorCode, result.ErrorMessage = wire.ResourceNotFound, new("the user has no credential of SCRAM")
			}
		}
		resp.Results = append(resp.Results, result)
	}
	return resp, nil
}

// scramInfos tells what verifiers a user has.
func (d *Door) scramInfos(name string) (infos []kmsg.DescribeUserSCRAMCredentialsResponseResultCredentialInfo) {
	v, is := d.opt.Credentials.Lookup(name)
	if !is {
		return nil
	}
	for _, m := range credential.Mechanisms() {
		if s := v.SCRAM(m); !s.IsZero() {
			infos = append(infos, kmsg.DescribeUserSCRAMCredentialsResponseResultCredentialInfo{
				Mechanism: int8(m), Iterations: int32(s.Iterations()),
			})
		}
	}
	return infos
}

// mayCredentials tells why a client may not look at, or change, the credentials of users. Errors: coded.
func (d *Door) mayCredentials(c *conn, op Operation) error {
	switch {
	case !d.may(c, op, OnCluster, ClusterResource):
		return refusal(wire.ClusterAuthorizationFailed, "the client may not manage the credentials of users")
	case d.opt.Credentials == nil:
		return refusal(wire.SecurityDisabled, "there are no users here")
	}
	return nil
}
