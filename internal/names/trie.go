package names

// Trie is a set of (filter, value) pairs, found by topic names. The zero value is empty. Filters are
// valid ones, without $share; T is usually a pointer to a subscription.
//
// Its cost is about 120 bytes a filter of its own and 16 bytes a further value of the same filter, for
// values of 8 bytes. Match looks at no more nodes than filters match the beginning of the name.
type Trie[T comparable] struct {
	tree    tree[trieNode]
	entries []entry[T]              // entry 0 is not used
	free    uint32                  // the first entry not in use, linked by next
	pairs   int                     // entries in use
	large   map[uint32]map[T]uint32 // node and value to entry, for nodes with many values
}

type trieNode struct {
	plus  uint32 // the child +, or 0
	hash  uint32 // the child #, or 0
	first uint32 // the first entry, or 0
}

// entry is one value of a node, in a list.
type entry[T comparable] struct {
	value      T
	next, prev uint32
}

// many is the number of values of one filter from which a map finds them.
const many = 32

// Len is the number of pairs.
func (t *Trie[T]) Len() int { return t.pairs }

// Add puts a pair in. It tells whether it was not there before.
func (t *Trie[T]) Add(filter string, v T) bool {
	t.tree.init()
	n := t.path([]byte(filter))
	if t.entry(n, v) != 0 {
		return false
	}
	e := t.free
	if e != 0 {
		t.free = t.entries[e].next
	} else {
		if len(t.entries) == 0 {
			t.entries = make([]entry[T], 1)
		}
		e = uint32(len(t.entries))
		t.entries = append(t.entries, entry[T]{})
	}
	first := &t.tree.nodes[n].x.first
	t.entries[e] = entry[T]{value: v, next: *first}
	t.entries[*first].prev = e // entry 0 takes it for nobody
	*first = e
	if index := t.large[n]; index != nil {
		index[v] = e
	}
	t.pairs++
	return true
}

// path finds or makes the node of a filter.
func (t *Trie[T]) path(filter []byte) uint32 {
	var n uint32
	for more := true; more; {
		var level []byte
		level, filter, more = next(filter)
		child := t.child(n, level, more)
		if child == 0 {
			child = t.add(n, level, more)
		}
		n = child
	}
	return n
}

func (t *Trie[T]) child(n uint32, level []byte, more bool) uint32 {
	switch {
	case string(level) == "+":
		return t.tree.nodes[n].x.plus
	case string(level) == "#" && !more:
		return t.tree.nodes[n].x.hash
	}
	return t.tree.find(n, level)
}

func (t *Trie[T]) add(n uint32, level []byte, more bool) (child uint32) {
	switch {
	case string(level) == "+":
		child = t.tree.make(n)
		t.tree.nodes[n].x.plus = child
	case string(level) == "#" && !more:
		child = t.tree.make(n)
		t.tree.nodes[n].x.hash = child
	default:
		child = t.tree.link(n, level)
	}
	return child
}

// entry finds a value of a node, or 0. It makes the map of a node whose list has grown long.
func (t *Trie[T]) entry(n uint32, v T) uint32 {
	if index := t.large[n]; index != nil {
		return index[v]
	}
	length := 0
	for e := t.tree.nodes[n].x.first; e != 0; e = t.entries[e].next {
		if t.entries[e].value == v {
			return e
		}
		length++
	}
	if length >= many {
		t.enlarge(n)
	}
	return 0
}

func (t *Trie[T]) enlarge(n uint32) {
	index := make(map[T]uint32, 2*many)
	for e := t.tree.nodes[n].x.first; e != 0; e = t.entries[e].next {
		index[t.entries[e].value] = e
	}
	if t.large == nil {
		t.large = make(map[uint32]map[T]uint32)
	}
	t.large[n] = index
}

// Remove takes a pair out. It tells whether it was there.
func (t *Trie[T]) Remove(filter string, v T) bool {
	if t.pairs == 0 {
		return false
	}
	n, rest := uint32(0), []byte(filter)
	for more := true; more; {
		var level []byte
		level, rest, more = next(rest)
		if n = t.child(n, level, more); n == 0 {
			return false
		}
	}
	e := t.entry(n, v)
	if e == 0 {
		return false
	}
	t.removeEntry(n, e, v)
	t.prune(n)
	t.shrink()
	return true
}

// shrink gives memory back when most of it is not in use.
func (t *Trie[T]) shrink() {
	if number := t.tree.shrink(); number != nil {
		for i := range t.tree.nodes {
			x := &t.tree.nodes[i].x
			x.plus, x.hash = number[x.plus], number[x.hash]
		}
		large := t.large
		t.large = make(map[uint32]map[T]uint32, len(large))
		for n, index := range large {
			t.large[number[n]] = index
		}
	}
	if sparse(len(t.entries)-t.pairs, len(t.entries)) {
		t.shrinkEntries()
	}
}

func (t *Trie[T]) shrinkEntries() {
	old := t.entries
	t.entries, t.free = make([]entry[T], 1, t.pairs+1), 0
	for n := range t.tree.nodes {
		first := &t.tree.nodes[n].x.first
		index := t.large[uint32(n)]
		before := uint32(0)
		for e := *first; e != 0; e = old[e].next {
			at := uint32(len(t.entries))
			t.entries = append(t.entries, entry[T]{value: old[e].value, prev: before})
			if before == 0 {
				*first = at
			} else {
				t.entries[before].next = at
			}
			if index != nil {
				index[old[e].value] = at
			}
			before = at
		}
	}
}

func (t *Trie[T]) removeEntry(n, e uint32, v T) {
	gone := t.entries[e]
	if gone.prev == 0 {
		t.tree.nodes[n].x.first = gone.next
	} else {
		t.entries[gone.prev].next = gone.next
	}
	t.entries[gone.next].prev = gone.prev
	t.entries[0] = entry[T]{}
	t.entries[e] = entry[T]{next: t.free}
	t.free = e
	t.pairs--
	if index := t.large[n]; index != nil {
		if delete(index, v); len(index) == 0 {
			delete(t.large, n)
		}
	}
}

// prune takes away a node without values and children, and its parents that are then like it.
func (t *Trie[T]) prune(n uint32) {
	for n != 0 {
		nd := &t.tree.nodes[n]
		if nd.kids > 0 || nd.x.first != 0 {
			return
		}
		parent := nd.parent
		switch up := &t.tree.nodes[parent].x; n {
		case up.plus:
			up.plus = 0
			t.tree.drop(n)
		case up.hash:
			up.hash = 0
			t.tree.drop(n)
		default:
			t.tree.unlink(n)
		}
		n = parent
	}
}

// Match calls visit with the value of every pair whose filter matches a valid name: once for each
// pair, in no order. visit must not change t. Nothing is allocated. A filter that begins with a
// wildcard matches no name that begins with $ [MQTT-4.7.2-1].
func (t *Trie[T]) Match(name []byte, visit func(T)) {
	if t.pairs == 0 {
		return
	}
	if len(name) > 0 && name[0] == '$' {
		level, rest, more := next(name)
		if n := t.tree.find(0, level); n != 0 {
			t.from(n, rest, more, visit)
		}
		return
	}
	t.from(0, name, true, visit)
}

// from matches the rest of a name below a node; more is false when nothing is left of it. It follows
// names in a loop and recurses for + only, so that it is never deeper than filters have levels.
func (t *Trie[T]) from(n uint32, rest []byte, more bool, visit func(T)) {
	for {
		x := t.tree.nodes[n].x
		if x.hash != 0 { // also when nothing is left: a/# matches a (section 4.7.1.2)
			t.values(x.hash, visit)
		}
		if !more {
			t.values(n, visit)
			return
		}
		if t.tree.nodes[n].kids == 0 {
			return
		}
		var level []byte
		level, rest, more = next(rest)
		if x.plus != 0 {
			t.from(x.plus, rest, more, visit)
		}
		if n = t.tree.find(n, level); n == 0 {
			return
		}
	}
}

func (t *Trie[T]) values(n uint32, visit func(T)) {
	for e := t.tree.nodes[n].x.first; e != 0; e = t.entries[e].next {
		visit(t.entries[e].value)
	}
}
