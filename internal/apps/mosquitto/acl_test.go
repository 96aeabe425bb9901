package mosquitto

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// TestParseACL has every form of a line become the rule that it is.
func TestParseACL(t *testing.T) {
	text := `# for those without a name
topic read public/#
topic write  two  spaces
topic read
topic   deny public/secret

user alice
topic a/b
topic readwrite $SYS/broker/load
pattern read devices/%c/commands/%u
pattern  write %u-%c
user bob the builder
topic write bob/+/in
user alice` + "\r\ntopic deny a/b/c  \t\r\npattern deny devices/+/secret\n"
	all, err := ParseACL("acl", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, g := range all {
		got = append(got, fmt.Sprintf("%d %s", g.Line, g.Rule.String()))
	}
	want := []string{
		"2 allow User:ANONYMOUS read on names public/#",
		"3 allow User:ANONYMOUS write on names two  spaces",
		"4 allow User:ANONYMOUS read,write on names read",
		"5 deny User:ANONYMOUS read,write on names public/secret",
		"8 allow User:alice read,write on names a/b",
		"9 allow User:alice read,write on names $SYS/broker/load",
		"10 allow User:* read on names devices/${clientid}/commands/${username}",
		"11 allow User:* write on names ${username}-${clientid}",
		"13 allow User:bob the builder write on names bob/+/in",
		"15 deny User:alice read,write on names a/b/c",
		"16 deny User:* read,write on names devices/+/secret",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestBadACL wants each line that is none named with its place, and all of them.
func TestBadACL(t *testing.T) {
	for line, column := range map[string]int{
		"topics read a": 1, " # indented": 2, "user": 6, "user  ": 6, "user *": 6, "user ANONYMOUS": 6, "topic": 7,
		"pattern ": 9, "topic reed a/b": 7, "topic a b": 7, "topic read a/#/b": 12, "topic read a+": 12, "topic\tread a": 1,
		"pattern read ${username}": 14, "topic ${x": 7, "topic read $share/g/a": 12, "user a\xffb": 6, "topic a\xffb": 7,
		"TOPIC read a": 1, "topic read a\x00b": 12, "\ufefftopic read a": 1,
	} {
		_, err := ParseACL("acl", []byte("topic read ok\n"+line+"\n"+line))
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is taken: %v", line, err)
			continue
		}
		found := strings.Split(strings.TrimPrefix(err.Error(), "mosquitto: "), "\n")
		if len(found) != 2 || !strings.HasPrefix(found[0], fmt.Sprintf("acl:2:%d: ", column)) ||
			!strings.HasPrefix(found[1], "acl:3:") {
			t.Errorf("%q, want column %d: %q", line, column, found)
		}
	}
}

// TestRights: what is not said is not allowed, and what is allowed less than in Mosquitto is said.
func TestRights(t *testing.T) {
	may := func(r Rights, who rule.Subject, o rule.Operation, name string) bool {
		return rule.New(r.Rules, nil).Rights(&who).Name(o, []byte(name), "")
	}
	alice := rule.Subject{User: "alice", ClientID: "c"}
	empty := RightsOf(nil)
	for _, who := range []rule.Subject{alice, {User: rule.Anonymous}} {
		if may(empty, who, rule.Read, "a") || may(empty, who, rule.Write, "a") || len(empty.Rules) == 0 {
			t.Errorf("an empty file lets %s in", who.User)
		}
		if r := NoACL(); !may(r, who, rule.Read, "a/b") || !may(r, who, rule.Write, "a/b") ||
			!may(r, who, rule.Read, "$SYS/x") || may(r, who, rule.Write, "$SYS/x") {
			t.Errorf("no file keeps %s out", who.User)
		}
	}
	text := "user alice\ntopic read a/#\ntopic read a/#\ntopic read b\npattern deny +/%c/secret\n"
	all, err := ParseACL("acl", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r := RightsOf(all)
	if len(r.Rules) != 3 || len(r.Notes) != 2 || !strings.HasPrefix(r.Notes[0], "acl:2: ") {
		t.Errorf("%d rules, %q", len(r.Rules), r.Notes)
	}
	if may(r, alice, rule.Read, "a/c/secret") || !may(r, alice, rule.Read, "a/d/secret") {
		t.Error("a pattern that denies does not")
	}
	if all, err = ParseACL("acl", []byte("pattern read x/%u/#\n")); err != nil {
		t.Fatal(err)
	}
	r = RightsOf(all)
	if !may(r, alice, rule.Read, "x/alice/1") || may(r, rule.Subject{User: rule.Anonymous}, rule.Read, "x/ANONYMOUS/1") {
		t.Error("who gives no name has one in a pattern")
	}
}

// FuzzParseACL: what is taken are rules that the catalog takes, for a user, for nobody or for everybody.
func FuzzParseACL(f *testing.F) {
	f.Add([]byte("topic read a\nuser alice\ntopic deny b/#\npattern write %c/%u\n# c\n\n"))
	f.Add([]byte("user *\ntopic read a\n"))
	f.Add([]byte("user \xff\ntopic ${a}\r\npattern %%c%u"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := ParseACL("acl", text)
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatal(err)
		}
		for _, g := range all {
			if err := g.Rule.Check(); err != nil {
				t.Fatalf("%s: %v", g.Rule.String(), err)
			}
			if g.Pattern != (g.Rule.Principal == rule.Everybody) {
				t.Fatalf("%s is for the wrong one", g.Rule.String())
			}
		}
		RightsOf(all)
	})
}
