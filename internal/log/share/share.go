// Package share knows, for one partition and one group of readers that share it, what became of each record: members
// take records in turn and acknowledge each for itself, in any order. It is the machine behind MQTT's shared
// subscriptions (MQTT 5.0, section 4.8.2) and speaks the language of Kafka's share groups (KIP-932).
//
// Everything below Next was given out; of that, what is not acknowledged is open: acquired by a member, or released by
// one, to be given out again before anything new. Everything below Cursor is done with.
//
//	var p share.Partition
//	p.Begin(at)
//	p.Acquire(offset, member)      // given out: offsets rise
//	p.Acknowledge(offset, member)  // done
//	p.ReleaseAll(member)           // it left
//	for _, r := range p.Released(nil, 64) { p.Reacquire(r.Offset, another) }
//
// What is stored is Next and the open offsets (AppendTo, Parse): whoever reads it back has all of them released.
package share

import (
	"slices"
	"sort"
)

// MaxOpen is the most records of a partition that may be open. Beyond it nothing new is given out.
const MaxOpen = 32 << 10

// Member is a number that a group gives a member; 0 is nobody.
type Member uint32

// Partition is what became of the records of one partition. The zero value begins at offset 0. It is not safe for
// concurrent use.
type Partition struct {
	next    int64
	entries []entry // by offset, the done ones among them until they are cleared away
	open    int     // of the entries
	free    int     // of those, released
}

// entry is a record that was given out.
type entry struct {
	offset int64
	by     Member // who has it; 0: nobody, it is released
	times  uint16 // that it was given out, as far as that is counted
	done   bool
	fresh  bool // of a Queue: it has changed since it was last stored
}

// Begin has the partition begin at an offset, with nothing open.
func (p *Partition) Begin(at int64) { *p = Partition{next: at} }

// Next is the offset from which on nothing was given out yet.
func (p *Partition) Next() int64 { return p.next }

// Cursor is the offset below which everything is done with.
func (p *Partition) Cursor() int64 {
	for i := range p.entries {
		if !p.entries[i].done {
			return p.entries[i].offset
		}
	}
	return p.next
}

// Open is how many records were given out and are not done with.
func (p *Partition) Open() int { return p.open }

// Free is how many of the open ones are released and wait to be given out again.
func (p *Partition) Free() int { return p.free }

// Full tells whether as many are open as may be.
func (p *Partition) Full() bool { return p.open >= MaxOpen }

// Acquire gives a new record to a member. It is false, and changes nothing, for one below Next, which was given out,
// and when the partition is Full.
func (p *Partition) Acquire(offset int64, by Member) bool {
	if offset < p.next || p.Full() {
		return false
	}
	p.entries = append(p.entries, entry{offset: offset, by: by, times: 1})
	p.open++
	p.next = offset + 1
	return true
}

// Pass moves Next up to an offset: what is below it needs no acknowledgement, or is for nobody.
func (p *Partition) Pass(to int64) { p.next = max(p.next, to) }

// Retract moves Next back to an offset, and forgets what was given out from there on: the member did not take it.
func (p *Partition) Retract(to int64) {
	for n := len(p.entries); n > 0 && p.entries[n-1].offset >= to; n-- {
		p.drop(&p.entries[n-1])
		p.entries = p.entries[:n-1]
	}
	p.next = min(p.next, to)
}

// drop counts an entry out.
func (p *Partition) drop(e *entry) {
	if e.done {
		return
	}
	p.open--
	if e.by == 0 {
		p.free--
	}
}

// Acknowledge has a record done with. It is false unless the member has it.
func (p *Partition) Acknowledge(offset int64, by Member) bool {
	i, ok := p.held(offset, by)
	if ok {
		p.finish(i)
	}
	return ok
}

// Discard has a record that is released done with: it cannot be given out again.
func (p *Partition) Discard(offset int64) bool { return p.Acknowledge(offset, 0) }

func (p *Partition) finish(i int) {
	p.drop(&p.entries[i])
	p.entries[i].done = true
	switch done := len(p.entries) - p.open; {
	case p.open == 0:
		p.entries = p.entries[:0]
	case done > keptDone && done > len(p.entries)/2:
		p.entries = slices.DeleteFunc(p.entries, func(e entry) bool { return e.done })
	}
}

// keptDone is how many entries that are done with are not worth to be cleared away.
const keptDone = 64

// held is the place of a record that a member has.
func (p *Partition) held(offset int64, by Member) (i int, ok bool) {
	i = sort.Search(len(p.entries), func(i int) bool { return p.entries[i].offset >= offset })
	if i == len(p.entries) {
		return 0, false
	}
	e := &p.entries[i]
	return i, e.offset == offset && !e.done && e.by == by
}

// Release gives a record back that a member has: it is the next to be given out, with the others that are released, by
// their offsets. It is false unless the member has it.
func (p *Partition) Release(offset int64, by Member) bool {
	i, ok := p.held(offset, by)
	if !ok || by == 0 {
		return false
	}
	p.entries[i].by = 0
	p.free++
	return true
}

// ReleaseAll gives back everything that a member has, and tells how much that is.
func (p *Partition) ReleaseAll(by Member) (n int) {
	for i := range p.entries {
		if e := &p.entries[i]; !e.done && e.by == by && by != 0 {
			e.by = 0
			n++
		}
	}
	p.free += n
	return n
}

// Again is a record that is released.
type Again struct {
	Offset int64
	Times  uint16 // that it was given out, since it was last read back
}

// Released appends the first records that are released to into, at most so many.
func (p *Partition) Released(into []Again, most int) []Again {
	for i := 0; i < len(p.entries) && most > 0 && p.free > 0; i++ {
		if e := &p.entries[i]; !e.done && e.by == 0 {
			into = append(into, Again{Offset: e.offset, Times: e.times})
			most--
		}
	}
	return into
}

// Reacquire gives a record that is released to a member. It is false for one that is not.
func (p *Partition) Reacquire(offset int64, by Member) bool {
	i, ok := p.held(offset, 0)
	if !ok || by == 0 {
		return false
	}
	e := &p.entries[i]
	e.by = by
	p.free--
	if e.times < 1<<16-1 {
		e.times++
	}
	return true
}
