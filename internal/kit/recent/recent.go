// Package recent remembers what was used lately, in bounded memory.
//
//	var m recent.Map[string, int]
//	m.Put("a", 1, 1000)
//	n, is := m.Find("a")
package recent

// Map is a map that forgets what was not used for long: it keeps the entries of two generations, and begins a new one,
// in the place of the older, when the newer is full. Every operation takes constant time. The zero Map is empty. It is
// not safe for concurrent use.
type Map[K comparable, V any] struct {
	young, old map[K]V
}

// Find finds an entry, and remembers that it was used when it is put again.
func (m *Map[K, V]) Find(key K) (value V, is bool) {
	if value, is = m.young[key]; !is {
		value, is = m.old[key]
	}
	return value, is
}

// Get is the value of an entry, or zero.
func (m *Map[K, V]) Get(key K) V {
	value, _ := m.Find(key)
	return value
}

// Put sets an entry. Of the others most are remembered, the last of them, at least, and twice as many at most.
func (m *Map[K, V]) Put(key K, value V, most int) {
	if _, is := m.young[key]; !is && len(m.young) >= most {
		m.old, m.young = m.young, nil
	}
	if m.young == nil {
		m.young = map[K]V{}
	}
	m.young[key] = value
	delete(m.old, key)
}

// Delete forgets an entry.
func (m *Map[K, V]) Delete(key K) {
	delete(m.young, key)
	delete(m.old, key)
}

// Len is how many entries are remembered.
func (m *Map[K, V]) Len() int { return len(m.young) + len(m.old) }
