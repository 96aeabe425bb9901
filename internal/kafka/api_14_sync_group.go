package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// SyncGroup, versions 0 to 5.
//
// The leader brings the assignment, the others block for it. It is given out when it is on stable
// storage, so that a restart does not take the group apart.
//
// Versions: 3 instance id (KIP-345); 4 flexible; 5 protocol type and name, which must be those of the
// group (KIP-559).
func (co *coordinator) syncGroup(
	ctx context.Context, c *conn, req *kmsg.SyncGroupRequest,
) (*kmsg.SyncGroupResponse, error) {
	if code := co.mayGroup(c, OpRead, req.Group); code != wire.None {
		return syncResponse(&group.SyncAnswer{Code: group.Code(code)}), nil
	}
	if req.Version >= 5 && (wire.Plain(req.ProtocolType) == "" || wire.Plain(req.Protocol) == "") {
		return syncResponse(&group.SyncAnswer{Code: group.InconsistentGroupProtocol}), nil
	}
	og := co.enter(req.Group, false)
	if og == nil {
		return syncResponse(&group.SyncAnswer{Code: group.UnknownMemberID}), nil
	}
	ticket, answer := og.blockLocked()
	sync := group.Sync{
		Ticket: ticket, Who: group.Who{MemberID: req.MemberID, InstanceID: wire.Plain(req.InstanceID)},
		Generation: req.Generation, ProtocolType: wire.Plain(req.ProtocolType), Protocol: wire.Plain(req.Protocol),
	}
	for i := range req.GroupAssignment {
		a := &req.GroupAssignment[i]
		sync.Assignments = append(sync.Assignments, group.Assignment{MemberID: a.MemberID, Data: a.MemberAssignment})
	}
	sync.Full = !co.reserveLocked(og, sync.Bytes())
	co.act(og, func(g membership) []group.Effect { return g.Sync(co.now(), sync) })
	e, err := co.await(ctx, og, ticket, answer)
	if err != nil {
		return nil, err
	}
	return syncResponse(e.Sync), nil
}

func syncResponse(a *group.SyncAnswer) *kmsg.SyncGroupResponse {
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ErrorCode, resp.MemberAssignment = wire.Code(a.Code), a.Assignment
	resp.ProtocolType, resp.Protocol = wire.Nullable(a.ProtocolType), wire.Nullable(a.Protocol)
	return resp
}
