package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// PushTelemetry (72): v0.
//
// Behaviour
//   - Takes the metrics of client_metrics.go and shows them in /metrics; others are passed over.
//   - Once an interval, and once more when the client ends: THROTTLING_QUOTA_EXCEEDED. INVALID_REQUEST without an
//     instance id and after the end, UNKNOWN_SUBSCRIPTION_ID, UNSUPPORTED_COMPRESSION_TYPE, TELEMETRY_TOO_LARGE above
//     1 MiB, INVALID_RECORD for what is no metrics.

// pushTelemetry answers PushTelemetry.
func (d *Door) pushTelemetry(
	_ context.Context, c *conn, req *kmsg.PushTelemetryRequest,
) (*kmsg.PushTelemetryResponse, error) {
	resp := kmsg.NewPtrPushTelemetryResponse()
	id := record.UUID(req.ClientInstanceID)
	if id == (record.UUID{}) || id == (record.UUID{15: 1}) {
		resp.ErrorCode = wire.InvalidRequest
		return resp, nil
	}
	resp.ErrorCode = d.clients.push(c.pusher(id), &pushed{
		subscription: req.SubscriptionID, codec: req.CompressionType, last: req.Terminating, metrics: req.Metrics,
	})
	return resp, nil
}
