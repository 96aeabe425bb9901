package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteGroups, versions 0 to 3.
//
// Only a group without members can be deleted. Its offsets go with it, in one atomic write that is on
// stable storage when the answer goes out; what a share group knows of its partitions goes before it, and what open
// transactions would commit goes too.
//
// Versions: 2 flexible, 3 a message with each error.
func (co *coordinator) deleteGroups(
	ctx context.Context, c *conn, req *kmsg.DeleteGroupsRequest,
) (*kmsg.DeleteGroupsResponse, error) {
	resp := kmsg.NewPtrDeleteGroupsResponse()
	for _, id := range req.Groups {
		one := kmsg.NewDeleteGroupsResponseGroup()
		one.Group = id
		if co.may(c, OpDelete, OnGroup, id) {
			one.ErrorCode = co.alter(ctx, c, alteration{action: "group.delete", on: groupOf(id), before: co.offsetsOf(id)},
				func() wire.Code { return co.deleteGroup(ctx, id) })
		} else {
			one.ErrorCode = wire.GroupAuthorizationFailed
		}
		one.ErrorMessage = wire.Nullable(deleteReasons[one.ErrorCode])
		resp.Groups = append(resp.Groups, one)
	}
	return resp, nil
}

// deleteGroup ends one group. A transaction that ends meanwhile may make it anew: then it is ended again.
func (co *coordinator) deleteGroup(ctx context.Context, id string) wire.Code {
	pending := len(co.txns.unstable(id)) > 0
	code := co.endGroup(ctx, id, pending)
	if code != wire.None || !pending {
		return code
	}
	if err := co.txns.forgetOffsets(ctx, id, func(string, int32) bool { return true }); err != nil {
		return fate(err)
	}
	if code = co.endGroup(ctx, id, false); code == wire.GroupIDNotFound {
		return wire.None
	}
	return code
}

// endGroup ends a group; create: also one that is not there yet.
func (co *coordinator) endGroup(ctx context.Context, id string, create bool) wire.Code {
	og := co.enter(id, create)
	if og == nil {
		return wire.GroupIDNotFound
	}
	if code := og.mu.g.Delete(co.now()); code != group.None {
		co.release(og)
		return wire.Code(code)
	}
	if _, is := og.mu.g.(*group.Share); is { // what it shares is gone before it is
		co.release(og)
		err := co.shares.forget(ctx, id, func(*sharePart) bool { return true })
		og.mu.Lock()
		if err != nil {
			og.mu.g.Revive(co.now())
			co.release(og)
			return fate(err)
		}
	}
	w := &groupWrite{og: og}
	og.endLocked(w)
	landed := co.landing(w)
	for key := range og.keysLocked() {
		w.offsets = append(w.offsets, offsetChange{key: key})
	}
	og.enqueueLocked(w)
	co.release(og)
	return fate(landed(ctx))
}

// deleteReasons are what a client is told with a code.
var deleteReasons = map[wire.Code]string{
	wire.GroupAuthorizationFailed: "The client is not authorized to delete the group.",
	wire.GroupIDNotFound:          "The group is not there.",
	wire.NonEmptyGroup:            "The group has members.",
	wire.CoordinatorNotAvailable:  "The end of the group could not be stored: try again.",
}
