package migrate

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

const (
	copiers   = 8
	scanBytes = 1 << 20
	// copyTries and copyPause are how often a partition is tried without a record that gets there, and how long apart.
	copyTries = 10
	copyPause = 500 * time.Millisecond
)

// each does something with every partition of the topics that are copied, a few at a time. The first error ends it.
func (m *mover) each(ctx context.Context, do func(ctx context.Context, t *topic, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type one struct {
		t *topic
		i int
	}
	work := make(chan one)
	var busy sync.WaitGroup
	for range copiers {
		busy.Go(func() {
			for w := range work {
				if ctx.Err() != nil {
					continue
				}
				if err := do(ctx, w.t, w.i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, t := range m.topics {
		for i := range t.from.Partitions {
			work <- one{t, i}
		}
	}
	close(work)
	busy.Wait()
	return context.Cause(ctx)
}

func (m *mover) copyAll(ctx context.Context) error { return m.each(ctx, m.copyPartition) }

// copyPartition copies what the cluster has not. It goes on after each error that may pass, from where the copy ends.
func (m *mover) copyPartition(ctx context.Context, t *topic, i int) error {
	last := record.Offset(-1)
	for try := 0; ; try++ {
		c := &copying{m: m, t: t, i: i, lower: record.Offset(t.state.Lower[i])}
		err := c.run(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if c.to != nil && c.to.End() > last {
			last, try = c.to.End(), 0
		}
		if !passing(err) || try >= copyTries {
			return fault.New(fault.KindOf(err), "migrate", "%s[%d]: %w", t.from.Name, i, err).
				WithHint("%s", fault.HintOf(err))
		}
		if err := clock.Pause(ctx, copyPause); err != nil {
			return err
		}
	}
}

func passing(err error) bool {
	var damage *stream.Damage
	kind := fault.KindOf(err)
	return !errors.As(err, &damage) && (kind == fault.IO || kind == fault.Timeout)
}

// copying is one partition under way.
type copying struct {
	m     *mover
	t     *topic
	i     int
	lower record.Offset
	to    *cluster.Copied
	batch []record.Record
	bytes int64
}

// copied is a record of the source with its offset.
type copied struct {
	at record.Offset
	r  record.Record
}

func (c *copying) run(ctx context.Context) (err error) {
	to := c.t.to.Partitions[c.i]
	if c.to, err = c.m.exact.Partition(ctx, to); err != nil {
		return err
	}
	bounds := c.t.bounds[c.i]
	next := max(c.to.End()+c.lower, bounds.Start)
	if c.to.End()+c.lower > bounds.Stable {
		return inTheWay("%s[%d] has more records in the cluster than on the node", c.t.from.Name, c.i).
			WithHint("is this the node that was copied, with all of its data?")
	}
	for next < bounds.Stable {
		var some []copied
		next, err = c.m.Source.Scan(c.t.from.Partitions[c.i], next,
			stream.ScanOptions{End: bounds.Stable, MaxBytes: scanBytes}, func(v *record.View) bool {
				some = append(some, copied{v.Offset, recordOf(v)})
				return true
			})
		if e := c.put(ctx, some); e != nil {
			return e
		}
		if err != nil {
			return err
		}
	}
	if err := c.pad(ctx, bounds.Stable-c.lower, time.Now().UnixMilli()); err != nil {
		return err
	}
	return c.trim(ctx, to, bounds.Start-c.lower)
}

// recordOf is a copy of what a view shows.
func recordOf(v *record.View) record.Record {
	r := record.Record{Timestamp: v.Timestamp, Key: bytes.Clone(v.Key), Value: bytes.Clone(v.Value)}
	for key, value := range v.Headers {
		r.Headers = append(r.Headers, record.Header{Key: string(key), Value: bytes.Clone(value)})
	}
	return r
}

func (c *copying) put(ctx context.Context, some []copied) error {
	for _, one := range some {
		at := one.at - c.lower
		if end := c.to.End() + record.Offset(len(c.batch)); at != end {
			if err := c.flush(ctx); err != nil {
				return err
			}
			if err := c.pad(ctx, at, one.r.Timestamp); err != nil {
				return err
			}
		}
		size := int64(one.r.EncodedSize())
		if c.bytes+size > c.to.Room() {
			if err := c.flush(ctx); err != nil {
				return err
			}
		}
		c.batch = append(c.batch, one.r)
		c.bytes += size
	}
	return c.flush(ctx)
}

func (c *copying) flush(ctx context.Context) error {
	n := len(c.batch)
	if n == 0 {
		return nil
	}
	if err := c.to.Append(ctx, c.batch); err != nil {
		return err
	}
	c.batch, c.bytes = c.batch[:0], 0
	c.m.advanced(c.t, int64(n), int64(n))
	return c.m.wrote()
}

func (c *copying) pad(ctx context.Context, to record.Offset, stamp int64) error {
	from := c.to.End()
	if from >= to {
		return nil
	}
	if err := c.to.Pad(ctx, to, stamp); err != nil {
		return err
	}
	c.m.advanced(c.t, 0, max(int64(to-max(from, c.t.bounds[c.i].Start-c.lower)), 0))
	return c.m.wrote()
}

// trim removes the fillers before the first record, and what the node has removed since it was copied.
func (c *copying) trim(ctx context.Context, p stream.PartitionID, start record.Offset) error {
	if s := &c.t.to.Settings; !s.Delete || start <= 0 {
		return nil
	}
	b, err := c.m.Target.Bounds(p)
	if err != nil || b.Start >= start {
		return err
	}
	if err := c.m.Target.Trim(ctx, p, start); err != nil {
		return err
	}
	return c.m.wrote()
}
