package node

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// apiClient asks the API of a node as one user; "": as nobody.
type apiClient struct {
	t    testing.TB
	n    *Node
	user string
}

// ask gives the status and the answer.
func (c apiClient) ask(method, path string, headers ...string) (int, []byte) {
	c.t.Helper()
	if c.user != "" {
		headers = append(headers, basicHeader(c.user, mxPassword))
	}
	status, text := newBrowser(c.t, c.n).do(method, path, "", headers...)
	return status, []byte(text)
}

// begin is ask for a line of the table: of an answer that goes on, only that it began is told.
func (c apiClient) begin(line api.Line, path string) (int, []byte) {
	c.t.Helper()
	if !line.Flows {
		return c.ask(line.Method, path)
	}
	var login []string
	if c.user != "" {
		login = []string{basicHeader(c.user, mxPassword)}
	}
	resp := newBrowser(c.t, c.n).open(line.Method, path, "", login...)
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return resp.StatusCode, nil
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, text
}

// get reads an answer that has to be there.
func (c apiClient) get(path string, into any) {
	c.t.Helper()
	status, text := c.ask(http.MethodGet, api.Path+path)
	if status != http.StatusOK {
		c.t.Fatalf("%s: %d %s", path, status, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		c.t.Fatalf("%s: %v: %s", path, err, text)
	}
}

// refused wants a problem of a status, with some words in it.
func (c apiClient) refused(path string, status int, words ...string) {
	c.t.Helper()
	var login []string
	if c.user != "" {
		login = []string{basicHeader(c.user, mxPassword)}
	}
	resp := newBrowser(c.t, c.n).open(http.MethodGet, api.Path+path, "", login...)
	defer resp.Body.Close()
	var p api.Problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		c.t.Fatal(err)
	}
	text := p.Detail + " " + p.Hint
	if resp.StatusCode != status || p.Status != status || p.Title != http.StatusText(status) || p.Kind == "" ||
		resp.Header.Get("Content-Type") != "application/problem+json" {
		c.t.Errorf("%s: %s %+v", path, resp.Status, p)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			c.t.Errorf("%s: %q is not in %q", path, word, text)
		}
	}
}

// makeTopics makes topics of the log, each with one partition more than the one before, and a record in each partition.
func makeTopics(t testing.TB, n *Node, names ...string) {
	t.Helper()
	for i, name := range names {
		topic, err := n.keeper.CreateTopic(t.Context(), stream.TopicSpec{Name: name, Partitions: 1 + i%5})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range topic.Partitions {
			put(t, n, p, &record.Record{Timestamp: 1000, Key: []byte(name + "/a"), Value: []byte("v")})
		}
	}
}

// put appends records to a partition, and waits until they are stored.
func put(t testing.TB, n *Node, p stream.PartitionID, records ...*record.Record) {
	t.Helper()
	unit := &stream.Unit{}
	for _, r := range records {
		unit.Writes = append(unit.Writes, stream.Write{Partition: p, Record: r})
	}
	stored := make(receipt, 1)
	if err := stream.AppendWait(t.Context(), n.keeper, unit, stored, 1); err != nil {
		t.Fatal(err)
	}
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
}

func addRule(t testing.TB, n *Node, principal string, r rule.Rule) {
	t.Helper()
	r.Principal = principal
	if err := n.access.Apply(t.Context(), &access.Change{Rules: []rule.Rule{r}}); err != nil {
		t.Fatal(err)
	}
}

// TestAPIRights asks every route as nobody, as a user without a right, as one with the right that the table names, and
// as an administrator.
func TestAPIRights(t *testing.T) {
	n := start(t, local(t))
	makeTopics(t, n, "meters")
	addUser(t, n, "root", "admin")
	addUser(t, n, "nothing")
	for i, line := range api.Lines() {
		user := fmt.Sprintf("user%d", i)
		addUser(t, n, user)
		r := rule.Rule{Effect: rule.Allow, Operations: rule.Of(line.Operation),
			Resource: rule.Resource{Kind: line.On, Pattern: rule.Literal, Name: "*"}}
		if line.On == rule.Cluster {
			r.Resource.Name = rule.ClusterName
		}
		if !line.Open {
			addRule(t, n, "User:"+user, r)
		}
		path := strings.NewReplacer("{topic}", "meters", "{client}", "none", "{group}", "none", "{name}", "meters%2Fa",
			"{filter}", "meters%2F%23").Replace(line.Path)
		wants := map[string]int{"": http.StatusUnauthorized, "nothing": http.StatusForbidden, user: 0, "root": 0}
		for who, want := range wants {
			if line.Open || line.Each && who == "nothing" {
				want = 0
			}
			status, text := apiClient{t, n, who}.begin(line, path)
			switch {
			case want != 0 && status != want, want == 0 && refusing(status), status >= 500:
				t.Errorf("%s %s as %q: %d %s", line.Method, path, who, status, text)
			case status == http.StatusForbidden && !strings.Contains(string(text), "firth acl explain --as nothing"):
				t.Errorf("%s %s: there is no hint: %s", line.Method, path, text)
			}
		}
	}
}

// TestAPIExposure: as long as there are no users it answers programs of this machine, and nobody else ever learns more
// than before.
func TestAPIExposure(t *testing.T) {
	n := start(t, local(t))
	nobody := apiClient{t, n, ""}
	for _, tc := range []struct {
		method, path string
		headers      []string
		status       int
		want         string
	}{
		{"GET", "/topics", nil, 200, `"items":[`},
		{"GET", "/topics", []string{"X-Forwarded-For: 192.0.2.1"}, 403, "only programs of this machine"},
		{"GET", "/topics", []string{"Origin: https://evil.example"}, 403, "is not this machine"},
		{"GET", "/nothing", nil, 404, "openapi.json"},
		{"POST", "/topics", nil, 405, "POST is not known here"},
		{"GET", "/topics?limt=3", nil, 400, "there are: limit, cursor, sort"},
		{"GET", "/topics?limit=0", nil, 400, "no number from 1 to 1000"},
		{"GET", "/topics?limit=1&limit=2", nil, 400, "more than once"},
		{"GET", "/topics?sort=color", nil, 400, "-name"},
		{"GET", "/topics?cursor=x", nil, 400, "the cursor"},
		{"GET", "/topics/none", nil, 404, "no such topic"},
		{"GET", "/mapping?name=sensors/a", nil, 200, `"topic":"sensors","key":{"text":"sensors/a"},"exists":false`},
		{"GET", "/mapping?name=$SYS/a", nil, 403, "stay in MQTT"},
		{"GET", "/mapping", nil, 400, "name is missing"},
		{"GET", "/config", nil, 200, `"key":"listen.mqtt"`},
		{"GET", "/health", nil, 200, `"ready":true`},
		{"GET", "/openapi.json", nil, 200, `"openapi":"3.1.0"`},
		{"GET", "/metrics/hour", nil, 200, `"firth_log_topics"`},
	} {
		status, text := nobody.ask(tc.method, api.Path+tc.path, tc.headers...)
		if status != tc.status || !strings.Contains(string(text), tc.want) {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, status, text)
		}
	}
	addUser(t, n, "root", "admin")
	bearer := "Authorization: Bearer " + n.token
	if status, text := nobody.ask("GET", api.Path+"/health", bearer); status != http.StatusOK {
		t.Errorf("the token of the node: %d %s", status, text)
	}
	if status, _ := nobody.ask("GET", api.Path+"/health", bearer, "X-Forwarded-For: 192.0.2.1"); status != 401 {
		t.Errorf("the token of the node by a proxy: %d", status)
	}
	apiClient{t, n, "root"}.get("/topics", new(any))
	nobody.refused("/topics", http.StatusUnauthorized, "POST /auth/login")
}

// pages reads all pages of a list, and gives the names in it.
func (c apiClient) pages(path string, limit int) (names []string) {
	c.t.Helper()
	for next := ""; ; {
		var page api.Page[api.Topic]
		c.get(fmt.Sprintf("%s&limit=%d&cursor=%s", path, limit, next), &page)
		if len(page.Items) > limit {
			c.t.Fatalf("%s: %d on a page", path, len(page.Items))
		}
		for _, one := range page.Items {
			names = append(names, one.Name)
		}
		if next = page.Next; next == "" {
			if page.Total != len(names) {
				c.t.Errorf("%s: %d in all, want %d", path, page.Total, len(names))
			}
			return names
		}
	}
}

// TestAPITopics pages through topics, sorted and filtered; a user sees those that it may describe.
func TestAPITopics(t *testing.T) {
	n := start(t, local(t))
	var names []string
	for i := range 23 {
		names = append(names, fmt.Sprintf("t%02d", i))
	}
	makeTopics(t, n, names...)
	c := apiClient{t, n, ""}
	for _, limit := range []int{1, 7, 23, 100} {
		if got := c.pages("/topics?sort=name", limit); !slices.Equal(got, names) {
			t.Errorf("by name: %v", got)
		}
	}
	backward := slices.Clone(names)
	slices.Reverse(backward)
	if got := c.pages("/topics?sort=-name", 5); !slices.Equal(got, backward) {
		t.Errorf("backward: %v", got)
	}
	for _, sort := range []string{"partitions", "records"} { // as many records as partitions
		want := slices.SortedStableFunc(slices.Values(names), func(a, b string) int { return number5(a) - number5(b) })
		if got := c.pages("/topics?sort="+sort, 4); !slices.Equal(got, want) {
			t.Errorf("by %s: %v, want %v", sort, got, want)
		}
	}
	if got := c.pages("/topics?search=1", 3); len(got) != 12 {
		t.Errorf("with a 1: %v", got)
	}
	addUser(t, n, "ann")
	addRule(t, n, "User:ann", rule.Rule{Effect: rule.Allow, Operations: rule.Of(rule.Describe),
		Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Prefixed, Name: "t1"}})
	ann := apiClient{t, n, "ann"}
	if got := ann.pages("/topics?internal=true", 3); !slices.Equal(got, names[10:20]) {
		t.Errorf("as ann: %v", got)
	}
	ann.refused("/topics/t00", http.StatusForbidden, "ann may not describe the topic t00",
		"firth acl explain --as ann describe --topic t00")
	ann.refused("/topics/none", http.StatusForbidden)
	ann.refused("/topics/t11/records", http.StatusForbidden, "may not read")
	var d api.TopicDetail
	ann.get("/topics/t14", &d)
	if d.Name != "t14" || len(d.Bounds) != 5 || d.Bounds[4].End != 1 || !slices.Equal(d.Filters, []string{"t14/#"}) {
		t.Errorf("%+v", d)
	}
	at := slices.IndexFunc(d.Config, func(s api.TopicSetting) bool { return s.Name == "retention.ms" })
	if at < 0 || d.Config[at].Value != "604800000" || d.Config[at].Origin == "topic" {
		t.Errorf("%+v", d.Config)
	}
}

// number5 is the number of partitions that makeTopics gives a name.
func number5(name string) int {
	n, _ := strconv.Atoi(name[1:])
	return n % 5
}

// offsets are those of the records that are found.
func (c apiClient) offsets(query string) (all []int64) {
	c.t.Helper()
	for next := ""; ; {
		var page api.RecordPage
		c.get("/topics/meters/records?"+query+next, &page)
		for _, r := range page.Items {
			all = append(all, r.Offset)
		}
		if page.End {
			return all
		}
		if next == "" {
			at := strings.IndexByte(query+"&offset", '&')
			query = query[:min(at, len(query))] // where it began stands in the cursor
		}
		next = "&cursor=" + page.Next
	}
}

// TestAPIRecords reads records from an offset, a time and the end, page by page, and by what is in them.
func TestAPIRecords(t *testing.T) {
	n := start(t, local(t))
	topic, err := n.keeper.CreateTopic(t.Context(), stream.TopicSpec{Name: "meters", Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(10) {
		put(t, n, topic.Partitions[0], &record.Record{Timestamp: 1000 * i, Key: fmt.Appendf(nil, "meters/%d", i%2),
			Value: fmt.Appendf(nil, `{"n":%d,"name":"secret"}`, i), Headers: []record.Header{{Key: "h", Value: []byte{0xff}}}})
	}
	put(t, n, topic.Partitions[1], &record.Record{Key: []byte("x"), Value: nil})
	c := apiClient{t, n, ""}
	for query, want := range map[string][]int64{
		"limit=3":                                         {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
		"limit=100&offset=7":                              {7, 8, 9},
		"limit=1000&last=2":                               {8, 9},
		"limit=100&time=1970-01-01T00:00:04.5Z":           {5, 6, 7, 8, 9},
		"limit=100&time=2040-01-01T00:00:00Z":             nil,
		"limit=100&filter=meters/1":                       {1, 3, 5, 7, 9},
		"limit=100&filter=" + url.QueryEscape("meters/+"): {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
		"limit=100&key=meters/0":                          {0, 2, 4, 6, 8},
		"limit=100&contains=" + url.QueryEscape(`"n":3`):  {3},
	} {
		if got := c.offsets(query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	var page api.RecordPage
	c.get("/topics/meters/records?limit=1&contains=n", &page)
	one := page.Items[0]
	if one.MQTTTopic != "meters/0" || !one.Time.Equal(time.UnixMilli(0)) || *one.Key.Text != "meters/0" ||
		*one.Headers[0].Value.Base64 != "/w==" || page.At != 1 || page.End || page.Stable != 10 {
		t.Errorf("%+v", page)
	}
	c.get("/topics/meters/records?partition=1", &page)
	if len(page.Items) != 1 || page.Items[0].Value != nil || page.Items[0].Partition != 1 || !page.End {
		t.Errorf("a tombstone: %+v", page)
	}
	c.refused("/topics/meters/records?partition=2", http.StatusNotFound, "no partition 2")
	c.refused("/topics/meters/records?offset=11", http.StatusBadRequest, "is not from 0 to 10")
	c.refused("/topics/meters/records?offset=1&last=2", http.StatusBadRequest, "exclude each other")
	c.refused("/topics/meters/records?partition=0&cursor="+page.Next, http.StatusBadRequest, "of another read")
	c.refused("/topics/meters/records?filter=a/%23/b", http.StatusBadRequest, "no topic filter")
	c.refused("/topics/__firth_access/records", http.StatusForbidden, "nobody may read")
}

// TestAPIMasks: what a mask hides is neither shown nor found.
func TestAPIMasks(t *testing.T) {
	n := start(t, local(t))
	topic, err := n.keeper.CreateTopic(t.Context(), stream.TopicSpec{Name: "meters", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	put(t, n, topic.Partitions[0],
		&record.Record{Key: []byte("meters/secret"), Value: []byte(`{"name":"secret","n":1}`),
			Headers: []record.Header{{Key: "trace", Value: []byte("secret")}, {Key: "open", Value: []byte("x")}}},
		&record.Record{Key: []byte("meters/secret"), Value: []byte("secret is no JSON")})
	addUser(t, n, "eve", "consumer")
	r := rule.Rule{Effect: rule.Mask, Operations: rule.Of(rule.Read),
		Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Literal, Name: "meters"}}
	for _, text := range []string{"json:name=remove", "header:trace=remove", "key=truncate:3"} {
		field, err := mask.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		r.Masks = append(r.Masks, field)
	}
	addRule(t, n, "User:eve", r)
	eve := apiClient{t, n, "eve"}
	status, text := eve.ask("GET", api.Path+"/topics/meters/records")
	if status != http.StatusOK || strings.Contains(string(text), "secret") || strings.Contains(string(text), "trace") ||
		!strings.Contains(string(text), `{\"n\":1}`) || !strings.Contains(string(text), `"value_hidden":true`) {
		t.Errorf("%d %s", status, text)
	}
	if got := eve.offsets("limit=100&contains=secret"); got != nil {
		t.Errorf("a hidden text was found in %v", got)
	}
	if got := eve.offsets("limit=100&key=meters/secret"); got != nil {
		t.Errorf("a hidden key was found in %v", got)
	}
	eve.refused("/topics/meters/records?filter=meters/secret", http.StatusForbidden, "cannot look for names")
}

// TestAPISessions lists sessions of real clients, sorted and filtered, shows one with what it is behind, and ends it.
func TestAPISessions(t *testing.T) {
	n := start(t, local(t))
	long := uint32(3600)
	for i := range 5 {
		props := packet.Properties{}
		props.SetSessionExpiry(long)
		c, err := client.Dial(t.Context(), n.Addresses().MQTT, client.Options{ClientID: fmt.Sprintf("dev/%d", i),
			Version: packet.V5, Props: props})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Abort()
		filters := make([]packet.Subscription, i)
		for j := range filters {
			filters[j] = packet.Subscription{Filter: fmt.Appendf(nil, "a/%d", j), QoS: 1}
		}
		if i > 0 {
			if _, err := c.Subscribe(t.Context(), packet.Properties{}, filters...); err != nil {
				t.Fatal(err)
			}
		}
	}
	nobody := apiClient{t, n, ""}
	var got []string
	for next := ""; ; {
		var page api.Page[api.Session]
		nobody.get("/sessions?sort=-subscriptions&limit=2&cursor="+next, &page)
		for _, s := range page.Items {
			got = append(got, s.Client)
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if want := []string{"dev/4", "dev/3", "dev/2", "dev/1", "dev/0"}; !slices.Equal(got, want) {
		t.Errorf("by subscriptions: %v", got)
	}
	var page api.Page[api.Session]
	nobody.get("/sessions?search=/3&state=connected", &page)
	if page.Total != 1 || page.Items[0].Client != "dev/3" || page.Items[0].Since == nil {
		t.Errorf("%+v", page)
	}
	var d api.SessionDetail
	nobody.get("/sessions/dev%2F2", &d)
	if d.Client != "dev/2" || len(d.Filters) != 2 || d.Filters[1].Filter != "a/1" || d.Filters[1].QoS != 1 {
		t.Errorf("%+v", d)
	}
	nobody.refused("/sessions/none", http.StatusNotFound, "no such session")
	addUser(t, n, "root", "admin")
	addUser(t, n, "looks", "viewer")
	status, text := apiClient{t, n, "looks"}.ask("DELETE", api.Path+"/sessions/dev%2F2")
	if status != http.StatusForbidden {
		t.Errorf("kicked by who may look: %d %s", status, text)
	}
	status, text = apiClient{t, n, "root"}.ask("DELETE", api.Path+"/sessions/dev%2F2?forget=true")
	if status != http.StatusOK || !strings.Contains(string(text), `"forgotten":true`) {
		t.Errorf("kicked: %d %s", status, text)
	}
	status, text = apiClient{t, n, "root"}.ask("DELETE", api.Path+"/sessions/dev%2F3", "Content-Type: text/plain")
	if status != http.StatusForbidden || !strings.Contains(string(text), "a change needs Content-Type") {
		t.Errorf("by a form: %d %s", status, text)
	}
}

// TestAPIGroups lists groups with how far they are behind in topics that who asks may describe.
func TestAPIGroups(t *testing.T) {
	n := start(t, local(t))
	makeTopics(t, n, "meters", "secret")
	k, err := kgo.NewClient(kgo.SeedBrokers(n.Addresses().Kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	admin := kadm.NewClient(k)
	for i, id := range []string{"a/b", "billing", "reports"} {
		var offsets kadm.Offsets
		offsets.AddOffset("meters", 0, 0, -1)
		if i > 0 {
			offsets.AddOffset("secret", 0, 0, -1)
			offsets.AddOffset("secret", 1, int64(i)-1, -1)
		}
		if err := admin.CommitAllOffsets(t.Context(), id, offsets); err != nil {
			t.Fatal(err)
		}
	}
	lags := func(c apiClient, query string) (all []string) {
		var page api.Page[api.Group]
		c.get("/groups?"+query, &page)
		for _, g := range page.Items {
			all = append(all, fmt.Sprint(g.ID, " ", g.Lag))
		}
		return all
	}
	nobody := apiClient{t, n, ""}
	for query, want := range map[string][]string{
		"sort=-lag":            {"billing 3", "reports 2", "a/b 1"},
		"sort=id&limit=2":      {"a/b 1", "billing 3"},
		"search=bill":          {"billing 3"},
		"topic=secret&sort=id": {"billing 3", "reports 2"},
	} {
		if got := lags(nobody, query); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	var d api.GroupDetail
	nobody.get("/groups/a%2Fb", &d)
	if d.ID != "a/b" || d.Type != "classic" || len(d.Positions) != 1 || d.Positions[0].Lag != 1 {
		t.Errorf("%+v", d)
	}
	addUser(t, n, "ann")
	addRule(t, n, "User:ann", rule.Rule{Effect: rule.Allow, Operations: rule.Of(rule.Describe),
		Resource: rule.Resource{Kind: rule.Group, Pattern: rule.Literal, Name: "billing"}})
	addRule(t, n, "User:ann", rule.Rule{Effect: rule.Allow, Operations: rule.Of(rule.Describe),
		Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Literal, Name: "meters"}})
	ann := apiClient{t, n, "ann"}
	if got := lags(ann, "sort=id"); !slices.Equal(got, []string{"billing 1"}) {
		t.Errorf("as ann: %v", got)
	}
	if got := lags(ann, "topic=secret"); got != nil {
		t.Errorf("as ann, by a topic that she does not see: %v", got)
	}
	ann.get("/groups/billing", &d)
	if len(d.Positions) != 1 || d.Positions[0].Topic != "meters" {
		t.Errorf("as ann: %+v", d)
	}
	ann.refused("/groups/reports", http.StatusForbidden, "firth acl explain --as ann describe --group reports")
	nobody.refused("/groups", http.StatusUnauthorized)
}
