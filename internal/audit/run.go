package audit

import (
	"context"
	"time"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
)

const (
	signAfter  = time.Minute     // the age at which records are signed that few others follow
	retryAfter = time.Second     // before what was not written is tried again
	lastWrites = 5 * time.Second // for what is left when the node ends
)

// Run writes what comes until ctx ends, and then what is left.
func (t *Trail) Run(ctx context.Context) error {
	timer := time.NewTimer(signAfter)
	defer timer.Stop()
	wait := signAfter
	done := ctx.Done()
	ctx = context.WithoutCancel(ctx) // what is being written is waited for
	for {
		timer.Reset(wait)
		select {
		case <-t.wakeup:
		case <-timer.C:
			wait = t.turn(ctx)
			continue
		case <-done:
			t.end(ctx)
			return nil
		}
		if !t.hurried() {
			wait = min(wait, gatherFor) // more of the same may come
			continue
		}
		wait = t.turn(ctx)
	}
}

// hurried tells whether somebody waits.
func (t *Trail) hurried() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.mu.changes) > 0
}

// end writes what is left, signs it, and lets nobody wait any more.
func (t *Trail) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWrites)
	defer cancel()
	t.mu.Lock()
	t.mu.over = true
	t.mu.Unlock()
	t.turn(ctx)
	if t.writer.unsigned > 0 {
		t.checkpoint(ctx)
	}
	t.mu.Lock()
	left := t.mu.changes
	t.mu.changes = nil
	t.mu.Unlock()
	for _, c := range left {
		c.done <- fault.New(fault.Closed, "audit", "the node ends")
	}
}

// mostInUnit is how many records are written as one unit of the log.
const mostInUnit = 512

// turn writes what there is, and says how long there is nothing to do.
func (t *Trail) turn(ctx context.Context) time.Duration {
	t.mu.Lock()
	changes := t.mu.changes
	events := t.mu.gathered.take()
	t.mu.changes = nil
	t.mu.Unlock()
	t.explain(events)
	for len(events) > 0 {
		n := min(len(events), mostInUnit)
		if err := t.write(ctx, events[:n], nil); err != nil {
			t.putBack(events)
			t.tellWaiting(changes, err)
			return retryAfter
		}
		events = events[n:]
	}
	for len(changes) > 0 {
		n := min(len(changes), mostInUnit)
		err := t.write(ctx, nil, changes[:n])
		t.tellWaiting(changes[:n], err)
		changes = changes[n:]
	}
	w := &t.writer
	if w.unsigned == 0 {
		return signAfter
	}
	age := t.opt.Clock().Sub(w.since)
	if age >= signAfter || age < 0 {
		t.checkpoint(ctx)
		return signAfter
	}
	return signAfter - age
}

// mostExplained is of how many refusals it is looked up by which rule they are: that takes as long as there are rules.
const mostExplained = 16

// explain finds the rules behind refusals.
func (t *Trail) explain(events []*chain.Event) {
	left := mostExplained
	for _, e := range events {
		if e.Type != chain.TypeRefused || e.Rule != "" || t.opt.Rule == nil {
			continue
		}
		if left--; left < 0 {
			return
		}
		e.Rule = t.opt.Rule(e)
	}
}

// write writes events and changes as one unit.
func (t *Trail) write(ctx context.Context, events []*chain.Event, changes []*change) error {
	b, err := t.writer.begin(ctx)
	if err == nil {
		err = t.fill(b, events, changes)
	}
	if err == nil {
		err = t.writer.store(ctx, b)
	}
	if err != nil {
		return t.complain(err)
	}
	for i := range b.records {
		t.written.With(string(b.records[i].Key)).Inc()
	}
	return nil
}

func (t *Trail) fill(b *batch, events []*chain.Event, changes []*change) error {
	for _, e := range events {
		if err := t.writer.add(b, *e); err != nil {
			return err
		}
	}
	for _, c := range changes {
		c.number = b.link.Sequence + 1
		if err := t.writer.add(b, c.event); err != nil {
			return err
		}
	}
	return nil
}

func (t *Trail) checkpoint(ctx context.Context) {
	b, err := t.writer.begin(ctx)
	if err == nil {
		err = t.writer.sign(b)
	}
	if err == nil {
		err = t.writer.store(ctx, b)
	}
	if err != nil {
		_ = t.complain(err) // the next turn signs
		return
	}
	t.written.With(chain.TypeCheckpoint).Inc()
}

// complain logs that the audit cannot be written, unless the log itself has said why.
func (t *Trail) complain(err error) error {
	t.failed.Inc()
	if !fault.Is(err, fault.Closed) {
		t.opt.Logger.Warn("the audit cannot be written, trying again", "error", err)
	}
	return err
}

func (t *Trail) tellWaiting(changes []*change, err error) {
	for _, c := range changes {
		c.done <- err
	}
}

// putBack keeps events that could not be written, with those that have come since.
func (t *Trail) putBack(events []*chain.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	since := t.mu.gathered.take()
	for _, e := range append(events, since...) {
		t.mu.gathered.add(e)
	}
}
