package session

// filters are the subscriptions of a session by filter. Most sessions have one or two, so it is a list; who has many
// has an index too.
type filters struct {
	list  []*Subscription
	index map[string]int // place in the list by filter; nil: the list is short
}

// An index is made above indexFrom and given up below indexTo, so that it does not come and go at each change.
const (
	indexFrom = 16
	indexTo   = 8
)

// find is the place of a filter's subscription in the list, or -1.
func (f *filters) find(filter string) int {
	if f.index != nil {
		if at, ok := f.index[filter]; ok {
			return at
		}
		return -1
	}
	for at, sub := range f.list {
		if sub.Filter == filter {
			return at
		}
	}
	return -1
}

// put has a subscription be that of its filter and returns the one that was, or nil.
func (f *filters) put(sub *Subscription) (old *Subscription) {
	at := f.find(sub.Filter)
	if at >= 0 {
		old, f.list[at] = f.list[at], sub
		if f.index != nil {
			delete(f.index, sub.Filter) // else the key keeps the old filter's memory
			f.index[sub.Filter] = at
		}
		return old
	}
	f.list = append(f.list, sub)
	switch {
	case f.index != nil:
		f.index[sub.Filter] = len(f.list) - 1
	case len(f.list) > indexFrom:
		f.index = make(map[string]int, len(f.list))
		for at, sub := range f.list {
			f.index[sub.Filter] = at
		}
	}
	return nil
}

// remove takes out the subscription of a filter and returns it, or nil. The last of the list takes its place.
func (f *filters) remove(filter string) *Subscription {
	at := f.find(filter)
	if at < 0 {
		return nil
	}
	sub, last := f.list[at], len(f.list)-1
	f.list[at] = f.list[last]
	f.list[last] = nil
	f.list = f.list[:last]
	if f.index != nil {
		delete(f.index, filter)
		if at < last {
			f.index[f.list[at].Filter] = at
		}
	}
	if last < indexTo {
		f.index = nil
	}
	if last == 0 {
		f.list = nil
	}
	return sub
}
