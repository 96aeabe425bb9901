package kafka

import (
	"maps"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
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
	if len(w.offsets) == len(og.mu.offsets) && len(og.mu.flying) == 0 && og.mu.g.Vacant() && og.mu.stored &&
		og.mu.g.Delete(now) == group.None {
		og.endLocked(w)
	}
	if len(w.offsets) > 0 || w.end {
		og.enqueueLocked(w)
	}
}

// expired tells whether an offset of an empty group has been there long enough.
func (co *coordinator) expired(og *ownedGroup, c *committed, now int64) bool {
	if !og.mu.g.IsEmpty() {
		return false
	}
	if c.Expires != group.NoExpiry {
		return c.Expires <= now
	}
	since := max(og.mu.g.Since(), c.Committed)
	if since < setMillis {
		since = co.opened // by a clock that was not set: how old it is nobody knows
	}
	return since+co.limits.OffsetsRetention.Milliseconds() <= now
}

// maxLagSeries bounds how many pairs of group and topic have a gauge.
const maxLagSeries = 1000

// lagGauge is how far groups are behind, by group and topic. Only the clock uses it.
type lagGauge struct {
	records, seconds telemetry.Gauges
	series           map[lagKey]lagSeries
	stamps           map[stampKey]stamp
	turn             int
}

type lagKey struct{ group, topic string }

type lagSeries struct{ records, seconds telemetry.Gauge }

// lags are what one measurement of a pair gave.
type lags struct{ records, oldest int64 } // oldest: unix milliseconds, 0: nothing is behind

// stampKey is a position that a group has committed, stamp the time of the record there.
type stampKey struct {
	group string
	partitionKey
}

type stamp struct {
	at, unixMillis int64
	seen           int // turn in which it was asked for last
}

func newLagGauge(set *telemetry.Set) *lagGauge {
	if set == nil {
		return nil
	}
	return &lagGauge{
		records: set.Gauge("firth_consumer_group_lag_records",
			"Records between the committed offset and the high watermark, summed over the partitions of a topic.",
			"group", "topic"),
		seconds: set.Gauge("firth_consumer_group_lag_seconds",
			"Age of the oldest record behind the committed offsets, over the partitions of a topic; 0: none is behind.",
			"group", "topic"),
		series: map[lagKey]lagSeries{},
		stamps: map[stampKey]stamp{},
	}
}

// lagTurns is every how many looks of the clock the lag is measured. In one measurement at most maxStamps records are
// read for their time; the positions left wait for the next.
const (
	lagTurns  = 5
	maxStamps = 1000
)

// measure sets the gauges. A pair that is gone is forgotten; beyond maxLagSeries pairs, new ones are not shown.
func (l *lagGauge) measure(co *coordinator) {
	if l == nil {
		return
	}
	if l.turn++; l.turn%lagTurns != 0 {
		return
	}
	found, topics, now, reads := map[lagKey]lags{}, co.log.Topics(), co.wall(), 0
	for _, og := range co.owned() {
		for key, at := range og.positions() {
			id, first, n, known := lag(co.log, topics, key, at)
			if !known {
				continue
			}
			pair := found[lagKey{og.id, key.topic}]
			pair.records += n
			if n > 0 {
				if t := l.stamp(co.log, stampKey{og.id, key}, id, first, &reads); pair.oldest == 0 || t > 0 && t < pair.oldest {
					pair.oldest = t
				}
			}
			found[lagKey{og.id, key.topic}] = pair
		}
	}
	maps.DeleteFunc(l.stamps, func(_ stampKey, s stamp) bool { return s.seen != l.turn })
	for key, series := range l.series {
		pair, is := found[key]
		if !is {
			l.records.Delete(key.group, key.topic)
			l.seconds.Delete(key.group, key.topic)
			delete(l.series, key)
			continue
		}
		series.set(pair, now)
		delete(found, key)
	}
	for key, pair := range found {
		if len(l.series) >= maxLagSeries {
			return
		}
		series := lagSeries{l.records.With(key.group, key.topic), l.seconds.With(key.group, key.topic)}
		series.set(pair, now)
		l.series[key] = series
	}
}

func (s *lagSeries) set(pair lags, now int64) {
	s.records.Set(float64(pair.records))
	age := 0.0
	if pair.oldest > 0 {
		age = float64(max(0, now-pair.oldest)) / 1000
	}
	s.seconds.Set(age)
}

// stamp is the time of the batch in which a position lies, unix milliseconds; 0 if it is not known. It is read once
// for each position.
func (l *lagGauge) stamp(log *store.Store, key stampKey, id stream.PartitionID, at int64, reads *int) int64 {
	s, known := l.stamps[key]
	if !known || s.at != at {
		if *reads >= maxStamps {
			return 0
		}
		*reads++
		s = stamp{at: at}
		if batches, err := log.Read(id, record.Offset(at), 1, nil); err == nil && len(batches) > 0 {
			s.unixMillis = max(0, batches[0].BaseTimestamp())
		}
	}
	s.seen = l.turn
	l.stamps[key] = s
	return s.unixMillis
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
// high watermark, and where the first of them is.
func lag(log *store.Store, topics *stream.Topics, key partitionKey, at int64) (
	id stream.PartitionID, first, records int64, known bool,
) {
	t := topics.ByName(key.topic)
	if t == nil || key.index < 0 || int(key.index) >= len(t.Partitions) {
		return 0, 0, 0, false
	}
	id = t.Partitions[key.index]
	bounds, err := log.Bounds(id)
	if err != nil {
		return 0, 0, 0, false
	}
	first = max(at, int64(bounds.Start))
	return id, first, max(0, int64(bounds.High)-first), true
}
