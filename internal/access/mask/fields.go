package mask

import "slices"

// action is what becomes of one value; the zero value is nothing.
type action struct {
	does   Does
	length int
}

// with is the stricter of two.
func (a action) with(b action) action {
	switch {
	case a.does == 0 || b.does != 0 && b.does < a.does:
		return b
	case a.does == Truncate && b.does == Truncate:
		return action{Truncate, min(a.length, b.length)}
	}
	return a
}

// Fields are masks ready for use. They never change.
type Fields struct {
	key     action
	headers map[string]action // by their bare names
	root    *node             // of the payload; nil: it is shown
}

// node is a place in JSON where paths lead through or end.
type node struct {
	action action
	names  map[string]*node
	each   *node // of the elements of an array
}

// New makes masks ready, which are well-formed.
func New(masks []Mask) *Fields {
	f := &Fields{}
	for i := range masks {
		m := &masks[i]
		a := action{m.Does, m.Length}
		switch m.Place {
		case Key:
			f.key = f.key.with(a)
		case Header:
			if f.headers == nil {
				f.headers = map[string]action{}
			}
			f.headers[m.Name] = f.headers[m.Name].with(a)
		case JSON:
			if f.root == nil {
				f.root = &node{}
			}
			path, _ := parsePath(m.Name) // it is well-formed
			end := f.root.reach(path)
			end.action = end.action.with(a)
		}
	}
	return f
}

// reach is the node at the end of a path, made if it is not there.
func (n *node) reach(path []step) *node {
	for _, s := range path {
		var next *node
		if s.each {
			if n.each == nil {
				n.each = &node{}
			}
			next = n.each
		} else {
			if n.names == nil {
				n.names = map[string]*node{}
			}
			if next = n.names[s.name]; next == nil {
				next = &node{}
				n.names[s.name] = next
			}
		}
		n = next
	}
	return n
}

// Set is the masks that are in force for one message and one reader. A nil Set is none.
type Set struct {
	Secret []byte // the key of hashes
	Fields []*Fields
}

// With is both; either may be nil.
func (s *Set) With(t *Set) *Set {
	switch {
	case s == nil:
		return t
	case t == nil:
		return s
	}
	return &Set{Secret: s.Secret, Fields: append(slices.Clip(s.Fields), t.Fields...)}
}

// AboutPayload tells whether some mask is about the payload.
func (s *Set) AboutPayload() bool { return s.any(func(f *Fields) bool { return f.root != nil }) }

// AboutHeaders tells whether some mask is about headers.
func (s *Set) AboutHeaders() bool { return s.any(func(f *Fields) bool { return f.headers != nil }) }

func (s *Set) any(is func(*Fields) bool) bool {
	return s != nil && slices.ContainsFunc(s.Fields, is)
}
