package kafka

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeAcls (29): v1-3.
//
// Behaviour
//   - Rules of the access room as Kafka has them: one entry for each operation and address. A rule about names of
//     devices is shown as one about the topic of the log that holds them, where that is what it is for who reads or
//     writes the topic: one that allows all that it can hold, or denies some of it. Other rules about names, and those
//     with conditions that Kafka does not know (a listener, TLS, a client, a network of more than one address), are
//     not shown: firth acl list has them.
//   - CLUSTER_AUTHORIZATION_FAILED without the right to describe the cluster.
//
// Versions: 1 prefixed patterns (KIP-290), 2 flexible, 3 the resource type User (KIP-373).

// describeACLs answers DescribeAcls.
func (d *Door) describeACLs(
	_ context.Context, c *conn, req *kmsg.DescribeACLsRequest,
) (*kmsg.DescribeACLsResponse, error) {
	resp := kmsg.NewPtrDescribeACLsResponse()
	f := aclFilter{req.ResourceType, req.ResourceName, req.ResourcePatternType, req.Principal, req.Host, req.Operation,
		req.PermissionType}
	err := d.mayRules(c, OpDescribe)
	if err == nil {
		err = f.check()
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = createCode(err), new(err.Error())
		return resp, nil
	}
	var all []acl
	catalog := d.opt.Rules.Catalog()
	rules := catalog.Rules()
	for i := range rules {
		for _, a := range append(aclsOf(&rules[i]), onTopics(catalog, &rules[i])...) {
			if f.matches(&a) {
				all = append(all, a)
			}
		}
	}
	slices.SortFunc(all, compareACLs)
	for i := range slices.Compact(all) {
		a := &all[i]
		if i == 0 || all[i-1].resource != a.resource {
			r := kmsg.NewDescribeACLsResponseResource()
			r.ResourceType, r.ResourceName = kmsg.ACLResourceType(a.resource.Kind), a.resource.Name
			r.ResourcePatternType = kmsg.ACLResourcePatternType(a.resource.Pattern)
			resp.Resources = append(resp.Resources, r)
		}
		one := kmsg.NewDescribeACLsResponseResourceACL()
		one.Principal, one.Host = a.principal, a.host
		one.Operation, one.PermissionType = kmsg.ACLOperation(a.operation), kmsg.ACLPermissionType(a.effect)
		last := &resp.Resources[len(resp.Resources)-1]
		last.ACLs = append(last.ACLs, one)
	}
	return resp, nil
}
