package group

import "slices"

// element is what sets hold: they stand in its order, each once, and are not changed once they are made.
type element[E any] interface {
	comparable
	compare(o E) int
}

// setOf makes a set of what may have no order. It keeps all.
func setOf[S ~[]E, E element[E]](all S) S {
	slices.SortFunc(all, E.compare)
	return slices.Compact(all)
}

func has[S ~[]E, E element[E]](s S, e E) bool {
	_, is := slices.BinarySearchFunc(s, e, E.compare)
	return is
}

// within tells whether o has all of s.
func within[S ~[]E, E element[E]](s, o S) bool {
	return !slices.ContainsFunc(s, func(e E) bool { return !has(o, e) })
}

// where is the part of s that passes.
func where[S ~[]E, E element[E]](s S, passes func(E) bool) S {
	var some S
	for _, e := range s {
		if passes(e) {
			some = append(some, e)
		}
	}
	return some
}

// without is s without what o has.
func without[S ~[]E, E element[E]](s, o S) S {
	return where(s, func(e E) bool { return !has(o, e) })
}

// union is what s or o have.
func union[S ~[]E, E element[E]](s, o S) S { return setOf(append(slices.Clone(s), o...)) }
