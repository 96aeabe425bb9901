package kafka

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
)

// ruledHouse is a house whose rules are in force: who does not say who it is may do everything by those.
func ruledHouse(t *testing.T) (h *house, a *access.Access) {
	t.Helper()
	logger := logtest.New(t)
	s := openStore(t, store.Options{FS: vfs.NewMemory(), JournalBytes: 4 << 20, Logger: logger})
	a = loginsOn(t, s)
	h = houseOn(t, s, Options{Logins: a, Guard: a, Rules: a, Credentials: a, Logger: logger})
	var open []rule.Rule
	for _, r := range rule.ReadyRules() {
		if r.Principal == "Role:admin" && r.Resource.Pattern == rule.Literal {
			r.Principal = Anonymous
			open = append(open, r)
		}
	}
	if err := a.Apply(t.Context(), &access.Change{Rules: open}); err != nil {
		t.Fatal(err)
	}
	return h, a
}

// TestACLs makes, shows and deletes rules with a client of Kafka.
//
// [Kafka-DescribeAcls] [Kafka-CreateAcls] [Kafka-DeleteAcls].
func TestACLs(t *testing.T) {
	h, a := ruledHouse(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(h.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	wanted := kadm.NewACLs().Allow("User:alice", "User:bob").AllowHosts("*", "10.0.0.1").Deny("User:eve").DenyHosts().
		Topics("t").ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpRead, kadm.OpWrite)
	made, err := adm.CreateACLs(t.Context(), wanted)
	if err != nil || len(made) != 10 {
		t.Fatalf("%d made, %v", len(made), err)
	}
	for _, one := range made {
		if one.Err != nil {
			t.Errorf("%+v: %v", one, one.Err)
		}
	}
	shown := func(b *kadm.ACLBuilder) (list []string) {
		t.Helper()
		results, err := adm.DescribeACLs(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			for _, d := range r.Described {
				list = append(list, fmt.Sprintf("%s %s %s %s %s", d.Principal, d.Permission, d.Operation, d.Host, d.Name))
			}
		}
		slices.Sort(list)
		return list
	}
	every := func() *kadm.ACLBuilder { return kadm.NewACLs().ResourcePatternType(kadm.ACLPatternAny) }
	ofT := every().Topics("t").Operations(kadm.OpAny).Allow().AllowHosts().Deny().DenyHosts()
	if got := shown(ofT); len(got) != 10 {
		t.Errorf("of t: %v", got)
	}
	bob := every().Topics("t").Operations(kadm.OpRead).Allow("User:bob").AllowHosts("10.0.0.1")
	if got := shown(bob); len(got) != 1 || got[0] != "User:bob ALLOW READ 10.0.0.1 t" {
		t.Errorf("of bob: %v", got)
	}
	gone, err := adm.DeleteACLs(t.Context(), bob)
	if err != nil || len(gone) != 1 || len(gone[0].Deleted) != 1 {
		t.Errorf("%+v, %v", gone, err)
	}
	if got := shown(ofT); len(got) != 9 {
		t.Errorf("of t, then: %v", got)
	}
	who := rule.Subject{User: "alice"}
	ask := rule.Question{Operation: rule.Write,
		Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: "t/1"}}
	if !a.Explain(who, ask).Allowed {
		t.Error("what Kafka's rule allows a device may not do")
	}
}

// TestACLsOfOtherRules: one rule of many operations is shown as many, and loses the one that is deleted; what Kafka has
// no words for is not shown.
func TestACLsOfOtherRules(t *testing.T) {
	h, a := ruledHouse(t)
	many := rule.Rule{Effect: rule.Allow, Principal: "Role:r", Operations: rule.Of(rule.Read, rule.Write, rule.Delete),
		Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Prefixed, Name: "a."}}
	names, bound := many, many
	names.Resource = rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: "a/#"}
	names.Operations = rule.Of(rule.Read)
	bound.When.Listener = "field"
	if err := a.Apply(t.Context(), &access.Change{Rules: []rule.Rule{many, names, bound}}); err != nil {
		t.Fatal(err)
	}
	c := h.dial()
	describe := kmsg.NewPtrDescribeACLsRequest()
	describe.ResourceType, describe.ResourcePatternType = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeMatch
	describe.ResourceName, describe.Principal = new("a.b"), new("Role:r")
	describe.Operation, describe.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	count := func() (n int) {
		resp := askFor[*kmsg.DescribeACLsResponse](c, 3, describe)
		wantCode(t, "describe", resp.ErrorCode, wire.None)
		for _, r := range resp.Resources {
			n += len(r.ACLs)
		}
		return n
	}
	if n := count(); n != 3 {
		t.Fatalf("%d shown", n)
	}
	del := kmsg.NewPtrDeleteACLsRequest()
	f := kmsg.NewDeleteACLsRequestFilter()
	f.ResourceType, f.ResourcePatternType = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypePrefixed
	f.Principal, f.Operation, f.PermissionType = new("Role:r"), kmsg.ACLOperationWrite, kmsg.ACLPermissionTypeAny
	none := f
	none.Principal = new("User:nobody")
	wrong := f
	wrong.Operation = 0
	del.Filters = []kmsg.DeleteACLsRequestFilter{f, none, wrong}
	resp := askFor[*kmsg.DeleteACLsResponse](c, 3, del)
	if len(resp.Results[0].MatchingACLs) != 1 || len(resp.Results[1].MatchingACLs) != 0 {
		t.Errorf("%+v", resp.Results)
	}
	wantCode(t, "wrong", resp.Results[2].ErrorCode, wire.InvalidRequest)
	if n, rules := count(), a.Catalog().Rules(); n != 2 || !slices.ContainsFunc(rules, func(r rule.Rule) bool {
		return r.Principal == "Role:r" && r.Operations == rule.Of(rule.Read, rule.Delete)
	}) {
		t.Errorf("%d shown; the rules are %v", n, rules)
	}
}

// TestACLsOfNames: a rule about names of devices is shown as what it is to who reads the topic, and who would delete it
// is told how.
func TestACLsOfNames(t *testing.T) {
	h, a := ruledHouse(t)
	on := func(e rule.Effect, filter string) rule.Rule {
		return rule.Rule{Effect: e, Principal: "User:dev", Operations: rule.Of(rule.Read, rule.Write),
			Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: filter}}
	}
	whole := on(rule.Allow, "sensors/#")
	if err := a.Apply(t.Context(), &access.Change{Rules: []rule.Rule{whole, on(rule.Allow, "meters/1"),
		on(rule.Deny, "plant/+/secret")}}); err != nil {
		t.Fatal(err)
	}
	c := h.dial()
	describe := kmsg.NewPtrDescribeACLsRequest()
	describe.ResourceType, describe.ResourcePatternType = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeAny
	describe.Principal, describe.Operation = new("User:dev"), kmsg.ACLOperationAny
	describe.PermissionType = kmsg.ACLPermissionTypeAny
	var got []string
	for _, r := range askFor[*kmsg.DescribeACLsResponse](c, 3, describe).Resources {
		for _, one := range r.ACLs {
			got = append(got, fmt.Sprintf("%s %s %s %s", one.PermissionType, one.Operation, r.ResourcePatternType,
				r.ResourceName))
		}
	}
	want := []string{"DENY READ LITERAL plant", "DENY WRITE LITERAL plant", "ALLOW READ LITERAL sensors",
		"ALLOW WRITE LITERAL sensors"}
	if !slices.Equal(got, want) {
		t.Errorf("shown: %q, want %q", got, want)
	}
	del := kmsg.NewPtrDeleteACLsRequest()
	f := kmsg.NewDeleteACLsRequestFilter()
	f.ResourceType, f.ResourcePatternType = kmsg.ACLResourceTypeTopic, kmsg.ACLResourcePatternTypeLiteral
	f.ResourceName, f.Operation, f.PermissionType = new("sensors"), kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	del.Filters = []kmsg.DeleteACLsRequestFilter{f}
	result := askFor[*kmsg.DeleteACLsResponse](c, 3, del).Results[0]
	wantCode(t, "delete", result.ErrorCode, wire.InvalidRequest)
	hint := "firth acl remove " + whole.ID()
	if result.ErrorMessage == nil || !strings.Contains(*result.ErrorMessage, hint) {
		t.Errorf("no %q in %+v", hint, result)
	}
	if !slices.ContainsFunc(a.Catalog().Rules(), func(r rule.Rule) bool { return r.ID() == whole.ID() }) {
		t.Error("the rule is gone")
	}
}

// TestACLsThatAreWrong: each is told what is wrong, and the others are made.
func TestACLsThatAreWrong(t *testing.T) {
	h, a := ruledHouse(t)
	good := kmsg.NewCreateACLsRequestCreation()
	good.ResourceType, good.ResourceName = kmsg.ACLResourceTypeTopic, "t"
	good.ResourcePatternType = kmsg.ACLResourcePatternTypeLiteral
	good.Principal, good.Host = "User:x", "*"
	good.Operation, good.PermissionType = kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow
	req := kmsg.NewPtrCreateACLsRequest()
	req.Creations = append(req.Creations, good)
	for _, spoil := range []func(*kmsg.CreateACLsRequestCreation){
		func(c *kmsg.CreateACLsRequestCreation) { c.Principal = "x" },
		func(c *kmsg.CreateACLsRequestCreation) { c.Host = "here" },
		func(c *kmsg.CreateACLsRequestCreation) { c.ResourceName = "" },
		func(c *kmsg.CreateACLsRequestCreation) { c.Operation = kmsg.ACLOperationIdempotentWrite },
		func(c *kmsg.CreateACLsRequestCreation) { c.Operation = kmsg.ACLOperationAny },
		func(c *kmsg.CreateACLsRequestCreation) { c.PermissionType = kmsg.ACLPermissionTypeAny },
		func(c *kmsg.CreateACLsRequestCreation) { c.ResourcePatternType = kmsg.ACLResourcePatternTypeMatch },
		func(c *kmsg.CreateACLsRequestCreation) { c.ResourcePatternType = 9 },
		func(c *kmsg.CreateACLsRequestCreation) { c.ResourceType = kmsg.ACLResourceTypeCluster },
		func(c *kmsg.CreateACLsRequestCreation) { c.Operation = 99 },
		func(c *kmsg.CreateACLsRequestCreation) { c.ResourceType = 99 },
	} {
		bad := good
		spoil(&bad)
		req.Creations = append(req.Creations, bad)
	}
	before := len(a.Catalog().Rules())
	c := h.dial()
	for i, r := range askFor[*kmsg.CreateACLsResponse](c, 3, req).Results {
		want := wire.InvalidRequest
		if i == 0 {
			want = wire.None
		}
		wantCode(t, fmt.Sprintf("creation %d", i), r.ErrorCode, want)
	}
	if n := len(a.Catalog().Rules()); n != before+1 {
		t.Errorf("%d rules, want %d", n, before+1)
	}
}

// TestACLsAreForAdministrators: others learn nothing and change nothing.
func TestACLsAreForAdministrators(t *testing.T) {
	logger := logtest.New(t)
	s := openStore(t, store.Options{FS: vfs.NewMemory(), JournalBytes: 4 << 20, Logger: logger})
	a := loginsOn(t, s)
	h := houseOn(t, s, Options{Logins: a, Guard: judges{denying{}}, Rules: a, Logger: logger})
	c := h.dial()
	describe := kmsg.NewPtrDescribeACLsRequest()
	wantCode(t, "describe", askFor[*kmsg.DescribeACLsResponse](c, 1, describe).ErrorCode, wire.ClusterAuthorizationFailed)
	create := kmsg.NewPtrCreateACLsRequest()
	create.Creations = append(create.Creations, kmsg.NewCreateACLsRequestCreation())
	wantCode(t, "create", askFor[*kmsg.CreateACLsResponse](c, 1, create).Results[0].ErrorCode,
		wire.ClusterAuthorizationFailed)
	del := kmsg.NewPtrDeleteACLsRequest()
	del.Filters = append(del.Filters, kmsg.NewDeleteACLsRequestFilter())
	wantCode(t, "delete", askFor[*kmsg.DeleteACLsResponse](c, 1, del).Results[0].ErrorCode,
		wire.ClusterAuthorizationFailed)
}
