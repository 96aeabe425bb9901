package rewrite

import (
	"strings"
	"testing"
)

func TestRewrite(t *testing.T) {
	table, err := New([]Rule{
		{All, "y/+/z/#", `^y/(.+)/z/(.+)$`, "y/z/$2"},
		{Publish, "x/#", `^x/y/(.+)$`, "z/y/$1"},
		{Subscribe, "x/#", `^x/(.*)$`, "s/$1"},
		{All, "me/#", `^me/(.*)`, "of/${username}/${clientid}/$1"},
		{Publish, "later/#", `^later/(.*)`, "$delayed/5/$1"},
		{All, "opt/#", `^opt/(a)?(.*)`, "o-$1-$2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	who := Who{Client: "c", User: "u"}
	for _, c := range []struct {
		who              Who
		in, name, filter string
	}{
		{who, "y/a/z/b", "y/z/b", "y/z/b"}, {who, "y/def", "y/def", "y/def"}, {who, "x/1/2", "x/1/2", "s/1/2"},
		{who, "x/y/2", "z/y/2", "s/y/2"}, {who, "x/+/#", "x/+/#", "s/+/#"}, {who, "me/1", "of/u/c/1", "of/u/c/1"},
		{Who{Client: "c"}, "me/1", "me/1", "me/1"}, {Who{Client: "#", User: "u"}, "me/1", "me/1", "me/1"},
		{Who{Client: "a/b", User: "u"}, "me/1", "me/1", "me/1"}, {who, "later/b", "$delayed/5/b", "later/b"},
		{who, "opt/b", "o--b", "o--b"}, {who, "$share/g/x/1", "$share/g/x/1", "$share/g/s/1"}, {who, "", "", ""},
	} {
		if got := table.Name([]byte(c.in), c.who); string(got) != c.name {
			t.Errorf("%s by %v is published to %s, want %s", c.in, c.who, got, c.name)
		}
		if got := table.Filter([]byte(c.in), c.who); string(got) != c.filter {
			t.Errorf("%s by %v subscribes to %s, want %s", c.in, c.who, got, c.filter)
		}
	}
}

func TestNone(t *testing.T) {
	table, err := New(nil)
	name, filter := table.Name([]byte("a"), Who{}), table.Filter([]byte("b"), Who{})
	if err != nil || table != nil || string(name) != "a" || string(filter) != "b" {
		t.Errorf("no rules are %v, %v", table, err)
	}
}

func TestWrong(t *testing.T) {
	for want, r := range map[string]Rule{
		"rule 1: from: ":                 {All, "a/#/b", ".*", "x"},
		"rule 1: match: ":                {All, "a", "(", "x"},
		"rule 1: to: $1 is neither":      {All, "a", ".*", "$1"},
		"rule 1: to: ${host} is neither": {All, "a", ".*", "a/${host}"},
		"rule 1: to: $ is neither":       {All, "a", ".*", "a$"},
		"rule 1: to: $share/":            {All, "a", ".*", "a/$share/g"},
	} {
		if _, err := New([]Rule{r}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", r, err, want)
		}
	}
}
