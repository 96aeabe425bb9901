package rule

import (
	"slices"
	"strings"
)

// index is rules of one principal ready to be asked. It never changes once it is made.
type index struct {
	kinds   [lastKind + 1]*named
	filters *tree // nil: there are none
}

// named are the rules of one kind of resource by name.
type named struct {
	any      grants // of AnyName
	literal  map[string]grants
	prefixes map[string]grants
	lengths  []int // of the prefixes
	held     *tree // what names the topics among the literal may hold, if these are many: what may be done there
}

// fewTopics is how many topics are looked at one by one for what they may hold.
const fewTopics = 16

// hold finds what names the topics may hold, if they are many.
func (n *named) hold(mapping Mapping) {
	if len(n.literal) <= fewTopics {
		return
	}
	n.held = &tree{}
	for topic, g := range n.literal {
		var may Operations
		for o := All; o <= lastOperation; o++ {
			if g.may(o) {
				may |= 1 << o
			}
		}
		for _, filter := range mapping.FiltersOf(topic) {
			n.held.add(filter, grants{allow: may})
		}
	}
}

// add puts a rule in force; the name is that of its resource, without templates.
func (x *index) add(r *Rule, name string) {
	g := grants{allow: r.Operations}
	if r.Effect == Deny {
		g = grants{deny: r.Operations}
	}
	if r.Resource.Pattern == Filter {
		if x.filters == nil {
			x.filters = &tree{}
		}
		x.filters.add(name, g)
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
