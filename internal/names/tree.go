package names

import "hash/maphash"

// tree is the common ground of both indexes: a tree of levels. A node is a number; its children are
// found by one hash table for the whole tree, and their names lie in one run of bytes. There are
// hardly any pointers in it for the garbage collector to follow, and 32 to 44 bytes a level.
//
// Node 0 is the root. X is what an index keeps with each node.
type tree[X any] struct {
	nodes []node[X]
	free  uint32 // the first of the nodes not in use, linked by parent; 0: none
	idle  int    // how many are not in use
	text  []byte // the names of all levels
	waste int    // bytes of text that belong to no node
	table []slot // open addressing, linear probing; the length is a power of two
	used  int    // slots in use
	seed  maphash.Seed
}

type node[X any] struct {
	at     uint64 // where its name begins in text
	parent uint32
	kids   uint32 // how many nodes have this one as their parent
	length uint16 // of its name
	x      X
}

// slot is an edge: the hash of (parent, name) and the child. Child 0 is an empty slot.
type slot struct{ hash, child uint32 }

func (t *tree[X]) init() {
	if t.nodes == nil {
		t.nodes = make([]node[X], 1)
		t.table = make([]slot, 16)
		t.seed = maphash.MakeSeed()
	}
}

func (t *tree[X]) name(n uint32) []byte {
	nd := &t.nodes[n]
	return t.text[nd.at : nd.at+uint64(nd.length)]
}

func (t *tree[X]) hash(parent uint32, level []byte) uint32 {
	h := maphash.Bytes(t.seed, level) ^ uint64(parent)*0x9E3779B97F4A7C15
	h *= 0xD6E8FEB86659FD93
	return uint32(h >> 32)
}

// find is the child of parent with a name, or 0.
func (t *tree[X]) find(parent uint32, level []byte) uint32 {
	if t.used == 0 {
		return 0
	}
	h, mask := t.hash(parent, level), uint32(len(t.table)-1)
	for i := h & mask; ; i = (i + 1) & mask {
		s := t.table[i]
		if s.child == 0 {
			return 0
		}
		if s.hash == h && t.nodes[s.child].parent == parent && string(t.name(s.child)) == string(level) {
			return s.child
		}
	}
}

// link makes a child of parent that find can find.
func (t *tree[X]) link(parent uint32, level []byte) uint32 {
	n := t.make(parent)
	nd := &t.nodes[n]
	nd.at, nd.length = uint64(len(t.text)), uint16(len(level))
	t.text = append(t.text, level...)
	if 4*(t.used+1) > 3*len(t.table) {
		t.grow()
	}
	t.used++
	t.put(slot{t.hash(parent, level), n})
	return n
}

// make makes a child of parent without a name.
func (t *tree[X]) make(parent uint32) uint32 {
	n := t.free
	if n != 0 {
		t.free = t.nodes[n].parent
		t.idle--
	} else {
		n = uint32(len(t.nodes))
		t.nodes = append(t.nodes, node[X]{})
	}
	t.nodes[n] = node[X]{parent: parent}
	t.nodes[parent].kids++
	return n
}

func (t *tree[X]) put(s slot) {
	mask := uint32(len(t.table) - 1)
	i := s.hash & mask
	for t.table[i].child != 0 {
		i = (i + 1) & mask
	}
	t.table[i] = s
}

func (t *tree[X]) grow() {
	old := t.table
	t.table = make([]slot, 2*len(old))
	for _, s := range old {
		if s.child != 0 {
			t.put(s)
		}
	}
}

// unlink takes away a childless node that link made.
func (t *tree[X]) unlink(n uint32) {
	mask := uint32(len(t.table) - 1)
	i := t.hash(t.nodes[n].parent, t.name(n)) & mask
	for t.table[i].child != n {
		i = (i + 1) & mask
	}
	// Close the gap: every slot that could not lie at its own place because of this one moves up.
	for j := (i + 1) & mask; t.table[j].child != 0; j = (j + 1) & mask {
		if home := t.table[j].hash & mask; (j-home)&mask >= (j-i)&mask {
			t.table[i] = t.table[j]
			i = j
		}
	}
	t.table[i] = slot{}
	t.used--
	t.waste += int(t.nodes[n].length)
	t.drop(n)
	t.tidy()
}

// drop takes away a childless node and forgets its name.
func (t *tree[X]) drop(n uint32) {
	parent := t.nodes[n].parent
	t.nodes[parent].kids--
	t.nodes[n] = node[X]{parent: t.free}
	t.free = n
	t.idle++
}

// minShrink is the number of nodes from which memory is given back.
const minShrink = 1 << 12

// sparse tells whether a table is so empty that its memory should be given back.
func sparse(idle, size int) bool { return size >= minShrink && idle > size/4*3 }

// shrink gives the memory of nodes back when most are not in use, once in as many removals as there are nodes, at the
// most. It gives the nodes other numbers: by old number, 0 for those that are gone; nil when it did nothing.
func (t *tree[X]) shrink() (number []uint32) {
	if !sparse(t.idle, len(t.nodes)) {
		return nil
	}
	number = make([]uint32, len(t.nodes))
	for n := range number {
		number[n] = 1
	}
	for n := t.free; n != 0; n = t.nodes[n].parent {
		number[n] = 0
	}
	old := t.nodes
	t.nodes = make([]node[X], 0, len(old)-t.idle)
	for n := range old {
		if number[n] != 0 {
			number[n] = uint32(len(t.nodes))
			t.nodes = append(t.nodes, old[n])
		}
	}
	for n := range t.nodes {
		t.nodes[n].parent = number[t.nodes[n].parent]
	}
	t.free, t.idle = 0, 0
	t.rehash(number)
	return number
}

// rehash makes the table anew, as large as it need be, for nodes that have other numbers.
func (t *tree[X]) rehash(number []uint32) {
	size := 16
	for 3*size < 4*(t.used+1) {
		size *= 2
	}
	old := t.table
	t.table = make([]slot, size)
	text := make([]byte, 0, len(t.text)-t.waste)
	for _, s := range old {
		if s.child == 0 {
			continue
		}
		n := number[s.child]
		name := t.name(n)
		t.nodes[n].at = uint64(len(text))
		text = append(text, name...)
		t.put(slot{t.hash(t.nodes[n].parent, name), n})
	}
	t.text, t.waste = text, 0
}

// tidy writes the names anew when more than half of them belong to no node: once in as many removals
// as there are nodes, at the most.
func (t *tree[X]) tidy() {
	if t.waste < 1<<16 || t.waste < len(t.text)/2 {
		return
	}
	text := make([]byte, 0, len(t.text)-t.waste)
	for _, s := range t.table {
		if s.child != 0 {
			name := t.name(s.child)
			t.nodes[s.child].at = uint64(len(text))
			text = append(text, name...)
		}
	}
	t.text, t.waste = text, 0
}

// next cuts the first level off a name: the level, the rest and whether there is a rest.
func next(name []byte) (level, rest []byte, more bool) {
	end := levelEnd(name, 0)
	if end == len(name) {
		return name, nil, false
	}
	return name[:end], name[end+1:], true
}
