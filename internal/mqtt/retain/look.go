package retain

import (
	"context"
	"slices"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// For who looks at the retained messages from outside.

// Names are the first names, at most limit of them, that a filter matches and that come behind one, sorted.
func (s *Store) Names(filter, after string, limit int) []string {
	var found []string
	cut := func() {
		slices.Sort(found)
		found = found[:min(limit, len(found))]
	}
	s.index.RLock()
	defer s.index.RUnlock()
	s.index.names.Match(filter, func(name []byte, _ entry) bool {
		if string(name) > after {
			found = append(found, string(name))
		}
		if len(found) >= 2*limit {
			cut()
		}
		return true
	})
	cut()
	return found
}

// Get calls show with the message of a name, if there is one, and its offset. The message is valid during the call.
// Errors: those of the log.
func (s *Store) Get(name string, show func(m *hinge.Message, at record.Offset)) (found bool, err error) {
	key := []byte(name)
	s.index.RLock()
	e, found := s.index.names.Get(key)
	s.index.RUnlock()
	if !found {
		return false, nil
	}
	var m hinge.Message
	if e.small != nil {
		e.small.fill(key, &m)
		show(&m, e.offset)
		return true, nil
	}
	found = false
	table := s.opt.Mapping()
	_, err = s.opt.Log.Scan(s.partition, e.offset, stream.ScanOptions{End: e.offset + 1, MaxBytes: 1},
		func(v *record.View) bool {
			if table.Message(table.CatchAll(), v, &m) {
				m.Topic, m.Retain, found = v.Key, true, true
				show(&m, e.offset)
			}
			return true
		})
	return found, err
}

// CatchUp waits until the store has come to what is readable now: who has an acknowledgement finds its message.
// Errors: Timeout, when ctx ends before; those of the log.
func (s *Store) CatchUp(ctx context.Context) error {
	bounds, err := s.opt.Log.Bounds(s.partition)
	if err != nil || bounds.Stable <= bounds.Start {
		return err
	}
	return s.Await(ctx, bounds.Stable-1)
}

// awaiting is somebody who waits for the store to have come to an offset.
type awaiting struct {
	offset record.Offset
	come   chan struct{}
}

// Await waits until the record at an offset is part of the store. Errors: Timeout, when ctx ends before.
func (s *Store) Await(ctx context.Context, offset record.Offset) error {
	a := awaiting{offset, make(chan struct{})}
	s.mu.Lock()
	s.mu.awaiting = append(s.mu.awaiting, a)
	s.mu.Unlock()
	s.tellAwaiting() // it may have come before
	select {
	case <-a.come:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, "retain.Await", ctx.Err())
	}
}

// tellAwaiting tells those whose offset the store has come to.
func (s *Store) tellAwaiting() {
	folded := record.Offset(s.folded.Load())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.awaiting = slices.DeleteFunc(s.mu.awaiting, func(a awaiting) bool {
		if a.offset < folded {
			close(a.come)
		}
		return a.offset < folded
	})
}
