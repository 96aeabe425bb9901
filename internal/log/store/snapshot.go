package store

import (
	"sync"

	"github.com/firthmq/firth/internal/log/partition"
)

// announced is the place behind the last announced frame: what lies before it is in the state of the partitions.
type announced struct {
	mu     sync.Mutex
	at     place
	breaks int // journals that broke
}

func (a *announced) set(at place) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = at
}

// broke is told where a journal ended that broke: what was announced behind that is lost.
func (a *announced) broke(end place) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = end
	a.breaks++
}

func (a *announced) get() (at place, breaks int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at, a.breaks
}

// snapshot gathers the state of the log, one partition after another, beside whatever is appended meanwhile. Each is
// as of some time behind the place that is read first: who applies what lies behind that place knows by the offsets
// what the state holds already. It is durable once everything announced by now is.
func (s *Store) snapshot() checkpoint {
	at, _ := s.announced.get()
	cp := checkpoint{Place: at, Taken: s.opt.Clock().UnixMilli(), Epoch: s.epoch}
	s.mu.Lock()
	cp.NextPID = s.mu.maxPID
	s.mu.Unlock()
	for _, p := range *s.parts.Load() {
		if p != nil {
			cp.Partitions = append(cp.Partitions, s.stateOf(p))
		}
	}
	s.registryMu.Lock() // last: partitions come and go by what is in it
	defer s.registryMu.Unlock()
	cp.NextPart, cp.Topics = s.registry.nextID, s.registry.records()
	return cp
}

// producersAtOnce is how many producers are copied under the group lock at once.
const producersAtOnce = 256

// stateOf is the state of a partition. A batch is in its producer's window before it is below the high watermark:
// the windows are read behind that, and without what came later.
func (s *Store) stateOf(p *partition.Partition) partitionState {
	state := partitionState{ID: uint32(p.ID), State: p.State()}
	s.mu.Lock()
	ids := p.Producers.IDs()
	for len(ids) > 0 {
		n := min(len(ids), producersAtOnce)
		for _, id := range ids[:n] {
			p.Producers.Of(id, func(sent partition.Sent) {
				if sent.Base < state.High {
					state.Producers = append(state.Producers, producerState{ID: id, Sent: sent})
				}
			})
		}
		if ids = ids[n:]; len(ids) > 0 {
			s.mu.Unlock()
			s.mu.Lock()
		}
	}
	s.mu.Unlock()
	return state
}
