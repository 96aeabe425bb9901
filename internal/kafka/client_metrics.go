package kafka

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
)

// Clients push metrics of their own (KIP-714). /metrics shows those of all clients together, so that their number does
// not grow with that of the clients: of what counts the sum, of what is now the largest and the mean.

const (
	pushInterval    = time.Minute
	pushBytes       = 1 << 20 // telemetry.max.bytes of a Kafka broker, as it is sent
	pushedBytes     = 8 << 20 // the same decompressed
	mostInstances   = 16_384  // clients that are remembered, as in Kafka
	silentIntervals = 3       // after so many a client does not count any more
)

// pushedMetrics are shown, by the names of KIP-714. They are asked for where no subscription asks for something else.
var pushedMetrics = []string{
	"org.apache.kafka.producer.connection.creation.total",
	"org.apache.kafka.producer.node.request.latency.avg",
	"org.apache.kafka.producer.node.request.latency.max",
	"org.apache.kafka.producer.produce.throttle.time.avg",
	"org.apache.kafka.producer.produce.throttle.time.max",
	"org.apache.kafka.producer.record.queue.time.avg",
	"org.apache.kafka.producer.record.queue.time.max",
	"org.apache.kafka.consumer.connection.creation.total",
	"org.apache.kafka.consumer.node.request.latency.avg",
	"org.apache.kafka.consumer.node.request.latency.max",
	"org.apache.kafka.consumer.poll.idle.ratio.avg",
	"org.apache.kafka.consumer.coordinator.commit.latency.avg",
	"org.apache.kafka.consumer.coordinator.commit.latency.max",
	"org.apache.kafka.consumer.coordinator.assigned.partitions",
	"org.apache.kafka.consumer.coordinator.rebalance.latency.avg",
	"org.apache.kafka.consumer.coordinator.rebalance.latency.max",
	"org.apache.kafka.consumer.coordinator.rebalance.latency.total",
	"org.apache.kafka.consumer.fetch.manager.fetch.latency.avg",
	"org.apache.kafka.consumer.fetch.manager.fetch.latency.max",
}

// pushCodecs are taken, the best first; none is always.
var pushCodecs = []int8{int8(record.Zstd), int8(record.LZ4), int8(record.Gzip), int8(record.Snappy)}

// clientMetrics are what clients have pushed.
type clientMetrics struct {
	now           func() time.Duration
	totals        telemetry.Counters
	subscriptions clientSubscriptions

	mu        sync.Mutex
	instances map[record.UUID]*clientInstance
	scratch   record.Scratch
}

// clientInstance is one client that pushes metrics.
type clientInstance struct {
	asked, pushed time.Duration // when it did last; below 0: never
	interval      time.Duration // of what it was asked for
	over          bool          // it said that nothing will come any more
	wrong         wire.Code     // of its last push
	values        []float64     // by pushedMetrics; NaN: it did not say
}

func newClientMetrics(now func() time.Duration) *clientMetrics {
	return &clientMetrics{
		now: now, instances: map[record.UUID]*clientInstance{},
		scratch: record.Scratch{MaxDecompressed: pushedBytes},
	}
}

// measure makes the metrics that show them.
func (m *clientMetrics) measure(set *telemetry.Set) {
	m.totals = set.Counter("firth_kafka_client_metric_total", "What Kafka clients count, all together.", "name")
	set.GaugeFunc("firth_kafka_client_instances", "Kafka clients that push metrics.", func() float64 {
		return m.summary(func(*clientInstance) (float64, bool) { return 1, true }).n
	})
	for i, name := range pushedMetrics {
		of := func(c *clientInstance) (float64, bool) {
			return c.values[i], !math.IsNaN(c.values[i])
		}
		show := func(which string, read func(summary) float64) {
			set.GaugeFunc("firth_kafka_client_metric", "What Kafka clients say of themselves: the largest of all, and the mean.",
				func() float64 { return read(m.summary(of)) }, "name", name, "of", which)
		}
		show("max", func(s summary) float64 { return s.most })
		show("mean", func(s summary) float64 { return s.sum / max(s.n, 1) })
	}
}

// summary is what there is of one thing, of all clients that were heard of lately.
type summary struct{ n, sum, most float64 }

func (m *clientMetrics) summary(of func(*clientInstance) (float64, bool)) (s summary) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.instances {
		if v, ok := of(c); ok && !c.over && !m.silentLocked(c) {
			s.n++
			s.sum += v
			s.most = max(s.most, v)
		}
	}
	return s
}

func (m *clientMetrics) silentLocked(c *clientInstance) bool {
	return m.now()-max(c.asked, c.pushed) > silentIntervals*c.interval
}

// instanceLocked is a client by its id, which is taken in if there is room for it; otherwise it is nil.
func (m *clientMetrics) instanceLocked(id record.UUID) *clientInstance {
	c := m.instances[id]
	if c == nil {
		if len(m.instances) >= mostInstances {
			maps.DeleteFunc(m.instances, func(_ record.UUID, c *clientInstance) bool { return m.silentLocked(c) })
		}
		if len(m.instances) >= mostInstances {
			return nil
		}
		c = &clientInstance{asked: -longestInterval, pushed: -longestInterval}
		c.values = slices.Repeat([]float64{math.NaN()}, len(pushedMetrics))
		m.instances[id] = c
	}
	return c
}

// subscribe is what a client is asked to push, which it may ask for once an interval, and after it was told to.
func (m *clientMetrics) subscribe(who *pusher) (demand, wire.Code) {
	want := m.subscriptions.demand(who)
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.instanceLocked(who.instance)
	if c == nil {
		return want, wire.ThrottlingQuotaExceeded
	}
	sent := c.wrong == wire.UnknownSubscriptionID || c.wrong == wire.UnsupportedCompressionType
	if m.now()-max(c.asked, c.pushed) < c.interval && !sent {
		return want, wire.ThrottlingQuotaExceeded
	}
	c.asked, c.wrong, c.interval = m.now(), wire.None, want.interval
	return want, wire.None
}

// push takes in what a client pushes.
func (m *clientMetrics) push(who *pusher, p *pushed) wire.Code {
	want := m.subscriptions.demand(who)
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.instanceLocked(who.instance)
	if c == nil {
		return wire.ThrottlingQuotaExceeded
	}
	c.wrong = m.takeLocked(c, p, &want)
	return c.wrong
}

// pushed is what one PushTelemetry brings.
type pushed struct {
	subscription int32
	codec        int8
	last         bool
	metrics      []byte
}

func (m *clientMetrics) takeLocked(c *clientInstance, p *pushed, want *demand) wire.Code {
	due := c.asked > c.pushed || m.now()-c.pushed >= c.interval
	switch {
	case c.over:
		return wire.InvalidRequest
	case !due && !p.last:
		return wire.ThrottlingQuotaExceeded
	case p.subscription != want.id:
		return wire.UnknownSubscriptionID
	case p.codec != int8(record.None) && !slices.Contains(pushCodecs, p.codec):
		return wire.UnsupportedCompressionType
	case len(p.metrics) > pushBytes:
		return wire.TelemetryTooLarge
	}
	c.pushed, c.over, c.interval = m.now(), p.last, want.interval
	plain, err := m.scratch.Decompress(record.Codec(p.codec), p.metrics)
	if err != nil {
		return wire.InvalidRecord
	}
	err = wire.OTLP(plain, func(name []byte, value float64, sum bool) {
		i := slices.IndexFunc(pushedMetrics, func(asked string) bool { return asked == string(name) })
		switch {
		case i < 0 || math.IsNaN(value) || math.IsInf(value, 0):
		case !sum:
			c.values[i] = value
		case value > 0: // since the last push: that was asked for
			m.totals.With(pushedMetrics[i]).Add(value)
		}
	})
	if err != nil {
		return wire.InvalidRecord
	}
	return wire.None
}
