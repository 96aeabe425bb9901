package node

import (
	"slices"
	"strings"
)

// The rows of the access matrix: for each trick the names that it is tried on, and the rules that there are in each
// phase. A name is ROOT/PATH/TRICK/LEAF: its root is its topic of the log, and its path is how it goes.

// phases are the times between two changes of the rules: what is allowed at first, what was revoked while clients were
// there or away, what was given back, and what is left in the end.
const phases = 4

// trick is one way to tell who may do what.
type trick struct {
	name   string
	root   string   // ""; mxRoot
	leaves []string // of its names; "": the trick itself
	rules  []timed
}

// timed is a rule and when it is in force; nil: always.
type timed struct {
	said
	during []int
}

func (r timed) in(phases ...int) timed {
	r.during = phases
	return r
}

const (
	mxRoot = "mx"
	mxRole = "Role:obs"
)

// both are the operations that are tried on names.
var both = []string{"read", "write"}

// may and mayNot are rules about names of the trick on every path, relative to its root.
func may(filter string, ops ...string) timed    { return about("allow", mxRole, filter, ops) }
func mayNot(filter string, ops ...string) timed { return about("deny", mxRole, filter, ops) }

func about(effect, principal, filter string, ops []string) timed {
	if len(ops) == 0 {
		ops = both
	}
	return timed{said: said{Effect: effect, Principal: principal, Operations: ops, Kind: "topic", Pattern: "filter",
		Name: filter}}
}

// veil is a rule by which the secrets of messages are not seen.
func veil(filter string) timed {
	r := about("mask", mxRole, filter, []string{"read"})
	r.Masks = []string{"header:" + secretHeader + "=remove", "json:in.secret=hash"}
	return r
}

// veilTopic is one about a topic of the log.
func veilTopic(name string) timed {
	r := veil("")
	r.Pattern, r.Name = "literal", name
	return r
}

// of gives a rule another principal.
func (r timed) of(principal string) timed {
	r.Principal = principal
	return r
}

// when limits a rule to some connections.
func (r timed) when(limit func(*said)) timed {
	limit(&r.said)
	return r
}

func byClient(id string) func(*said)   { return func(r *said) { r.ClientID = id } }
func byListener(n string) func(*said)  { return func(r *said) { r.Listener = n } }
func fromNetwork(n string) func(*said) { return func(r *said) { r.Networks = []string{n} } }
func byService(r *said)                { r.given = true }
func withTLS(r *said)                  { r.TLS = true }

// onTopic is a rule about a topic of the log.
func onTopic(effect, pattern, name string, ops ...string) timed {
	if len(ops) == 0 {
		ops = both
	}
	return timed{said: said{Effect: effect, Principal: mxRole, Operations: ops, Kind: "topic", Pattern: pattern,
		Name: name}}
}

// tricks are the rows.
func tricks(people []*person) []trick {
	var clients, users []string
	for _, p := range people {
		for _, of := range []struct {
			list  *[]string
			value string
		}{{&clients, p.client}, {&users, p.user}} {
			if of.value != "" && !strings.ContainsAny(of.value, "+#/") && !slices.Contains(*of.list, of.value+"/v") {
				*of.list = append(*of.list, of.value+"/v")
			}
		}
	}
	clients, users = append(clients, "x/v", "", "${clientid}/v", "/v"), append(users, "x/v", "")
	all := slices.Concat(ofLevels(people[0].user), ofTemplates(clients, users), ofConditions(), ofChanges(clients[:2]),
		ofTopics(), ofTopicChanges(), ofMasks(clients[:2]))
	for i := range all {
		all[i].complete()
	}
	return all
}

// ofLevels are rows of filters, and of who is meant.
func ofLevels(first string) []trick {
	return []trick{
		{name: "none", leaves: []string{"x"}},
		{name: "exact", leaves: []string{"x", "X", "x ", "x/y", "", "х"}, rules: []timed{may("+/exact/x")}},
		{name: "below", leaves: []string{"a", "a/b", "a/b/c", "ab", "b", "a/$b", "a//"},
			rules: []timed{may("+/below/a/#")}},
		{name: "level", leaves: []string{"a/z", "/z", "b/z/z", "a/y", "$a/z"}, rules: []timed{may("+/level/+/z")}},
		{name: "narrow", leaves: []string{"open", "secret", "secret/x", "secrets", "secret/x/y"},
			rules: []timed{may("+/narrow/#"), mayNot("+/narrow/secret/#")}},
		{name: "onelevel", leaves: []string{"a/k", "a/o", "b/k", "a/k/k"},
			rules: []timed{may("+/onelevel/#"), mayNot("+/onelevel/+/k")}},
		{name: "wider", leaves: []string{"a/b", "a"}, rules: []timed{may("+/wider/a/b"), mayNot("+/wider/#")}},
		{name: "everybody", leaves: []string{"a", "b"},
			rules: []timed{may("+/everybody/#"), mayNot("+/everybody/a").of("User:*")}},
		{name: "own", leaves: []string{"a", "b"}, rules: []timed{
			may("+/own/a").of("User:" + first), mayNot("+/own/b").of("User:" + first), may("+/own/b")}},
		{name: "second", leaves: []string{"a"}, rules: []timed{may("+/second/#").of("Role:second")}},
		{name: "given", leaves: []string{"a", "b", "b/c"}, rules: []timed{
			may("+/given/#").of("User:*u").when(byService), mayNot("+/given/b").of("User:*u").when(byService)}},
		{name: "taken", leaves: []string{"a", "b"}, rules: []timed{
			may("+/taken/#"), mayNot("+/taken/b").of("User:*u").when(byService)}},
		{name: "reads", leaves: []string{"a"}, rules: []timed{may("+/reads/#", "read")}},
		{name: "writes", leaves: []string{"a"}, rules: []timed{may("+/writes/#", "write")}},
		{name: "half", leaves: []string{"a"}, rules: []timed{may("+/half/#", "all"), mayNot("+/half/#", "write")}},
		{name: "alters", leaves: []string{"a"}, rules: []timed{may("+/alters/#", "describe", "alter", "delete")}},
	}
}

// ofTemplates are rows of rules that are others for each client.
func ofTemplates(clients, users []string) []trick {
	return []trick{
		{name: "client", leaves: clients, rules: []timed{may("+/client/${clientid}/#")}},
		{name: "user", leaves: users, rules: []timed{may("+/user/${username}/v")}},
		{name: "cn", leaves: []string{"pump/v", "/v", "x/v", "u1/v"}, rules: []timed{may("+/cn/${cert.cn}/#")}},
		{name: "part", leaves: []string{"d-c1/v", "d-/v", "d-C1/v", "d-c1x/v"},
			rules: []timed{may("+/part/d-${clientid}/v")}},
		{name: "notclient", leaves: clients, rules: []timed{may("+/notclient/#"), mayNot("+/notclient/${clientid}/#")}},
		{name: "notcn", leaves: []string{"pump/v", "x/v"},
			rules: []timed{may("+/notcn/#"), mayNot("+/notcn/${cert.cn}/v")}},
	}
}

// ofConditions are rows of rules for some connections.
func ofConditions() []trick {
	return []trick{
		{name: "ifclient", leaves: []string{"v"}, rules: []timed{may("+/ifclient/#").when(byClient("c1*"))}},
		{name: "iflistener", leaves: []string{"v"}, rules: []timed{may("+/iflistener/#").when(byListener("side"))}},
		{name: "iftls", leaves: []string{"v"}, rules: []timed{may("+/iftls/#").when(withTLS)}},
		{name: "ifhere", leaves: []string{"v"}, rules: []timed{may("+/ifhere/#").when(fromNetwork("127.0.0.0/8"))}},
		{name: "ifthere", leaves: []string{"v"}, rules: []timed{may("+/ifthere/#").when(fromNetwork("10.0.0.0/8"))}},
		{name: "unlistener", leaves: []string{"v"},
			rules: []timed{may("+/unlistener/#"), mayNot("+/unlistener/#").when(byListener("mqtt"))}},
		{name: "unhere", leaves: []string{"v"},
			rules: []timed{may("+/unhere/#"), mayNot("+/unhere/#").when(fromNetwork("127.0.0.1/32"))}},
	}
}

// ofChanges are rows of rules that come and go.
func ofChanges(clients []string) []trick {
	return []trick{
		{name: "revoked", leaves: []string{"a", "b/c"}, rules: []timed{may("+/revoked/#").in(0, 2)}},
		{name: "granted", leaves: []string{"a", "b/c"}, rules: []timed{may("+/granted/#").in(1, 3)}},
		{name: "denied", leaves: []string{"a", "b"},
			rules: []timed{may("+/denied/#"), mayNot("+/denied/#").in(1, 2)}},
		{name: "narrowed", leaves: []string{"a", "b"},
			rules: []timed{may("+/narrowed/#"), mayNot("+/narrowed/a").in(1, 3)}},
		{name: "widened", leaves: []string{"a", "b"},
			rules: []timed{may("+/widened/a"), may("+/widened/#").in(2)}},
		{name: "template", leaves: clients, rules: []timed{may("+/template/${clientid}/v").in(0, 2),
			mayNot("+/template/${clientid}/v").in(1, 3), may("+/template/#").in(3)}},
		{name: "condition", leaves: []string{"v"}, rules: []timed{may("+/condition/#"),
			mayNot("+/condition/#").when(fromNetwork("127.0.0.0/8")).in(1)}},
		{name: "nearby", leaves: []string{"v"}, rules: []timed{may("+/nearby/#"),
			mayNot("+/nearby/${clientid}").in(2), mayNot("+/nearby/#").when(fromNetwork("127.0.0.1/32")).in(3)}},
		{name: "by", leaves: []string{"v"}, rules: []timed{may("+/by/#").in(0),
			may("+/by/#").when(byListener("side")).in(1, 2), mayNot("+/by/#").when(byListener("mqtt")).in(3)}},
	}
}

// ofMasks are rows of rules by which not all is seen of what may be read.
func ofMasks(clients []string) []trick {
	return []trick{
		{name: "veiled", leaves: []string{"a", "b"}, rules: []timed{may("+/veiled/#"), veil("+/veiled/a")}},
		{name: "veilrev", leaves: []string{"a"}, rules: []timed{may("+/veilrev/#"), veil("+/veilrev/#").in(0, 2)}},
		{name: "veilown", leaves: clients, rules: []timed{may("+/veilown/#"), veil("+/veilown/${clientid}/#")}},
		{name: "veilhere", leaves: []string{"a"}, rules: []timed{may("+/veilhere/#"),
			veil("+/veilhere/#").when(byListener("mqtt"))}},
		{name: "veiltopic", root: "mxveil", leaves: []string{"a"},
			rules: []timed{onTopic("allow", "literal", "mxveil"), veilTopic("mxveil").in(1, 2)}},
		{name: "veilnames", root: "mxveiln", leaves: []string{"a", "b"}, rules: []timed{may(""), veil("+/+/b")}},
	}
}

// ofTopics are rows of rules about topics of the log, and of rules about names that are about all of a topic, or not.
func ofTopics() []trick {
	return []trick{
		{name: "topic", root: "mxlit", leaves: []string{"a"}, rules: []timed{onTopic("allow", "literal", "mxlit")}},
		{name: "longer", root: "mxlit2", leaves: []string{"a"}},
		{name: "untopic", root: "mxno", leaves: []string{"a"},
			rules: []timed{may("untopic"), onTopic("deny", "literal", "mxno")}},
		{name: "prefix", root: "mxpre-a", leaves: []string{"a"}, rules: []timed{onTopic("allow", "prefixed", "mxpre-")}},
		{name: "prefixno", root: "mxpre-b", leaves: []string{"a"}, rules: []timed{onTopic("deny", "literal", "mxpre-b")}},
		{name: "nearly", root: "mxprex", leaves: []string{"a"}},
		{name: "covered", root: "mxcov", leaves: []string{"a", "b/c"}, rules: []timed{may("")}},
		{name: "partly", root: "mxpart", leaves: []string{"a", "b"}, rules: []timed{may("+/partly/a")}},
		{name: "holed", root: "mxhole", leaves: []string{"a", "hole"}, rules: []timed{may(""), mayNot("+/+/hole")}},
		{name: "zone", root: zoneLevel, leaves: []string{"a", "b"},
			rules: []timed{onTopic("allow", "literal", zoneTopic), mayNot("+/+/b")}},
		{name: "zoned", root: zoneTopic, leaves: []string{"a"}},
	}
}

// ofTopicChanges are rows of rules about topics of the log that come and go, and of other operations.
func ofTopicChanges() []trick {
	return []trick{
		{name: "topicrev", root: "mxrev", leaves: []string{"a"},
			rules: []timed{onTopic("allow", "literal", "mxrev").in(0, 2)}},
		{name: "topicnew", root: "mxnew", leaves: []string{"a"},
			rules: []timed{onTopic("allow", "prefixed", "mxnew").in(1, 3)}},
		{name: "topicden", root: "mxden", leaves: []string{"a"},
			rules: []timed{onTopic("allow", "literal", "mxden"), onTopic("deny", "prefixed", "mxde").in(1, 2)}},
		{name: "topicread", root: "mxread", leaves: []string{"a"},
			rules: []timed{onTopic("allow", "literal", "mxread", "read")}},
		{name: "topicwrite", root: "mxwrite", leaves: []string{"a"},
			rules: []timed{onTopic("allow", "literal", "mxwrite", "write")}},
		{name: "topiclook", root: "mxlook", leaves: []string{"a"},
			rules: []timed{onTopic("allow", "literal", "mxlook", "describe", "describe_configs")}},
		{name: "topicadmin", root: "mxadmin", leaves: []string{"a"}, rules: []timed{
			onTopic("allow", "literal", "mxadmin", "create", "alter", "delete", "alter_configs")}},
		{name: "letters", root: "dlq.letters", leaves: []string{"a"},
			rules: []timed{onTopic("allow", "literal", "dlq.letters", "read").in(0, 2, 3), veilTopic("dlq.letters").in(2)}},
		{name: "transacted", root: "mxtxn", rules: []timed{onTopic("allow", "literal", "mxtxn", "write")}},
		{name: "topicclient", root: "mxclient", leaves: []string{"a"},
			rules: []timed{onTopic("allow", "literal", "mxclient").when(byClient("c*"))}},
	}
}

// complete gives the rules about names the root that they are relative to.
func (k *trick) complete() {
	if k.root == "" {
		k.root = mxRoot
	}
	for i := range k.rules {
		if r := &k.rules[i]; r.Pattern == "filter" && !strings.HasPrefix(r.Name, "$") {
			switch r.Name {
			case "":
				r.Name = k.root + "/#"
			case "untopic":
				r.Name = k.root + "/#"
			default:
				r.Name = k.root + "/" + r.Name
			}
		}
	}
}

// namesOn are those of the rows on a path.
func namesOn(rows []trick, path string) (all []string) {
	for i := range rows {
		k := &rows[i]
		for _, leaf := range k.leaves {
			name := k.root + "/" + path + "/" + k.name
			if leaf != "" {
				name += "/" + leaf
			}
			all = append(all, name)
		}
	}
	return all
}

// roots are the topics of the log that the rows are about.
func roots(rows []trick) (all []string) {
	for i := range rows {
		if root := logTopic(rows[i].root + "/x"); !slices.Contains(all, root) {
			all = append(all, root)
		}
	}
	return all
}

// further are rules about what is no name and no topic, and about what has no trick of its own.
func further(people []*person) []timed {
	other := func(effect, kind, pattern, name string, ops ...string) timed {
		return timed{said: said{Effect: effect, Principal: mxRole, Operations: ops, Kind: kind, Pattern: pattern,
			Name: name}}
	}
	return []timed{
		may("+/fence", "read").of("User:*"),
		may("+/bfence/#").of("User:*"),
		may("+/apilive/fence", "read").of("User:*"),
		other("allow", "cluster", "literal", "kafka-cluster", "alter").of("Role:looks"),
		veil(mxRoot + "/retained/exact/x").of("User:" + people[0].user).in(3), // who may look at it by HTTP then
		may("$SYS/broker/clients/#", "read").of("User:" + people[0].user),
		may("$SYS/#", "read").of("User:"+people[1].user).in(1, 3),
		other("allow", "group", "literal", "mxg-lit", "read"),
		other("allow", "group", "prefixed", "mxg-pre-", "read", "delete"),
		other("deny", "group", "literal", "mxg-pre-no", "read", "describe"),
		other("allow", "group", "literal", "mxg-rev", "read").in(0, 2),
		other("allow", "group", "literal", "mxg-new", "all").in(1, 3),
		other("allow", "group", "literal", "mxg-look", "describe"),
		other("allow", "group", "literal", "mxg-client", "read").when(byClient("c*")),
		other("allow", "transactional_id", "literal", "mxt-lit", "write"),
		other("allow", "transactional_id", "prefixed", "mxt-pre-", "write"),
		other("deny", "transactional_id", "literal", "mxt-pre-no", "write"),
		other("allow", "transactional_id", "literal", "mxt-rev", "write").in(0, 2),
		other("allow", "transactional_id", "literal", "mxt-look", "describe"),
		other("allow", "cluster", "literal", "kafka-cluster", "describe").in(1),
		other("allow", "cluster", "literal", "kafka-cluster", "describe_configs").in(2),
		other("allow", "cluster", "literal", "kafka-cluster", "alter").in(2, 3).of("User:" + people[0].user),
		other("allow", "cluster", "literal", "kafka-cluster", "alter_configs", "cluster_action").in(3),
		other("deny", "cluster", "literal", "kafka-cluster", "alter_configs").in(3).of("User:" + people[1].user),
		other("allow", "cluster", "literal", "kafka-cluster", "alter").in(0, 1).of("User:" + people[1].user),
		other("allow", "cluster", "literal", "kafka-cluster", "alter").in(0, 1, 2).of("User:" + people[2].user),
		other("deny", "cluster", "literal", "kafka-cluster", "alter", "describe").in(2).of("User:" + people[2].user).
			when(fromNetwork("127.0.0.0/8")),
		other("deny", "cluster", "literal", "kafka-cluster", "describe").in(3).of("User:" + people[0].user).
			when(byListener("http")),
		other("allow", "cluster", "literal", "kafka-cluster", "alter").in(1, 2, 3).of("User:a/b"),
	}
}

// rulesOf are the rules of a phase.
func rulesOf(all []timed, phase int) (list []said) {
	for _, r := range all {
		if r.during == nil || slices.Contains(r.during, phase) {
			r.levels = split(r.Name)
			list = append(list, r.said)
		}
	}
	return list
}

// strangeText are clients and users whose names are more, or other, than they seem.
func strangeText() []*person {
	long := strings.Repeat("n", 200)
	one := func(user, client string) *person {
		return &person{user: user, client: client, listener: "mqtt", address: "127.0.0.1", roles: []string{"obs"}}
	}
	all := []*person{
		one("u1", "c1"), one("u2", "+"), one("+", "#"), one("#", "a/b"), one("a/b", ""), one("с1", "с1"), // of Cyrillic
		one("C1", "C1"), one(long, long), one("$SYS", "$SYS"), one("u1 ", "c1 "), one("${username}", "${clientid}"),
		one("Role:obs", "User:u1"), one("*u", "*"),
	}
	all[2].listener, all[6].listener = "side", "side"
	all[4].leaves, all[7].leaves = true, true // one is there then, and one is away
	all[8].elsewhere, all[12].elsewhere = true, true
	for i, p := range all {
		if i%2 == 1 {
			p.roles = append(p.roles, "second")
		}
	}
	pump := one("pump", "c1-pump")
	pump.cn, pump.tls, pump.listener, pump.roles = "pump", true, "mqtts", []string{"obs"}
	return append(all, pump)
}
