package telemetry

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Past is what some families of a Set were lately: of each the sum of its series, in a ring. Who has no Prometheus
// sees by it what the last hour was like.
type Past struct {
	names []string
	of    []prometheus.Collector // nil: nobody has made it
	most  int

	mu   sync.Mutex
	ring []Moment
	next int
}

// Moment is what the families of a Past were at a time.
type Moment struct {
	Time   time.Time
	Values []float64 // in the order of the names
}

// Keep begins to remember families, by name, as they are now in the Set: counters and gauges. It keeps so many moments.
func (s *Set) Keep(names []string, most int) *Past {
	p := &Past{names: names, of: make([]prometheus.Collector, len(names)), most: most}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, name := range names {
		p.of[i] = s.made[name]
	}
	return p
}

// Names are those of the families.
func (p *Past) Names() []string { return p.names }

// Run looks each time that so much time has passed, until ctx ends. Errors: that of ctx.
func (p *Past) Run(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		p.Look(time.Now())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Look remembers what the families are now.
func (p *Past) Look(now time.Time) {
	values := make([]float64, len(p.of))
	for i, c := range p.of {
		if c != nil {
			values[i] = sum(c)
		}
		if math.IsNaN(values[i]) || math.IsInf(values[i], 0) { // a gauge that cannot be read; JSON has neither
			values[i] = 0
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ring) < p.most {
		p.ring = append(p.ring, Moment{now, values})
		return
	}
	p.ring[p.next] = Moment{now, values}
	p.next = (p.next + 1) % p.most
}

// Moments are those that are remembered, the oldest first.
func (p *Past) Moments() []Moment {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Concat(p.ring[p.next:], p.ring[:p.next])
}

// sum adds up the series of a family.
func sum(c prometheus.Collector) (total float64) {
	found := make(chan prometheus.Metric)
	go func() { // a collector tells of its series by a channel only
		defer close(found)
		c.Collect(found)
	}()
	for series := range found {
		var m dto.Metric
		if series.Write(&m) == nil { // one of its own always has a value
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return total
}
