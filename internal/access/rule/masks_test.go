package rule

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/access/mask"
)

// masking is a rule that masks the field of JSON f.
func maskingRule(principal string, p Pattern, name string) Rule {
	return Rule{Effect: Mask, Principal: principal, Operations: Of(Read), Resource: Resource{Topic, p, name},
		Masks: []mask.Mask{{Place: mask.JSON, Name: "f", Does: mask.Remove}}}
}

func TestMasks(t *testing.T) {
	here := netip.MustParsePrefix("192.0.2.0/24")
	conditional := maskingRule(alice, Literal, "a")
	conditional.When.Networks = []netip.Prefix{here}
	who := Subject{User: "alice", ClientID: "c1", Roles: []string{"support"}, Address: netip.MustParseAddr("198.51.100.1")}
	faint := Subject{User: "alice", Faint: true}
	for _, c := range []struct {
		rule  Rule
		who   Subject
		names string // that are masked
		topic string // that are masked
	}{
		{maskingRule(alice, Filter, "a/+/c"), who, "a/b/c", "a"},
		{maskingRule("Role:support", Filter, "a/#"), who, "a/b/c a/x", "a"},
		{maskingRule("User:bob", Filter, "#"), who, "", ""},
		{maskingRule(Everybody, Literal, "a"), who, "a/b/c a/x", "a"},
		{maskingRule(Everybody, Literal, "*"), who, "a/b/c a/x b/x", "a b"},
		{maskingRule(Everybody, Prefixed, "__firth_"), who, "", "__firth_x"},
		{maskingRule(Everybody, Prefixed, "b"), who, "b/x", "b"},
		{maskingRule(Everybody, Filter, "+/${clientid}"), who, "b/c1", "a b"},
		{maskingRule(Everybody, Filter, "b/${cert.cn}"), who, "b/x b/c1", "b"}, // there is none: whoever it may be
		{conditional, who, "", ""},
		{conditional, faint, "a/b/c a/x", "a"}, // it may be there
	} {
		r := New([]Rule{c.rule}, plain{}).Rights(&c.who)
		for _, name := range []string{"a/b/c", "a/x", "b/x", "b/c1"} {
			want := strings.Contains(" "+c.names+" ", " "+name+" ")
			if c.rule.Resource.Pattern != Filter { // what holds for a topic does for all of it
				want = want || strings.Contains(" "+c.topic+" ", " "+name[:1]+" ")
			}
			if set := r.MaskOfName([]byte(name), ""); (set != nil) != want {
				t.Errorf("%v: %s is masked: %v", &c.rule, name, set != nil)
			}
		}
		for _, topic := range []string{"a", "b", "__firth_x"} {
			if got := r.MaskOfTopic(topic) != nil; got != strings.Contains(" "+c.topic+" ", " "+topic+" ") {
				t.Errorf("%v: topic %s is masked: %v", &c.rule, topic, got)
			} else if got && !MaskSome([]Rule{c.rule}, topic, plain{}) {
				t.Errorf("%v: topic %s is masked for nobody", &c.rule, topic)
			}
		}
		if r.Name(Read, []byte("a/x"), "") || r.Topic(Read, "a") {
			t.Errorf("%v allows something", &c.rule)
		}
	}
}

func TestMasksAddUp(t *testing.T) {
	hash := maskingRule("Role:support", Literal, "a")
	hash.Masks[0] = mask.Mask{Place: mask.JSON, Name: "g", Does: mask.Hash}
	p := New([]Rule{maskingRule(alice, Filter, "a/#"), hash}, plain{}).HashBy([]byte("secret"))
	who := Subject{User: "alice", Roles: []string{"support"}}
	set := p.Rights(&who).MaskOfName([]byte("a/b"), "")
	got, ok := set.Masker().Payload([]byte(`{"f":1,"g":2,"h":3}`))
	if !ok || strings.Contains(string(got), `"f"`) || strings.Contains(string(got), `:2`) {
		t.Errorf("both make %s", got)
	}
	within := p.Within(&who, nil, []Rule{maskingRule("", Literal, "b")})
	if within.MaskOfTopic("b") == nil || within.MaskOfTopic("a") != nil {
		t.Error("the masks of a token are not in force, or others are")
	}
}

func TestMasksThatAreWrong(t *testing.T) {
	for what, spoil := range map[string]func(*Rule){
		"none":            func(r *Rule) { r.Masks = nil },
		"too many":        func(r *Rule) { r.Masks = make([]mask.Mask, maxMasks+1) },
		"of no place":     func(r *Rule) { r.Masks[0].Place = 0 },
		"to write":        func(r *Rule) { r.Operations = Of(Write) },
		"of a group":      func(r *Rule) { r.Resource.Kind = Group },
		"that also allow": func(r *Rule) { r.Effect = Allow },
	} {
		r := maskingRule(alice, Literal, "a")
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		if spoil(&r); r.Check() == nil {
			t.Errorf("masks %s are well-formed", what)
		}
	}
}

func TestMasksAsJSON(t *testing.T) {
	r := maskingRule(alice, Literal, "a")
	r.Masks = append(r.Masks, mask.Mask{Place: mask.Header, Name: "who", Does: mask.Truncate, Length: 3})
	text, err := json.Marshal(r)
	var back Rule
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if err != nil || back.ID() != r.ID() || len(back.Masks) != 2 {
		t.Errorf("%s became %v: %v", text, &back, err)
	}
	if want := "mask User:alice json:f=remove header:who=truncate:3 on topic a"; r.String() != want {
		t.Errorf("%s, want %s", r.String(), want)
	}
	for _, text := range []string{
		`{"effect":"mask","principal":"User:a","operations":["read"],"kind":"topic","pattern":"literal","name":"t"}`,
		`{"effect":"mask","principal":"User:a","operations":["read"],"kind":"topic","pattern":"literal","name":"t",
			"masks":["value=remove"]}`,
	} {
		if json.Unmarshal([]byte(text), &back) == nil {
			t.Errorf("%s is a rule", text)
		}
	}
}

func TestExplainTellsMasks(t *testing.T) {
	rules := []Rule{allow(alice, Of(Read), Topic, Filter, "a/#"), maskingRule(alice, Filter, "a/+/c"),
		maskingRule("User:bob", Filter, "#"), maskingRule(alice, Literal, "b")}
	p := New(rules, plain{})
	for _, c := range []struct {
		resource Resource
		o        Operation
		want     int
	}{
		{Resource{Topic, Filter, "a/b/c"}, Read, 1},
		{Resource{Topic, Filter, "a/#"}, Read, 1},
		{Resource{Topic, Filter, "a/b"}, Read, 0},
		{Resource{Topic, Literal, "a"}, Read, 1},
		{Resource{Topic, Literal, "a"}, Describe, 0},
		{Resource{Topic, Literal, "b"}, Read, 0}, // it is not allowed
	} {
		answer := p.Explain(&Subject{User: "alice"}, Question{c.o, c.resource})
		if len(answer.Masks) != c.want {
			t.Errorf("%v %v: %d rules mask", c.o, c.resource, len(answer.Masks))
		}
		for i := range answer.Rules {
			if answer.Rules[i].Effect == Mask {
				t.Errorf("%v %v: decided by %v", c.o, c.resource, &answer.Rules[i])
			}
		}
	}
}

func BenchmarkMaskOfNameWithout(b *testing.B) {
	p, who := manyRules()
	r := p.Rights(who)
	name := []byte("devices/c1/temp")
	for b.Loop() {
		if r.MaskOfName(name, "devices") != nil {
			b.Fatal("masked")
		}
	}
}
