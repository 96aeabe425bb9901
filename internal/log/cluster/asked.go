package cluster

import "github.com/firthmq/firth/internal/log/record"

// asked is what a request asks of which partitions. Requests and answers name a topic in one way or the other, by
// version: by its name, or by its id.
type asked[T any] struct {
	topics map[record.UUID]int // where they are in the request
	byName map[string]record.UUID
	parts  map[spot]T
}

func newAsked[T any](n int) asked[T] {
	return asked[T]{
		topics: make(map[record.UUID]int), byName: make(map[string]record.UUID), parts: make(map[spot]T, n),
	}
}

// add notes what is asked of a partition. It tells where its topic is in the request, and whether that has to be put
// there first.
func (a *asked[T]) add(p *part, what T) (topic int, isNew bool) {
	a.parts[spot{p.topicID, p.index}] = what
	topic, known := a.topics[p.topicID]
	if !known {
		topic = len(a.topics)
		a.topics[p.topicID], a.byName[p.topic] = topic, p.topicID
	}
	return topic, !known
}

// of is what was asked of a partition that an answer names. An answer by name has no id.
func (a *asked[T]) of(id record.UUID, name string, index int32) (what T, ok bool) {
	if id == (record.UUID{}) {
		id = a.byName[name]
	}
	what, ok = a.parts[spot{id, index}]
	return what, ok
}
