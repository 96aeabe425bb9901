package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeGroups, versions 0 to 6.
//
// A group that is not there, or is of another kind, is Dead without an error, and from version 6 on GROUP_ID_NOT_FOUND
// (KIP-1043). Metadata and assignments are shown while they stand, in a stable group.
//
// Versions: 3 authorized operations (KIP-430); 4 instance ids; 5 flexible; 6 error message.
func (co *coordinator) describeGroups(
	_ context.Context, c *conn, req *kmsg.DescribeGroupsRequest,
) (*kmsg.DescribeGroupsResponse, error) {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	for _, id := range req.Groups {
		one := co.describeGroup(c, id, req.Version)
		if req.IncludeAuthorizedOperations && one.ErrorCode == wire.None {
			one.AuthorizedOperations = co.groupOperations(c, id)
		}
		resp.Groups = append(resp.Groups, one)
	}
	return resp, nil
}

func (co *coordinator) describeGroup(c *conn, id string, version int16) kmsg.DescribeGroupsResponseGroup {
	resp := kmsg.NewDescribeGroupsResponseGroup()
	resp.Group = id
	if !co.may(c, OpDescribe, OnGroup, id) {
		resp.ErrorCode = wire.GroupAuthorizationFailed
		return resp
	}
	d, why := group.Description{State: group.Dead}, "Group "+id+" not found."
	if og := co.enter(id, false); og != nil {
		if g, is := og.mu.g.(*group.Group); is {
			d = g.Describe()
		} else {
			why = "Group " + id + " is not a classic group."
		}
		co.release(og)
	}
	if d.State == group.Dead && version >= 6 {
		resp.ErrorCode, resp.ErrorMessage = wire.GroupIDNotFound, &why
	}
	resp.State, resp.ProtocolType, resp.Protocol = d.State.String(), d.ProtocolType, d.Protocol
	for i := range d.Members {
		m := kmsg.NewDescribeGroupsResponseGroupMember()
		m.MemberID, m.InstanceID = d.Members[i].ID, wire.Nullable(d.Members[i].InstanceID)
		m.ClientID, m.ClientHost = d.Members[i].ClientID, d.Members[i].ClientHost
		m.ProtocolMetadata, m.MemberAssignment = d.Members[i].Metadata, d.Members[i].Assignment
		resp.Members = append(resp.Members, m)
	}
	return resp
}

// groupOperations is what the client may do to a group: one bit for each operation, by its number.
func (co *coordinator) groupOperations(c *conn, id string) int32 {
	bits := int32(0)
	for _, op := range []Operation{OpRead, OpDelete, OpDescribe} {
		if co.sees(c, op, OnGroup, id) {
			bits |= 1 << op
		}
	}
	return bits
}
