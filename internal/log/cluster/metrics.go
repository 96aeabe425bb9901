package cluster

import "github.com/firthmq/firth/internal/kit/telemetry"

// metrics are the counters of the keeper.
type metrics struct {
	append       telemetry.Histogram
	bytes        telemetry.Counter
	transactions telemetry.Counter
}

func (m *metrics) register(c *Cluster, set *telemetry.Set) {
	m.append = set.Histogram("firth_cluster_append_duration_seconds",
		"From when a group of units is sent until its receipts are told.", telemetry.Seconds()).With()
	m.bytes = set.Counter("firth_cluster_append_bytes_total", "Bytes of units sent to the cluster.").With()
	m.transactions = set.Counter("firth_cluster_transactions_total", "Transactions, with those that were aborted.").With()
	set.GaugeFunc("firth_cluster_up", "1 while the cluster answers and takes what is sent, else 0.", func() float64 {
		if c.Refused() != nil {
			return 0
		}
		return 1
	})
	set.GaugeFunc("firth_cluster_brokers", "Brokers of the cluster, by its last answer.",
		func() float64 { return float64(c.brokers.Load()) })
	set.GaugeFunc("firth_cluster_stalled_seconds", "How long the oldest group of units has been under way.",
		func() float64 { return c.health.stall().Seconds() })
	set.GaugeFunc("firth_cluster_unsafe_topics", "Topics of Firth whose settings cannot keep what is promised.",
		func() float64 { return float64(len(*c.unsafe.Load())) })
	set.GaugeFunc("firth_cluster_queue_bytes", "Bytes of units that wait or are under way.", func() float64 {
		c.queue.Lock()
		defer c.queue.Unlock()
		return float64(c.queue.bytes)
	})
}
