package demo

import (
	"slices"
	"sync"
	"time"
)

// reading is the last record that the consumer group read for one key.
type reading struct {
	topic     string
	partition int32
	offset    int64
	key       string
	value     string
	at        time.Time
}

// command is one command and its way back to a device.
type command struct {
	key, value string
	at         time.Time
	took       time.Duration // from the producer to the device
}

// stats gathers what happened. Its methods may be called from any goroutine.
type stats struct {
	mu       sync.Mutex
	start    time.Time
	devices  int // connected now
	sent     uint64
	acked    uint64
	read     uint64
	commands uint64 // received by devices

	ack, through, back window
	samples            []sample // four a second, the last minute
	order              []string // keys, in the order in which they first came
	last               map[string]reading
	recent             []command     // the newest last
	fault              string        // the last thing that went wrong
	changed            chan struct{} // has a token when something was read
}

// sample is the state of the counters at one moment.
type sample struct {
	at          time.Time
	acked, read uint64
}

const (
	windowSize = 2048 // latencies that a percentile is taken of
	sampleKeep = 4*60 + 1
	recentKeep = 4
)

// window holds the newest latencies.
type window struct {
	d    []time.Duration
	next int
}

func (w *window) add(d time.Duration) {
	if len(w.d) < windowSize {
		w.d = append(w.d, d)
		return
	}
	w.d[w.next] = d
	w.next = (w.next + 1) % windowSize
}

// percentiles of a window; known is false while it is empty.
type percentiles struct {
	p50, p99 time.Duration
	known    bool
}

func (w *window) percentiles() percentiles {
	if len(w.d) == 0 {
		return percentiles{}
	}
	sorted := slices.Sorted(slices.Values(w.d))
	at := func(per int) time.Duration { return sorted[min(len(sorted)*per/100, len(sorted)-1)] }
	return percentiles{at(50), at(99), true}
}

func newStats(now time.Time) *stats {
	return &stats{start: now, samples: []sample{{at: now}}, last: make(map[string]reading),
		changed: make(chan struct{}, 1)}
}

func (s *stats) connected(change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices += change
}

func (s *stats) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent++
}

func (s *stats) acknowledged(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acked++
	s.ack.add(took)
}

func (s *stats) consumed(r reading, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read++
	s.through.add(took)
	if _, known := s.last[r.key]; !known {
		s.order = append(s.order, r.key)
	}
	s.last[r.key] = r
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// awaitRead waits until everything acknowledged has been read, but no longer than most.
func (s *stats) awaitRead(most time.Duration) {
	patience := time.NewTimer(most)
	defer patience.Stop()
	for {
		s.mu.Lock()
		all := s.read >= s.acked
		s.mu.Unlock()
		if all {
			return
		}
		select {
		case <-s.changed:
		case <-patience.C:
			return
		}
	}
}

func (s *stats) commanded(c command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands++
	if c.took > 0 { // somebody else's command does not say when it was given
		s.back.add(c.took)
	}
	s.recent = append(s.recent, c)
	if len(s.recent) > recentKeep {
		s.recent = slices.Delete(s.recent, 0, 1)
	}
}

func (s *stats) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = err.Error()
}

// sample notes the counters, for rates.
func (s *stats) sample(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, sample{now, s.acked, s.read})
	if len(s.samples) > sampleKeep {
		s.samples = slices.Delete(s.samples, 0, len(s.samples)-sampleKeep)
	}
}

// snapshot is the state at one moment, to be drawn.
type snapshot struct {
	elapsed               time.Duration
	devices               int
	sent, acked, read     uint64
	inRate, outRate       float64 // a second, over the last two
	inHistory, outHistory []float64
	ack, through, back    percentiles
	readings              []reading // in the order in which their keys first came
	newest                *reading
	commands              uint64
	recent                []command
	fault                 string
}

func (s *stats) snapshot(now time.Time) snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := snapshot{elapsed: now.Sub(s.start), devices: s.devices, sent: s.sent, acked: s.acked, read: s.read,
		ack: s.ack.percentiles(), through: s.through.percentiles(), back: s.back.percentiles(),
		commands: s.commands, recent: slices.Clone(s.recent), fault: s.fault}
	for _, key := range s.order {
		r := s.last[key]
		n.readings = append(n.readings, r)
		if n.newest == nil || r.at.After(n.newest.at) {
			n.newest = &r
		}
	}
	n.inRate = s.rate(8, func(one sample) uint64 { return one.acked })
	n.outRate = s.rate(8, func(one sample) uint64 { return one.read })
	n.inHistory = s.history(func(one sample) uint64 { return one.acked })
	n.outHistory = s.history(func(one sample) uint64 { return one.read })
	return n
}

// rate is the growth a second over the last back samples.
func (s *stats) rate(back int, of func(sample) uint64) float64 {
	newest := s.samples[len(s.samples)-1]
	oldest := s.samples[max(len(s.samples)-1-back, 0)]
	seconds := newest.at.Sub(oldest.at).Seconds()
	if seconds <= 0 {
		return 0
	}
	return float64(of(newest)-of(oldest)) / seconds
}

// history is the growth in each of the last seconds, the newest last.
func (s *stats) history(of func(sample) uint64) []float64 {
	const step = int(time.Second / refresh)
	var h []float64
	for i := len(s.samples) - 1; i-step >= 0; i -= step {
		h = append(h, float64(of(s.samples[i])-of(s.samples[i-step])))
	}
	slices.Reverse(h)
	return h
}
