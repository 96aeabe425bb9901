package kafka

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListGroups, versions 0 to 5.
//
// Versions: 3 flexible; 4 states, and a filter by state (KIP-518); 5 types, and a filter by type
// (KIP-848). Filters do not look at upper and lower case.
func (co *coordinator) listGroups(
	_ context.Context, c *conn, req *kmsg.ListGroupsRequest,
) (*kmsg.ListGroupsResponse, error) {
	resp := kmsg.NewPtrListGroupsResponse()
	all := co.sees(c, OpDescribe, OnCluster, ClusterResource)
	for _, og := range co.owned() {
		if !all && !co.sees(c, OpDescribe, OnGroup, og.id) {
			continue
		}
		og.mu.Lock()
		one := kmsg.NewListGroupsResponseGroup()
		one.Group, one.ProtocolType = og.id, og.mu.g.ProtocolType()
		one.GroupState, one.GroupType = og.mu.g.StateName(), groupType(og.mu.g)
		gone := og.mu.forgotten || og.mu.g.IsDead()
		og.mu.Unlock()
		if gone || !passes(req.StatesFilter, one.GroupState) || !passes(req.TypesFilter, one.GroupType) {
			continue
		}
		resp.Groups = append(resp.Groups, one)
	}
	slices.SortFunc(resp.Groups, func(a, b kmsg.ListGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
	return resp, nil
}

func passes(filter []string, value string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, value) })
}
