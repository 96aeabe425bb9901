package rule

// Question is what Explain is asked: whether something may be done to a resource. Names of devices are of the kind
// Topic and the pattern Filter, with or without wildcards.
type Question struct {
	Operation Operation
	Resource  Resource
}

// Answer is a decision and the rules behind it: those that deny it, or else those that allow it; none: no rule does.
// Masks are the rules by which something is not shown of what may be read.
type Answer struct {
	Allowed bool
	Rules   []Rule
	Masks   []Rule
}

// Explain decides, and says why.
func (p *Policy) Explain(who *Subject, q Question) Answer {
	all := p.Rights(who)
	answer := Answer{Allowed: all.Answer(q)}
	effect := Deny
	if answer.Allowed {
		effect, answer.Masks = Allow, all.masksOf(q)
	}
	for _, name := range who.principals() {
		for i := range p.rules {
			r := &p.rules[i]
			x := &index{}
			if r.Principal != name || r.Effect != effect || !r.addTo(x, who) {
				continue
			}
			alone := &Rights{policy: p}
			alone.add(x)
			if alone.touches(q) {
				answer.Rules = append(answer.Rules, *r)
			}
		}
	}
	return answer
}

// Answer decides without saying why.
func (r *Rights) Answer(q Question) bool {
	if q.Resource.Pattern == Filter {
		return r.Filter(q.Operation, q.Resource.Name)
	}
	return r.Resource(q.Operation, q.Resource.Kind, q.Resource.Name)
}

// touches tells whether rights of one rule have a say in a question.
func (r *Rights) touches(q Question) bool {
	var g grants
	switch {
	case q.Resource.Pattern != Filter && q.Resource.Kind != Topic:
		g = r.byName(q.Resource.Kind, q.Resource.Name)
	case q.Resource.Pattern != Filter:
		g = r.ofTopic(q.Resource.Name)
	default:
		g = r.ofName([]byte(q.Resource.Name), "")
		if r.Filter(q.Operation, q.Resource.Name) {
			return true
		}
		g = g.with(r.ofFilter(q.Resource.Name))
	}
	return g.deny.Has(q.Operation) || grants{allow: g.allow}.may(q.Operation)
}
