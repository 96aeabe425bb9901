package kafka

import (
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/telemetry"
)

// metrics of the door, taken out of the hot path once.
type metrics struct {
	accepted, refused, late telemetry.Counter
	bad, panics             telemetry.Counter
	batches                 telemetry.Counter
	slow, overBudget        telemetry.Counter
	hidden                  telemetry.Counter // payloads and batches that could not be masked
	outdated                telemetry.Counters
	throttled               telemetry.Counters
	logins                  telemetry.Counters
}

// slowed counts a connection that waits for room in the budget, or was refused for want of it.
func (d *Door) slowed(waits bool) {
	if waits {
		d.metrics.slow.Inc()
	} else {
		d.metrics.overBudget.Inc()
	}
}

// measure makes the metrics of the door and hands each API its own.
func (d *Door) measure() {
	set := d.opt.Metrics
	conns := set.Counter("firth_kafka_connections_total", "Kafka connections by fate.", "fate")
	d.metrics = metrics{
		accepted: conns.With("accepted"), refused: conns.With("refused"), late: conns.With("timed_out"),
		bad:     set.Counter("firth_kafka_bad_requests_total", "Connections closed for a request that is none.").With(),
		panics:  d.groups.panics,
		batches: set.Counter("firth_kafka_batches_produced_total", "Record batches taken from producers.").With(),
	}
	d.metrics.hidden = set.Counter("firth_kafka_masked_hidden_total", "Payloads, and batches, that could not be masked "+
		"and so were not shown to clients which may not see all of them.").With()
	d.metrics.outdated = set.Counter("firth_kafka_unsupported_versions_total",
		"Requests of a version that is not served, by API and version.", "api", "version")
	d.metrics.throttled = set.Counter("firth_kafka_throttled_total",
		"Requests, and connections, that were beyond a quota, by its name.", "quota")
	d.metrics.logins = set.Counter("firth_kafka_authentications_total",
		"Authentications of Kafka clients, by mechanism and fate.", "mechanism", "fate")
	d.clients.measure(set)
	short := d.groups.short
	d.metrics.slow, d.metrics.overBudget = short.With("waited"), short.With("refused")
	set.GaugeFunc("firth_kafka_held_bytes", "Bytes that requests, answers and groups take in memory.",
		func() float64 { return float64(d.budget.held()) })
	set.GaugeFunc("firth_kafka_group_bytes", "Bytes of these that groups take: members and metadata.", func() float64 {
		return float64(d.budget.groups())
	})
	d.sessions.evicted = set.Counter("firth_kafka_fetch_sessions_evicted_total",
		"Fetch sessions that had to make room for others.").With()
	set.GaugeFunc("firth_kafka_fetch_sessions", "Fetch sessions that are kept.", func() float64 {
		sessions, _ := d.sessions.kept()
		return float64(sessions)
	})
	set.GaugeFunc("firth_kafka_fetch_session_partitions", "Partitions of the fetch sessions.", func() float64 {
		_, parts := d.sessions.kept()
		return float64(parts)
	})
	set.GaugeFunc("firth_kafka_connections", "Kafka connections open.", func() float64 {
		d.mu.Lock()
		defer d.mu.Unlock()
		return float64(len(d.mu.conns))
	})
	set.GaugeFunc("firth_kafka_parked_partitions", "Partitions that parked fetches wait for.", func() float64 {
		return float64(d.purgatory.parked.Load())
	})
	set.CounterFunc(
		"firth_kafka_received_bytes_total", "Bytes of requests.", func() float64 { return float64(d.bytesIn.Load()) },
	)
	set.CounterFunc(
		"firth_kafka_sent_bytes_total", "Bytes of responses.", func() float64 { return float64(d.bytesOut.Load()) },
	)
	seconds := set.Histogram(
		"firth_kafka_request_duration_seconds",
		"From the head of a request to its answer; a fetch that waits for records takes its time.", telemetry.Seconds(),
		"api",
	)
	for _, api := range d.apis {
		api.seconds = stopwatch{seconds.With(api.Name)}
	}
	d.produceSeconds, d.fetchSeconds = d.apis[wire.Produce].seconds, d.apis[wire.Fetch].seconds
}

// panicsOf counts what broke: the handler of a request, or something that the door does beside them.
func panicsOf(set *telemetry.Set) telemetry.Counter {
	return set.Counter("firth_kafka_panics_total", "Requests, and work beside them, that broke their handler.").With()
}

// shortOf counts what there was no room for in the budget.
func shortOf(set *telemetry.Set) telemetry.Counters {
	return set.Counter("firth_kafka_short_of_memory_total", "Times that a connection waited for room in "+
		"limits.kafka_bytes, that it was refused for want of it, or that a group was not let grow.", "fate")
}
