package catchup

import "slices"

// queue is first in, first out. Both cost a constant. The zero value is empty.
type queue[T any] struct {
	items []T // the first ones are gone
	gone  int
}

func (q *queue[T]) len() int { return len(q.items) - q.gone }

// push puts one behind all others.
func (q *queue[T]) push(v T) {
	if len(q.items) == cap(q.items) && q.gone > len(q.items)/2 {
		q.items, q.gone = slices.Delete(q.items, 0, q.gone), 0
	}
	q.items = append(q.items, v)
}

// pop takes the first one out. There must be one.
func (q *queue[T]) pop() T {
	var none T
	v := q.items[q.gone]
	q.items[q.gone] = none
	if q.gone++; q.gone == len(q.items) {
		q.items, q.gone = q.items[:0], 0
	}
	return v
}
