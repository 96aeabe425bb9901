package vfs

import (
	"maps"
	"math/rand/v2"
	"time"
)

const (
	pageSize   = 4096
	sectorSize = 512
)

// page is a piece of a file. A page is changed in place only while it is in its content's before
// map, that is, while no other content can share it.
type page [pageSize]byte

// content is what is in a file of a Memory: now, as last synced, and the changes between the two.
type content struct {
	pages    map[int64]*page // by number; one that is missing reads as zeros
	size     int64
	modified time.Time
	before   map[int64]*page // the pages changed since the last sync as they were then; nil: none

	stableSize int64
	changes    []change // since the last sync, in order
	settled    int64    // how many there were before these
	lost       bool     // a sync failed: changes holds some that no sync will store
	losses     int      // how many syncs failed
}

// change is one write, or a change of size if data is nil. Its data is never changed.
type change struct {
	off  int64 // of a write
	data []byte
	size int64 // of the file afterwards, if data is nil
	fate fate
}

// fate is what is known about a change.
type fate uint8

const (
	open   fate = iota // a sync will store it; until then a crash may keep it
	lost               // a sync failed: no sync will store it; a crash may keep it
	stored             // a sync stored it, but not all other changes
)

func newContent() content {
	return content{pages: map[int64]*page{}, before: map[int64]*page{}}
}

// read fills p from off; both lie within the size.
func (c *content) read(p []byte, off int64) {
	for len(p) > 0 {
		in := int(off % pageSize)
		n := min(len(p), pageSize-in)
		if pg := c.pages[off/pageSize]; pg != nil {
			copy(p[:n], pg[in:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// write puts data at off and remembers it as a change. It keeps data.
func (c *content) write(data []byte, off int64) {
	c.modified = time.Now()
	c.put(data, off)
	c.size = max(c.size, off+int64(len(data)))
	c.changes = append(c.changes, change{off: off, data: data})
}

// truncate sets the size and remembers it as a change.
func (c *content) truncate(size int64) {
	c.modified = time.Now()
	if size == c.size {
		return
	}
	c.cut(size)
	c.changes = append(c.changes, change{size: size})
}

// put puts data into the pages; the size stays.
func (c *content) put(data []byte, off int64) {
	for len(data) > 0 {
		in := int(off % pageSize)
		n := copy(c.own(off / pageSize)[in:], data)
		data, off = data[n:], off+int64(n)
	}
}

// cut sets the size; what lies beyond is gone and will read as zeros.
func (c *content) cut(size int64) {
	if size < c.size {
		last := size / pageSize
		for i := range c.pages {
			switch {
			case i > last, i == last && size%pageSize == 0:
				c.keepOld(i)
				delete(c.pages, i)
			case i == last:
				clear(c.own(i)[size%pageSize:])
			}
		}
	}
	c.size = size
}

// own gives page i for change in place.
func (c *content) own(i int64) *page {
	pg := c.pages[i]
	if c.keepOld(i) && pg != nil {
		return pg
	}
	fresh := new(page)
	if pg != nil {
		*fresh = *pg
	}
	c.pages[i] = fresh
	return fresh
}

// keepOld puts page i as it is now into before and tells whether it was there already.
func (c *content) keepOld(i int64) bool {
	if _, kept := c.before[i]; kept {
		return true
	}
	c.before[i] = c.pages[i]
	return false
}

// mark is the place behind all changes so far.
func (c *content) mark() int64 { return c.settled + int64(len(c.changes)) }

// sync makes the changes before a mark stable, except what an earlier sync has lost.
func (c *content) sync(mark int64) {
	if !c.lost && mark == c.mark() {
		c.settle()
		return
	}
	for i := range max(0, mark-c.settled) {
		if c.changes[i].fate == open {
			c.changes[i].fate = stored
		}
	}
}

// lose is a sync that failed.
func (c *content) lose() {
	c.losses++
	for i := range c.changes {
		if c.changes[i].fate == open {
			c.changes[i].fate, c.lost = lost, true
		}
	}
}

// settle declares what is there now to be what is stored.
func (c *content) settle() {
	clear(c.before)
	c.settled += int64(len(c.changes))
	c.stableSize, c.changes, c.lost = c.size, nil, false
}

// crash makes what a power cut leaves: the synced content and what d keeps of the changes.
func (c *content) crash(d *dice) content {
	left := newContent()
	left.pages, left.modified = maps.Clone(c.pages), c.modified
	for i, pg := range c.before {
		if pg == nil {
			delete(left.pages, i)
		} else {
			left.pages[i] = pg
		}
	}
	left.size = c.stableSize
	for _, ch := range c.changes {
		left.replay(ch, d)
	}
	left.cutHidden()
	left.settle()
	return left
}

// replay does a change again as far as d keeps it: all, nothing or, of a write, some sectors; the
// growth of the file apart from the data in it.
func (c *content) replay(ch change, d *dice) {
	if ch.data == nil {
		if ch.fate == stored || d.keep() {
			c.cutHidden()
			c.cut(ch.size)
		}
		return
	}
	end := ch.off + int64(len(ch.data))
	if ch.fate == stored {
		c.put(ch.data, ch.off)
		c.size = max(c.size, end)
		return
	}
	if !d.tear() {
		if d.keep() {
			c.put(ch.data, ch.off)
		}
		if d.keep() {
			c.size = max(c.size, end)
		}
		return
	}
	for at := ch.off; at < end; {
		next := min(end, at-at%sectorSize+sectorSize)
		if d.coin() {
			c.put(ch.data[at-ch.off:next-ch.off], at)
		}
		if d.coin() {
			c.size = max(c.size, next)
		}
		at = next
	}
}

// cutHidden clears what replay has put beyond the size.
func (c *content) cutHidden() {
	size := c.size
	for i := range c.pages {
		c.size = max(c.size, (i+1)*pageSize)
	}
	c.cut(size)
}

// clone copies the content with its history; no page is shared that either side changes in place.
func (c *content) clone() content {
	copied := *c
	copied.pages, copied.before = maps.Clone(c.pages), maps.Clone(c.before)
	for i := range c.before {
		if pg := c.pages[i]; pg != nil {
			own := *pg
			copied.pages[i] = &own
		}
	}
	copied.changes = append([]change(nil), c.changes...)
	return copied
}

// dice decides what a power cut keeps. A nil rng keeps nothing that was not synced.
type dice struct {
	rng  *rand.Rand
	bias float64 // how likely a whole change is kept
}

// newDice chooses a bias, so that among many crashes some keep nothing and some keep everything.
func newDice(rng *rand.Rand) *dice {
	d := &dice{rng: rng}
	if rng != nil {
		d.bias = [...]float64{0, 0.1, 0.5, 0.5, 0.9, 1}[rng.IntN(6)]
	}
	return d
}

func (d *dice) mixed() bool { return d.bias > 0 && d.bias < 1 }

func (d *dice) keep() bool { return d.rng != nil && d.rng.Float64() < d.bias }

func (d *dice) tear() bool { return d.mixed() && d.rng.IntN(3) == 0 }

func (d *dice) coin() bool { return d.rng.IntN(2) == 0 }
