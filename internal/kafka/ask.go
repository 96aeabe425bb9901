package kafka

import (
	"cmp"
	"context"
	"encoding/binary"
	"io"
	"net"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Guest is who asks the door without a connection of Kafka: by HTTP.
type Guest struct {
	Pass     *access.Pass // nil: the operator, who may do everything
	By       audit.By     // the operator, as the audit has it
	Listener string       // that it came by
}

// guestConn is the connection of a guest: a pipe.
type guestConn struct {
	net.Conn
	guest Guest
}

// RemoteAddr is where the guest comes from.
func (c *guestConn) RemoteAddr() net.Addr {
	by := c.guest.By
	if c.guest.Pass != nil {
		by = c.guest.Pass.By()
	}
	return guestAddr(cmp.Or(by.Origin.Address, "local"))
}

// guestAddr is an address without a port.
type guestAddr string

// Network implements net.Addr.
func (guestAddr) Network() string { return "pipe" }

// String implements net.Addr.
func (a guestAddr) String() string { return string(a) }

// welcome notes who a guest is: it was let in elsewhere, which the audit was told of there.
func (c *conn) welcome(g *Guest) {
	if g.Pass == nil {
		c.operator, c.principal = true, g.By.Actor.Principal
		return
	}
	c.principal = rule.UserPrefix + g.Pass.Who().User
	c.pass.Store(g.Pass)
}

const (
	// guestClient is the client id of guests.
	guestClient = "firth-api"
	// guestThrottle bounds for how long a guest waits that is beyond its quota.
	guestThrottle = 10 * time.Second
)

// ask has a request of a guest answered as one that comes by a connection is: the rights, the quotas and the audit are
// the same. Who is beyond its quota waits. Errors: Closed; Timeout; Internal.
func (d *Door) ask(ctx context.Context, g *Guest, req kmsg.Request) (kmsg.Response, error) {
	const op = "kafka.ask"
	select {
	case <-d.running:
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Timeout, op, ctx.Err())
	}
	near, far := net.Pipe()
	defer near.Close()
	c := d.enter(&guestConn{far, *g}, way{cmp.Or(g.Listener, "http"), false})
	if c == nil {
		return nil, fault.New(fault.Unavailable, op, "there are too many connections, or the server shuts down")
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		d.serve(ctx, c)
	}()
	stop := context.AfterFunc(ctx, func() { _ = near.Close() })
	resp, err := converse(near, req)
	stop()
	_ = near.Close()
	<-served
	switch {
	case ctx.Err() != nil:
		return nil, fault.Wrap(fault.Timeout, op, ctx.Err())
	case err != nil:
		return nil, fault.New(fault.Unavailable, op, "the request was not answered: %w", err)
	}
	if slow, is := resp.(kmsg.ThrottleResponse); is {
		if millis, _ := slow.Throttle(); millis > 0 {
			_ = clock.Pause(ctx, min(time.Duration(millis)*time.Millisecond, guestThrottle))
		}
	}
	return resp, nil
}

// converse sends a request and reads its answer.
func converse(nc net.Conn, req kmsg.Request) (kmsg.Response, error) {
	format := kmsg.NewRequestFormatter(kmsg.FormatterClientID(guestClient))
	if _, err := nc.Write(format.AppendRequest(nil, req, 1)); err != nil {
		return nil, err
	}
	var size [wire.SizeLen]byte
	if _, err := io.ReadFull(nc, size[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(nc, body); err != nil {
		return nil, err
	}
	const idLen = 4
	head := idLen
	if req.IsFlexible() {
		head++ // no tags are in its header
	}
	if len(body) < head {
		return nil, io.ErrUnexpectedEOF
	}
	resp := req.ResponseKind()
	return resp, resp.ReadFrom(body[head:])
}

// guestKinds are the kinds of error codes that guests are refused with; that of others is Internal.
func guestKind(code wire.Code) fault.Kind {
	switch code {
	case wire.TopicAuthorizationFailed, wire.GroupAuthorizationFailed, wire.ClusterAuthorizationFailed:
		return fault.Denied
	case wire.UnknownTopicOrPartition, wire.GroupIDNotFound, wire.UnknownTopicID:
		return fault.NotFound
	case wire.TopicAlreadyExists, wire.NonEmptyGroup, wire.UnknownMemberID, wire.GroupSubscribedToTopic:
		return fault.Exists
	case wire.OffsetOutOfRange:
		return fault.OutOfRange
	case wire.MessageTooLarge, wire.RecordListTooLarge:
		return fault.TooLarge
	case wire.InvalidTopic, wire.InvalidPartitions, wire.InvalidConfig, wire.InvalidRequest, wire.InvalidRecord,
		wire.InvalidTimestamp, wire.InvalidReplicationFactor, wire.InvalidGroupID, wire.CorruptMessage,
		wire.PolicyViolation:
		return fault.Invalid
	case wire.ThrottlingQuotaExceeded:
		return fault.Limited
	case wire.UnsupportedVersion, wire.UnsupportedForMessageFormat, wire.UnsupportedCompressionType:
		return fault.Unsupported
	case wire.KafkaStorageError, wire.NotLeaderOrFollower, wire.RequestTimedOut, wire.CoordinatorNotAvailable,
		wire.CoordinatorLoadInProgress, wire.NotCoordinator:
		return fault.Unavailable
	}
	return fault.Internal
}

// guestError is the error of a code, with what the door has said of it; nil for None.
func guestError(op string, code wire.Code, said *string) error {
	if code == wire.None {
		return nil
	}
	text := guestWords[code]
	if said != nil && *said != "" {
		text = *said
	}
	return fault.New(guestKind(code), op, "%s", cmp.Or(text, "it is refused"))
}

// guestWords say what a code means where the door says no more.
var guestWords = map[wire.Code]string{
	wire.TopicAuthorizationFailed: "the rights to the topic are not enough",
	wire.GroupAuthorizationFailed: "the rights to the group are not enough",
	wire.ClusterAuthorizationFailed: "records that are younger than firth.retention.floor.ms are deleted by " +
		"who may alter the cluster only",
	wire.UnknownTopicOrPartition: "there is no such topic or partition",
	wire.GroupIDNotFound:         "there is no such group",
	wire.NonEmptyGroup:           "the group has members",
	wire.UnknownMemberID:         "the group has members: only they move it",
	wire.OffsetOutOfRange:        "the offset is behind the end of the partition",
	wire.InvalidTopic:            "the topic belongs to the log itself",
	wire.PolicyViolation:         "the settings of the topic do not let it be done",
	wire.KafkaStorageError:       "it could not be stored",
}
