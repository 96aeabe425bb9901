// Package bench drives servers with load and measures them: the generators behind firth bench.
//
// They speak the protocols on plain sockets with packets made beforehand, so that on a small machine the
// generator is not what is measured, and they work against any broker. Latencies are kept sample by sample:
// percentiles are exact. With a rate, a sample counts from when its message was due, not from when it could
// be sent, so that a stall is seen in full (no coordinated omission).
package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Result is what one run measured.
type Result struct {
	Work      string        `json:"work"`            // what was done
	Messages  int64         `json:"messages"`        // acknowledged (QoS 0: taken, reading: read) within the time
	Total     int64         `json:"total"`           // with the warm-up and the end: the CPU time is divided by it
	Bytes     int64         `json:"bytes"`           // of payload within the time
	Elapsed   time.Duration `json:"elapsed"`         // nanoseconds in JSON
	Whole     time.Duration `json:"whole,omitempty"` // Kafka loads: of Total, to the last acknowledgement
	Delivered int64         `json:"delivered"`       // to subscribers or consumers, where there were any
	Latency   Latency       `json:"latency"`         // nanoseconds in JSON
}

// Rate is messages each second.
func (r *Result) Rate() float64 { return float64(r.Messages) / r.Elapsed.Seconds() }

// String is the result in a line.
func (r *Result) String() string {
	s := fmt.Sprintf("%-40s %12.0f msg/s %9.1f MB/s", r.Work, r.Rate(), float64(r.Bytes)/r.Elapsed.Seconds()/1e6)
	if r.Delivered > 0 {
		s += fmt.Sprintf("  %12.0f delivered/s", float64(r.Delivered)/r.Elapsed.Seconds())
	}
	if r.Latency.Count > 0 {
		s += "  " + r.Latency.String()
	}
	return s
}

// Latency is the percentiles of all samples.
type Latency struct {
	Count                      int
	P50, P90, P99, P999, Worst time.Duration
}

// String is the percentiles in a line.
func (l Latency) String() string {
	return fmt.Sprintf("p50 %s  p99 %s  p99.9 %s  max %s", short(l.P50), short(l.P99), short(l.P999), short(l.Worst))
}

func short(d time.Duration) string {
	if d < time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(10 * time.Microsecond).String()
}

// samples are latencies in units of 100 ns.
type samples []uint32

func (s *samples) add(d time.Duration) { *s = append(*s, uint32(max(d, 0)/100)) }

// latency merges and sorts samples.
func latency(all ...samples) Latency {
	merged := slices.Concat(all...)
	if len(merged) == 0 {
		return Latency{}
	}
	slices.Sort(merged)
	at := func(q float64) time.Duration {
		return 100 * time.Duration(merged[min(len(merged)-1, int(q*float64(len(merged))))])
	}
	return Latency{
		Count: len(merged), P50: at(0.5), P90: at(0.9), P99: at(0.99), P999: at(0.999),
		Worst: 100 * time.Duration(merged[len(merged)-1]),
	}
}

// crew runs workers side by side and stops all when one fails.
type crew struct {
	group  sync.WaitGroup
	cancel context.CancelCauseFunc
	ctx    context.Context //nolint:containedctx // a crew is one run and lives no longer than its context
}

func newCrew(ctx context.Context) *crew {
	ctx, cancel := context.WithCancelCause(ctx)
	return &crew{ctx: ctx, cancel: cancel}
}

var errDone = errors.New("done")

func (c *crew) run(worker func(ctx context.Context) error) {
	c.group.Go(func() {
		if err := worker(c.ctx); err != nil {
			c.cancel(err)
		}
	})
}

// wait ends when all workers have, and gives the first error.
func (c *crew) wait() error {
	c.group.Wait()
	err := context.Cause(c.ctx)
	c.cancel(errDone)
	if errors.Is(err, errDone) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// tally is what the workers of one run have measured so far. Only what falls between begin and end counts.
type tally struct {
	begin, end time.Time
	messages   atomic.Int64
	delivered  atomic.Int64
	total      atomic.Int64 // messages since the first one, whenever they came

	mu   sync.Mutex
	acks []samples // of acknowledgements
	ends []samples // of deliveries
}

// within tells whether something at that time counts.
func (t *tally) within(now time.Time) bool { return now.After(t.begin) && now.Before(t.end) }

// acked adds what one worker has seen acknowledged.
func (t *tally) acked(s samples) {
	t.mu.Lock()
	t.acks = append(t.acks, s)
	t.mu.Unlock()
}

// arrived adds what one worker has seen delivered.
func (t *tally) arrived(s samples) {
	t.mu.Lock()
	t.ends = append(t.ends, s)
	t.mu.Unlock()
}

// result sums up; deliveries say more than acknowledgements.
func (t *tally) result(work string, size int) *Result {
	n := t.messages.Load()
	res := &Result{
		Work: work, Messages: n, Total: t.total.Load(), Bytes: n * int64(size), Elapsed: t.end.Sub(t.begin),
		Delivered: t.delivered.Load(), Latency: latency(t.ends...),
	}
	if res.Latency.Count == 0 {
		res.Latency = latency(t.acks...)
	}
	return res
}

// pace says when messages are due.
type pace struct {
	begin    time.Time
	interval time.Duration
}

// due is when message n should be sent.
func (p pace) due(n int64) time.Time { return p.begin.Add(time.Duration(n) * p.interval) }

// newPace spreads rate messages a second evenly from begin on.
func newPace(begin time.Time, rate float64) pace {
	return pace{begin: begin, interval: time.Duration(float64(time.Second) / rate)}
}
