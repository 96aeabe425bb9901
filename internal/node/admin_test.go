package node

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// TestAdminIsForThisMachine: nobody else is answered, no page in a browser changes anything, and what is wrong is said.
func TestAdminIsForThisMachine(t *testing.T) {
	n := start(t, local(t))
	http := n.Addresses().HTTP
	kick := func(host string, more ...string) string {
		return fmt.Sprintf("DELETE /admin/v1/session?client=x HTTP/1.1\nHost: %s\nConnection: close\n%s\n", host,
			strings.Join(more, ""))
	}
	const isJSON = "Content-Type: application/json\n"
	for name, tc := range map[string]struct {
		request string
		status  int
		body    string
	}{
		"list": {get("/admin/v1/sessions", http), 200, `^\[\]\n$`},
		"list, wrong": {get("/admin/v1/sessions?limit=0", http), 400,
			`limit=0 is not a number from 1 to 10000.*"invalid"`},
		"list, no state": {get("/admin/v1/sessions?state=x", http), 400, `"invalid"`},
		"show nobody": {get("/admin/v1/session?client=x", http), 404,
			`"error":"session x: no such session".*"not found"`},
		"trace nobody":     {get("/admin/v1/trace", http), 400, `which client`},
		"no events":        {get("/admin/v1/events?client=x", http), 404, `no events are known`},
		"kick nobody":      {kick(http, isJSON), 404, `no such session`},
		"kick by a form":   {kick(http), 403, `a change needs Content-Type: application/json`},
		"kick by text":     {kick(http, "Content-Type: text/plain\n"), 403, `a change needs`},
		"preflight":        {"OPTIONS /admin/v1/session HTTP/1.1\nHost: localhost\nConnection: close\n\n", 405, ``},
		"rebound name":     {kick("evil.example", isJSON), 403, `is not this machine`},
		"stranger's page":  {kick(http, isJSON, "Origin: http://evil.example\n"), 403, `is not this machine`},
		"by a proxy":       {get("/admin/v1/sessions", http, "X-Forwarded-For: 192.0.2.1\n"), 403, `a proxy`},
		"by another proxy": {get("/admin/v1/sessions", http, "Forwarded: for=192.0.2.1\n"), 403, `a proxy`},
		"nothing there":    {get("/admin/v1/", http), 404, ``},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := request(t, http, tc.request)
			if status != tc.status || !regexp.MustCompile(tc.body).MatchString(body) {
				t.Errorf("got %d %.500q, want %d %q", status, body, tc.status, tc.body)
			}
		})
	}
}
