package delay

import (
	"container/heap"

	"github.com/firthmq/firth/internal/log/record"
)

// entry is a message that waits: when it is due, in milliseconds since 1970, and where it lies.
type entry struct {
	due    int64
	offset record.Offset
	key    Key
}

// wheel is the messages that wait, the next first; of those that are due together the one that was published first. It
// is not safe for concurrent use. The zero wheel is empty.
type wheel struct {
	queue   queue
	pending map[Key]place // those in queue, and those that were taken and are not over
	taken   int           // of pending
}

// place is where a message lies, and whether it was taken to be published.
type place struct {
	offset record.Offset
	taken  bool
}

// waiting is how many messages wait, without those that were taken.
func (w *wheel) waiting() int { return len(w.pending) - w.taken }

// add adds what a record says.
func (w *wheel) add(k Key, offset record.Offset) {
	if w.pending == nil {
		w.pending = map[Key]place{}
	}
	w.remove(k)
	w.pending[k] = place{offset: offset}
	heap.Push(&w.queue, entry{due: k.Due(), offset: offset, key: k})
}

// remove notes that a message is over.
func (w *wheel) remove(k Key) {
	if w.pending[k].taken {
		w.taken--
	}
	delete(w.pending, k)
}

// next takes the next message that is due. If there is none, it says when there will be: at, if waits.
func (w *wheel) next(now int64) (e entry, due bool, at int64, waits bool) {
	for len(w.queue) > 0 {
		first := w.queue[0]
		if at, is := w.pending[first.key]; !is || at.offset != first.offset {
			heap.Pop(&w.queue)
			continue
		}
		if first.due > now {
			return entry{}, false, first.due, true
		}
		heap.Pop(&w.queue)
		w.pending[first.key] = place{offset: first.offset, taken: true}
		w.taken++
		return first, true, 0, false
	}
	return entry{}, false, 0, false
}

// again puts back what next took, to be due at a time.
func (w *wheel) again(e entry, at int64) {
	if p := w.pending[e.key]; p.taken && p.offset == e.offset {
		w.pending[e.key] = place{offset: e.offset}
		w.taken--
	}
	e.due = at
	heap.Push(&w.queue, e)
}

type queue []entry

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	return q[i].due < q[j].due || q[i].due == q[j].due && q[i].offset < q[j].offset
}

func (q *queue) Push(x any) {
	if e, ok := x.(entry); ok { // heap.Push is given nothing else
		*q = append(*q, e)
	}
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	*q = (*q)[:last]
	return e
}
