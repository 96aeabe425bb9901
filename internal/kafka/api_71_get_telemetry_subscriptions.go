package kafka

import (
	"context"
	"crypto/rand"
	"net"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// GetTelemetrySubscriptions (71): v0.
//
// Behaviour
//   - Every client is asked for the same few metrics once a minute, as deltas, of at most 1 MiB (KIP-714), unless there
//     are subscriptions: then for what those ask for that it matches (client_subscriptions.go).
//   - A client without an instance id gets one. One that asks again before the interval is over is
//     THROTTLING_QUOTA_EXCEEDED, unless an error of its last push told it to ask.

// getTelemetrySubscriptions answers GetTelemetrySubscriptions.
func (d *Door) getTelemetrySubscriptions(
	_ context.Context, c *conn, req *kmsg.GetTelemetrySubscriptionsRequest,
) (*kmsg.GetTelemetrySubscriptionsResponse, error) {
	resp := kmsg.NewPtrGetTelemetrySubscriptionsResponse()
	id := record.UUID(req.ClientInstanceID)
	for id == (record.UUID{}) || id == (record.UUID{15: 1}) { // 1 has a meaning in Kafka
		_, _ = rand.Read(id[:]) // it does not fail
	}
	resp.ClientInstanceID = id
	var want demand
	if want, resp.ErrorCode = d.clients.subscribe(c.pusher(id)); resp.ErrorCode != wire.None {
		return resp, nil
	}
	resp.SubscriptionID, resp.AcceptedCompressionTypes = want.id, pushCodecs
	resp.PushIntervalMillis, resp.TelemetryMaxBytes = int32(want.interval.Milliseconds()), pushBytes
	resp.DeltaTemporality, resp.RequestedMetrics = true, want.metrics
	return resp, nil
}

// pusher is who has connected.
func (c *conn) pusher(instance record.UUID) *pusher {
	who := &pusher{instance: instance, id: c.clientID, software: c.software, release: c.release}
	who.address, who.port, _ = net.SplitHostPort(c.nc.RemoteAddr().String())
	return who
}
