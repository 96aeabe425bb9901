package names

// Names is a map from topic names to values, found by filters: the retained messages. The zero value
// is empty. Names are valid ones.
//
// Its cost is about 150 bytes a name of two levels of its own, for values of 8 bytes.
type Names[T any] struct {
	tree   tree[nameNode]
	values []T      // value 0 is not used
	free   []uint32 // values not in use
	count  int
}

type nameNode struct {
	first      uint32 // the first child, or 0
	next, prev uint32 // brothers and sisters
	value      uint32 // 0: no value
}

// Len is the number of names.
func (t *Names[T]) Len() int { return t.count }

// Set gives a name a value. It tells whether the name is new.
func (t *Names[T]) Set(name []byte, v T) bool {
	t.tree.init()
	var n uint32
	for rest, more := name, true; more; {
		var level []byte
		level, rest, more = next(rest)
		child := t.tree.find(n, level)
		if child == 0 {
			child = t.add(n, level)
		}
		n = child
	}
	if i := t.tree.nodes[n].x.value; i != 0 {
		t.values[i] = v
		return false
	}
	t.tree.nodes[n].x.value = t.value(v)
	t.count++
	return true
}

func (t *Names[T]) value(v T) uint32 {
	if last := len(t.free) - 1; last >= 0 {
		i := t.free[last]
		t.free = t.free[:last]
		t.values[i] = v
		return i
	}
	if len(t.values) == 0 {
		t.values = make([]T, 1)
	}
	t.values = append(t.values, v)
	return uint32(len(t.values) - 1)
}

func (t *Names[T]) add(parent uint32, level []byte) uint32 {
	n := t.tree.link(parent, level)
	nodes := t.tree.nodes
	old := nodes[parent].x.first
	nodes[n].x.next = old
	if old != 0 {
		nodes[old].x.prev = n
	}
	nodes[parent].x.first = n
	return n
}

func (t *Names[T]) node(name []byte) uint32 {
	var n uint32
	for rest, more := name, true; more; {
		var level []byte
		level, rest, more = next(rest)
		if n = t.tree.find(n, level); n == 0 {
			return 0
		}
	}
	return n
}

// Get is the value of a name.
func (t *Names[T]) Get(name []byte) (v T, ok bool) {
	if n := t.node(name); n != 0 {
		if i := t.tree.nodes[n].x.value; i != 0 {
			return t.values[i], true
		}
	}
	return v, false
}

// Delete takes a name out. It tells whether it was there.
func (t *Names[T]) Delete(name []byte) bool {
	n := t.node(name)
	if n == 0 || t.tree.nodes[n].x.value == 0 {
		return false
	}
	var zero T
	i := t.tree.nodes[n].x.value
	t.values[i] = zero
	t.free = append(t.free, i)
	t.tree.nodes[n].x.value = 0
	t.count--
	for n != 0 {
		nd := t.tree.nodes[n]
		if nd.kids > 0 || nd.x.value != 0 {
			break
		}
		t.cutOut(nd)
		t.tree.unlink(n)
		n = nd.parent
	}
	t.shrink()
	return true
}

// shrink gives memory back when most of it is not in use.
func (t *Names[T]) shrink() {
	if number := t.tree.shrink(); number != nil {
		for i := range t.tree.nodes {
			x := &t.tree.nodes[i].x
			x.first, x.next, x.prev = number[x.first], number[x.next], number[x.prev]
		}
	}
	if sparse(len(t.free), len(t.values)) {
		old := t.values
		t.values, t.free = make([]T, 1, t.count+1), nil
		for i := range t.tree.nodes {
			if x := &t.tree.nodes[i].x; x.value != 0 {
				t.values = append(t.values, old[x.value])
				x.value = uint32(len(t.values) - 1)
			}
		}
	}
}

// cutOut takes a node out of the list of its parent's children.
func (t *Names[T]) cutOut(nd node[nameNode]) {
	nodes := t.tree.nodes
	if nd.x.prev != 0 {
		nodes[nd.x.prev].x.next = nd.x.next
	} else {
		nodes[nd.parent].x.first = nd.x.next
	}
	if nd.x.next != 0 {
		nodes[nd.x.next].x.prev = nd.x.prev
	}
}

// Match calls visit with every name that a valid filter matches, in no order, until visit returns
// false. The name is valid during the call, and visit must not change t. A filter that begins with a wildcard matches
// no name that begins with $ [MQTT-4.7.2-1].
func (t *Names[T]) Match(filter string, visit func(name []byte, v T) bool) {
	if t.count == 0 {
		return
	}
	w := nameWalk[T]{t: t, visit: visit}
	w.walk(0, []byte(filter))
}

// nameWalk is one Match under way.
type nameWalk[T any] struct {
	t     *Names[T]
	visit func(name []byte, v T) bool
	name  []byte // the name of the node that the walk is at
}

// walk matches the rest of a filter below a node. It returns false to stop the walk. It recurses once
// a level of the filter.
func (w *nameWalk[T]) walk(n uint32, filter []byte) bool {
	level, rest, more := next(filter)
	nodes := w.t.tree.nodes
	switch {
	case string(level) == "#" && !more:
		return w.below(n)
	case string(level) == "+":
		for child := nodes[n].x.first; child != 0; child = nodes[child].x.next {
			if !w.hidden(child) && !w.into(child, rest, more) {
				return false
			}
		}
		return true
	}
	child := w.t.tree.find(n, level)
	return child == 0 || w.into(child, rest, more)
}

// hidden tells whether a wildcard must not match the node: a first level that begins with $.
func (w *nameWalk[T]) hidden(child uint32) bool {
	nd := &w.t.tree.nodes[child]
	return nd.parent == 0 && nd.length > 0 && w.t.tree.text[nd.at] == '$'
}

// into goes on at a child.
func (w *nameWalk[T]) into(child uint32, rest []byte, more bool) bool {
	length := w.push(child)
	var ok bool
	if more {
		ok = w.walk(child, rest)
	} else {
		ok = w.show(child)
	}
	w.name = w.name[:length]
	return ok
}

// push makes the name longer by that of a node and returns the length before.
func (w *nameWalk[T]) push(n uint32) int {
	length := len(w.name)
	if w.t.tree.nodes[n].parent != 0 {
		w.name = append(w.name, '/')
	}
	w.name = append(w.name, w.t.tree.name(n)...)
	return length
}

func (w *nameWalk[T]) pop(n uint32) {
	nd := &w.t.tree.nodes[n]
	length := len(w.name) - int(nd.length)
	if nd.parent != 0 {
		length--
	}
	w.name = w.name[:length]
}

func (w *nameWalk[T]) show(n uint32) bool {
	i := w.t.tree.nodes[n].x.value
	return i == 0 || w.visit(w.name, w.t.values[i])
}

// below shows a node and all below it, in a loop: names may be deeper than filters.
func (w *nameWalk[T]) below(top uint32) bool {
	if !w.show(top) {
		return false
	}
	nodes := w.t.tree.nodes
	n := nodes[top].x.first
	for n != 0 {
		w.push(n)
		if !w.hidden(n) {
			if !w.show(n) {
				return false
			}
			if first := nodes[n].x.first; first != 0 {
				n = first
				continue
			}
		}
		w.pop(n)
		for nodes[n].x.next == 0 && nodes[n].parent != top {
			n = nodes[n].parent
			w.pop(n)
		}
		n = nodes[n].x.next
	}
	return true
}
