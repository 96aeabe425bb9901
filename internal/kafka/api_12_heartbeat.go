package kafka

import (
	"context"
	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Heartbeat, versions 0 to 4.
//
// Keeps a member's session alive; REBALANCE_IN_PROGRESS tells it to join again. It is heard at once, also behind
// requests of its connection that wait: a commit that waits for the disk, a fetch that waits for records.
//
// Versions: 3 instance id (KIP-345); 4 flexible.
func (co *coordinator) heartbeat(
	_ context.Context, c *conn, req *kmsg.HeartbeatRequest, done func(*kmsg.HeartbeatResponse),
) {
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.ErrorCode = co.hear(c, req)
	done(resp)
}

// hear keeps the session of a member alive and tells it what its group is about.
func (co *coordinator) hear(c *conn, req *kmsg.HeartbeatRequest) wire.Code {
	if code := co.mayGroup(c, OpRead, req.Group); code != wire.None {
		return code
	}
	og := co.enter(req.Group, false)
	if og == nil {
		return wire.UnknownMemberID
	}
	defer co.release(og)
	who := group.Who{MemberID: req.MemberID, InstanceID: wire.Plain(req.InstanceID)}
	return wire.Code(og.mu.g.Heartbeat(co.now(), who, req.Generation))
}
