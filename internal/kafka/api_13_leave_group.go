package kafka

import (
	"cmp"
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// LeaveGroup, versions 0 to 5.
//
// Versions: 3 several members, each with an error of its own, and by instance id (KIP-345);
// 4 flexible; 5 reason (KIP-800).
func (co *coordinator) leaveGroup(
	ctx context.Context, c *conn, req *kmsg.LeaveGroupRequest, done func(*kmsg.LeaveGroupResponse),
) {
	resp := kmsg.NewPtrLeaveGroupResponse()
	defer func() { done(resp) }()
	if resp.ErrorCode = co.mayGroup(c, OpRead, req.Group); resp.ErrorCode != wire.None {
		return
	}
	whos, reason := []group.Who{{MemberID: req.MemberID}}, ""
	if req.Version >= 3 {
		whos = whos[:0]
		for i := range req.Members {
			m := &req.Members[i]
			whos = append(whos, group.Who{MemberID: m.MemberID, InstanceID: wire.Plain(m.InstanceID)})
			reason = wire.Plain(m.Reason)
		}
	}
	codes, code := co.remove(ctx, c, req.Group, whos, reason)
	if codes == nil {
		resp.ErrorCode = code
		return
	}
	if req.Version < 3 {
		resp.ErrorCode = wire.Code(codes[0])
		return
	}
	for i := range req.Members {
		m := kmsg.NewLeaveGroupResponseMember()
		m.MemberID, m.InstanceID, m.ErrorCode = req.Members[i].MemberID, req.Members[i].InstanceID, wire.Code(codes[i])
		resp.Members = append(resp.Members, m)
	}
}

// remove has members leave, and tells the audit first of those that others remove. No codes: it could not be told, and
// nobody has left.
func (co *coordinator) remove(
	ctx context.Context, c *conn, id string, whos []group.Who, reason string,
) (codes []group.Code, whole wire.Code) {
	a := co.removing(c, id, whos, reason)
	if a == nil {
		return co.leave(id, whos, reason), wire.None
	}
	whole = co.alter(ctx, c, *a, func() wire.Code {
		codes = co.leave(id, whos, reason)
		return wire.Code(cmp.Or(codes...))
	})
	return codes, whole
}

func (co *coordinator) leave(id string, whos []group.Who, reason string) []group.Code {
	og := co.enter(id, false)
	if og == nil {
		codes := make([]group.Code, len(whos))
		for i := range codes {
			codes[i] = group.UnknownMemberID
		}
		return codes
	}
	var codes []group.Code
	co.act(og, func(g membership) (effects []group.Effect) {
		codes, effects = g.Leave(co.now(), whos, reason)
		return effects
	})
	return codes
}
