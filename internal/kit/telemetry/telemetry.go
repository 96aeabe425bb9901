// Package telemetry holds the counters and histograms of every room.
//
// A room makes its metrics when it is built, from the Set that node hands it. A nil Set is valid: the
// metrics count and nobody looks, so that rooms need no special case in tests.
//
//	accepted := set.Counter("firth_mqtt_messages_received_total", "Messages received.", "qos")
//	accepted.With("1").Inc()
//
// Take With out of the hot path: keep the counter it returns.
package telemetry

import (
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// Counter only grows.
type Counter = prometheus.Counter

// Gauge goes up and down.
type Gauge = prometheus.Gauge

// Histogram counts observations in buckets.
type Histogram = prometheus.Observer

// Set is the metrics of one node.
type Set struct {
	registry *prometheus.Registry
	mu       sync.Mutex
	made     map[string]prometheus.Collector // counters and gauges, by name
}

// New makes a set with the metrics of the process and the Go runtime in it.
func New() *Set {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Set{registry: registry, made: map[string]prometheus.Collector{}}
}

// Handler serves the set in the Prometheus text format.
func (s *Set) Handler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{})
}

func (s *Set) register(c prometheus.Collector) {
	if s != nil {
		s.registry.MustRegister(c)
	}
}

// keep registers what a Past may remember.
func (s *Set) keep(name string, c prometheus.Collector) {
	s.register(c)
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.made[name] = c
	}
}

// Value is what a counter of a Set has counted.
func Value(c Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		return 0 // a counter always has a value
	}
	return m.GetCounter().GetValue()
}

// Counters is a counter for each combination of label values.
type Counters struct{ vec *prometheus.CounterVec }

// With is the counter of these label values.
func (c Counters) With(values ...string) Counter { return c.vec.WithLabelValues(values...) }

// Counter makes a counter with labels. The name ends in _total.
func (s *Set) Counter(name, help string, labels ...string) Counters {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	s.keep(name, vec)
	return Counters{vec}
}

// Gauges is a gauge for each combination of label values.
type Gauges struct{ vec *prometheus.GaugeVec }

// With is the gauge of these label values.
func (g Gauges) With(values ...string) Gauge { return g.vec.WithLabelValues(values...) }

// Delete forgets the gauge of these label values: what it measured is gone.
func (g Gauges) Delete(values ...string) { g.vec.DeleteLabelValues(values...) }

// Gauge makes a gauge with labels.
func (s *Set) Gauge(name, help string, labels ...string) Gauges {
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	s.keep(name, vec)
	return Gauges{vec}
}

// GaugeFunc makes a gauge that is read when somebody looks. Its labels are pairs of a name and a value.
func (s *Set) GaugeFunc(name, help string, read func() float64, labels ...string) {
	opts := prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{}}
	for i := 0; i < len(labels); i += 2 {
		opts.ConstLabels[labels[i]] = labels[i+1]
	}
	s.keep(name, prometheus.NewGaugeFunc(opts, read))
}

// CounterFunc makes a counter that is read when somebody looks: for counts that a room keeps itself.
func (s *Set) CounterFunc(name, help string, read func() float64) {
	s.keep(name, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
}

// Histograms is a histogram for each combination of label values.
type Histograms struct{ vec *prometheus.HistogramVec }

// With is the histogram of these label values.
func (h Histograms) With(values ...string) Histogram { return h.vec.WithLabelValues(values...) }

// Seconds are buckets for durations from 50 µs to 13 s.
func Seconds() []float64 { return prometheus.ExponentialBuckets(50e-6, 2, 19) }

// Histogram makes a histogram with labels.
func (s *Set) Histogram(name, help string, buckets []float64, labels ...string) Histograms {
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	s.register(vec)
	return Histograms{vec}
}
