package rule

import (
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/names"
)

// index is rules of one principal ready to be asked. It never changes once it is made.
type index struct {
	kinds   [lastKind + 1]*named
	filters []filtered
	trie    *names.Trie[int32] // of the filters by their place, if they are many
	places  map[string]int     // of the filters, while rules are added
}

// named are the rules of one kind of resource by name.
type named struct {
	any      grants // of AnyName
	literal  map[string]grants
	prefixes map[string]grants
	lengths  []int // of the prefixes
}

// filtered is what rules say of the names that a topic filter matches.
type filtered struct {
	filter string
	grants grants
}

// few is how many filters are looked at one by one faster than by a trie.
const few = 6

// add puts a rule in force; the name is that of its resource, without templates.
func (x *index) add(r *Rule, name string) {
	g := grants{allow: r.Operations}
	if r.Effect == Deny {
		g = grants{deny: r.Operations}
	}
	if r.Resource.Pattern == Filter {
		x.addFilter(name, g)
		return
	}
	n := x.kinds[r.Resource.Kind]
	if n == nil {
		n = &named{literal: map[string]grants{}, prefixes: map[string]grants{}}
		x.kinds[r.Resource.Kind] = n
	}
	switch {
	case r.Resource.Pattern == Prefixed:
		n.prefixes[name] = n.prefixes[name].with(g)
		if !slices.Contains(n.lengths, len(name)) {
			n.lengths = append(n.lengths, len(name))
		}
	case name == AnyName:
		n.any = n.any.with(g)
	default:
		n.literal[name] = n.literal[name].with(g)
	}
}

func (x *index) addFilter(filter string, g grants) {
	at, is := x.places[filter]
	if is {
		x.filters[at].grants = x.filters[at].grants.with(g)
		return
	}
	if x.places == nil {
		x.places = map[string]int{}
	}
	x.places[filter] = len(x.filters)
	x.filters = append(x.filters, filtered{filter, g})
}

// ready is called when every rule was added.
func (x *index) ready() *index {
	x.places = nil
	if len(x.filters) > few {
		x.trie = &names.Trie[int32]{}
		for i := range x.filters {
			x.trie.Add(x.filters[i].filter, int32(i))
		}
	}
	return x
}

// ofNames is what the filters say of a topic name of devices.
func (x *index) ofName(name []byte) (g grants) {
	if x.trie != nil {
		x.trie.Match(name, func(i int32) { g = g.with(x.filters[i].grants) })
		return g
	}
	for i := range x.filters {
		if names.Match(x.filters[i].filter, name) {
			g = g.with(x.filters[i].grants)
		}
	}
	return g
}

// of is what the rules by name say of a resource.
func (x *index) of(kind Kind, name string) grants {
	n := x.kinds[kind]
	if n == nil {
		return grants{}
	}
	internal := kind == Topic && strings.HasPrefix(name, InternalPrefix)
	g := n.literal[name]
	if !internal {
		g = g.with(n.any)
	}
	for _, length := range n.lengths {
		if length <= len(name) && (!internal || length >= len(InternalPrefix)) {
			g = g.with(n.prefixes[name[:length]])
		}
	}
	return g
}
