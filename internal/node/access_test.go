package node

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAdminOfUsers: whoever comes may make the first user; from then on only who is known is answered.
func TestAdminOfUsers(t *testing.T) {
	c := local(t)
	n := start(t, c)
	http := n.Addresses().HTTP
	token, err := os.ReadFile(filepath.Join(c.Data, TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(c.Data, TokenFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	bearer := "Authorization: Bearer " + strings.TrimSpace(string(token)) + "\n"
	basic := func(user, password string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\n"
	}
	call := func(method, path, auth, body string) string {
		return fmt.Sprintf("%s /admin/v1%s HTTP/1.1\nHost: %s\nConnection: close\nContent-Type: application/json\n"+
			"Content-Length: %d\n%s\n%s", method, path, http, len(body), auth, body)
	}
	const rules = `[{"effect":"allow","principal":"User:bob","operations":["publish"],` +
		`"kind":"topic","pattern":"filter","name":"a/#"}]`
	for _, tc := range []struct {
		name, request string
		status        int
		body          string
	}{
		{"nobody yet", call("GET", "/users", "", ""), 200, `^\[\]`},
		{"open to all", call("GET", "/explain?operation=publish&pattern=filter&name=x", "", ""), 200,
			`"allowed":true.*neither users nor rules`},
		{"no user", call("POST", "/user?new=true", "", `{"name":""}`), 400, `name of a user`},
		{"an unknown field", call("POST", "/user?new=true", "", `{"nam":"x"}`), 400, `unknown field`},
		{"the first", call("POST", "/user?new=true", "", `{"name":"alice","password":"secret","roles":["admin"]}`), 200,
			`"name":"alice","roles":\["admin"\],"proofs":\["password","SCRAM-SHA-256","SCRAM-SHA-512"\]`},
		{"unknown now", call("GET", "/users", "", ""), 401, `only who is known.*admin.token`},
		{"a wrong token", call("GET", "/users", "Authorization: Bearer x\n", ""), 401, `only who is known`},
		{"the token", call("GET", "/users", bearer, ""), 200, `alice`},
		{"alice", call("GET", "/users", basic("alice", "secret"), ""), 200, `alice`},
		{"a wrong password", call("GET", "/users", basic("alice", "x"), ""), 401, `wrong user name or password`},
		{"there already", call("POST", "/user?new=true", bearer, `{"name":"alice"}`), 409, `there is a user alice`},
		{"a viewer", call("POST", "/user?new=true", bearer, `{"name":"bob","password":"b","roles":["viewer"]}`), 200, ``},
		{"who may look", call("GET", "/sessions", basic("bob", "b"), ""), 200, ``},
		{"and change nothing", call("DELETE", "/user?name=alice", basic("bob", "b"), ""), 403,
			`bob may not alter the cluster`},
		{"nor read a message", call("GET", "/message?topic=x", basic("bob", "b"), ""), 403, `may not alter`},
		{"nor back up", call("POST", "/backup", basic("bob", "b"), "{}"), 403, `may not alter`},
		{"nor diagnose", call("POST", "/diagnose", basic("bob", "b"), "{}"), 403, `may not alter`},
		{"a profile too long", call("POST", "/diagnose?profile=2m", bearer, "{}"), 400, `profile 2m is not from 0s to 1m0s`},
		{"nor trace", call("GET", "/trace?client=x", basic("bob", "b"), ""), 403, `may not alter`},
		{"a rule", call("POST", "/rules", bearer, rules), 200, `allow User:bob write on names a/#`},
		{"explained", call("GET", "/explain?user=bob&operation=publish&pattern=filter&name=a/b", bearer, ""), 200,
			`"allowed":true.*User:bob`},
		{"denied", call("GET", "/explain?user=bob&operation=publish&pattern=filter&name=b", bearer, ""), 200,
			`"allowed":false.*no rule allows it`},
		{"no operation", call("GET", "/explain?operation=fly&name=b", bearer, ""), 400, `fly is no operation`},
		{"a rule that is wrong", call("POST", "/rules", bearer, `[{"effect":"allow"}]`), 400, `no kind of resource`},
		{"no such rule", call("DELETE", "/rules?id=x", bearer, ""), 404, `there is no rule x`},
		{"disabled", call("POST", "/user", bearer, `{"name":"bob","disabled":true}`), 200, `"disabled":true`},
		{"and out", call("GET", "/sessions", basic("bob", "b"), ""), 403, `disabled`},
		{"removed", call("DELETE", "/user?name=bob", bearer, ""), 200, ``},
		{"no such user", call("DELETE", "/user?name=bob", bearer, ""), 404, `there is no user bob`},
		{"no secret is shown", call("GET", "/users", bearer, ""), 200, `^[^$]*$`},
	} {
		status, body := request(t, http, tc.request)
		if status != tc.status || !regexp.MustCompile(tc.body).MatchString(body) {
			t.Errorf("%s: got %d %.500q, want %d %q", tc.name, status, body, tc.status, tc.body)
		}
	}
}
