package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Heartbeat, versions 0 to 4.
//
// Keeps a member's session alive; REBALANCE_IN_PROGRESS tells it to join again.
//
// Versions: 3 instance id (KIP-345); 4 flexible.
func (co *coordinator) heartbeat(
	_ context.Context, c *conn, req *kmsg.HeartbeatRequest,
) (*kmsg.HeartbeatResponse, error) {
	resp := kmsg.NewPtrHeartbeatResponse()
	if resp.ErrorCode = co.mayGroup(c, OpRead, req.Group); resp.ErrorCode != wire.None {
		return resp, nil
	}
	og := co.enter(req.Group, false)
	if og == nil {
		resp.ErrorCode = wire.UnknownMemberID
		return resp, nil
	}
	who := group.Who{MemberID: req.MemberID, InstanceID: wire.Plain(req.InstanceID)}
	resp.ErrorCode = wire.Code(og.mu.g.Heartbeat(co.now(), who, req.Generation))
	co.release(og)
	return resp, nil
}
