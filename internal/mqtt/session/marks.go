package session

import "slices"

// Marks are the marks of a shard: for each partition its offsets at some of them. A mark is a number; at each one a
// partition stood at an offset, below which everything was offered to all who were in step.
//
// An offset is kept where it changed, and of those at most keptMarks a partition: the first, the last, and between them
// the fewer the older they are. What is gone is answered by an older one, which is never wrong: more is read again.
//
// The zero value has no marks.
type Marks struct {
	parts map[uint32]MarkRecord
	last  uint64
}

// FirstMark is the mark before there is any other, at which no partition stands anywhere.
const FirstMark = 1

// MarkAt is the offset of a partition at a mark.
type MarkAt struct {
	Mark   uint64 // from 1
	Offset int64
}

// MarkRecord is what a partition's offsets at marks are, the oldest first.
type MarkRecord []MarkAt

// keptMarks is the most offsets that are kept of one partition. They are thinned by how far their marks are apart
// against how old they are: of a million marks 32 stay, apart by about half of their age.
const keptMarks = 32

// Last is the last mark; 0: there is none yet.
func (m *Marks) Last() uint64 { return m.last }

// Next begins the next mark and returns its number.
func (m *Marks) Next() uint64 {
	m.last++
	return m.last
}

// Raise has the last mark be no less than one that something is known to stand at.
func (m *Marks) Raise(mark uint64) { m.last = max(m.last, mark) }

// Set says at which offset a partition stands at the last mark, which begins if there is none. It tells whether that
// has changed since the mark before, so that the Record is to be stored.
func (m *Marks) Set(p uint32, offset int64) (changed bool) {
	if m.last == 0 {
		m.Next()
	}
	at := m.parts[p]
	newest := len(at) - 1
	switch {
	case newest >= 0 && at[newest].Offset == offset:
		return false
	case newest >= 0 && at[newest].Mark == m.last:
		at[newest].Offset = offset
		return true
	}
	m.put(p, thin(append(at, MarkAt{Mark: m.last, Offset: offset})))
	return true
}

func (m *Marks) put(p uint32, at MarkRecord) {
	if m.parts == nil {
		m.parts = make(map[uint32]MarkRecord)
	}
	m.parts[p] = at
}

// At is the offset at which a partition stood at a mark, or at the closest older one that is known; mark 0 is the last.
// ok is false when the partition has none so old: all of it is younger, or was not there.
func (m *Marks) At(p uint32, mark uint64) (offset int64, ok bool) {
	at := m.parts[p]
	n := len(at)
	if mark > 0 {
		for n > 0 && at[n-1].Mark > mark {
			n--
		}
	}
	if n == 0 {
		return 0, false
	}
	return at[n-1].Offset, true
}

// Record is what to store of a partition; empty: nothing. It holds until the next Set.
func (m *Marks) Record(p uint32) MarkRecord { return m.parts[p] }

// Restore puts back what was stored of a partition, in place of what is known of it. The last mark is no less than
// those in it.
func (m *Marks) Restore(p uint32, r MarkRecord) {
	if len(r) == 0 {
		m.Forget(p)
		return
	}
	at := slices.Clone(r)
	for len(at) > keptMarks {
		at = thin(at)
	}
	m.put(p, at)
	m.Raise(at[len(at)-1].Mark)
}

// Forget removes what is known of a partition: it is gone.
func (m *Marks) Forget(p uint32) { delete(m.parts, p) }

// thin drops one offset if there are too many: that without which the distance between its neighbours is the smallest
// against how old it would be.
func thin(at MarkRecord) MarkRecord {
	if len(at) <= keptMarks {
		return at
	}
	last := at[len(at)-1].Mark
	best, least := 0, 0.0
	for i := 1; i < len(at)-1; i++ {
		coarse := float64(at[i+1].Mark-at[i-1].Mark) / float64(last-at[i-1].Mark)
		if best == 0 || coarse < least {
			best, least = i, coarse
		}
	}
	return slices.Delete(at, best, best+1)
}
