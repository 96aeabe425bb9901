package node

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/api"
)

// says asks with a body, wants a status, and reads the answer.
func (c apiClient) says(what, body string, status int, into any, headers ...string) http.Header {
	c.t.Helper()
	if c.user != "" {
		headers = append(headers, basicHeader(c.user, mxPassword))
	}
	method, path, _ := strings.Cut(what, " ")
	resp := newBrowser(c.t, c.n).open(method, api.Path+path, body, headers...)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != status {
		c.t.Fatalf("%s: %d, want %d: %s", what, resp.StatusCode, status, text)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			c.t.Fatalf("%s: %v: %s", what, err, text)
		}
	}
	return resp.Header
}

// eventStream is an answer of server-sent events.
type eventStream struct {
	t     testing.TB
	body  io.ReadCloser
	lines *bufio.Reader
}

// follow asks for the messages of a filter, which has to be answered.
func (c apiClient) follow(path string, headers ...string) *eventStream {
	c.t.Helper()
	if c.user != "" {
		headers = append(headers, basicHeader(c.user, mxPassword))
	}
	resp := newBrowser(c.t, c.n).open(http.MethodGet, api.Path+path, "", headers...)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		text, _ := io.ReadAll(resp.Body)
		c.t.Fatalf("%s: %s %s", path, resp.Status, text)
	}
	c.t.Cleanup(func() { _ = resp.Body.Close() })
	return &eventStream{c.t, resp.Body, bufio.NewReader(resp.Body)}
}

// next is the name, the id and the data of the next event; "": the stream has ended.
func (s *eventStream) next() (name, id, data string) {
	s.t.Helper()
	limit := time.AfterFunc(patience, func() { _ = s.body.Close() })
	defer limit.Stop()
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return "", "", ""
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case field == "event":
			name = value
		case field == "id":
			id = value
		case field == "data":
			data = value
		case line == "\n" && name != "":
			return name, id, data
		}
	}
}

// message is the next event, which is a message.
func (s *eventStream) message() (e api.Event) {
	s.t.Helper()
	name, id, data := s.next()
	if name != "message" {
		s.t.Fatalf("%s %s", name, data)
	}
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		s.t.Fatal(err)
	}
	e.ID = id
	return e
}

// TestAPIMessages: what is published by HTTP comes to who follows by HTTP, live, again from an id, and with what was
// retained first; and it is refused by the rules of devices.
func TestAPIMessages(t *testing.T) {
	n := start(t, local(t))
	c := apiClient{t, n, ""}
	var at api.Published
	c.says("POST /names/a%2Fkept/messages", `{"payload":{"text":"0"},"retain":true}`, 200, &at)
	if at.Topic != "a" {
		t.Errorf("%+v", at)
	}
	s := c.follow("/filters/a%2F%23/messages")
	if e := s.message(); !e.Retained || e.Name != "a/kept" || *e.Payload.Text != "0" || e.ID != "" {
		t.Errorf("retained: %+v", e)
	}
	c.says("POST /names/a%2Fx/messages", `{"payload":{"base64":"/w=="},"qos":2,"message_expiry":60,
		"content_type":"x/y","response_topic":"r","correlation_data":{"text":"c"},
		"user_properties":[{"name":"n","value":"1"},{"name":"n","value":"2"}]}`, 200, &at)
	first := s.message()
	if *first.Payload.Base64 != "/w==" || *first.QoS != 2 || *first.Expiry > 60 || first.ContentType != "x/y" ||
		first.ResponseTopic != "r" || *first.Correlation.Text != "c" || len(first.User) != 2 || first.User[1].Value != "2" ||
		*first.Place != at || first.Time == nil || first.ID == "" {
		t.Errorf("%+v, %+v", first, at)
	}
	c.says("POST /names/a%2Fx/messages?content_type=text/plain&qos=1", "bytes", 200, nil,
		"Content-Type: application/octet-stream")
	if e := s.message(); *e.Payload.Text != "bytes" || e.ContentType != "text/plain" {
		t.Errorf("%+v", e)
	}
	c.says("POST /names/a%2Fx/messages", `{"payload":{"text":"2"}}`, 200, nil,
		"Content-Type: application/json; charset=utf-8")
	c.says("POST /names/a%2Fx/messages?qos=1", "3", 200, nil, "Content-Type: Application/Octet-Stream;x=y")
	for _, want := range []string{"2", "3"} {
		if e := s.message(); *e.Payload.Text != want {
			t.Errorf("%+v, want %s", e, want)
		}
	}
	again := c.follow("/filters/a%2F%23/messages", "Last-Event-ID: "+first.ID)
	if e := again.message(); *e.Payload.Text != "bytes" || e.Retained {
		t.Errorf("again: %+v", e)
	}
	for body, status := range map[string]int{`{"payload":{"text":"x","base64":"x"}}`: 400, `{"qos":3}`: 400,
		`{"payload_format":1,"payload":{"base64":"/w=="}}`: 400, `{"nothing":1}`: 400, ``: 400} {
		c.says("POST /names/a%2Fx/messages", body, status, nil)
	}
	c.says("POST /names/a%2F+/messages", `{}`, 400, nil)
	c.says("POST /names/$SYS%2Fx/messages", `{}`, 403, nil)
	c.says("POST /names/a%2Fx/messages", "x", 403, nil, "Content-Type: text/plain")
	c.says("GET /filters/a%2F%23%2Fb/messages", "", 400, nil)
	c.says("GET /filters/a/messages?after=x", "", 400, nil)
}

// onNames is a rule about topic names that a filter matches.
func onNames(filter string, o ...rule.Operation) rule.Rule {
	return rule.Rule{Effect: rule.Allow, Operations: rule.Of(o...),
		Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: filter}}
}

// TestAPIMessagesRights: who may not publish or subscribe is refused, of what is followed only comes what may be read,
// and a stream ends when the right to it does, with nothing that came after.
func TestAPIMessagesRights(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "root", "admin")
	addUser(t, n, "ann")
	right := onNames("a/#", rule.Read)
	addRule(t, n, "User:ann", right)
	hidden := onNames("a/secret", rule.Read, rule.Write)
	hidden.Effect = rule.Deny
	addRule(t, n, "User:ann", hidden)
	root, ann := apiClient{t, n, "root"}, apiClient{t, n, "ann"}
	ann.says("POST /names/a%2Fx/messages", `{}`, 403, nil)
	ann.says("GET /filters/b%2F%23/messages", "", 403, nil)
	ann.says("GET /retained/a%2Fsecret", "", 403, nil)
	ann.says("DELETE /retained/a%2Fx", "", 403, nil)
	s := ann.follow("/filters/a%2F%23/messages")
	root.says("POST /names/a%2Fsecret/messages", `{"payload":{"text":"secret"},"retain":true}`, 200, nil)
	root.says("POST /names/a%2Fx/messages", `{"payload":{"text":"seen"},"retain":true}`, 200, nil)
	if e := s.message(); *e.Payload.Text != "seen" {
		t.Errorf("%+v", e)
	}
	var page api.RetainedPage
	ann.says("GET /retained", "", 200, &page)
	if len(page.Items) != 1 || page.Items[0].Name != "a/x" {
		t.Errorf("%+v", page)
	}
	right.Principal = "User:ann"
	if err := n.access.RemoveRules(t.Context(), right.ID()); err != nil {
		t.Fatal(err)
	}
	root.says("POST /names/a%2Fx/messages", `{"payload":{"text":"later"}}`, 200, nil)
	if name, _, data := s.next(); name != "end" || !strings.Contains(data, "may not subscribe") {
		t.Errorf("%s %s", name, data)
	}
	if name, _, data := s.next(); name != "" {
		t.Errorf("behind the end: %s %s", name, data)
	}
}

// TestAPIRetained lists, shows, clears and restores retained messages, and what they were.
func TestAPIRetained(t *testing.T) {
	n := start(t, local(t))
	c := apiClient{t, n, ""}
	for i := range 3 {
		c.says("POST /names/a%2Fb/messages", fmt.Sprintf(`{"payload":{"text":"%d"},"retain":true}`, i), 200, nil)
		c.says("POST "+fmt.Sprintf("/names/a%%2Fother%d/messages", i), `{"payload":{"text":"x"},"retain":true}`, 200, nil)
	}
	var names []string
	for next := ""; ; {
		var page api.RetainedPage
		c.get("/retained?limit=2&filter=a/%2B&cursor="+next, &page)
		for _, m := range page.Items {
			names = append(names, m.Name)
		}
		if next = page.Next; next == "" {
			break
		}
	}
	if want := []string{"a/b", "a/other0", "a/other1", "a/other2"}; !slices.Equal(names, want) {
		t.Errorf("%v", names)
	}
	payload := func() string {
		t.Helper()
		var m api.RetainedMessage
		c.get("/retained/a%2Fb", &m)
		return *m.Payload.Text
	}
	var h api.RetainedHistory
	c.get("/retained/a%2Fb/history", &h)
	if len(h.Items) != 3 || *h.Items[0].Payload.Text != "2" || !h.Items[0].Current || h.Items[1].Current ||
		*h.Items[2].Payload.Text != "0" {
		t.Errorf("%+v", h)
	}
	c.says("POST /retained/a%2Fb/restore", fmt.Sprintf(`{"version":%q}`, h.Items[2].Version), 200, nil)
	if got := payload(); got != "0" {
		t.Errorf("by version: %s", got)
	}
	c.says("POST /retained/a%2Fb/restore", `{}`, 200, nil)
	if got := payload(); got != "2" {
		t.Errorf("the one before: %s", got)
	}
	c.says("DELETE /retained/a%2Fb", "", 200, nil)
	c.says("DELETE /retained/a%2Fb", "", 404, nil)
	c.says("GET /retained/a%2Fb", "", 404, nil)
	c.says("POST /retained/a%2Fb/restore", `{}`, 200, nil)
	if got := payload(); got != "2" {
		t.Errorf("what was cleared: %s", got)
	}
	c.says("POST /retained/a%2Fother0/restore", fmt.Sprintf(`{"version":%q}`, h.Items[2].Version), 404, nil)
	c.says("POST /retained/a%2Fb/restore", `{"version":"x"}`, 400, nil)
}

// TestAPITopicChanges makes, changes and deletes topics, and produces to them; two who edit do not undo each other.
func TestAPITopicChanges(t *testing.T) {
	n := start(t, local(t))
	c := apiClient{t, n, ""}
	var d api.TopicDetail
	tag := c.says("PUT /topics/t", `{"partitions":2,"config":{"retention.ms":"1000"}}`, 201, &d).Get("ETag")
	if d.Partitions != 2 || d.RetentionMs != 1000 || tag == "" {
		t.Errorf("%+v %s", d, tag)
	}
	c.says("PUT /topics/t", `{}`, 409, nil)
	c.says("PUT /topics/u", `{"config":{"x":"y"}}`, 400, nil)
	change := `{"config":{"retention.ms":"2000","segment.ms":"60000"}}`
	c.says("PATCH /topics/t/config", change, 428, nil)
	newer := c.says("PATCH /topics/t/config", change, 200, &d, "If-Match: "+tag).Get("ETag")
	if d.RetentionMs != 2000 || newer == tag {
		t.Errorf("%+v", d)
	}
	c.says("PATCH /topics/t/config", change, 412, nil, "If-Match: "+tag)
	c.says("PATCH /topics/t/config", `{"config":{"retention.ms":null}}`, 200, &d, "If-Match: "+newer)
	if d.RetentionMs != 604800000 {
		t.Errorf("%+v", d)
	}
	c.says("POST /topics/t/partitions", `{"partitions":1}`, 400, nil, "If-Match: *")
	c.says("POST /topics/t/partitions", `{"partitions":3}`, 200, &d, "If-Match: *")
	var done api.Produced
	c.says("POST /topics/t/records", `{"records":[{"key":{"text":"k"},"value":{"text":"v"},"partition":1,
		"headers":[{"name":"h","value":{"text":"x"}}]},{"key":{"text":"k"},"partition":1},
		{"value":{"text":"any"}}]}`, 200, &done)
	if len(done.Items) != 3 || done.Items[0].Offset != 0 || done.Items[1].Offset != 1 || done.Items[1].Partition != 1 {
		t.Errorf("%+v", done)
	}
	var page api.RecordPage
	c.get("/topics/t/records?partition=1&limit=2", &page)
	if len(page.Items) != 2 || *page.Items[0].Value.Text != "v" || page.Items[0].Headers[0].Name != "h" ||
		page.Items[1].Value != nil {
		t.Errorf("%+v", page)
	}
	c.says("POST /topics/t/records", `{"records":[]}`, 400, nil)
	c.says("POST /topics/t/records", `{"records":[{"partition":7}]}`, 404, nil)
	c.says("POST /topics/none/records", `{"records":[{}]}`, 404, nil)
	var left api.Truncated
	c.says("POST /topics/t/truncate", `{"partition":1,"before":"1"}`, 200, &left)
	if left.Start != 1 {
		t.Errorf("%+v", left)
	}
	c.says("POST /topics/t/truncate", `{"partition":1,"before":"99"}`, 400, nil)
	c.says("DELETE /topics/t", "", 428, nil)
	c.says("DELETE /topics/t", "", 412, nil, "If-Match: "+tag)
	c.says("DELETE /topics/t", "", 200, nil, "If-Match: *")
	c.says("DELETE /topics/t", "", 404, nil, "If-Match: *")
}

// TestAPIGroupChanges resets where a group goes on, tried first, and deletes it.
func TestAPIGroupChanges(t *testing.T) {
	n := start(t, local(t))
	makeTopics(t, n, "meters")
	c := apiClient{t, n, ""}
	for i := range 4 {
		c.says("POST /topics/meters/records", fmt.Sprintf(`{"records":[{"value":{"text":"%d"}}]}`, i), 200, nil)
	}
	places := func(body string) string {
		t.Helper()
		var m api.Moved
		c.says("POST /groups/billing/offsets", body, 200, &m)
		return fmt.Sprint(m.Items[0].Before, m.Items[0].Next, m.Items[0].Lag, m.Dry)
	}
	for _, tc := range [][2]string{
		{`{"topic":"meters","to":"earliest","dry_run":true}`, "-1 0 5 true"},
		{`{"topic":"meters","to":"offset","offset":"2"}`, "-1 2 3 false"},
		{`{"topic":"meters","to":"shift","offset":"-1","partition":0}`, "2 1 4 false"},
		{`{"topic":"meters","to":"latest"}`, "1 5 0 false"},
		{`{"topic":"meters","to":"offset","offset":"99"}`, "5 5 0 false"},
		{`{"topic":"meters","to":"shift","offset":"-9223372036854775808"}`, "5 0 5 false"},
		{`{"topic":"meters","to":"time","time":"2000-01-01T00:00:00Z"}`, "0 1 4 false"},
	} {
		if got := places(tc[0]); got != tc[1] {
			t.Errorf("%s: %s, want %s", tc[0], got, tc[1])
		}
	}
	c.says("POST /groups/billing/offsets", `{"topic":"none","to":"latest"}`, 404, nil)
	c.says("POST /groups/billing/offsets", `{"topic":"meters","to":"nowhere"}`, 400, nil)
	c.says("POST /groups/billing/offsets", `{"topic":"meters","to":"offset"}`, 400, nil)
	c.says("DELETE /groups/billing", "", 200, nil)
	c.says("DELETE /groups/billing", "", 404, nil)
	addUser(t, n, "root", "admin")
	addUser(t, n, "ann")
	addRule(t, n, "User:ann", rule.Rule{Effect: rule.Allow, Operations: rule.Of(rule.Read),
		Resource: rule.Resource{Kind: rule.Group, Pattern: rule.Literal, Name: "billing"}})
	ann := apiClient{t, n, "ann"}
	ann.says("POST /groups/billing/offsets", `{"topic":"meters","to":"latest"}`, 403, nil)
	ann.says("DELETE /groups/billing", "", 403, nil)
}

// TestAPIBanned: who is banned neither publishes nor follows by HTTP.
func TestAPIBanned(t *testing.T) {
	n := start(t, local(t))
	addUser(t, n, "root", "admin")
	addUser(t, n, "ann", "device")
	addRule(t, n, "User:ann", onNames("#", rule.Read, rule.Write))
	ann := apiClient{t, n, "ann"}
	s := ann.follow("/filters/a%2F%23/messages")
	ann.says("POST /names/a%2Fx/messages", `{}`, 200, nil)
	if e := s.message(); e.Name != "a/x" {
		t.Errorf("%+v", e)
	}
	status, text := newBrowser(t, n).do("POST", adminPath+"/ban?kind=user&who=ann", "", basicHeader("root", mxPassword))
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	if name, _, data := s.next(); name != "end" || !strings.Contains(data, "banned") {
		t.Errorf("%s %s", name, data)
	}
	ann.says("POST /names/a%2Fx/messages", `{}`, 403, nil)
}
