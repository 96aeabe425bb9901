package rule

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/names"
)

// plain is the default mapping: the first level is the topic of the log.
type plain struct{}

func (plain) TopicOf(name []byte) string {
	topic, _, _ := strings.Cut(string(name), "/")
	return topic
}

func (plain) FiltersOf(topic string) []string {
	if strings.HasPrefix(topic, "__") {
		return nil
	}
	return []string{topic + "/#"}
}

func allow(principal string, set Operations, kind Kind, p Pattern, name string) Rule {
	return Rule{Effect: Allow, Principal: principal, Operations: set, Resource: Resource{kind, p, name}}
}

func deny(principal string, set Operations, kind Kind, p Pattern, name string) Rule {
	r := allow(principal, set, kind, p, name)
	r.Effect = Deny
	return r
}

const alice = "User:alice"

// decisions is a table of rules and of what they allow alice, who is the client c1.
var decisions = []struct {
	name    string
	rules   []Rule
	roles   []string
	may     []string // "read name a/b", "write topic t", "read filter a/#", "read group g"
	mustNot []string
}{
	{name: "no rule allows nothing",
		mustNot: []string{"read name a/b", "write name a", "read topic a", "read filter #",
			"describe cluster kafka-cluster"}},
	{name: "a filter is for names",
		rules:   []Rule{allow(alice, Of(Read), Topic, Filter, "a/+/c")},
		may:     []string{"read name a/b/c", "describe name a/b/c", "read filter a/#", "read filter +/b/c"},
		mustNot: []string{"write name a/b/c", "read name a/b", "read topic a", "read filter b/#", "read filter a/+"}},
	{name: "a filter that covers all names of a topic is for the topic",
		rules:   []Rule{allow(alice, Of(Read), Topic, Filter, "a/#")},
		may:     []string{"read topic a", "describe topic a", "read name a/b", "read name a"},
		mustNot: []string{"write topic a", "read topic ab", "read name ab/c"}},
	{name: "a topic is for the names that it holds",
		rules:   []Rule{allow(alice, Of(Write), Topic, Literal, "a")},
		may:     []string{"write name a/b", "write name a", "write topic a"},
		mustNot: []string{"write name ab", "read name a/b", "write name $SYS/a"}},
	{name: "prefixes",
		rules:   []Rule{allow(alice, Of(Read), Topic, Prefixed, "a."), allow(alice, Of(Read), Group, Prefixed, "g-")},
		may:     []string{"read topic a.b", "read topic a.", "read name a.x/y", "read group g-1"},
		mustNot: []string{"read topic a", "read topic b", "read group g", "write topic a.b"}},
	{name: "deny wins over what is wider, narrower and the same",
		rules: []Rule{allow(alice, Everything, Topic, Filter, "#"), allow(alice, Everything, Topic, Literal, "*"),
			deny("User:*", Of(Read), Topic, Filter, "a/secret/#"), deny("Role:r", Of(Write), Topic, Literal, "b")},
		roles: []string{"r"},
		may: []string{"read name a/b", "write name a/secret/x", "read filter #", "read filter a/#",
			"write topic a", "read topic b"},
		mustNot: []string{"read name a/secret", "read name a/secret/x", "read filter a/secret/+",
			"read topic a", "write name b/c", "write topic b"}},
	{name: "every topic but those of Firth itself",
		rules: []Rule{allow(alice, Everything, Topic, Literal, "*"), allow(alice, Everything, Topic, Prefixed, "__")},
		may:   []string{"read topic x", "read topic __consumer_offsets", "delete topic x", "read filter #"},
		mustNot: []string{"read topic __firth_access", "describe topic __firth_topics",
			"read filter $SYS/#", "read name $SYS/broker"}},
	{name: "those too, where they are named",
		rules: []Rule{allow(alice, Of(Read), Topic, Literal, "__firth_quotas"),
			allow(alice, Of(Read), Topic, Prefixed, "__firth_t")},
		may:     []string{"read topic __firth_quotas", "read topic __firth_topics"},
		mustNot: []string{"read topic __firth_access"}},
	{name: "wildcards do not reach what begins with $",
		rules:   []Rule{allow(alice, Everything, Topic, Filter, "#")},
		mustNot: []string{"read name $SYS/x", "read filter $SYS/#", "write name $x"}},
	{name: "templates",
		rules: []Rule{allow(alice, Of(Read), Topic, Filter, "devices/${clientid}/#"),
			allow(alice, Of(Write), Topic, Filter, "u/${username}-x")},
		may: []string{"read name devices/c1/a", "write name u/alice-x", "read filter devices/+/a"},
		mustNot: []string{"read name devices/c2/a", "read name devices/+/a", "write name u/bob-x",
			"read topic devices"}},
	{name: "roles",
		rules: []Rule{allow("Role:reader", Of(Read), Topic, Literal, "a"),
			allow("Role:other", Of(Read), Topic, Literal, "b")},
		roles:   []string{"reader"},
		may:     []string{"read topic a"},
		mustNot: []string{"read topic b"}},
	{name: "the ready role of devices", roles: []string{"device"},
		may:     []string{"write name devices/c1/t", "read name devices/c1/cmd", "read filter devices/c1/#"},
		mustNot: []string{"write name devices/c2/t", "read filter sensors/#", "write topic devices"}},
	{name: "the ready role of admins", roles: []string{"admin"},
		may: []string{"write name a", "read name $SYS/x", "alter cluster kafka-cluster", "read group g",
			"delete topic t",
			"create_tokens user bob", "write transactional_id x"},
		mustNot: []string{"read topic __firth_access"}},
	{name: "what is denied implies nothing, and what is allowed is implied",
		rules: []Rule{allow(alice, Of(Read, AlterConfigs), Topic, Literal, "a"),
			deny(alice, Of(Read), Topic, Literal, "a")},
		may:     []string{"describe topic a", "describe_configs topic a"},
		mustNot: []string{"read topic a"}},
	{name: "clusters and transactional ids",
		rules: []Rule{allow(alice, Of(IdempotentWrite), Cluster, Literal, ClusterName),
			allow(alice, Of(Write), TransactionalID, Literal, "*"), deny(alice, Of(Write), TransactionalID, Prefixed, "x")},
		may: []string{"idempotent_write cluster kafka-cluster", "write transactional_id a",
			"describe transactional_id a"},
		mustNot: []string{"alter cluster kafka-cluster", "write transactional_id xa"}},
}

func TestDecisions(t *testing.T) {
	for _, one := range decisions {
		t.Run(one.name, func(t *testing.T) {
			for i := range one.rules {
				if err := one.rules[i].Check(); err != nil {
					t.Fatal(err)
				}
			}
			who := &Subject{User: "alice", Roles: one.roles, ClientID: "c1"}
			p := New(one.rules, plain{})
			for _, q := range one.may {
				expect(t, p, who, q, true)
			}
			for _, q := range one.mustNot {
				expect(t, p, who, q, false)
			}
		})
	}
}

// expect asks a question in words, of the rights and of Explain.
func expect(t *testing.T, p *Policy, who *Subject, words string, want bool) {
	t.Helper()
	part := strings.SplitN(words, " ", 3)
	o, err := ParseOperation(part[0])
	if err != nil {
		t.Fatal(err)
	}
	var got bool
	r := p.Rights(who)
	q := Question{o, Resource{Topic, Literal, part[2]}}
	switch part[1] {
	case "name":
		got, q.Resource.Pattern = r.Name(o, []byte(part[2]), ""), Filter
		if topic := p.mapping.TopicOf([]byte(part[2])); r.Name(o, []byte(part[2]), topic) != got {
			t.Errorf("%s: the topic that is given makes a difference", words)
		}
	case "filter":
		got, q.Resource.Pattern = r.Filter(o, part[2]), Filter
	default:
		if q.Resource.Kind, err = ParseKind(part[1]); err != nil {
			t.Fatal(err)
		}
		got = r.Resource(o, q.Resource.Kind, part[2])
		if operations[q.Resource.Kind].Has(o) && r.Operations(q.Resource.Kind, part[2]).Has(o) != got {
			t.Errorf("%s: the set of operations says otherwise", words)
		}
	}
	if got != want {
		t.Errorf("%s: %v, want %v", words, got, want)
	}
	if part[1] == "name" && strings.ContainsAny(part[2], "+#") {
		return // no name: the question would be another one
	}
	if answer := p.Explain(who, q); answer.Allowed != got {
		t.Errorf("%s: explained as %v", words, answer.Allowed)
	} else if got && len(answer.Rules) == 0 {
		t.Errorf("%s: allowed by no rule", words)
	}
}

func TestConditions(t *testing.T) {
	at := func(network string) []netip.Prefix {
		n, err := ParseNetwork(network)
		if err != nil {
			t.Fatal(err)
		}
		return []netip.Prefix{n}
	}
	here := Subject{User: "u", ClientID: "dev-7", Address: netip.MustParseAddr("::ffff:10.1.2.3"), Listener: "field",
		Encrypted: true}
	for name, one := range map[string]struct {
		when Conditions
		who  func(*Subject)
		want bool
	}{
		"none":                 {want: true},
		"network":              {when: Conditions{Networks: at("10.0.0.0/8")}, want: true},
		"address":              {when: Conditions{Networks: at("10.1.2.3")}, want: true},
		"another network":      {when: Conditions{Networks: at("10.2.0.0/16")}},
		"network of version 6": {when: Conditions{Networks: at("fd00::/8")}},
		"no address": {when: Conditions{Networks: at("0.0.0.0/0")},
			who: func(s *Subject) { s.Address = netip.Addr{} }},
		"listener":         {when: Conditions{Listener: "field"}, want: true},
		"another listener": {when: Conditions{Listener: "plant"}},
		"TLS":              {when: Conditions{Encrypted: true}, want: true},
		"no TLS":           {when: Conditions{Encrypted: true}, who: func(s *Subject) { s.Encrypted = false }},
		"client":           {when: Conditions{ClientID: "dev-*"}, want: true},
		"that client":      {when: Conditions{ClientID: "dev-7"}, want: true},
		"another client":   {when: Conditions{ClientID: "dev"}},
	} {
		r := allow("User:u", Of(Read), Topic, Literal, "a")
		r.When = one.when
		who := here
		if one.who != nil {
			one.who(&who)
		}
		if got := New([]Rule{r}, plain{}).Rights(&who).Topic(Read, "a"); got != one.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestTemplateTricks has values that would be more than text.
func TestTemplateTricks(t *testing.T) {
	rules := []Rule{
		allow("User:*", Of(Read), Topic, Filter, "d/${clientid}/#"),
		allow("User:*", Of(Write), Topic, Filter, "${clientid}/x"),
		allow("User:*", Everything, Topic, Filter, "open/#"),
		deny("User:*", Everything, Topic, Filter, "open/${clientid}/closed"),
	}
	p := New(rules, plain{})
	for _, id := range []string{"", "+", "#", "a/b", "a+", "#a", "/", "\x00"} {
		who := &Subject{User: "u", ClientID: id}
		for _, name := range []string{"d/x/y", "d//y", "d/a/b/y", "d/+/y", "d/#/y"} {
			if p.Rights(who).Name(Read, []byte(name), "") {
				t.Errorf("a client called %q may read %s", id, name)
			}
		}
		if p.Rights(who).Name(Read, []byte("open/any/closed"), "") {
			t.Errorf("a client called %q is not denied", id)
		}
	}
	if p.Rights(&Subject{User: "u", ClientID: "$SYS"}).Name(Write, []byte("$SYS/x"), "") {
		t.Error("a client called $SYS gets what begins with $")
	}
}

func TestRulesThatAreWrong(t *testing.T) {
	good := allow("User:a", Of(Read), Topic, Literal, "t")
	for name, spoil := range map[string]func(*Rule){
		"no effect":            func(r *Rule) { r.Effect = 0 },
		"no principal":         func(r *Rule) { r.Principal = "" },
		"a principal of Kafka": func(r *Rule) { r.Principal = "Team:x" },
		"no name of a user":    func(r *Rule) { r.Principal = "User:" },
		"no operation":         func(r *Rule) { r.Operations = 0 },
		"not of a topic":       func(r *Rule) { r.Operations = Of(IdempotentWrite) },
		"no kind":              func(r *Rule) { r.Resource.Kind = 0 },
		"a kind too many":      func(r *Rule) { r.Resource.Kind = 99 },
		"no pattern":           func(r *Rule) { r.Resource.Pattern = 0 },
		"no name":              func(r *Rule) { r.Resource.Name = "" },
		"a filter of a group":  func(r *Rule) { r.Resource = Resource{Group, Filter, "a/#"} },
		"no filter":            func(r *Rule) { r.Resource = Resource{Topic, Filter, "a/#/b"} },
		"a share":              func(r *Rule) { r.Resource = Resource{Topic, Filter, "$share/g/a"} },
		"an unknown template":  func(r *Rule) { r.Resource = Resource{Topic, Filter, "a/${x}"} },
		"an open template":     func(r *Rule) { r.Resource = Resource{Topic, Filter, "a/${clientid"} },
		"another cluster":      func(r *Rule) { r.Resource = Resource{Cluster, Literal, "x"}; r.Operations = Of(Alter) },
		"too long":             func(r *Rule) { r.Resource.Name = strings.Repeat("x", 5000) },
	} {
		r := good
		spoil(&r)
		if r.Check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for _, r := range ReadyRules() {
		if err := r.Check(); err != nil {
			t.Error(r.String(), err)
		}
	}
}

func TestRuleAsJSON(t *testing.T) {
	r := deny("Role:x", Of(Write, Read), Topic, Filter, "a/${clientid}/#")
	r.When = Conditions{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		Listener: "l", Encrypted: true, ClientID: "c*"}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Rule
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if back.String() != r.String() || back.ID() != r.ID() {
		t.Errorf("%s became %s", &r, &back)
	}
	slices.Reverse(r.When.Networks)
	if back.ID() != r.ID() {
		t.Error("the order of networks makes another rule")
	}
}

// TestRightsAreNaive holds the indexes against every rule looked at by itself.
func TestRightsAreNaive(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	level := func() string { return pick("a", "b", "c", "+", "${clientid}") }
	for range 3000 {
		var rules []Rule
		for range rng.IntN(12) {
			r := allow(pick("User:u", "User:v", "User:*", "Role:r"), Of(Operation(3+rng.IntN(2))), Topic, Literal,
				pick("a", "b", "*"))
			switch rng.IntN(4) {
			case 0:
				r.Resource = Resource{Topic, Prefixed, pick("a", "ab", "b")}
			case 1, 2:
				r.Resource = Resource{Topic, Filter, level() + "/" + pick(level(), "#", level()+"/#")}
			}
			if rng.IntN(4) == 0 {
				r.Effect = Deny
			}
			rules = append(rules, r)
		}
		who := &Subject{User: "u", Roles: []string{"r"}, ClientID: pick("a", "c1")}
		p := New(rules, plain{})
		r := p.Rights(who)
		for range 20 {
			name := pick("a", "b", "c", "ab", "c1") + pick("", "/a", "/b", "/c1", "/a/b", "/c/a/a")
			o := Operation(3 + rng.IntN(2))
			if got, want := r.Name(o, []byte(name), ""), naive(rules, who, o, name); got != want {
				t.Fatalf("%s of %s by %q is %v, and should be %v, by %v", o, name, who.ClientID, got, want, rules)
			}
			topic := plain{}.TopicOf([]byte(name))
			if r.Topic(o, topic) && !r.Name(o, []byte(name), "") {
				t.Fatalf("%s of topic %s shows %s, which is denied, by %v", o, topic, name, rules)
			}
		}
	}
}

func naive(rules []Rule, who *Subject, o Operation, name string) bool {
	allowed := false
	for i := range rules {
		r := &rules[i]
		if r.Principal == "User:v" || !r.Operations.Has(o) {
			continue
		}
		var hit bool
		topic := plain{}.TopicOf([]byte(name))
		switch r.Resource.Pattern {
		case Literal:
			hit = r.Resource.Name == topic || r.Resource.Name == "*"
		case Prefixed:
			hit = strings.HasPrefix(topic, r.Resource.Name)
		default:
			hit = names.Match(strings.ReplaceAll(r.Resource.Name, "${clientid}", who.ClientID), name)
		}
		if hit && r.Effect == Deny {
			return false
		}
		allowed = allowed || hit
	}
	return allowed
}

// TestNoAllocations is for the path of every delivery.
func TestNoAllocations(t *testing.T) {
	p, who := manyRules()
	r := p.Rights(who)
	name := []byte("devices/c1/temp")
	if n := alloctest.PerRun(100, 0, func() {
		if !r.Name(Read, name, "devices") {
			t.Fatal("denied")
		}
	}); n != 0 {
		t.Errorf("%v allocations for a decision", n)
	}
}

// manyRules are 10,000 rules of 1,000 roles, and the rights of a user who has five of them.
func manyRules() (*Policy, *Subject) {
	var rules []Rule
	for i := range 1000 {
		n := string(rune('a'+i%26)) + strings.Repeat("x", i/26)
		for j := range 10 {
			rules = append(rules, allow("Role:"+n, Of(Read, Write), Topic, Filter, n+"/"+string(rune('a'+j))+"/#"))
		}
	}
	return New(rules, plain{}), &Subject{User: "u7", Roles: []string{"a", "b", "c", "d", "device"}, ClientID: "c1"}
}

func BenchmarkName(b *testing.B) {
	p, who := manyRules()
	r := p.Rights(who)
	name := []byte("devices/c1/temp")
	for b.Loop() {
		if !r.Name(Read, name, "devices") {
			b.Fatal("denied")
		}
	}
}

func BenchmarkTopic(b *testing.B) {
	p := New([]Rule{allow("User:u", Of(Read), Topic, Literal, "sensors")}, plain{})
	r := p.Rights(&Subject{User: "u"})
	for b.Loop() {
		if !r.Topic(Read, "sensors") {
			b.Fatal("denied")
		}
	}
}

func BenchmarkRights(b *testing.B) {
	p, who := manyRules()
	for b.Loop() {
		p.Rights(who)
	}
}

func FuzzRule(f *testing.F) {
	r := deny("Role:x", Everything, Topic, Filter, "a/${clientid}/#")
	text, _ := json.Marshal(r)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var r, back Rule
		if json.Unmarshal(text, &r) != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &back); err != nil || back.ID() != r.ID() {
			t.Fatalf("%s became %s: %v", text, again, err)
		}
		New([]Rule{r}, plain{}).Rights(&Subject{User: "x", ClientID: "c"}).Name(Read, []byte("a/b"), "")
	})
}

// TestParse: a rule that somebody else has written for one principal is read strictly.
func TestParse(t *testing.T) {
	const good = `"effect":"allow","operations":["publish"],"kind":"topic","pattern":"filter","name":"a/#"`
	for text, want := range map[string]string{
		`{` + good + `}`:                           "allow User:u write on names a/#",
		`{` + good + `,"principal":"User:u"}`:      "allow User:u write on names a/#",
		`{` + good + `,"listener":"side"}`:         "allow User:u write on names a/# by side",
		`{` + good + `,"principal":"User:other"}`:  "",
		`{` + good + `,"principal":""}`:            "",
		`{` + good + `,"listner":"side"}`:          "",
		`{` + good + `,"networks":["everywhere"]}`: "",
		`{"effect":"allow"}`:                       "",
		`[]`:                                       "",
		``:                                         "",
	} {
		r, err := Parse([]byte(text), "User:u")
		if (err == nil) != (want != "") || err == nil && r.String() != want || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %s, %v", text, r.String(), err)
		}
	}
}

// TestOnTopic: a rule about names is shown as one about a topic only where that is what it is to who reads the topic.
func TestOnTopic(t *testing.T) {
	for _, c := range []struct {
		r    Rule
		want string
	}{
		{allow(alice, Of(Read), Topic, Filter, "a/#"), "a"},
		{deny(alice, Of(Read), Topic, Filter, "a/#"), "a"},
		{deny(alice, Of(Read), Topic, Filter, "a/+/secret"), "a"},
		{allow(alice, Of(Read), Topic, Filter, "a/+/secret"), ""},
		{allow(alice, Of(Read), Topic, Filter, "a"), ""},
		{allow(alice, Of(Read), Topic, Filter, "#"), AnyName},
		{deny(alice, Of(Read), Topic, Filter, "#"), AnyName},
		{deny(alice, Of(Read), Topic, Filter, "+/secret"), ""},
		{allow(alice, Of(Read), Topic, Filter, "+/#"), ""},
		{deny(alice, Of(Read), Topic, Filter, "a/${clientid}/#"), ""},
		{allow(alice, Of(Read), Topic, Literal, "a"), ""},
		{deny(alice, Of(Read), Topic, Filter, "__firth_access/#"), ""},
	} {
		got := c.r.OnTopic(plain{})
		if got != c.want {
			t.Errorf("%s is on topic %q, want %q", c.r.String(), got, c.want)
		}
		if got == "" || got == AnyName {
			continue
		}
		rules := []Rule{c.r}
		if c.r.Effect == Deny {
			rules = append(rules, allow(alice, Everything, Topic, Literal, got))
		}
		rights := New(rules, plain{}).Rights(&Subject{User: "alice"})
		if may := rights.Topic(Read, got); may != (c.r.Effect == Allow) {
			t.Errorf("%s: reading topic %s is %v", c.r.String(), got, may)
		}
	}
}
