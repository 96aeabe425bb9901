package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// JoinGroup, versions 0 to 9.
//
// Blocks until the next generation of the group is made. Types of group other than "consumer" (Kafka
// Connect) are the same to us: metadata is opaque. What its connection asks for after it waits, as at Kafka, which
// serves one request of a connection at a time; clients send their heartbeats once they have joined.
//
// Versions: 1 rebalance timeout; 4 a new member is told its id first (KIP-394); 5 instance id
// (KIP-345); 6 flexible; 7 protocol type in the answer; 8 reason (KIP-800); 9 SkipAssignment (KIP-814).
func (co *coordinator) joinGroup(
	ctx context.Context, c *conn, req *kmsg.JoinGroupRequest,
) (*kmsg.JoinGroupResponse, error) {
	if code := co.mayGroup(c, OpRead, req.Group); code != wire.None {
		return refuseJoin(req, code), nil
	}
	og := co.enter(req.Group, req.MemberID == "")
	if og == nil {
		if req.MemberID == "" {
			return refuseJoin(req, wire.CoordinatorNotAvailable), nil // too many groups
		}
		return refuseJoin(req, wire.UnknownMemberID), nil
	}
	ticket, answer := og.blockLocked()
	join := joinOf(c, req)
	join.Ticket = ticket
	join.Full = !co.reserveLocked(og, join.Bytes())
	co.act(og, func(membership) []group.Effect { return co.joinLocked(og, &join) })
	e, err := co.await(ctx, og, ticket, answer)
	if err != nil {
		return nil, err
	}
	return joinResponse(e.Join), nil
}

func joinOf(c *conn, req *kmsg.JoinGroupRequest) group.Join {
	j := group.Join{
		Who:      group.Who{MemberID: req.MemberID, InstanceID: wire.Plain(req.InstanceID)},
		ClientID: bounded(c.clientID), ClientHost: bounded(c.host), ProtocolType: req.ProtocolType,
		Session: int64(req.SessionTimeoutMillis), Rebalance: int64(req.RebalanceTimeoutMillis),
		Reason: wire.Plain(req.Reason), CanSkip: req.Version >= 9,
	}
	if req.Version == 0 {
		j.Rebalance = j.Session
	}
	j.RequireID = req.Version >= 4 && j.Who.InstanceID == ""
	prefix := c.clientID
	if j.Who.InstanceID != "" {
		prefix = j.Who.InstanceID
	}
	j.NewID = newMemberID(prefix)
	for i := range req.Protocols {
		j.Protocols = append(j.Protocols, group.Protocol{Name: req.Protocols[i].Name, Metadata: req.Protocols[i].Metadata})
	}
	return j
}

func refuseJoin(req *kmsg.JoinGroupRequest, code wire.Code) *kmsg.JoinGroupResponse {
	return joinResponse(&group.JoinAnswer{Code: group.Code(code), MemberID: req.MemberID, Generation: -1})
}

func joinResponse(a *group.JoinAnswer) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.ErrorCode, resp.MemberID, resp.Generation = wire.Code(a.Code), a.MemberID, a.Generation
	resp.ProtocolType, resp.Protocol = wire.Nullable(a.ProtocolType), wire.Nullable(a.Protocol)
	resp.LeaderID, resp.SkipAssignment = a.Leader, a.SkipAssignment
	for i := range a.Members {
		m := kmsg.NewJoinGroupResponseMember()
		m.MemberID, m.InstanceID = a.Members[i].ID, wire.Nullable(a.Members[i].InstanceID)
		m.ProtocolMetadata = a.Members[i].Metadata
		resp.Members = append(resp.Members, m)
	}
	return resp
}
