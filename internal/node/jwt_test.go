package node

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/access/token/tokentest"
)

// TestJWT: the tokens of an issuer are good for the administration, too, for what their roles allow.
func TestJWT(t *testing.T) {
	id := tokentest.New(t, "ES256")
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(keys, id.Keys(), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Sources{File: "firth.yaml", Text: fmt.Appendf(nil,
		"access:\n  jwt:\n    - { issuer: %q, audience: firth, keys: %q, roles: roles }\n", tokentest.Name, keys)})
	if err != nil {
		t.Fatal(err)
	}
	ready := local(t)
	ready.Access = c.Access
	n := start(t, ready)
	http := n.Addresses().HTTP
	for _, tc := range []struct {
		name, method, bearer string
		status               int
		body                 string
	}{
		{"nobody", "GET", "", 401, `only who is known`},
		{"no role", "GET", id.Token(nil), 403, `alice may not describe the cluster`},
		{"a viewer", "GET", id.Token(map[string]any{"roles": "viewer"}), 200, `^\[\]`},
		{"who changes", "DELETE", id.Token(map[string]any{"roles": "viewer"}), 403, `alice may not alter`},
		{"an admin", "DELETE", id.Token(map[string]any{"roles": []string{"admin"}}), 404, `there is no user x`},
		{"ended", "GET", id.Token(map[string]any{"roles": "viewer", "exp": 1}), 401, `the token: it has ended`},
		{"of a stranger", "GET", tokentest.New(t, "ES256").Token(map[string]any{"roles": "viewer"}), 401, `signature`},
	} {
		auth := ""
		if tc.bearer != "" {
			auth = "Authorization: Bearer " + tc.bearer + "\n"
		}
		path := map[string]string{"GET": "/users", "DELETE": "/user?name=x"}[tc.method]
		status, body := request(t, http, fmt.Sprintf("%s /admin/v1%s HTTP/1.1\nHost: %s\nConnection: close\n"+
			"Content-Type: application/json\n%s\n", tc.method, path, http, auth))
		if status != tc.status || !regexp.MustCompile(tc.body).MatchString(body) ||
			tc.bearer != "" && strings.Contains(body, tc.bearer) {
			t.Errorf("%s: got %d %.500q, want %d %q", tc.name, status, body, tc.status, tc.body)
		}
	}
}

func TestJWTOptions(t *testing.T) {
	for text, want := range map[string]string{
		`{ issuer: a, keys: k }`:                                             `no key "audience"`,
		`{ issuer: a, audience: b }`:                                         `one of keys, keys_url`,
		`{ issuer: a, audience: b, keys: k, secret: s }`:                     `one of keys, keys_url`,
		`{ issuer: a, audience: b, keys: k, algorithms: none }`:              `"none" is not one of RS256`,
		`{ issuer: a, audience: b, keys: k, algorithms: "RS256, HS256" }`:    `HS256 is for a secret`,
		`{ issuer: a, audience: b, secret: k, algorithms: RS256 }`:           `HS256 is for a secret`,
		`{ issuer: a, audience: b, discover: true }`:                         `no address such as`,
		`{ issuer: a, audience: b, keys_url: "http://id.example.org/keys" }`: `is not https`,
		`{ issuer: a, audience: b, keys: k, require: scope }`:                `not claim=value`,
		`{ issuer: a, audience: "", keys: k }`:                               `is empty`,
	} {
		_, err := Load(Sources{File: "firth.yaml", Text: []byte("access:\n  jwt:\n    - " + text + "\n")})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
