package rule

import (
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/names"
)

// Mapping tells what the mapping makes of the names of devices and of topics of the log. It is pure: when the mapping
// changes, policies are made anew.
type Mapping interface {
	// TopicOf is the topic of the log that a name goes to; "" for none.
	TopicOf(name []byte) string
	// FiltersOf are topic filters that together match every name that a record of the topic can have, and perhaps more.
	FiltersOf(topic string) []string
}

// Policy is a set of rules ready for use.
type Policy struct {
	rules   []Rule // those of the ready roles last
	of      map[string]*principal
	mapping Mapping
	secret  []byte // of the hashes of masks
}

// principal is the rules of one user, group or role.
type principal struct {
	fixed   *index  // the same for every connection; nil: none
	varying []*Rule // with conditions or templates
	masks   []*masking
}

// New makes a policy of rules, which are well-formed. The ready roles are in it.
func New(rules []Rule, mapping Mapping) *Policy {
	p := &Policy{rules: slices.Concat(rules, ready), of: map[string]*principal{}, mapping: mapping}
	for i := range p.rules {
		r := &p.rules[i]
		of := p.of[r.Principal]
		if of == nil {
			of = &principal{}
			p.of[r.Principal] = of
		}
		switch {
		case r.Effect == Mask:
			of.masks = append(of.masks, newMasking(r))
		case !r.When.none() || r.Resource.Pattern == Filter && isTemplate(r.Resource.Name):
			of.varying = append(of.varying, r)
		default:
			if of.fixed == nil {
				of.fixed = &index{}
			}
			of.fixed.add(r, r.Resource.Name)
		}
	}
	for _, of := range p.of {
		if of.fixed != nil && of.fixed.kinds[Topic] != nil {
			of.fixed.kinds[Topic].hold(mapping)
		}
	}
	return p
}

// HashBy gives the policy the secret by which masks hash, before anybody asks for rights.
func (p *Policy) HashBy(secret []byte) *Policy {
	p.secret = secret
	return p
}

// Rules are the rules as they were given.
func (p *Policy) Rules() []Rule { return p.rules[: len(p.rules)-len(ready) : len(p.rules)-len(ready)] }

// HasRole tells whether there are rules of a role.
func (p *Policy) HasRole(role string) bool { return p.of[RolePrefix+role] != nil }

// principals are who a subject is, as rules name it.
func (s *Subject) principals() []string {
	list := []string{UserPrefix + s.User, Everybody}
	for _, role := range s.Roles {
		list = append(list, RolePrefix+role)
	}
	for _, group := range s.Groups {
		list = append(list, GroupPrefix+group)
	}
	return list
}

// Rights are what of a policy concerns one connection. They never change, and are asked by many goroutines. The
// methods of nil allow everything: nobody has asked for rules.
type Rights struct {
	policy  *Policy
	indexes []*index
	topics  bool // there are rules about topics of the log
	filters bool // there are rules about names of devices
	masks   []masked
}

// Rights finds what concerns a subject: rules of its own, too, whose principals mean nothing.
func (p *Policy) Rights(who *Subject, own ...Rule) *Rights {
	r := &Rights{policy: p}
	r.gather(who, who.principals(), own)
	return r
}

// Within are what a subject may do by some roles and by rules of its own, whose principals mean nothing: not by what
// rules say of it besides.
func (p *Policy) Within(who *Subject, roles []string, rules []Rule) *Rights {
	r := &Rights{policy: p}
	principals := make([]string, len(roles))
	for i, role := range roles {
		principals[i] = RolePrefix + role
	}
	r.gather(who, principals, rules)
	return r
}

// gather finds what rules of principals, and some rules more, say of a subject.
func (r *Rights) gather(who *Subject, principals []string, rules []Rule) {
	own, some := &index{}, false
	for _, name := range principals {
		of := r.policy.of[name]
		if of == nil {
			continue
		}
		if of.fixed != nil {
			r.add(of.fixed)
		}
		for _, one := range of.varying {
			some = one.addTo(own, who) || some
		}
		for _, one := range of.masks {
			r.addMask(one, who)
		}
	}
	for i := range rules {
		if rules[i].Effect == Mask {
			r.addMask(newMasking(&rules[i]), who)
			continue
		}
		some = rules[i].addTo(own, who) || some
	}
	if some {
		r.add(own)
	}
}

func (r *Rights) add(x *index) {
	r.indexes = append(r.indexes, x)
	r.topics = r.topics || x.kinds[Topic] != nil
	r.filters = r.filters || x.filters != nil
}

// addTo puts a rule in force for a subject, if it concerns it. A template of what the subject does not have, or that
// would be more than text, allows nothing, and denies or masks what it would with + in its place.
func (r *Rule) addTo(x *index, who *Subject) bool {
	if !r.When.hold(who, r.Effect) {
		return false
	}
	name, is := r.nameFor(who)
	if is {
		x.add(r, name)
	}
	return is
}

// nameFor is the name of the resource of a rule for a subject.
func (r *Rule) nameFor(who *Subject) (name string, is bool) {
	if r.Resource.Pattern != Filter {
		return r.Resource.Name, true
	}
	name, err := expand(r.Resource.Name, who)
	switch {
	case err == nil:
		return name, true
	case r.Effect == Allow:
		return "", false
	}
	return widen(r.Resource.Name), true
}

// widen is a template with + for each level that it makes up: the names that it could mean for anybody.
func widen(template string) string {
	levels := strings.Split(template, "/")
	for i, level := range levels {
		if isTemplate(level) {
			levels[i] = "+"
		}
	}
	return strings.Join(levels, "/")
}

// OnTopic is the topic of the log that a rule about names of devices is a rule about, for who reads and writes it
// whole: one that allows covers all that the topic can hold, and one that denies is about names that go to it. It is
// AnyName for every topic, and "" where there is no such topic, or another one for each client.
func (r *Rule) OnTopic(m Mapping) string {
	filter := r.Resource.Name
	switch {
	case r.Resource.Pattern != Filter || isTemplate(filter):
		return ""
	case filter == "#":
		return AnyName
	}
	topic := m.TopicOf(sampleOf(filter, "a"))
	if topic == "" || topic != m.TopicOf(sampleOf(filter, "b")) {
		return ""
	}
	for _, held := range m.FiltersOf(topic) {
		switch {
		case r.Effect == Deny && names.Overlaps(held, filter):
			return topic
		case r.Effect != Deny && !names.Covers(filter, held):
			return ""
		}
	}
	if r.Effect == Deny {
		return ""
	}
	return topic
}

// sampleOf is a name that a filter matches.
func sampleOf(filter, level string) []byte {
	levels := strings.Split(filter, "/")
	for i := range levels {
		if levels[i] == "+" || levels[i] == "#" {
			levels[i] = level
		}
	}
	return []byte(strings.Join(levels, "/"))
}
