package kafka

import (
	"context"
	"crypto/rand"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// GetTelemetrySubscriptions (71): v0.
//
// Behaviour
//   - Every client is asked for the same few metrics once a minute, as deltas, of at most 1 MiB (KIP-714).
//   - A client without an instance id gets one. One that asks again before a minute is over is
//     THROTTLING_QUOTA_EXCEEDED, unless an error of its last push told it to ask.

// getTelemetrySubscriptions answers GetTelemetrySubscriptions.
func (d *Door) getTelemetrySubscriptions(
	_ context.Context, _ *conn, req *kmsg.GetTelemetrySubscriptionsRequest,
) (*kmsg.GetTelemetrySubscriptionsResponse, error) {
	resp := kmsg.NewPtrGetTelemetrySubscriptionsResponse()
	id := record.UUID(req.ClientInstanceID)
	for id == (record.UUID{}) || id == (record.UUID{15: 1}) { // 1 has a meaning in Kafka
		_, _ = rand.Read(id[:]) // it does not fail
	}
	resp.ClientInstanceID = id
	if resp.ErrorCode = d.clients.subscribe(id); resp.ErrorCode != wire.None {
		return resp, nil
	}
	resp.SubscriptionID, resp.AcceptedCompressionTypes = subscription, pushCodecs
	resp.PushIntervalMillis, resp.TelemetryMaxBytes = int32(pushInterval.Milliseconds()), pushBytes
	resp.DeltaTemporality, resp.RequestedMetrics = true, pushedMetrics
	return resp, nil
}
