package hook

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestParse: an answer is read strictly: what is not understood may be what limits.
func TestParse(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	const r = `{"effect":"deny","operations":["read"],"kind":"topic","pattern":"filter","name":"a/+"}`
	for text, want := range map[string]string{
		`{"result":"allow"}`:  "allow [] [] [] never",
		`{"result":"deny"}`:   "deny [] [] [] never",
		`{"result":"ignore"}`: "ignore [] [] [] never",
		`{"result":"deny","roles":["admin"],"rules":[` + r + `]}`: "deny [] [] [] never",
		` {"result":"allow","roles":["a","b"],"groups":["g"],"rules":[` + r + `]} ` + "\n": "allow [a b] [g] [deny User:u " +
			"read on names a/+] never",
		`{"result":"allow","expires_in":60}`:                                                        "allow [] [] [] 1000060",
		`{"result":"allow","expires_in":0.5}`:                                                       "allow [] [] [] 1000000",
		`{"result":"allow","expires_at":1000007.25}`:                                                "allow [] [] [] 1000007",
		`{"result":"allow","expires_at":1}`:                                                         "allow [] [] [] 1",
		`{"result":"allow","expires_in":60,"expires_at":1000060}`:                                   "both",
		`{"result":"allow","expires_in":0}`:                                                         "expires_in",
		`{"result":"allow","expires_in":-1}`:                                                        "expires_in",
		`{"result":"allow","expires_in":1e300}`:                                                     "expires_in",
		`{"result":"allow","expires_in":"60"}`:                                                      "expires_in",
		`{"result":"allow","expires_at":1e12}`:                                                      "expires_at",
		`{"result":"allow","expires":60}`:                                                           "unknown field",
		`{"result":"allow","superuser":true}`:                                                       "unknown field",
		`{"result":"allow","rules":[` + strings.Replace(r, "kind", "kinds", 1) + `]}`:               "rule 1",
		`{"result":"allow","rules":[` + strings.Replace(r, "{", `{"principal":"User:x",`, 1) + `]}`: "rule 1",
		`{"result":"allow","rules":["#"]}`:                                                          "rule 1",
		`{"result":"allow","rules":[` + strings.Repeat(r+",", maxRules) + r + `]}`:                  "101 rules",
		`{"result":"allow","roles":"admin"}`:                                                        "roles",
		`{"result":"Allow"}`:                                                                        "result is",
		`{"result":true}`:                                                                           "result",
		`{}`:                                                                                        "result is",
		`{"result":"allow"}{"result":"allow"}`:                                                      "behind",
		`{"result":"allow"} x`:                                                                      "behind",
		`{"result":"allow"`:                                                                         "EOF",
		`null`:                                                                                      "result is",
		`"allow"`:                                                                                   "cannot unmarshal",
		`<html>`:                                                                                    "invalid character",
		``:                                                                                          "EOF",
	} {
		a, err := parse([]byte(text), "u", now)
		if err != nil {
			if !strings.Contains(err.Error(), want) || a.Result != Ignore {
				t.Errorf("%.80s: %v, want %q", text, err, want)
			}
			continue
		}
		ends := "never"
		if !a.Ends.IsZero() {
			ends = fmt.Sprint(a.Ends.Unix())
		}
		var rules []string
		for i := range a.Rules {
			rules = append(rules, a.Rules[i].String())
		}
		if got := fmt.Sprintf("%s %s %s %s %s", a.Result, a.Roles, a.Groups, rules, ends); got != want {
			t.Errorf("%.80s: %s, want %s", text, got, want)
		}
	}
}

// FuzzParse: whatever comes, it is an answer or an error, and rules are about the user.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"result":"allow","roles":["a"],"expires_in":60}`))
	f.Add([]byte(`{"result":"allow","rules":[{"effect":"deny","operations":["read"],"kind":"topic","pattern":"filter",` +
		`"name":"a/+"}],"expires_at":1000060}`))
	f.Add([]byte(`{"result":"deny"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parse(text, "u", time.Unix(1000, 0))
		switch {
		case err != nil && a.Result != Ignore:
			t.Errorf("%+v with an error", a)
		case len(a.Rules) > maxRules:
			t.Errorf("%d rules", len(a.Rules))
		}
		for i := range a.Rules {
			if a.Rules[i].Principal != "User:u" {
				t.Errorf("a rule about %s", a.Rules[i].Principal)
			}
		}
	})
}
