package node

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// three is three gateways that share sessions, with some sessions on each, whose clients are connected to another one.
type three struct {
	all   []*Node
	where map[string]*Node          // that has the session of a client
	conns map[string]*client.Client // of all
}

// sessionsEach is how many sessions each of three has.
const sessionsEach = 4

func startThree(t *testing.T) *three {
	t.Helper()
	f := brokers(t)
	l := &three{where: map[string]*Node{}, conns: map[string]*client.Client{}}
	for range 3 {
		l.all = append(l.all, start(t, amongEquals(t, f)))
	}
	share(t, l.all...)
	l.all[0].makes(t, "", "root", "admin")
	l.all[0].makes(t, "root", "ann", "admin")
	l.all[0].makes(t, "root", "pump", "producer")
	for _, n := range l.all {
		n.knows(t, "pump")
	}
	for i, n := range l.all {
		for j := range sessionsEach {
			o := as(n.idOf(fmt.Sprintf("device%d-%d-", j, i)), []string{"root", "ann"}[j%2])
			c := l.all[(i+j)%3].visit(t, o)
			for k := range (i*sessionsEach + j) % 5 {
				filter := packet.Subscription{Filter: fmt.Appendf(nil, "plant/%d", k)}
				if acks, err := c.Subscribe(t.Context(), packet.Properties{}, filter); err != nil || acks[0].Failed() {
					t.Fatal(acks, err)
				}
			}
			l.where[o.ClientID], l.conns[o.ClientID] = n, c
		}
	}
	return l
}

// list is all pages of a list, by the API of a gateway.
func (l *three) list(t *testing.T, n *Node, query string) (all []api.Session) {
	t.Helper()
	for next := ""; ; {
		var p api.SessionPage
		apiClient{t, n, "root"}.get("/sessions?"+query+"&cursor="+url.QueryEscape(next), &p)
		if len(p.Silent) > 0 {
			t.Errorf("%v did not answer", p.Silent)
		}
		all = append(all, p.Items...)
		if next = p.Next; next == "" {
			if p.Total != len(all) {
				t.Errorf("%s: %d in all, and %d on the pages", query, p.Total, len(all))
			}
			return all
		}
		if len(all) > p.Total {
			t.Fatalf("%s: the pages have no end", query)
		}
	}
}

func clientsOf(all []api.Session) (ids []string) {
	for _, s := range all {
		ids = append(ids, s.Client)
	}
	return ids
}

// TestFleet: any gateway lists, shows and kicks the sessions of all.
func TestFleet(t *testing.T) {
	t.Parallel() // it waits
	l := startThree(t)
	l.lists(t)
	l.oneIsSilent(t)
	l.showsAndKicks(t)
}

// lists: each gateway lists the sessions of all, page by page, whatever they are sorted by.
func (l *three) lists(t *testing.T) {
	want := slices.Sorted(maps.Keys(l.where))
	for _, n := range l.all {
		all := l.list(t, n, "limit=1000")
		if ids := clientsOf(all); !slices.Equal(ids, want) {
			t.Fatalf("there are %q, not %q", ids, want)
		}
		for _, s := range all {
			if has := l.where[s.Client]; s.Gateway != has.instanceName {
				t.Errorf("%s is said to be on %q, not on %q", s.Client, s.Gateway, has.instanceName)
			}
		}
		for _, sort := range []string{"client", "-client", "subscriptions", "-subscriptions", "since", "-since"} {
			whole := clientsOf(l.list(t, n, "limit=1000&sort="+sort))
			for _, limit := range []string{"1", "4", "5", "12"} {
				paged := clientsOf(l.list(t, n, "limit="+limit+"&sort="+sort))
				if !slices.Equal(paged, whole) {
					t.Errorf("by %s, %s at a time: %q, not %q", sort, limit, paged, whole)
				}
			}
		}
		for query, count := range map[string]int{
			"user=ann": 6, "state=connected": 12, "state=away": 0, "search=device1-": 3, "search=nothing": 0,
		} {
			if some := l.list(t, n, "limit=2&"+query); len(some) != count {
				t.Errorf("%s: there are %d, not %d", query, len(some), count)
			}
		}
		l.listByCommand(t, n, want)
	}
	apiClient{t, l.all[1], "pump"}.refused("/sessions", http.StatusForbidden, "may not")
}

// listByCommand lists the sessions as the command does.
func (l *three) listByCommand(t *testing.T, n *Node, want []string) {
	t.Helper()
	var got []string
	for after := ""; ; {
		var page []sessionLine
		n.adminCall(t, "GET", "/sessions?limit=5&after="+after, &page)
		if len(page) == 0 {
			break
		}
		for _, s := range page {
			if s.Gateway != l.where[s.Client].instanceName {
				t.Errorf("%s is said to be on %s", s.Client, s.Gateway)
			}
			got = append(got, s.Client)
		}
		after = page[len(page)-1].Client
	}
	if !slices.Equal(got, want) {
		t.Errorf("the command lists %q, not %q", got, want)
	}
}

// adminCall asks the interface of the commands for what has to be there, and gives the header of the answer.
func (n *Node) adminCall(t *testing.T, method, path string, into any) http.Header {
	t.Helper()
	r := newBrowser(t, n).open(method, adminPath+path, "", "Authorization: Bearer "+n.token)
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(into); err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s %v", method, path, r.Status, err)
	}
	return r.Header
}

// showsAndKicks: a session is shown and kicked by any gateway, and by nobody who may not.
func (l *three) showsAndKicks(t *testing.T) {
	for i, id := range slices.Sorted(maps.Keys(l.where)) {
		has := l.where[id]
		for _, n := range l.all {
			var d api.SessionDetail
			apiClient{t, n, "root"}.get("/sessions/"+id, &d)
			if d.Client != id || d.Gateway != has.instanceName || d.State != "connected" || len(d.Filters) != d.Subscriptions {
				t.Errorf("%+v", d)
			}
			var e api.SessionEvents
			apiClient{t, n, "root"}.get("/sessions/"+id+"/events", &e)
			if len(e.Items) != 1 || e.Items[0].What != "connected" || len(e.Silent) > 0 {
				t.Errorf("events: %+v", e)
			}
		}
		by := l.all[i%3]
		apiClient{t, by, "pump"}.refused("/sessions/"+id, http.StatusForbidden, "may not")
		if got := (apiClient{t, by, "pump"}).send("DELETE", "/sessions/"+id, ""); got.status != http.StatusForbidden {
			t.Errorf("who may not kick gets %d %s", got.status, got.text)
		}
		forget := i%2 == 0
		apiClient{t, by, "root"}.change("DELETE", fmt.Sprintf("/sessions/%s?forget=%t", id, forget), "", http.StatusOK)
		if reason := parted(t, l.conns[id]); reason != packet.AdministrativeAction {
			t.Errorf("%s was told %s", id, reason)
		}
	}
	for _, n := range l.all {
		becomes(t, "none is left", func() bool { return len(l.list(t, n, "limit=5")) == 0 })
		apiClient{t, n, "root"}.refused("/sessions/"+l.all[0].idOf("nobody"), http.StatusNotFound, "no such session")
	}
}

// oneIsSilent: what a gateway has that does not answer is missing, and its name is told.
func (l *three) oneIsSilent(t *testing.T) {
	a, c := l.all[0], l.all[2]
	since := c.servedSince.Swap(nil) // it does not answer as long as it starts
	defer c.servedSince.Store(since)
	var p api.SessionPage
	apiClient{t, a, "root"}.get("/sessions", &p)
	if !slices.Equal(p.Silent, []string{c.instanceName}) || p.Total != 2*sessionsEach || len(p.Items) != 2*sessionsEach {
		t.Errorf("%v are silent, %d of %d are listed", p.Silent, len(p.Items), p.Total)
	}
	var lines []sessionLine
	header := a.adminCall(t, "GET", "/sessions", &lines)
	if header.Get(silentHeader) != c.instanceName || len(lines) != 2*sessionsEach {
		t.Errorf("%q is silent, %d are listed", header.Get(silentHeader), len(lines))
	}
	for id, has := range l.where {
		if has == c {
			apiClient{t, a, "root"}.refused("/sessions/"+id, http.StatusServiceUnavailable, "gateway "+c.instanceName)
		}
	}
	if err := a.mayTrace(c.idOf("traced")); err == nil || !strings.Contains(err.Error(), c.instanceName) {
		t.Errorf("a trace of who is elsewhere: %v", err)
	}
}
