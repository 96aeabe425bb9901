package rule

import (
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/names"
)

// masking is a rule that masks, ready for use.
type masking struct {
	rule   *Rule
	fields *mask.Fields
}

func newMasking(r *Rule) *masking { return &masking{rule: r, fields: mask.New(r.Masks)} }

// masked is what masks of one rule do to what a subject reads.
type masked struct {
	rule   *Rule
	filter string    // of the names of devices, if it is about these, without templates
	set    *mask.Set // of the one rule
}

// addMask puts a rule that masks in force for a subject, if it concerns it.
func (r *Rights) addMask(m *masking, who *Subject) {
	if !m.rule.When.hold(who, Mask) {
		return
	}
	one := masked{rule: m.rule, set: &mask.Set{Secret: r.policy.secret, Fields: []*mask.Fields{m.fields}}}
	if m.rule.Resource.Pattern == Filter {
		one.filter, _ = m.rule.nameFor(who)
	}
	r.masks = append(r.masks, one)
}

// Masked tells whether there is a mask at all.
func (r *Rights) Masked() bool { return r != nil && len(r.masks) > 0 }

// MaskOfName is what is not shown of a message with a topic name of devices, which is valid: by rules about the name,
// and about the topic of the log that it goes to or came from; "": the mapping is asked. nil: all is shown.
func (r *Rights) MaskOfName(name []byte, topic string) (set *mask.Set) {
	if !r.Masked() {
		return nil
	}
	for i := range r.masks {
		m := &r.masks[i]
		switch {
		case m.filter != "":
			if names.Match(m.filter, name) {
				set = set.With(m.set)
			}
		case name[0] != '$':
			if topic == "" {
				topic = r.policy.mapping.TopicOf(name)
			}
			if m.rule.Resource.means(topic) {
				set = set.With(m.set)
			}
		}
	}
	return set
}

// MaskOfTopic is what is not shown of the records of a topic of the log: by rules about it, and by rules about names of
// devices that some of its records can have, which are about all of them then. nil: all is shown.
func (r *Rights) MaskOfTopic(topic string) (set *mask.Set) {
	if !r.Masked() {
		return nil
	}
	for i := range r.masks {
		m := &r.masks[i]
		if m.filter == "" && m.rule.Resource.means(topic) || m.filter != "" && r.holds(topic, m.filter) {
			set = set.With(m.set)
		}
	}
	return set
}

// MaskSome tells whether one of some rules takes something out of what somebody reads of a topic of the log: whoever it
// is, and whatever its templates stand for.
func MaskSome(rules []Rule, topic string, mapping Mapping) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool {
		switch {
		case r.Effect != Mask:
			return false
		case r.Resource.Pattern != Filter:
			return r.Resource.means(topic)
		}
		levels := strings.Split(r.Resource.Name, "/")
		for i, level := range levels {
			if isTemplate(level) {
				levels[i] = "+"
			}
		}
		filter := strings.Join(levels, "/")
		return slices.ContainsFunc(mapping.FiltersOf(topic), func(held string) bool { return names.Overlaps(held, filter) })
	})
}

// means tells whether a resource by name or prefix is one of a name.
func (r *Resource) means(name string) bool {
	internal := r.Kind == Topic && strings.HasPrefix(name, InternalPrefix)
	switch {
	case r.Pattern == Prefixed:
		return strings.HasPrefix(name, r.Name) && (!internal || len(r.Name) >= len(InternalPrefix))
	case r.Name == AnyName:
		return !internal
	}
	return r.Name == name
}

// masksOf are the rules by which something is not shown of what a question is about.
func (r *Rights) masksOf(q Question) (rules []Rule) {
	if q.Operation != Read || q.Resource.Kind != Topic {
		return nil
	}
	for i := range r.masks {
		alone := Rights{policy: r.policy, masks: r.masks[i : i+1]}
		var touches bool
		switch filter := q.Resource.Name; {
		case q.Resource.Pattern != Filter:
			touches = alone.MaskOfTopic(filter) != nil
		case !strings.ContainsAny(filter, "+#"):
			touches = alone.MaskOfName([]byte(filter), "") != nil
		case r.masks[i].filter != "":
			touches = names.Overlaps(r.masks[i].filter, filter)
		default: // a topic by its name is known for what it holds, one by a prefix may hold all
			touches = r.masks[i].rule.Resource.Pattern == Prefixed || r.masks[i].rule.Resource.Name == AnyName ||
				r.holds(r.masks[i].rule.Resource.Name, filter)
		}
		if touches && !slices.ContainsFunc(rules, func(o Rule) bool { return o.ID() == r.masks[i].rule.ID() }) {
			rules = append(rules, *r.masks[i].rule)
		}
	}
	return rules
}
