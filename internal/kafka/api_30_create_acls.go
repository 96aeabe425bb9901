package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateAcls (30): v1-3.
//
// Behaviour
//   - Each entry becomes a rule of the access room, in force for both doors when it is answered. All that are
//     well-formed are stored in one commit; one that is there already is no error.
//   - INVALID_REQUEST for a principal other than User:, Group: and Role:NAME, a host other than * and an address, an
//     operation that its resource does not have, and a cluster by another name.
//   - CLUSTER_AUTHORIZATION_FAILED without the right to alter the cluster.
//
// Versions: 1 prefixed patterns (KIP-290), 2 flexible, 3 the resource type User (KIP-373).

// createACLs answers CreateAcls.
func (d *Door) createACLs(
	ctx context.Context, c *conn, req *kmsg.CreateACLsRequest,
) (*kmsg.CreateACLsResponse, error) {
	resp := kmsg.NewPtrCreateACLsResponse()
	denied := d.mayRules(c, OpAlter)
	var rules []rule.Rule
	made := make([]error, len(req.Creations))
	for i := range req.Creations {
		it := &req.Creations[i]
		a := acl{
			resource: rule.Resource{Kind: rule.Kind(it.ResourceType), Pattern: rule.Pattern(it.ResourcePatternType),
				Name: it.ResourceName},
			principal: it.Principal, host: it.Host, operation: Operation(it.Operation), effect: rule.Effect(it.PermissionType),
		}
		if made[i] = denied; denied != nil {
			continue
		}
		r, err := a.rule()
		if made[i] = err; err == nil {
			rules = append(rules, r)
		}
	}
	var stored error
	if len(rules) > 0 {
		stored = d.opt.Rules.Edit(c.as(ctx), func(*access.Catalog) (*access.Change, error) {
			return &access.Change{Rules: rules}, nil
		})
	}
	for _, err := range made {
		result := kmsg.NewCreateACLsResponseResult()
		if err == nil {
			err = stored
		}
		if err != nil {
			result.ErrorCode, result.ErrorMessage = createCode(err), new(err.Error())
		}
		resp.Results = append(resp.Results, result)
	}
	return resp, nil
}
