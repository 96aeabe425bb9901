package kafka

import (
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// maxStartSeries bounds how many topics have a gauge of the age of their start.
const maxStartSeries = 1000

// startGauge is how old the first record of each topic is: what retention goes by. Below 0 it is from the future, and
// holds what is behind it. Only the clock uses it.
type startGauge struct {
	seconds telemetry.Gauges
	series  map[string]telemetry.Gauge
	starts  map[stream.PartitionID]startStamp
	turn    int
}

// startStamp is the time of the record at the start of a partition.
type startStamp struct {
	at         record.Offset
	unixMillis int64
	seen       int // turn in which it was asked for last
}

func newStartGauge(set *telemetry.Set) *startGauge {
	if set == nil {
		return nil
	}
	return &startGauge{
		seconds: set.Gauge("firth_topic_start_age_seconds",
			"Age of the oldest record at the start of the partitions of a topic; below 0: it is from the future.", "topic"),
		series: map[string]telemetry.Gauge{},
		starts: map[stream.PartitionID]startStamp{},
	}
}

// measure sets the gauges. A topic that is gone or empty is forgotten; beyond maxStartSeries, new ones are not shown.
func (g *startGauge) measure(log *store.Store, unixMillis int64) {
	if g == nil {
		return
	}
	if g.turn++; g.turn%lagTurns != 1 {
		return
	}
	reads := 0
	gone := map[string]bool{}
	for name := range g.series {
		gone[name] = true
	}
	for _, t := range log.Topics().All() {
		oldest, known := g.oldest(log, t, &reads)
		if !known || t.Internal() {
			continue
		}
		delete(gone, t.Name)
		series, is := g.series[t.Name]
		if !is {
			if len(g.series) >= maxStartSeries {
				continue
			}
			series = g.seconds.With(t.Name)
			g.series[t.Name] = series
		}
		series.Set(float64(unixMillis-oldest) / 1000)
	}
	for name := range gone {
		g.seconds.Delete(name)
		delete(g.series, name)
	}
	for id, s := range g.starts {
		if s.seen != g.turn {
			delete(g.starts, id)
		}
	}
}

// oldest is the smallest time of the records at the starts of the partitions of a topic.
func (g *startGauge) oldest(log *store.Store, t *stream.Topic, reads *int) (unixMillis int64, known bool) {
	for _, id := range t.Partitions {
		bounds, err := log.Bounds(id)
		if err != nil || bounds.Start >= bounds.High {
			continue
		}
		s, is := g.starts[id]
		if !is || s.at != bounds.Start {
			if *reads >= maxStamps {
				continue
			}
			*reads++
			s = startStamp{at: bounds.Start, unixMillis: -1}
			_, _ = log.Scan(id, bounds.Start, stream.ScanOptions{MaxBytes: 1}, func(v *record.View) bool {
				s.unixMillis = v.Timestamp
				return false
			}) // what cannot be read is as without a time
		}
		s.seen = g.turn
		g.starts[id] = s
		if s.unixMillis >= 0 && (!known || s.unixMillis < unixMillis) {
			unixMillis, known = s.unixMillis, true
		}
	}
	return unixMillis, known
}
