package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/token/tokentest"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/rewrite"
)

// matrix is a run of the access matrix: the node, who comes, what holds, and what came of the cases.
type matrix struct {
	t      testing.TB
	node   *Node
	disk   *vfs.Faulty
	tls    *tls.Config
	people []*person
	rows   []trick
	rules  []timed
	phase  int
	oracle oracle
	before oracle // of the phase before
	ids    map[string]string
	jars   map[string][2]*browser // of users: of the phase before and of this one
	root   *visitor
	logins *directory          // the service that knows who is in no list of users
	number int                 // of messages
	thin   int                 // every how many names are tried on a path
	sentTo map[string][]string // payloads of what the operator published, by topic of the log

	ahead  atomic.Int64 // of the clock of the node before ours, in nanoseconds
	later  []attempt    // what waits to be published
	open   []*followed  // streams, of the phase before
	late   []func()     // judge what may come any time, when all is over
	spans  []*span      // bridges
	far    *Node        // the other server of theirs
	issuer *tokentest.Issuer

	flowing map[int]*apiStream  // streams of the API, by the number of who follows
	flowed  []map[string]string // what was sent to them in each phase

	cases   map[string]int // by path
	leaks   []string
	missing []string
	parts   ends
	found   func() bool        // it is enough; nil: it never is
	never   map[string]attempt // what must not be published later either, by payload
}

// ends are the parts of the matrix.
type ends uint32

const (
	livePart ends = 1 << iota
	pastPart
	filterPart
	writePart
	willPart
	awayPart
	delayPart
	bridgePart
	endPart
	devicePart = 1<<iota - 1
)

const (
	fetchPart ends = (devicePart + 1) << iota
	sharePart
	transactionPart
	callPart
	pagePart
	streamPart
	letterPart
	apiPart
	everything  ends = (devicePart+1)<<iota - 1
	backEndPart      = fetchPart | sharePart | transactionPart | callPart
)

const (
	mxPassword = "a password that a machine made of much chance"
	patience   = 2 * time.Minute
)

// newMatrix starts a node whose doors ask these guards, for these people and what of them is tried.
func newMatrix(t testing.TB, by guards, people []*person, parts ends) *matrix {
	m := &matrix{t: t, people: people, thin: 1, parts: parts, cases: map[string]int{}, ids: map[string]string{},
		jars: map[string][2]*browser{}, flowing: map[int]*apiStream{},
		never: map[string]attempt{}, sentTo: map[string][]string{}}
	m.rows = tricks(m.people)
	for i := range m.rows {
		m.rules = append(m.rules, m.rows[i].rules...)
	}
	m.rules = append(m.rules, further(m.people)...)
	dir := t.TempDir()
	servers, devices := securetest.NewCA(t, "servers"), securetest.NewCA(t, "devices")
	c := Default()
	m.disk = vfs.NewFaulty(vfs.NewMemory())
	c.FS = m.disk
	c.Listen = Listen{MQTT: "127.0.0.1:0", Kafka: "127.0.0.1:0", HTTP: "127.0.0.1:0", MQTTS: "127.0.0.1:0"}
	c.Listeners = []Listener{{Name: "side", Kind: "mqtt", Address: "127.0.0.1:0"}}
	c.TLS.Certificate, c.TLS.Key = servers.Server("localhost").Write(t, dir, "server")
	c.TLS.ClientCA, c.TLS.ClientAuth = securetest.Write(t, dir, "devices.pem", devices.PEM), "request"
	c.Limits.JournalFile, c.Limits.Inflight, c.Topics.Defaults.Partitions = 1<<20, 10_000, 1
	c.Mapping = []hinge.Rule{{MQTT: zoneLevel + "/{z}/{rest#}", Topic: zoneTopic, Key: "{topic}"}}
	c.Rewrite = []rewrite.Rule{{Action: "all", From: "rw/#", Match: "^rw/([^/]+)/rewrite/(.+)$", To: "$1/rewrite/$2"}}
	c.AutoSubscribe = []mqtt.AutoSubscription{{Filter: "+/unasked/#", QoS: 1}}
	if m.does(bridgePart) {
		m.farNode()
		c.Bridges = m.bridgesTo(m.far.Addresses().MQTT)
	}
	m.issuer = tokentest.New(t, "ES256")
	c.Access.JWT = []JWT{{Issuer: tokentest.Name, Audience: "firth", User: "sub", Roles: "roles", UserName: "ignore",
		Algorithms: "ES256", Keys: securetest.Write(t, dir, "keys.json", m.issuer.Keys())}}
	m.logins = m.service()
	c.Access.HTTP.URL, c.Access.HTTP.Cache = m.logins.URL, 0
	n := newNode(c)
	n.guards = by
	n.clocks = clocks{func() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())) },
		func() time.Duration { return clock.Passed() + time.Duration(m.ahead.Load()) }}
	var err error
	if m.node, err = n.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	pump := devices.Client("pump")
	m.tls = &tls.Config{RootCAs: servers.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{pump.TLS(t)}}
	m.user("root", map[string]any{"roles": []string{"admin"}}, true)
	same := m.node.access.Catalog().User("root").Verifiers // which take long to make
	users := []*access.User{{Name: "pump", Roles: []string{"obs"}, Verifiers: same}}
	for _, p := range m.people {
		if p.cn == "" && !p.elsewhere {
			users = append(users, &access.User{Name: p.user, Roles: p.roles, Verifiers: same})
		}
	}
	if m.does(endPart) {
		for _, name := range enders {
			users = append(users, &access.User{Name: name, Roles: []string{"looks", "obs"}, Verifiers: same})
		}
	}
	if err := m.node.access.Apply(t.Context(), &access.Change{Users: users}); err != nil {
		t.Fatal(err)
	}
	return m
}

// service is one that knows some of the people, with their roles, and with rules that nobody else has been told of.
func (m *matrix) service() *directory {
	known := map[string]string{}
	for _, p := range m.people {
		if !p.elsewhere {
			continue
		}
		var rules []said
		for i := range m.rules {
			if m.rules[i].given && m.rules[i].Principal == "User:"+p.user {
				rules = append(rules, m.rules[i].said)
			}
		}
		text, err := json.Marshal(map[string]any{"result": "allow", "roles": p.roles, "rules": rules})
		if err != nil {
			m.t.Fatal(err)
		}
		known[p.user] = string(text)
	}
	text, err := json.Marshal(map[string]any{"result": "allow", "roles": []string{"obs", "looks"}, "expires_in": delay})
	if err != nil {
		m.t.Fatal(err)
	}
	known["${clientid}"] = string(text) // who ends
	return newDirectory(m.t, known, func(string) string { return mxPassword })
}

// names are those of the rows that are tried on a path.
func (m *matrix) names(path string) (some []string) {
	for i, name := range namesOn(m.rows, path) {
		if (i+len(path))%m.thin == 0 || path == "backend" { // somebody waits for each of its topics
			some = append(some, name)
		}
	}
	return some
}

// admin asks the administrative interface as the operator, and wants it done.
func (m *matrix) admin(method, path string, body any) []byte {
	m.t.Helper()
	status, text := m.http(method, path, "Bearer "+m.node.token, body)
	if status != http.StatusOK {
		m.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return text
}

func (m *matrix) http(method, path, authorization string, body any) (int, []byte) {
	m.t.Helper()
	return m.web(method, adminPath+path, authorization, body)
}

// web makes a request of any path.
func (m *matrix) web(method, path, authorization string, body any) (int, []byte) {
	m.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+m.node.Addresses().HTTP+path,
		bytes.NewReader(text))
	if err != nil {
		m.t.Fatal(err)
	}
	r.Header.Set("Content-Type", adminType)
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return answer.StatusCode, said
}

// user makes or changes a user.
func (m *matrix) user(name string, change map[string]any, isNew bool) {
	m.t.Helper()
	change["name"] = name
	if isNew {
		change["password"], change["generated"] = mxPassword, true
	}
	m.admin(http.MethodPost, "/user?new="+fmt.Sprint(isNew), change)
}

// enter has the rules of a phase be in force: what is new is added, then what is over is removed, by the calls that
// people have.
func (m *matrix) enter(phase int) {
	m.t.Helper()
	m.phase, m.before = phase, m.oracle
	m.oracle = oracle{rules: rulesOf(m.rules, phase), roles: m.before.roles, out: m.before.out,
		topics: map[string]bool{}}
	key := func(r *said) string { return fmt.Sprint(*r) }
	var add []said
	keep := map[string]bool{}
	for i := range m.oracle.rules {
		r := &m.oracle.rules[i]
		if keep[key(r)] = true; m.ids[key(r)] == "" && !r.given {
			add = append(add, *r)
		}
	}
	var lines []struct{ ID string }
	if err := json.Unmarshal(m.admin(http.MethodPost, "/rules", add), &lines); err != nil {
		m.t.Fatal(err)
	}
	gone := url.Values{}
	for k, id := range m.ids {
		if !keep[k] {
			gone.Add("id", id)
			delete(m.ids, k)
		}
	}
	for i := range add {
		m.ids[key(&add[i])] = lines[i].ID
	}
	if len(gone) > 0 {
		m.admin(http.MethodDelete, "/rules?"+gone.Encode(), nil)
	}
	m.change(phase)
}

// change is what becomes of users in a phase: roles are taken and given back, and users disabled.
func (m *matrix) change(phase int) {
	roles, out := map[string][]string{}, map[string]bool{}
	for _, p := range m.people {
		if slices.Contains(p.roles, "second") && phase%2 == 1 {
			roles[p.user] = []string{"obs"}
		}
	}
	for _, p := range m.people {
		now, changed := roles[p.user]
		if before, was := m.before.roles[p.user]; changed != was || !slices.Equal(now, before) {
			if !changed {
				now = p.roles
			}
			m.user(p.user, map[string]any{"roles": now}, false)
		}
	}
	if phase == 3 {
		for _, p := range m.people {
			if p.leaves {
				out[p.user] = true
				m.user(p.user, map[string]any{"disabled": true}, false)
			}
		}
	}
	m.oracle.roles, m.oracle.out = roles, out
	clear(m.oracle.topics)
}

// judge notes what came of a case: whether something was seen, or done, that may be.
func (m *matrix) judge(path string, who *person, what string, may, was bool) {
	if m.cases[path]++; may == was {
		return
	}
	line := fmt.Sprintf("phase %d, %s: %.20q as %.20q, %s", m.phase, path, who.user, who.client, what)
	switch {
	case was && !may:
		m.leaks = append(m.leaks, line)
	case may && !was:
		m.missing = append(m.missing, line)
	}
}

// after judges, when all is over, whether something has been seen that may not.
func (m *matrix) after(path string, who *person, what string, seen func() bool) {
	m.late = append(m.late, func() { m.judge(path, who, what, false, seen()) })
}

func (m *matrix) total() (n int) {
	for _, of := range m.cases {
		n += of
	}
	return n
}

// visitor is a client of the device door.
type visitor struct {
	m   *matrix
	who *person
	c   *client.Client
	v5  bool

	mu      sync.Mutex
	hold    bool              // it acknowledges nothing
	unacked []packet.Publish  // meanwhile; identifier and QoS
	got     map[string]string // topics by payload, of this connection
	secrets map[string]int    // that were in it, by payload
	refused map[uint64]bool   // what it published, by its ticket
	acked   map[uint64]bool
	news    chan struct{}
}

// dial connects somebody. Version 0: whatever suits it. Errors: those of the client.
func (m *matrix) dial(who *person, change func(*client.Options)) (*visitor, error) {
	d := &visitor{m: m, who: who, got: map[string]string{}, secrets: map[string]int{}, refused: map[uint64]bool{},
		acked: map[uint64]bool{}, news: make(chan struct{}, 1)}
	o := client.Options{ClientID: who.client, UserName: who.user, Password: []byte(mxPassword), KeepAlive: -1,
		ManualAck: true, Resume: who.client != "", OnMessage: d.message, OnAck: d.ack}
	if len(who.user)%2 == 0 && who.client != "" && who.client != "root" {
		o.Version = packet.V311
	} else {
		o.Props.SetSessionExpiry(600)
		o.Props.SetTopicAliasMaximum(8)
	}
	address := m.node.Addresses().MQTT
	switch who.listener {
	case "side":
		address = m.node.more()[0].Address
	case "mqtts":
		address, o.TLS, o.UserName, o.Password = m.node.Addresses().MQTTS, m.tls, "", nil
	}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	c, err := client.Dial(ctx, address, o)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.c, d.v5 = c, o.Version != packet.V311
	d.mu.Unlock()
	m.t.Cleanup(c.Abort)
	return d, nil
}

func (d *visitor) message(p *packet.Publish) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := string(p.Payload)
	if within := payloads.FindString(id); within != "" {
		id = within
	}
	d.got[id], d.secrets[id] = string(p.Topic), len(secretsIn(p.Payload, p.Props.User))
	if d.hold && p.QoS > 0 {
		d.unacked = append(d.unacked, packet.Publish{PacketID: p.PacketID, QoS: p.QoS})
	} else if p.QoS > 0 {
		for d.c == nil { // Dial has not returned
			d.mu.Unlock()
			<-time.After(time.Millisecond)
			d.mu.Lock()
		}
		d.c.Ack(p.PacketID, p.QoS, packet.Success)
	}
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// count is how much has come, and release acknowledges it at last.
func (d *visitor) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.got)
}

func (d *visitor) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hold = false
	for _, p := range d.unacked {
		d.c.Ack(p.PacketID, p.QoS, packet.Success)
	}
	d.c.Flush()
}

func (d *visitor) ack(ticket uint64, reason packet.ReasonCode, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acked[ticket] = err == nil
	d.refused[ticket] = reason.Failed()
}

// await waits until everything has come; missing is what has not in the end.
func (d *visitor) await(want map[string]string) (missing []string) {
	deadline := time.After(patience)
	for {
		missing = missing[:0]
		d.mu.Lock()
		for payload := range want {
			if _, is := d.got[payload]; !is {
				missing = append(missing, payload)
			}
		}
		d.mu.Unlock()
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-d.news:
		case <-d.c.Done():
			return missing
		case <-deadline:
			d.m.t.Logf("phase %d: %.20q waits for %d of %d: %v", d.m.phase, d.who.client, len(missing), len(want),
				want[missing[0]])
			return missing
		}
	}
}

func (d *visitor) has(payload string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, is := d.got[payload]
	return is
}

func (d *visitor) subscribe(props packet.Properties, qos byte, filters ...string) []packet.ReasonCode {
	d.m.t.Helper()
	var all []packet.Subscription
	for _, f := range filters {
		all = append(all, packet.Subscription{Filter: []byte(f), QoS: qos})
	}
	ctx, cancel := context.WithTimeout(d.m.t.Context(), patience)
	defer cancel()
	reasons, err := d.c.Subscribe(ctx, props, all...)
	if err != nil {
		d.m.t.Fatalf("%q subscribes to %q: %v", d.who.client, filters, err)
	}
	return reasons
}

// fence waits until what was published before has come, if it comes: what follows it on the same topic of the log has.
func (d *visitor) fence() {
	d.m.t.Helper()
	payload := d.m.next("fence")
	d.m.root.publish(&packet.Publish{Topic: []byte(mxRoot + "/fence"), Payload: []byte(payload), QoS: 1}, 0)
	if missing := d.await(map[string]string{payload: ""}); missing != nil {
		d.m.t.Fatalf("phase %d: %q saw no fence: %v", d.m.phase, d.who.client, d.c.Err())
	}
}

// next is a payload that no other message has.
func (m *matrix) next(path string) string {
	m.number++
	return fmt.Sprintf("<%d.%s.%d>", m.phase, path, m.number)
}

// publish sends messages; those above QoS 0 are acknowledged when drain returns.
func (d *visitor) publish(p *packet.Publish, ticket uint64) {
	d.m.t.Helper()
	if err := d.c.Publish(p, ticket); err != nil {
		d.m.t.Fatalf("%q publishes to %q: %v", d.who.client, p.Topic, err)
	}
}

func (d *visitor) drain() {
	d.m.t.Helper()
	ctx, cancel := context.WithTimeout(d.m.t.Context(), patience)
	defer cancel()
	if err := d.c.Drain(ctx); err != nil {
		d.m.t.Fatalf("%q: %v", d.who.client, err)
	}
}

// isDenied tells whether a client was refused as somebody who may not be here.
func isDenied(err error) bool { return fault.Is(err, fault.Denied) }
