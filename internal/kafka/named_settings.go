package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"sync"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// namedSettings are the settings that clients give to things with names: groups, subscriptions to metrics. They are a
// fold of an internal topic, key the name, value the settings as JSON; null: none. Who changes them holds changing over
// that, the log included.
type namedSettings[T any] struct {
	topic string                                 // that keeps them
	what  string                                 // they are of, for people: "groups"
	most  int                                    // names that have some
	read  func(set map[string]string) (T, error) // what they come to

	changing sync.Mutex

	look  sync.RWMutex
	set   map[string]map[string]string
	force map[string]T
}

// open reads what is set. What is not understood is left alone.
func (s *namedSettings[T]) open(ctx context.Context, log *store.Store, logger *slog.Logger) error {
	s.set, s.force = map[string]map[string]string{}, map[string]T{}
	folded, err := stream.FoldState(ctx, log, s.topic, func(key string, value []byte) error {
		var set map[string]string
		if value != nil {
			if err := json.Unmarshal(value, &set); err != nil {
				return fault.Wrap(fault.Corrupt, "kafka.settings", err)
			}
		}
		force, err := s.read(set)
		if err != nil {
			return fault.Wrap(fault.Unsupported, "kafka.settings", err)
		}
		s.put(key, set, force)
		return nil
	})
	if err == nil && !folded.Complete() {
		logger.Warn("kafka: settings of "+s.what+" were left out", "lost", folded.Lost, "strange", folded.Strange,
			"error", folded.First)
	}
	return err
}

// given is what is set for a name, which must not be changed; false: nothing is.
func (s *namedSettings[T]) given(name string) (map[string]string, bool) {
	s.look.RLock()
	defer s.look.RUnlock()
	set, is := s.set[name]
	return set, is
}

// inForce is what that comes to.
func (s *namedSettings[T]) inForce(name string) (T, bool) {
	s.look.RLock()
	defer s.look.RUnlock()
	force, is := s.force[name]
	return force, is
}

// names lists what has settings, in order.
func (s *namedSettings[T]) names() []string {
	s.look.RLock()
	defer s.look.RUnlock()
	return sortedNames(s.set)
}

// put has settings in force; without any there are none.
func (s *namedSettings[T]) put(name string, set map[string]string, force T) {
	s.look.Lock()
	defer s.look.Unlock()
	if len(set) == 0 {
		delete(s.set, name)
		delete(s.force, name)
		return
	}
	s.set[name], s.force[name] = set, force
}

// alter changes those of a name by what change makes of them, all or nothing; dry: only to see what is wrong. Store
// puts the record of it on stable storage. Errors: coded; those of store.
func (s *namedSettings[T]) alter(
	name string, dry bool, change func(map[string]string) []error,
	store func(r record.Record, before, after map[string]string) error,
) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	old, is := s.given(name)
	set := map[string]string{}
	maps.Copy(set, old)
	faults := change(set)
	force, err := s.read(set)
	if err = errors.Join(append(faults, err)...); err != nil {
		return coded{err, wire.InvalidConfig}
	}
	switch {
	case dry || maps.Equal(set, old):
		return nil
	case !is && len(s.names()) >= s.most:
		return refusal(wire.PolicyViolation, "settings of more than %d %s", s.most, s.what)
	}
	r := record.Record{Timestamp: wallMillis(), Key: []byte(name)}
	if len(set) > 0 {
		r.Value, _ = json.Marshal(set) // strings can always be encoded
	}
	if err := store(r, old, set); err != nil {
		return err
	}
	s.put(name, set, force)
	return nil
}
