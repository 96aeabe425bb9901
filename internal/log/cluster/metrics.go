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
	set.GaugeFunc("firth_cluster_queue_bytes", "Bytes of units that wait or are under way.", func() float64 {
		c.queue.Lock()
		defer c.queue.Unlock()
		return float64(c.queue.bytes)
	})
}
