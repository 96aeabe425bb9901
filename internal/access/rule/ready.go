package rule

import "slices"

// ready are the rules of the roles that are always there.
var ready = slices.Concat(
	role("admin", about(Everything, Topic, Group, Cluster, TransactionalID, DelegationToken, User),
		ofNames(Everything, "#"), ofNames(Everything, "$SYS/#")),
	role("operator", watch(),
		about(Of(Create, Delete, Alter, AlterConfigs), Topic), about(Of(Delete, AlterConfigs), Group),
		about(Of(Create, AlterConfigs, ClusterAction), Cluster)),
	role("viewer", watch()),
	role("device", ofNames(Of(Read, Write), "devices/${clientid}/#")),
	role("producer", about(Of(Write, Describe, Create), Topic), about(Of(IdempotentWrite), Cluster),
		about(Of(Write, Describe), TransactionalID)),
	role("consumer", about(Of(Read, Describe), Topic), about(Of(Read, Describe), Group)),
)

// ReadyRules are the rules of the roles that are always there.
func ReadyRules() []Rule { return slices.Clone(ready) }

func role(name string, of ...[]Rule) []Rule {
	rules := slices.Concat(of...)
	for i := range rules {
		rules[i].Effect, rules[i].Principal = Allow, RolePrefix+name
	}
	return rules
}

// watch is looking at everything but messages, and delegation tokens: who sees one may be its owner.
func watch() []Rule {
	return slices.Concat(about(Of(Describe, DescribeConfigs), Topic, Group, Cluster),
		about(Of(Describe), TransactionalID), ofNames(Of(Read), "$SYS/#"))
}

func about(set Operations, kinds ...Kind) (rules []Rule) {
	for _, kind := range kinds {
		name := AnyName
		if kind == Cluster {
			name = ClusterName
		}
		rules = append(rules, Rule{Operations: set, Resource: Resource{Kind: kind, Pattern: Literal, Name: name}})
	}
	return rules
}

func ofNames(set Operations, filter string) []Rule {
	return []Rule{{Operations: set, Resource: Resource{Kind: Topic, Pattern: Filter, Name: filter}}}
}
