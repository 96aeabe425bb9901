package node

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/kafka"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// The paths of the access matrix through the API: every route that its document has.

// apiRow is a route, and the right that it takes.
type apiRow struct {
	route string // as the document has it
	kind  string // of what it is about: cluster, topic, group, name or filter of MQTT; each: a list; "": it is open
	right string // "": that of a list, judged line by line
	query string
}

// apiRows are all of them. TestAPIInMatrix wants one for each route.
func apiRows() (rows []apiRow) {
	add := func(kind, right string, routes ...string) {
		for _, route := range routes {
			route, query, _ := strings.Cut(route, "?")
			rows = append(rows, apiRow{route, kind, right, query})
		}
	}
	add("", "", "GET /openapi.json")
	add("each", "", "GET /topics?limit=1000&internal=true", "GET /groups?limit=1000", "GET /retained?limit=1000")
	add("cluster", "describe", "GET /audit?limit=1", "GET /audit/verify",
		"GET /authority", "GET /bans", "GET /metrics/hour", "GET /certificates",
		"GET /certificates/{serial}", "GET /config", "GET /explain", "GET /health", "GET /logins",
		"GET /mapping?name=mx/a", "GET /roles", "GET /roles/{role}", "GET /rules?limit=1", "GET /rules/{rule}",
		"GET /sessions?limit=1", "GET /sessions/{client}", "GET /sessions/{client}/events", "GET /tokens",
		"GET /names/{name}/recipients?topic=mx&offset=0", "GET /tokens/{token}", "GET /users?limit=1", "GET /users/{user}")
	add("cluster", "alter", "POST /bans", "DELETE /bans/{kind}/{who}", "DELETE /certificates/{serial}",
		"DELETE /logins/{login}", "PUT /roles/{role}", "DELETE /roles/{role}", "POST /rules", "DELETE /rules/{rule}",
		"DELETE /sessions/{client}", "POST /tokens", "DELETE /tokens/{token}", "POST /users", "PATCH /users/{user}",
		"DELETE /users/{user}", "DELETE /users/{user}/logins")
	add("cluster", "describe_configs", "GET /quotas", "GET /quotas/{quota}")
	add("cluster", "alter_configs", "PUT /quotas/{quota}", "DELETE /quotas/{quota}")
	add("topic", "describe", "GET /topics/{topic}")
	add("topic", "read", "GET /topics/{topic}/records?limit=1")
	add("topic", "write", "POST /topics/{topic}/records")
	add("topic", "create", "PUT /topics/{topic}")
	add("topic", "alter", "POST /topics/{topic}/partitions")
	add("topic", "alter_configs", "PATCH /topics/{topic}/config")
	add("topic", "delete", "DELETE /topics/{topic}", "POST /topics/{topic}/truncate")
	add("group", "describe", "GET /groups/{group}")
	add("group", "read", "POST /groups/{group}/offsets")
	add("group", "delete", "DELETE /groups/{group}")
	add("name", "read", "GET /retained/{name}", "GET /retained/{name}/history")
	add("name", "write", "POST /names/{name}/messages", "DELETE /retained/{name}", "POST /retained/{name}/restore")
	add("filter", "read", "GET /filters/{filter}/messages")
	return rows
}

// apiRoutes are the routes that the document has.
func apiRoutes(t testing.TB) (all []string) {
	t.Helper()
	text, err := json.Marshal(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	var document struct{ Paths map[string]map[string]any }
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	for path, methods := range document.Paths {
		for method := range methods {
			all = append(all, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(all)
	return all
}

// TestAPIInMatrix wants each route of the API in the access matrix, and none that is gone.
func TestAPIInMatrix(t *testing.T) {
	var rows []string
	for _, row := range apiRows() {
		rows = append(rows, row.route)
	}
	slices.Sort(rows)
	if routes := apiRoutes(t); !slices.Equal(rows, routes) {
		for _, route := range routes {
			if !slices.Contains(rows, route) {
				t.Errorf("%s is not in the access matrix: say in apiRows by what right it is answered", route)
			}
		}
		for _, row := range rows {
			if !slices.Contains(routes, row) {
				t.Errorf("%s is gone, or stands there twice", row)
			}
		}
	}
}

// path is where a row is asked about something.
func (row *apiRow) path(about string) string {
	_, path, _ := strings.Cut(row.route, " ")
	begin, rest, _ := strings.Cut(path, "{")
	of, end, named := strings.Cut(rest, "}")
	if named {
		end = strings.NewReplacer("{who}", "nobody").Replace(end)
		if row.kind == "cluster" {
			about = map[string]string{"kind": "client", "rule": "0123456789abcdef", "quota": "user=nobody"}[of]
		}
		if about == "" {
			about = "nobody"
		}
		path = begin + url.PathEscape(about) + end
	}
	if row.query != "" {
		path += "?" + row.query
	}
	return api.Path + path
}

func (row *apiRow) method() string {
	method, _, _ := strings.Cut(row.route, " ")
	return method
}

// hiddenGroup is one that is there, and that nobody may see.
const hiddenGroup = "mxh-hidden"

// asksAPI asks every route as everybody.
func (m *matrix) asksAPI() {
	b, err := m.backEnd(&person{user: "root"})
	if err != nil {
		m.t.Fatal(err)
	}
	b.must(commitOf(hiddenGroup, goodTopic), 7)
	_ = b.nc.Close()
	kept := map[string]string{}
	for _, path := range []string{"apikept", "apiretained"} {
		maps.Copy(kept, m.send(path, func(p *packet.Publish) { p.Retain = true }))
	}
	m.asksNobody()
	for i, who := range m.people {
		as := asBackEnd(who)
		if as.listener = "http"; strings.Contains(as.user, ":") {
			continue // HTTP cannot say such a name
		}
		login := "Basic " + base64.StdEncoding.EncodeToString([]byte(as.user+":"+mxPassword))
		if status, _ := m.web(http.MethodGet, api.Path+"/topics?limit=1", login, 0); status == http.StatusUnauthorized {
			m.judge("API login", as, "", !m.oracle.out[as.user], false)
			continue // each time makes the next one wait
		}
		for _, row := range apiRows() {
			if row.kind != "name" && row.kind != "filter" {
				m.asksRow(as, &row, login, i)
			}
		}
		m.lists(as, login, kept)
		m.asksNames(as, login, kept, i)
	}
}

// byCookie are the routes that are asked by the cookies of a session, too: one of each method.
var byCookie = []string{"GET /health", "POST /users", "PUT /roles/{role}", "PATCH /users/{user}",
	"DELETE /users/{user}"}

// asksRow asks a route about all that it can be about. What it says, where it says something, is none of what is taken:
// who may is told that, and nothing is changed. Each topic and group has its turn in every other phase.
func (m *matrix) asksRow(as *person, row *apiRow, login string, turn int) {
	about := []string{""}
	if row.kind == "topic" || row.kind == "group" {
		about = m.resources(row.kind)
	}
	for i, name := range about {
		if len(about) > 1 && (i+turn+m.phase)%max(m.thin, 2) != 0 {
			continue
		}
		may := row.kind == "" || !m.oracle.out[as.user]
		switch row.kind {
		case "cluster":
			may = m.oracle.resource(as, row.right, "cluster", "kafka-cluster")
		case "topic", "group":
			may = m.mayResource(as, row.right, row.kind, name)
			may = may || row.route == "PUT /topics/{topic}" && m.oracle.resource(as, "create", "cluster", "kafka-cluster")
		}
		status, _ := m.web(row.method(), row.path(name), login, 0)
		m.judge("API "+row.route, as, name, may, !refusing(status))
		if slices.Contains(byCookie, row.route) {
			m.byCookies(as, row.method(), row.path(name), may)
		}
	}
}

// asksNobody asks every route without saying who it is, and with a token that is none.
func (m *matrix) asksNobody() {
	for _, row := range apiRows() {
		for _, login := range []string{"", "Bearer " + strings.ToLower(m.node.token) + "x"} {
			status, _ := m.web(row.method(), row.path("mx/a"), login, 0)
			m.judge("API "+row.route, &person{}, "nobody", row.kind == "", status != http.StatusUnauthorized)
		}
	}
}

// lists judges what stands in the lists of which what may not be seen is left out: names, retained messages, and what
// masks leave of these.
func (m *matrix) lists(as *person, login string, kept map[string]string) {
	operator := "Bearer " + m.node.token
	for kind, path := range map[string]string{"topic": "/topics?limit=1000&internal=true", "group": "/groups?limit=1000"} {
		_, all := m.web(http.MethodGet, api.Path+path, operator, 0)
		_, seen := m.web(http.MethodGet, api.Path+path, login, 0)
		for _, name := range append(m.resources(kind), goodOffsets, hiddenGroup) {
			if quoted := `"` + name + `"`; strings.Contains(string(all), quoted) {
				m.judge("API GET /"+kind+"s", as, name, m.mayResource(as, "describe", kind, name),
					strings.Contains(string(seen), quoted))
			}
		}
	}
	var page api.RetainedPage
	_, text := m.web(http.MethodGet, api.Path+"/retained?limit=1000&filter=%2B/apiretained/%23", login, 0)
	if err := json.Unmarshal(text, &page); err != nil || page.Next != "" {
		m.t.Errorf("%v: %q", err, text)
	}
	got := map[string]*api.Message{}
	for i := range page.Items {
		got[page.Items[i].Name] = &page.Items[i].Message
	}
	for name, payload := range kept {
		if strings.Contains(name, "/apiretained/") {
			m.judge("API GET /retained", as, name, m.oracle.name(as, "read", name), got[name] != nil)
			m.judgeShown("API GET /retained", as, name, payload, got[name])
		}
	}
}

// judgeShown judges what is seen of a message, where one is.
func (m *matrix) judgeShown(path string, as *person, name, payload string, shown *api.Message) {
	if shown == nil {
		return
	}
	value, err := shown.Payload.Value()
	if err != nil || !strings.Contains(string(value), payload) {
		m.t.Errorf("%s: %s: %q, %v", path, name, value, err)
	}
	seen := len(secretsIn(value, fmt.Append(nil, shown.User)))
	may := !m.oracle.maskedName(as, name)
	m.judge(path+" masked", as, name, may, seen == 2 || !may && seen > 0)
}

// asksNames asks the routes about a topic name, on those that are somebody's turn in this phase.
func (m *matrix) asksNames(as *person, login string, kept map[string]string, turn int) {
	ask := func(method, path, name, more string, body any) (int, []byte) {
		return m.web(method, api.Path+path+url.PathEscape(name)+more, login, body)
	}
	var tried []attempt
	for i, name := range m.names("apiwrite") {
		if (i+turn)%phases != m.phase && m.thin == 1 {
			continue
		}
		one := attempt{"API POST /names/{name}/messages", name, m.next("apiwrite"), as, m.oracle.name(as, "write", name)}
		status, _ := ask(http.MethodPost, "/names/", name, "/messages", map[string]any{
			"payload": map[string]any{"text": one.payload}})
		m.judge(one.path, as, name, one.may, !refusing(status))
		tried = append(tried, one)
	}
	m.stored(tried)
	for i, name := range m.names("apikept") {
		if (i+turn)%phases != m.phase && m.thin == 1 {
			continue
		}
		read, write := m.oracle.name(as, "read", name), m.oracle.name(as, "write", name)
		status, text := ask(http.MethodGet, "/retained/", name, "", 0)
		m.judge("API GET /retained/{name}", as, name, read, !refusing(status))
		m.shows("API GET /retained/{name}", as, name, text)
		status, text = ask(http.MethodGet, "/retained/", name, "/history", 0)
		m.judge("API GET /retained/{name}/history", as, name, read, !refusing(status))
		m.judge("API GET /retained/{name}/history shows", as, name, read, strings.Contains(string(text), kept[name]))
		m.shows("API GET /retained/{name}/history", as, name, text)
		status, _ = ask(http.MethodDelete, "/retained/", name, "", 0)
		m.judge("API DELETE /retained/{name}", as, name, write, !refusing(status))
		status, _ = ask(http.MethodPost, "/retained/", name, "/restore", map[string]any{})
		m.judge("API POST /retained/{name}/restore", as, name, write, !refusing(status))
	}
}

// shows judges an answer with messages of a name.
func (m *matrix) shows(path string, as *person, name string, text []byte) {
	var one struct {
		api.Message
		Items []api.Message
	}
	if err := json.Unmarshal(text, &one); err != nil {
		m.t.Errorf("%s: %v: %q", path, err, text)
		return
	}
	if one.Payload != nil {
		one.Items = append(one.Items, one.Message)
	}
	for _, shown := range one.Items {
		value, _ := shown.Payload.Value()
		if payload := payloads.FindString(string(value)); payload != "" {
			m.judge(path+" shows", as, name, m.oracle.name(as, "read", name), true)
			m.judgeShown(path, as, name, payload, &shown)
		}
	}
}

// apiStream is a filter that somebody follows.
type apiStream struct {
	who   *person
	body  io.ReadCloser
	lines *bufio.Reader
	ended bool
}

const apiFence = mxRoot + "/apilive/fence"

// flows has everybody follow what is published, live and from the beginning of the log, and judges what comes to those
// who began in this phase or in one before.
func (m *matrix) flows() {
	open := func(as *person, query string) *apiStream {
		answer := newBrowser(m.t, m.node).open(http.MethodGet, api.Path+"/filters/%2B%2Fapilive%2F%23/messages"+query, "",
			basicHeader(as.user, mxPassword))
		m.t.Cleanup(func() { _ = answer.Body.Close() })
		m.judge("API GET /filters/{filter}/messages", as, query, !m.oracle.out[as.user], answer.StatusCode == http.StatusOK)
		if answer.StatusCode != http.StatusOK {
			return nil
		}
		return &apiStream{as, answer.Body, bufio.NewReader(answer.Body), false}
	}
	for i, who := range m.people {
		as := asBackEnd(who)
		as.listener = "http"
		if strings.Contains(as.user, ":") {
			continue // HTTP cannot say such a name
		}
		if m.flowing[i] == nil {
			m.flowing[i] = open(as, "")
		}
		denied := newBrowser(m.t, m.node).open(http.MethodGet, api.Path+"/filters/mx%2F%2B%2Fnarrow%2Fsecret%2F%23/messages",
			"", basicHeader(as.user, mxPassword))
		_ = denied.Body.Close()
		m.judge("API GET /filters/{filter}/messages", as, "denied", false, !refusing(denied.StatusCode))
	}
	sent := m.send("apilive", nil)
	m.flowed = append(m.flowed, sent)
	fence := m.next("fence")
	m.root.publish(&packet.Publish{Topic: []byte(apiFence), Payload: []byte(fence), QoS: 1}, 0)
	m.root.drain()
	for i, s := range m.flowing {
		if s == nil {
			continue
		}
		m.arrived("API live", s, fence, sent)
		if s.ended {
			m.judge("API live", s.who, "goes on", !m.oracle.out[s.who.user], false)
			m.flowing[i] = nil
		}
		if (i+m.phase)%2 == 1 || m.oracle.out[s.who.user] {
			continue
		}
		if past := open(s.who, "?from=earliest"); past != nil {
			m.arrived("API past", past, fence, m.flowed...)
			_ = past.body.Close()
		}
	}
}

// arrived reads a stream up to a fence, and what else of it may be seen, and judges what came.
func (m *matrix) arrived(path string, s *apiStream, fence string, sent ...map[string]string) {
	want := map[string]string{fence: apiFence}
	if m.oracle.out[s.who.user] {
		clear(want)
	}
	for _, one := range sent {
		maps.Copy(want, readable(&m.oracle, s.who, one))
	}
	got := s.read(want)
	for _, one := range sent {
		for name, payload := range one {
			m.judge(path, s.who, name, m.oracle.name(s.who, "read", name), got[payload] != nil)
			m.judgeShown(path, s.who, name, payload, got[payload])
		}
	}
}

// read reads until all has come that is wanted, or the stream has ended.
func (s *apiStream) read(want map[string]string) map[string]*api.Message {
	got := map[string]*api.Message{}
	limit := time.AfterFunc(patience, func() { _ = s.body.Close() })
	defer limit.Stop()
	for left := len(want); left > 0 || len(want) == 0; {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			s.ended = true
			return got
		}
		data, is := strings.CutPrefix(line, "data: ")
		var e api.Event
		if !is || json.Unmarshal([]byte(data), &e) != nil {
			continue
		}
		value, _ := e.Payload.Value()
		payload := payloads.FindString(string(value))
		if _, wanted := want[payload]; wanted && got[payload] == nil {
			left--
		}
		got[payload] = &e.Message
	}
	return got
}

// TestAPIMatrixFindsLeaks has the guards allow everything, and wants each row of the API to tell.
func TestAPIMatrixFindsLeaks(t *testing.T) {
	l := &leaky{filter: true, name: func(*rule.Subject, rule.Operation, string) bool { return true },
		may: func(*rule.Subject, rule.Operation, rule.Kind, string) bool { return true }}
	m := newMatrix(t, func(a *access.Access) (mqtt.Guard, kafka.Guard, adminGuard) {
		l.Access = a
		return l, l, l
	}, strangeText()[:3], apiPart)
	silent := func() (rows []string) {
		for _, row := range apiRows() {
			if row.kind != "" && !slices.ContainsFunc(m.leaks, func(line string) bool {
				return strings.Contains(line, "API "+row.route+":")
			}) {
				rows = append(rows, row.route)
			}
		}
		return rows
	}
	m.found = func() bool { return len(silent()) == 0 }
	m.run()
	if rows := silent(); len(rows) > 0 {
		t.Errorf("%d leaks, none of %q", len(m.leaks), rows)
	}
}
