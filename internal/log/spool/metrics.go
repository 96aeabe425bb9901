package spool

import "github.com/firthmq/firth/internal/kit/telemetry"

// metrics are the counters of a spool.
type metrics struct {
	held    telemetry.Counter
	drained telemetry.Counter
	lost    telemetry.Counter
}

func (m *metrics) register(s *Spool, set *telemetry.Set) {
	m.held = set.Counter("firth_spool_held_bytes_total",
		"Bytes that were acknowledged when the spool had them, before Kafka had.").With()
	m.drained = set.Counter("firth_spool_drained_bytes_total", "Bytes sent to Kafka from the spool.").With()
	m.lost = set.Counter("firth_spool_lost_total",
		"Units that were acknowledged and are lost: damage of the disk, topics that are gone, what Kafka refuses for good.").
		With()
	set.GaugeFunc("firth_spool_bytes", "Bytes in the spool that Kafka has not taken.",
		func() float64 { return float64(s.Status().Bytes) })
	set.GaugeFunc("firth_spool_oldest_seconds", "How long the oldest message waits for Kafka.",
		func() float64 { return s.Status().Oldest.Seconds() })
	set.GaugeFunc("firth_spool_holding", "1 while messages are acknowledged by the spool, else 0.", func() float64 {
		if s.Status().Holding {
			return 1
		}
		return 0
	})
}
