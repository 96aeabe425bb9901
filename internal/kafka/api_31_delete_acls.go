package kafka

import (
	"context"
	"slices"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteAcls (31): v1-3.
//
// Behaviour
//   - Removes what each filter means, and tells what that was. Of a rule with several operations only those go that a
//     filter means. Rules about names of devices stay, and those that DescribeAcls does not show. All of a request is
//     one commit.
//   - INVALID_REQUEST for a filter that means only what DescribeAcls shows of rules about names of devices; it says
//     which command removes them.
//   - CLUSTER_AUTHORIZATION_FAILED without the right to alter the cluster.
//
// Versions: 1 prefixed patterns (KIP-290), 2 flexible, 3 the resource type User (KIP-373).

// deleteACLs answers DeleteAcls.
func (d *Door) deleteACLs(
	ctx context.Context, c *conn, req *kmsg.DeleteACLsRequest,
) (*kmsg.DeleteACLsResponse, error) {
	resp := kmsg.NewPtrDeleteACLsResponse()
	denied := d.mayRules(c, OpAlter)
	gone := make([][]acl, len(req.Filters))
	wrong := make([]error, len(req.Filters))
	var stored error
	if denied == nil {
		stored = d.opt.Rules.Edit(c.as(ctx), func(all *access.Catalog) (*access.Change, error) {
			return deleteFrom(all, req.Filters, gone, wrong), nil
		})
	}
	for i := range req.Filters {
		result := kmsg.NewDeleteACLsResponseResult()
		for _, err := range []error{denied, wrong[i], stored} {
			if err != nil && result.ErrorCode == 0 {
				result.ErrorCode, result.ErrorMessage = createCode(err), new(err.Error())
			}
		}
		if result.ErrorCode == 0 {
			result.MatchingACLs = matching(gone[i])
		}
		resp.Results = append(resp.Results, result)
	}
	return resp, nil
}

// deleteFrom finds what filters mean, and the change that removes it; nil: nothing is to be changed.
func deleteFrom(
	all *access.Catalog, filters []kmsg.DeleteACLsRequestFilter, gone [][]acl, wrong []error,
) *access.Change {
	first := all.Rules()
	rules := slices.Clone(first)
	for i := range filters {
		it := &filters[i]
		f := aclFilter{it.ResourceType, it.ResourceName, it.ResourcePatternType, it.Principal, it.Host, it.Operation,
			it.PermissionType}
		if wrong[i] = f.check(); wrong[i] != nil {
			continue
		}
		var next []rule.Rule
		for j := range rules {
			kept, lost := without(&rules[j], &f)
			if len(lost) == 0 {
				kept = rules[j : j+1]
			}
			next, gone[i] = append(next, kept...), append(gone[i], lost...)
		}
		rules = next
		if len(gone[i]) == 0 {
			wrong[i] = ofNames(all, rules, &f)
		}
		slices.SortFunc(gone[i], compareACLs)
	}
	change := &access.Change{}
	before, after := idsOf(first), idsOf(rules)
	for id := range before {
		if _, stays := after[id]; !stays {
			change.Removed = append(change.Removed, id)
		}
	}
	for id, r := range after {
		if _, was := before[id]; !was {
			change.Rules = append(change.Rules, r)
		}
	}
	if len(change.Removed) == 0 && len(change.Rules) == 0 {
		return nil
	}
	return change
}

// ofNames refuses a filter that means rules about names of devices. Errors: coded.
func ofNames(all *access.Catalog, rules []rule.Rule, f *aclFilter) error {
	for i := range rules {
		for _, a := range onTopics(all, &rules[i]) {
			if f.matches(&a) {
				return refusal(wire.InvalidRequest, "this is of a rule about names of devices, %s: firth acl remove %s",
					rules[i].String(), rules[i].ID())
			}
		}
	}
	return nil
}

func idsOf(rules []rule.Rule) map[string]rule.Rule {
	ids := make(map[string]rule.Rule, len(rules))
	for i := range rules {
		ids[rules[i].ID()] = rules[i]
	}
	return ids
}

func matching(gone []acl) (list []kmsg.DeleteACLsResponseResultMatchingACL) {
	for _, a := range slices.Compact(gone) {
		one := kmsg.NewDeleteACLsResponseResultMatchingACL()
		one.ResourceType, one.ResourceName = kmsg.ACLResourceType(a.resource.Kind), a.resource.Name
		one.ResourcePatternType = kmsg.ACLResourcePatternType(a.resource.Pattern)
		one.Principal, one.Host = a.principal, a.host
		one.Operation, one.PermissionType = kmsg.ACLOperation(a.operation), kmsg.ACLPermissionType(a.effect)
		list = append(list, one)
	}
	return list
}
