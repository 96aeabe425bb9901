package node

import (
	"context"
	"time"

	"github.com/firthmq/firth/internal/api"
)

// The metrics of the last hour, for who has no Prometheus: twelve families, 360 times, some 50 KB.

const (
	hourStep    = 10 * time.Second
	hourMoments = int(time.Hour / hourStep)
)

// ofTheHour are the families that are remembered.
func ofTheHour() []string {
	return []string{
		"firth_mqtt_connections", "firth_mqtt_subscriptions", "firth_mqtt_messages_received_total",
		"firth_mqtt_messages_sent_total", "firth_mqtt_messages_dropped_total", "firth_mqtt_fanout_dropped_total",
		"firth_kafka_connections", "firth_kafka_batches_produced_total", "firth_kafka_sent_bytes_total",
		"firth_log_append_bytes_total", "firth_log_topics", "firth_log_disk_free_bytes",
	}
}

// rememberMetrics has them be looked at as long as the node serves.
func (n *Node) rememberMetrics() {
	n.hour = n.metrics.Keep(ofTheHour(), hourMoments)
	n.opened("metrics", n.run("metrics", func(ctx context.Context) error { return n.hour.Run(ctx, hourStep) }))
}

// lastHour is what they were.
func (n *Node) lastHour() *api.Hour {
	h := &api.Hour{Names: n.hour.Names(), Items: []api.Moment{}}
	for _, m := range n.hour.Moments() {
		h.Items = append(h.Items, api.Moment{Time: m.Time, Values: m.Values})
	}
	return h
}
