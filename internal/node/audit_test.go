package node

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// guarded is a node with users, and who asks it over HTTP.
type guarded struct {
	*Node
	t     *testing.T
	token string
}

const (
	adminPassword  = "admin-password"
	devicePassword = "device-password"
)

func startGuarded(t *testing.T, c *Config) *guarded {
	t.Helper()
	return guardedOf(t, start(t, c))
}

// guardedOf gives a node users.
func guardedOf(t *testing.T, n *Node) *guarded {
	t.Helper()
	g := &guarded{Node: n, t: t}
	token, err := os.ReadFile(filepath.Join(n.cfg.Data, TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	g.token = strings.TrimSpace(string(token))
	g.must("POST", "/user?new=true", `{"name":"boss","password":"`+adminPassword+`","roles":["admin"]}`)
	g.must("POST", "/user?new=true", `{"name":"dev","password":"`+devicePassword+`","roles":["device"]}`)
	return g
}

// ask asks as the holder of the token and gives the status and the answer.
func (g *guarded) ask(method, path, body string, auth ...string) (int, string) {
	g.t.Helper()
	head := "Authorization: Bearer " + g.token + "\n"
	if len(auth) > 0 {
		head = auth[0]
	}
	at := g.Addresses().HTTP
	return request(g.t, at, fmt.Sprintf("%s /admin/v1%s HTTP/1.1\nHost: %s\nConnection: close\n"+
		"Content-Type: application/json\nContent-Length: %d\n%s\n%s", method, path, at, len(body), head, body))
}

func (g *guarded) must(method, path, body string) string {
	g.t.Helper()
	status, text := g.ask(method, path, body)
	if status != http.StatusOK {
		g.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return text
}

func basicAuth(user, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\n"
}

func (g *guarded) kafkaAs(user, password string) *kgo.Client {
	g.t.Helper()
	return g.kafkaClient(g.t, kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
}

// query is what the audit says, a line each.
func (g *guarded) query(q url.Values) (all []*chain.Record) {
	g.t.Helper()
	_, text := g.ask("GET", "/audit?"+q.Encode(), "")
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		r, err := chain.Parse(lines.Bytes())
		if err != nil {
			g.t.Fatalf("%v: %s", err, lines.Text())
		}
		all = append(all, r)
	}
	return all
}

func lineOfRecord(r *chain.Record) string {
	e := &r.Data
	return strings.Join([]string{strings.TrimPrefix(r.Type, "firth."), e.Actor.Principal, e.Actor.Method, e.Action,
		r.Subject, string(e.Outcome)}, " ")
}

// expect waits until the audit has records of all lines.
func (g *guarded) expect(want ...string) {
	g.t.Helper()
	var have []string
	defer func() {
		if g.t.Failed() {
			g.t.Logf("there is:\n%s", strings.Join(have, "\n"))
		}
	}()
	missing := func(line string) bool { return !slices.Contains(have, line) }
	for limit := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		have = have[:0]
		for _, r := range g.query(nil) {
			have = append(have, lineOfRecord(r))
		}
		at := slices.IndexFunc(want, missing)
		if at < 0 {
			return
		}
		if time.Now().After(limit) {
			g.t.Errorf("not told: %s", want[at])
			return
		}
	}
}

func (g *guarded) connect(id, user, password string) (*client.Client, error) {
	return client.Dial(g.t.Context(), g.Addresses().MQTT, client.Options{ClientID: id, UserName: user,
		Password: []byte(password)})
}

// TestAuditQuiet: a node that nobody asked to guard anything, and where nobody changes anything, writes nothing.
func TestAuditQuiet(t *testing.T) {
	n := start(t, local(t))
	c, err := client.Dial(t.Context(), n.Addresses().MQTT, client.Options{ClientID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := kadm.NewClient(n.kafkaClient(t)).CreateTopic(t.Context(), 1, 1, nil, "x"); err != nil {
		t.Fatal(err)
	}
	if n.store.Topics().ByName(audit.TopicName) != nil {
		t.Error("there is an audit")
	}
}

// TestMetricsBeyondLoopback: once there are users, other machines see metrics only by the right to describe the
// cluster.
func TestMetricsBeyondLoopback(t *testing.T) {
	for _, who := range []string{"auto", "open"} {
		cfg := local(t)
		cfg.Access.Metrics = who
		g := startGuarded(t, cfg)
		for _, c := range []struct {
			from, auth string
			status     int
		}{
			{"127.0.0.1", "", http.StatusOK}, {"192.0.2.1", "", http.StatusUnauthorized},
			{"192.0.2.1", basicAuth("boss", adminPassword), http.StatusOK},
			{"192.0.2.1", basicAuth("boss", "wrong"), http.StatusUnauthorized},
			{"192.0.2.1", basicAuth("dev", devicePassword), http.StatusForbidden},
		} {
			r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey,
				&net.TCPAddr{IP: net.ParseIP(c.from), Port: 8080}), http.MethodGet, "/metrics", nil)
			if _, secret, is := strings.Cut(strings.TrimSpace(c.auth), ": "); is {
				r.Header.Set("Authorization", secret)
			}
			answer := httptest.NewRecorder()
			g.known(g.metrics.Handler()).ServeHTTP(answer, r)
			if want := c.status; answer.Code != want && who == "auto" || answer.Code != http.StatusOK && who == "open" {
				t.Errorf("%s: on %s with %q: %d, not %d", who, c.from, c.auth, answer.Code, want)
			}
		}
	}
}

// TestAudit drives both doors and the interface of administrators, and wants each login, refusal, change and takeover
// told, whose it was and what came of it; and the chain to verify.
func TestAudit(t *testing.T) {
	cfg := local(t)
	cfg.Audit.Data = "devices,plant*"
	g := startGuarded(t, cfg)
	g.driveMQTT()
	g.driveKafka()
	g.driveHTTP()
	g.expect(told()...)
	all := g.query(url.Values{"type": {"change"}, "principal": {"boss"}, "resource": {"topic:*"}})
	var altered *chain.Record
	for _, r := range all {
		if r.Data.Action == "topic.configure" && r.Data.Outcome == chain.Begun {
			altered = r
		}
	}
	if altered == nil || !strings.Contains(string(altered.Data.Before), `"retention.ms":"60000"`) ||
		!strings.Contains(string(altered.Data.After), `"retention.ms":"70000"`) {
		t.Errorf("before and after of a setting: %+v", altered)
	}
	g.movedOffsets()
	text := g.must("GET", "/audit", "")
	for _, secret := range []string{adminPassword, devicePassword, "sams-password", "payload-of-it", g.token, "argon2"} {
		if strings.Contains(text, secret) {
			t.Errorf("the audit has %q", secret)
		}
	}
	if f := g.verify(text); f != nil {
		t.Error(f)
	}
	g.spoil(text)
	g.untouchable(g.kafkaAs("boss", adminPassword))
}

// movedOffsets wants what was committed before and behind each change of the offsets of a group.
func (g *guarded) movedOffsets() {
	g.t.Helper()
	var moves []string
	for _, r := range g.query(url.Values{"type": {"change"}, "resource": {"group:g"}}) {
		if r.Data.Outcome == chain.Begun {
			moves = append(moves, fmt.Sprintf("%s %s %s", r.Data.Action, r.Data.Before, r.Data.After))
		}
	}
	at := func(offset int) string { return fmt.Sprintf(`{"offsets":{"plant":{"0":%d}}}`, offset) }
	none := `{"offsets":{}}`
	want := []string{"offsets.set " + none + " " + at(7), "offsets.set " + at(7) + " " + at(0),
		"offsets.delete " + at(0) + " ", "offsets.set " + none + " " + at(3), "group.delete " + at(3) + " "}
	if !slices.Equal(moves, want) {
		g.t.Errorf("offsets were moved:\n%s\nnot\n%s", strings.Join(moves, "\n"), strings.Join(want, "\n"))
	}
}

// driveMQTT has devices do what they may, and what they may not.
func (g *guarded) driveMQTT() {
	t, ctx := g.t, g.t.Context()
	t.Helper()
	if _, err := g.connect("d1", "dev", "wrong"); err == nil {
		t.Fatal("a wrong password was let in")
	}
	if _, err := g.connect("d1", "", ""); err == nil {
		t.Fatal("nobody was let in")
	}
	d1, err := g.connect("d1", "dev", devicePassword)
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := d1.Subscribe(ctx, packet.Properties{}, packet.Subscription{Filter: []byte("secret/#")})
	if err != nil || reasons[0] != packet.NotAuthorized {
		t.Errorf("subscribed: %v, %v", reasons, err)
	}
	for _, name := range []string{"secret/x", "devices/d1/x"} {
		p := &packet.Publish{Topic: []byte(name), QoS: 1, Payload: []byte("payload-of-it")}
		if err := d1.Publish(p, 0); err != nil {
			t.Fatal(err)
		}
		d1.Flush()
	}
	if err := d1.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	d2, err := g.connect("d1", "dev", devicePassword) // it takes the session over
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d2.Close() }) // an administrator may have ended it
}

// driveKafka has back ends do the same.
func (g *guarded) driveKafka() {
	t, ctx := g.t, g.t.Context()
	t.Helper()
	wrong, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := g.kafkaAs("boss", "wrong").Ping(wrong); err == nil {
		t.Error("a wrong password was let in")
	}
	boss := g.kafkaAs("boss", adminPassword)
	admin := kadm.NewClient(boss)
	if _, err := admin.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": new("60000")}, "plant"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r := &kgo.Record{Topic: "plant", Value: []byte("payload-of-it")}
		if err := boss.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms",
		Value: new("70000")}}, "plant")
	_, _ = admin.CreatePartitions(ctx, 1, "plant")
	_, _ = admin.DeleteRecords(ctx, kadm.Offsets{"plant": {0: {Topic: "plant", Partition: 0, At: 1}, 1: {Topic: "plant",
		Partition: 1, At: 1}, 2: {Topic: "plant", Partition: 2, At: 1}}})
	_, _ = admin.CommitOffsets(ctx, "g", kadm.Offsets{"plant": {0: {Topic: "plant", Partition: 0, At: 7}}})
	_, _ = admin.CommitOffsets(ctx, "g", kadm.Offsets{"plant": {0: {Topic: "plant", Partition: 0, At: 0}}})
	_, _ = admin.DeleteOffsets(ctx, "g", kadm.TopicsSet{"plant": {0: {}}})
	_, _ = admin.CommitOffsets(ctx, "g", kadm.Offsets{"plant": {0: {Topic: "plant", Partition: 0, At: 3}}})
	_, _ = admin.DeleteGroups(ctx, "g")
	_, _ = admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "sam", Mechanism: kadm.ScramSha256,
		Iterations: 4096, Password: "sams-password"}})
	_, _ = admin.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{{Entity: kadm.ClientQuotaEntity{{Type: "user",
		Name: new("sam")}}, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 1e9}}}})
	_, _ = admin.CreateACLs(ctx, kadm.NewACLs().Allow("User:sam").Topics("plant").Operations(kadm.OpRead).
		ResourcePatternType(kadm.ACLPatternLiteral))
	reader := g.kafkaClient(t, kgo.SASL(scram.Auth{User: "sam", Pass: "sams-password"}.AsSha256Mechanism()),
		kgo.ConsumeTopics("plant"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableIdempotentWrite())
	if fs := reader.PollFetches(ctx); fs.Err() != nil {
		t.Error(fs.Err())
	}
	if reader.ProduceSync(ctx, &kgo.Record{Topic: "plant", Value: []byte("x")}).FirstErr() == nil {
		t.Error("sam produced")
	}
	_, _ = admin.DeleteTopics(ctx, "plant")
}

// driveHTTP has administrators do the same.
func (g *guarded) driveHTTP() {
	g.t.Helper()
	for _, c := range []struct {
		method, path, auth string
		status             int
	}{
		{"GET", "/users", basicAuth("dev", devicePassword), http.StatusForbidden},
		{"GET", "/users", basicAuth("dev", "wrong"), http.StatusUnauthorized},
		{"POST", "/ban?kind=client&who=d7&for=1h", basicAuth("boss", adminPassword), http.StatusOK},
		{"DELETE", "/ban?kind=client&who=d7", basicAuth("boss", adminPassword), http.StatusOK},
		{"DELETE", "/session?client=d1", "Authorization: Bearer " + g.token + "\n", http.StatusOK},
		{"DELETE", "/session?client=nobody", basicAuth("boss", adminPassword), http.StatusNotFound},
		{"GET", "/users", "X-Forwarded-For: 192.0.2.1\n" + basicAuth("boss", adminPassword), http.StatusForbidden},
		{"DELETE", "/message?topic=nothing", basicAuth("boss", adminPassword), http.StatusNotFound},
	} {
		if status, text := g.ask(c.method, c.path, "", c.auth); status != c.status {
			g.t.Errorf("%s %s: %d %s", c.method, c.path, status, text)
		}
	}
}

// told is what the audit must have been told of all that.
func told() []string {
	all := []string{
		"change User:ANONYMOUS  user.add user:boss begun", "change User:ANONYMOUS  user.add user:boss success",
		"login User:dev password connect  failure", "login  password connect  failure",
		"login User:dev password connect  success",
		"access.refused User:dev  read filter:secret/# denied", "access.refused User:dev  write name:secret/x denied",
		"data.produce User:dev  write topic:devices success", "session.takeover User:dev  take over session:d1 success",
		"change node  topic.create topic:devices success",
		"login User:boss PLAIN connect  failure", "login User:boss PLAIN connect  success",
		"data.produce User:boss  write topic:plant success",
		"login User:sam SCRAM-SHA-256 connect  success", "data.fetch User:sam  read topic:plant success",
		"access.refused User:sam  write topic:plant denied",
		"login User:dev password administer  success", "login User:dev password administer  failure",
		"access.refused User:dev  describe cluster:kafka-cluster denied",
		"access.refused   administer cluster:kafka-cluster denied",
		"change admin.token admin.token session.kick session:d1 success",
		"change User:boss  session.kick session:nobody failure", "change User:boss  retained.clear retained:nothing failure",
	}
	for _, what := range []string{"topic.create topic:plant", "topic.configure topic:plant", "topic.grow topic:plant",
		"topic.delete topic:plant", "offsets.set group:g", "offsets.delete group:g",
		"group.delete group:g", "user.add user:sam", `quotas.set quotas:{"user":"sam"}`,
		"ban.set ban:client d7", "ban.remove ban:client d7"} {
		all = append(all, "change User:boss  "+what+" begun", "change User:boss  "+what+" success")
	}
	return all
}

// verify holds what the audit says against the key of the node.
func (g *guarded) verify(text string) *chain.Fault {
	g.t.Helper()
	var key auditKey
	if err := json.Unmarshal([]byte(g.must("GET", "/audit/key", "")), &key); err != nil {
		g.t.Fatal(err)
	}
	v := chain.Verifier{Key: key.Key}
	for line := range strings.Lines(text) {
		v.Next([]byte(strings.TrimSuffix(line, "\n")))
	}
	return v.End().Fault
}

// spoil wants each record found that is removed, altered or moved, by what the node says of its audit.
func (g *guarded) spoil(text string) {
	g.t.Helper()
	good := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	for i := 1; i < len(good)-2; i++ {
		removed := slices.Delete(slices.Clone(good), i, i+1)
		altered, swapped := slices.Clone(good), slices.Clone(good)
		altered[i] = strings.Replace(altered[i], `"data":{`, `"data":{ `, 1)
		swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
		for what, all := range map[chain.Wrong][]string{chain.Removed: removed, chain.Altered: altered,
			chain.Reordered: swapped} {
			f := g.verify(strings.Join(all, ""))
			if f == nil || f.Wrong != what || f.Sequence != chain.Number(i+1) {
				g.t.Fatalf("record %d was %s: found %v", i+1, what, f)
			}
		}
	}
}

// untouchable wants the audit out of the reach of clients that may do everything.
func (g *guarded) untouchable(boss *kgo.Client) {
	g.t.Helper()
	g.must("POST", "/rules", `[{"effect":"allow","principal":"User:boss","operations":["all"],"kind":"topic",`+
		`"pattern":"literal","name":"`+audit.TopicName+`"}]`)
	ctx := g.t.Context()
	admin := kadm.NewClient(boss)
	err := boss.ProduceSync(ctx, &kgo.Record{Topic: audit.TopicName, Value: []byte("x")}).FirstErr()
	if err == nil {
		g.t.Error("a record was written")
	}
	if got, err := admin.DeleteTopic(ctx, audit.TopicName); err == nil && got.Err == nil {
		g.t.Error("it was deleted")
	}
	got, err := admin.DeleteRecords(ctx, kadm.Offsets{audit.TopicName: {0: {Topic: audit.TopicName, At: 5}}})
	if err == nil && got.Error() == nil {
		g.t.Error("records were deleted")
	}
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms",
		Value: new("1")}}, audit.TopicName)
	if err == nil && altered[0].Err == nil {
		g.t.Error("its retention was altered")
	}
	txn := kmsg.NewPtrAddPartitionsToTxnRequest()
	txn.SetVersion(3)
	txn.TransactionalID, txn.Topics = "t", []kmsg.AddPartitionsToTxnRequestTopic{{Topic: audit.TopicName,
		Partitions: []int32{0}}}
	if resp, err := txn.RequestWith(ctx, boss); err == nil && resp.Topics[0].Partitions[0].ErrorCode == 0 {
		g.t.Error("a transaction took it")
	}
	g.expect("access.refused User:boss  write topic:" + audit.TopicName + " denied")
}
