package kafka

import (
	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/stream"
)

// sweep removes what has no reason to stay: offsets of topics that are gone, offsets that expired, and
// groups of which nothing else is left.
func (co *coordinator) sweep(now int64, topics *stream.Topics) {
	for _, og := range co.owned() {
		og.mu.Lock()
		if !og.mu.forgotten {
			co.sweepLocked(og, now, topics)
		}
		co.release(og)
	}
}

// sweepLocked leaves alone what flies: a commit on its way must not be removed with the older one that
// is known here. The next sweep sees it.
func (co *coordinator) sweepLocked(og *ownedGroup, now int64, topics *stream.Topics) {
	w := &groupWrite{og: og}
	flying := og.flyingLocked()
	for key, c := range og.mu.offsets {
		if _, flies := flying[key]; flies {
			continue
		}
		t := topics.ByName(key.topic)
		if t == nil || t.ID != c.topicID || co.expired(og, &c, now) {
			w.offsets = append(w.offsets, offsetChange{key: key})
		}
	}
	if len(w.offsets) == len(og.mu.offsets) && len(og.mu.flying) == 0 && og.mu.g.Vacant() && og.mu.stored {
		w.end = og.mu.g.Delete(now) == group.None
	}
	if len(w.offsets) > 0 || w.end {
		og.enqueueLocked(w)
	}
}

// expired tells whether an offset of an empty group has been there long enough.
func (co *coordinator) expired(og *ownedGroup, c *committed, now int64) bool {
	if og.mu.g.State() != group.Empty {
		return false
	}
	if c.Expires != group.NoExpiry {
		return c.Expires <= now
	}
	return max(og.mu.g.Since(), c.Committed)+co.limits.OffsetsRetention.Milliseconds() <= now
}

// maxLagSeries bounds how many pairs of group and topic have a gauge.
const maxLagSeries = 1000

// lagGauge is how far groups are behind, by group and topic. Only the clock uses it.
type lagGauge struct {
	gauges telemetry.Gauges
	series map[lagKey]telemetry.Gauge
	turn   int
}

type lagKey struct{ group, topic string }

func newLagGauge(set *telemetry.Set) *lagGauge {
	if set == nil {
		return nil
	}
	return &lagGauge{
		gauges: set.Gauge("firth_consumer_group_lag_records",
			"Records between the committed offset and the high watermark, summed over the partitions of a topic.",
			"group", "topic"),
		series: map[lagKey]telemetry.Gauge{},
	}
}

// lagTurns is every how many looks of the clock the lag is measured.
const lagTurns = 5

// measure sets the gauges. A pair that is gone falls to 0; beyond maxLagSeries pairs, new ones are
// not shown.
func (l *lagGauge) measure(co *coordinator) {
	if l == nil {
		return
	}
	if l.turn = (l.turn + 1) % lagTurns; l.turn != 0 {
		return
	}
	lags := map[lagKey]int64{}
	topics := co.log.Topics()
	for _, og := range co.owned() {
		for key, at := range og.positions() {
			if n, known := lag(co.log, topics, key, at); known {
				lags[lagKey{og.id, key.topic}] += n
			}
		}
	}
	for key, gauge := range l.series {
		gauge.Set(float64(lags[key]))
		delete(lags, key)
	}
	for key, n := range lags {
		if len(l.series) >= maxLagSeries {
			return
		}
		l.series[key] = l.gauges.With(key.group, key.topic)
		l.series[key].Set(float64(n))
	}
}

// positions are the committed offsets of a group.
func (og *ownedGroup) positions() map[partitionKey]int64 {
	og.mu.Lock()
	defer og.mu.Unlock()
	all := make(map[partitionKey]int64, len(og.mu.offsets))
	for key, c := range og.mu.offsets {
		all[key] = c.At
	}
	return all
}

// lag is how many records lie between a committed offset, or the log start if that is later, and the
// high watermark.
func lag(log Store, topics *stream.Topics, key partitionKey, at int64) (records int64, known bool) {
	t := topics.ByName(key.topic)
	if t == nil || key.index < 0 || int(key.index) >= len(t.Partitions) {
		return 0, false
	}
	bounds, err := log.Bounds(t.Partitions[key.index])
	if err != nil {
		return 0, false
	}
	return max(0, int64(bounds.High)-max(at, int64(bounds.Start))), true
}
