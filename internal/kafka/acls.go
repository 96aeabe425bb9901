package kafka

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Rules keeps the rules that clients may see and change (KIP-11, KIP-290). *access.Access is one.
type Rules interface {
	Catalog() *access.Catalog
	Edit(ctx context.Context, find func(*access.Catalog) (*access.Change, error)) error
}

// acl is a rule as Kafka has it: one operation, from one host.
type acl struct {
	resource  rule.Resource
	principal string
	host      string // "*" or an address
	operation Operation
	effect    rule.Effect
}

// anyHost is the host of an acl for all.
const anyHost = "*"

// aclsOf are what a rule is in Kafka's terms; none if it has none: rules about names of devices (see onTopics), masks,
// and conditions that Kafka does not know.
func aclsOf(r *rule.Rule) (all []acl) {
	when := &r.When
	if r.Effect == rule.Mask || r.Resource.Pattern == rule.Filter {
		return nil
	}
	if when.Listener != "" || when.Encrypted || when.ClientID != "" {
		return nil
	}
	hosts := []string{anyHost}
	if len(when.Networks) > 0 {
		hosts = hosts[:0]
	}
	for _, n := range when.Networks {
		if !n.IsSingleIP() {
			return nil
		}
		hosts = append(hosts, n.Addr().String())
	}
	resource := r.Resource
	if resource.Kind == OnCluster {
		resource.Name = ClusterResource
	}
	for _, host := range hosts {
		for _, o := range r.Operations.List() {
			all = append(all, acl{resource, r.Principal, host, o, r.Effect})
		}
	}
	return all
}

// rule is the acl as a rule. Errors: Invalid.
func (a *acl) rule() (r rule.Rule, err error) {
	r = rule.Rule{Effect: a.effect, Principal: a.principal, Operations: rule.Of(a.operation), Resource: a.resource}
	if a.host != anyHost {
		at, err := netip.ParseAddr(a.host)
		if err != nil {
			return r, refusal(wire.InvalidRequest, "the host %q is neither * nor an IP address", brief(a.host))
		}
		at = at.Unmap().WithZone("")
		r.When.Networks = []netip.Prefix{netip.PrefixFrom(at, at.BitLen())}
	}
	if a.resource.Pattern == rule.Filter {
		return r, refusal(wire.InvalidRequest, "a pattern of type %d", a.resource.Pattern)
	}
	if err := r.Check(); err != nil {
		return r, coded{err, wire.InvalidRequest}
	}
	return r, nil
}

// What a filter of acls says where anything will do, and where a pattern is to match a name.
const (
	anyACL     = 1
	matchingIn = kmsg.ACLResourcePatternTypeMatch
)

// aclFilter says which acls somebody means; nil and anyACL: any.
type aclFilter struct {
	kind      kmsg.ACLResourceType
	name      *string
	pattern   kmsg.ACLResourcePatternType
	principal *string
	host      *string
	operation kmsg.ACLOperation
	effect    kmsg.ACLPermissionType
}

// onTopics are what a rule about names of devices is in Kafka's terms: rules about the topic of the log that holds
// them. They are shown, and nobody deletes them here: the rule may be about more than the topic.
func onTopics(all *access.Catalog, r *rule.Rule) []acl {
	topic := all.OnTopic(r)
	if topic == "" {
		return nil
	}
	same := *r
	same.Resource.Pattern, same.Resource.Name = rule.Literal, topic
	return aclsOf(&same)
}

// check tells what is wrong with a filter. Errors: coded.
func (f *aclFilter) check() error {
	if f.kind < anyACL || f.pattern < anyACL || f.operation < anyACL || f.effect < anyACL {
		return refusal(wire.InvalidRequest, "a filter of an unknown kind of resource, pattern, operation or permission")
	}
	return nil
}

func (f *aclFilter) matches(a *acl) bool {
	is := func(want *string, text string) bool { return want == nil || *want == text }
	return (f.kind == anyACL || int(f.kind) == int(a.resource.Kind)) && f.matchesName(&a.resource) &&
		is(f.principal, a.principal) && is(f.host, a.host) &&
		(f.operation == anyACL || int(f.operation) == int(a.operation)) &&
		(f.effect == anyACL || int(f.effect) == int(a.effect))
}

// matchesName holds the name and the type of pattern against a resource. Match means every pattern that the name is
// within.
func (f *aclFilter) matchesName(r *rule.Resource) bool {
	switch {
	case f.pattern != anyACL && f.pattern != matchingIn && int(f.pattern) != int(r.Pattern):
		return false
	case f.name == nil || *f.name == r.Name:
		return true
	case f.pattern != matchingIn:
		return false
	case r.Pattern == rule.Prefixed:
		return strings.HasPrefix(*f.name, r.Name)
	}
	return r.Name == rule.AnyName
}

// without are the rules that stay of one when some of its acls go, and the acls that go. None goes: kept is nil.
func without(r *rule.Rule, f *aclFilter) (kept []rule.Rule, gone []acl) {
	var left []acl
	for _, a := range aclsOf(r) {
		if f.matches(&a) {
			gone = append(gone, a)
		} else {
			left = append(left, a)
		}
	}
	if len(gone) == 0 {
		return nil, nil
	}
	byHost := map[string]rule.Operations{}
	for _, a := range left {
		byHost[a.host] |= rule.Of(a.operation)
	}
	for host, set := range byHost {
		one := acl{resource: r.Resource, principal: r.Principal, host: host, effect: r.Effect}
		if stays, err := one.ruleOf(set); err == nil { // as it was of a rule
			kept = append(kept, stays)
		}
	}
	return kept, gone
}

func (a *acl) ruleOf(set rule.Operations) (rule.Rule, error) {
	a.operation = set.List()[0]
	r, err := a.rule()
	r.Operations = set
	return r, err
}

// mayRules asks for the right to see (Describe) or change (Alter) rules. Errors: coded.
func (d *Door) mayRules(c *conn, op Operation) error {
	switch {
	case d.opt.Rules == nil:
		return refusal(wire.SecurityDisabled, "there are no rules here")
	case !d.may(c, op, OnCluster, ClusterResource):
		return refusal(wire.ClusterAuthorizationFailed, "who may look at or change rules has a right to the cluster")
	}
	return nil
}

// compareACLs puts acls of one resource together.
func compareACLs(a, b acl) int {
	return slices.Compare([]string{a.resource.String(), a.principal, a.host, a.operation.String()},
		[]string{b.resource.String(), b.principal, b.host, b.operation.String()})
}
