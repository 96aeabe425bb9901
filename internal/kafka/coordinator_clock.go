package kafka

import (
	"context"
	"time"

	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/log/stream"
)

// clock tells groups the time, expires offsets and measures lag, until ctx ends. A heartbeat only puts a session
// off, so it sets no alarm: the group is told the time too early and asks again.
func (co *coordinator) clock(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	look := time.NewTicker(co.look)
	defer look.Stop()
	var seen *stream.Topics
	sweepAt := co.now() + co.limits.SweepInterval.Milliseconds()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-co.alarms.Sooner():
		case <-look.C:
			topics, now := co.log.Topics(), co.now()
			if by := co.drift.step(co.wall(), now); by != 0 {
				co.opt.Logger.Warn("kafka: the clock of the machine was set", "by", time.Duration(by)*time.Millisecond,
					"hint", "sessions and offsets go on by the time that has really passed")
			}
			if topics != seen || now >= sweepAt {
				seen, sweepAt = topics, now+co.limits.SweepInterval.Milliseconds()
				co.guarded("sweep of the groups", func() { co.sweep(now, topics) })
			}
			co.guarded("lag of the groups", func() { co.lag.measure(co) })
			co.guarded("age of the log's start", func() { co.starts.measure(co.log, co.wall()) })
			co.turns.Add(1)
		}
		if next, waits := co.tick(); waits {
			timer.Reset(time.Duration(next-co.now()) * time.Millisecond)
		}
	}
}

// tick tells every group that waits for it the time, and returns when the next one wants to know.
func (co *coordinator) tick() (next int64, waits bool) {
	for {
		og, due, next, waits := co.alarms.Due(co.now())
		if !due {
			return next, waits
		}
		co.guarded("time of a group", func() {
			og.mu.Lock()
			co.act(og, func(g membership) []group.Effect {
				if og.mu.forgotten {
					return nil
				}
				return g.Tick(co.now())
			})
		})
	}
}
