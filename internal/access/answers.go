package access

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/firthmq/firth/internal/access/rule"
)

// answers remembers what was answered lately: a connection asks about the same few names again and again. It is of one
// standing, so that what it says is never older than the catalog. Any goroutine may ask it.
type answers struct {
	slots [answerSlots]atomic.Pointer[answer]
	tries atomic.Uint32 // of names to take a slot that has another one
}

// answer is what may be done to a name, of what is remembered. It never changes.
type answer struct {
	name  string
	topic string // of the log, that a name of devices came from; "": as the mapping says
	may   rule.Operations
}

const (
	answerSlots = 32
	// stubborn is how many other names ask for a slot before it is given up: who asks about many names, each once, shall
	// not pay for memory that is of no use.
	stubborn = 16
)

// asked are the operations that are asked about with every message, and every request for records.
var asked = rule.Of(rule.Read, rule.Write)

var seed = maphash.MakeSeed()

// slot is where a name is remembered, in answers that are made when they are wanted first.
func slot(of *atomic.Pointer[answers], hash uint64) (*answers, *atomic.Pointer[answer]) {
	a := of.Load()
	if a == nil {
		a = &answers{}
		if !of.CompareAndSwap(nil, a) {
			a = of.Load()
		}
	}
	return a, &a.slots[hash%answerSlots]
}

// free tells whether a slot may be given to another name.
func (a *answers) free(s *atomic.Pointer[answer]) bool {
	return s.Load() == nil || a.tries.Add(1)%stubborn == 0
}

// mayName is what rights say of a topic name of devices.
func (s *standing) mayName(o rule.Operation, name []byte, topic string) bool {
	if !asked.Has(o) || s.rights == nil && s.within == nil {
		return s.rights.Name(o, name, topic) && s.within.Name(o, name, topic)
	}
	a, at := slot(&s.names, maphash.Bytes(seed, name))
	if got := at.Load(); got != nil && got.name == string(name) && got.topic == topic {
		return got.may.Has(o)
	}
	may := s.rights.NameOperations(name, topic) & s.within.NameOperations(name, topic)
	if a.free(at) {
		at.Store(&answer{name: string(name), topic: topic, may: may})
	}
	return may.Has(o)
}

// mayTopic is what rights say of a topic of the log.
func (s *standing) mayTopic(o rule.Operation, topic string) bool {
	if !asked.Has(o) || s.rights == nil && s.within == nil {
		return s.rights.Topic(o, topic) && s.within.Topic(o, topic)
	}
	a, at := slot(&s.topics, maphash.String(seed, topic))
	if got := at.Load(); got != nil && got.name == topic {
		return got.may.Has(o)
	}
	may := s.rights.Operations(rule.Topic, topic) & s.within.Operations(rule.Topic, topic)
	if a.free(at) {
		at.Store(&answer{name: topic, may: may})
	}
	return may.Has(o)
}
