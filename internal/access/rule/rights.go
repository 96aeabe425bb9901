package rule

import (
	"strings"

	"github.com/firthmq/firth/internal/names"
)

// Name tells whether something may be done to a topic name of devices, which is valid. Topic is the topic of the log
// that it goes to or came from; "": the mapping is asked, if need be.
func (r *Rights) Name(o Operation, name []byte, topic string) bool {
	return r == nil || r.ofName(name, topic).may(o)
}

// NameOperations is the set of what may be done to a topic name of devices, of what is done to names: Read and Write.
func (r *Rights) NameOperations(name []byte, topic string) (set Operations) {
	if r == nil {
		return Of(Read, Write)
	}
	g := r.ofName(name, topic)
	for _, o := range [...]Operation{Read, Write} {
		if g.may(o) {
			set |= 1 << o
		}
	}
	return set
}

func (r *Rights) ofName(name []byte, topic string) (g grants) {
	if r.filters {
		for _, x := range r.indexes {
			if x.filters != nil {
				g = g.with(x.filters.covering(name))
			}
		}
	}
	if r.topics && name[0] != '$' {
		if topic == "" {
			topic = r.policy.mapping.TopicOf(name)
		}
		g = g.with(r.byName(Topic, topic))
	}
	return g
}

func (r *Rights) byName(kind Kind, name string) (g grants) {
	for _, x := range r.indexes {
		g = g.with(x.of(kind, name))
	}
	return g
}

// Topic tells whether something may be done to a topic of the log: by rules about it, or by rules about names of
// devices that cover all it can hold. A rule that denies some of them denies it whole, for who fetches sees them all.
func (r *Rights) Topic(o Operation, topic string) bool {
	return r == nil || r.ofTopic(topic).may(o)
}

func (r *Rights) ofTopic(topic string) grants {
	g := r.byName(Topic, topic)
	if !r.filters {
		return g
	}
	covered := Everything
	held := r.policy.mapping.FiltersOf(topic)
	for _, filter := range held {
		one := r.ofFilter(filter)
		g.deny |= one.deny
		covered &= one.allow
	}
	if len(held) > 0 {
		g.allow |= covered
	}
	return g
}

// ofFilter is what rules about names allow for all names that a filter matches, and deny for some of them.
func (r *Rights) ofFilter(filter string) (g grants) {
	question := []byte(filter)
	for _, x := range r.indexes {
		if x.filters != nil {
			g.deny |= x.filters.touching(question).deny
			g.allow |= x.filters.covering(question).allow
		}
	}
	return g
}

// Filter tells whether a client may subscribe to a topic filter: whether there may be a name that it matches and that
// may be read. What is delivered is judged again by its name.
func (r *Rights) Filter(o Operation, filter string) bool {
	if r == nil {
		return true
	}
	if !strings.ContainsAny(filter, "+#") {
		return r.Name(o, []byte(filter), "")
	}
	may, question := false, []byte(filter)
	for _, x := range r.indexes {
		if x.filters == nil {
			continue
		}
		if x.filters.covering(question).deny.Has(o) {
			return false
		}
		may = may || grants{allow: x.filters.touching(question).allow}.may(o)
	}
	return may || filter[0] != '$' && r.topicBehind(o, filter)
}

// topicBehind tells whether rules by name allow a topic of the log that may hold names of a filter.
func (r *Rights) topicBehind(o Operation, filter string) bool {
	for _, x := range r.indexes {
		n := x.kinds[Topic]
		if n == nil {
			continue
		}
		if (grants{allow: n.any.allow}).may(o) {
			return !r.anyDenied(o)
		}
		for _, g := range n.prefixes {
			if g.may(o) {
				return true
			}
		}
		if n.heldBy(r, o, filter) {
			return true
		}
	}
	return false
}

// heldBy tells whether one of the topics named by rules may hold names of a filter, and something be done to it.
func (n *named) heldBy(r *Rights, o Operation, filter string) bool {
	if n.held != nil {
		return n.held.touching([]byte(filter)).allow.Has(o)
	}
	for topic, g := range n.literal {
		if g.may(o) && r.holds(topic, filter) {
			return true
		}
	}
	return false
}

func (r *Rights) anyDenied(o Operation) bool {
	for _, x := range r.indexes {
		if n := x.kinds[Topic]; n != nil && n.any.deny.Has(o) {
			return true
		}
	}
	return false
}

func (r *Rights) holds(topic, filter string) bool {
	for _, held := range r.policy.mapping.FiltersOf(topic) {
		if names.Overlaps(held, filter) {
			return true
		}
	}
	return false
}

// Resource tells whether something may be done to a resource.
func (r *Rights) Resource(o Operation, kind Kind, name string) bool {
	switch {
	case r == nil:
		return true
	case kind == Topic:
		return r.Topic(o, name)
	}
	return r.byName(kind, name).may(o)
}

// Operations is the set of what may be done to a resource, of what makes sense for its kind.
func (r *Rights) Operations(kind Kind, name string) (set Operations) {
	if r == nil {
		return operations[kind]
	}
	g := r.byName(kind, name)
	if kind == Topic {
		g = r.ofTopic(name)
	}
	for _, o := range operations[kind].List() {
		if g.may(o) {
			set |= 1 << o
		}
	}
	return set
}

// Some tells whether something may be done to some resource of a kind that rules name: what Kafka asks of who produces
// with an idempotent producer.
func (r *Rights) Some(o Operation, kind Kind) bool {
	if r == nil {
		return true
	}
	for _, x := range r.indexes {
		n := x.kinds[kind]
		if n == nil {
			continue
		}
		for name := range n.literal {
			if r.Resource(o, kind, name) {
				return true
			}
		}
		for prefix := range n.prefixes {
			if r.Resource(o, kind, prefix) {
				return true
			}
		}
		if (grants{allow: n.any.allow}).may(o) && r.Resource(o, kind, AnyName) {
			return true
		}
	}
	return false
}
