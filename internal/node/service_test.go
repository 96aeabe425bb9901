package node

import (
	"context"
	"encoding/json"
	"errors"

	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// directory is a service that knows users, each by what it answers to the right password.
type directory struct {
	*httptest.Server
	password func(user string) string
	asked    atomic.Int64
	mu       sync.Mutex
	known    map[string]string
	down     bool
	last     map[string]any
}

func newDirectory(t testing.TB, known map[string]string, password func(user string) string) *directory {
	t.Helper()
	d := &directory{known: known, password: password}
	d.Server = httptest.NewServer(d)
	t.Cleanup(d.Close)
	return d
}

// ServeHTTP implements http.Handler.
func (d *directory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.asked.Add(1)
	var said map[string]any
	_ = json.NewDecoder(r.Body).Decode(&said) // what is none is nobody's
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = said
	answer, is := d.known[fmt.Sprint(said["username"])]
	switch {
	case d.down:
		w.WriteHeader(http.StatusServiceUnavailable)
	case !is:
		_, _ = io.WriteString(w, `{"result":"ignore"}`)
	case said["password"] != d.password(fmt.Sprint(said["username"])):
		w.WriteHeader(http.StatusForbidden)
	default:
		_, _ = io.WriteString(w, answer)
	}
}

func (d *directory) shut(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

func (d *directory) heard() map[string]any {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// served starts a node whose users a service knows; it has one user of its own.
func served(t *testing.T, d *directory, more string) *Node {
	t.Helper()
	c, err := Load(Sources{File: "firth.yaml", Text: fmt.Appendf(nil, "access: { http: { url: %q, cache: 0s%s } }", d.URL,
		more)})
	if err != nil {
		t.Fatal(err)
	}
	ready := local(t)
	ready.Access = c.Access
	n := start(t, ready)
	status, text := request(t, n.Addresses().HTTP, fmt.Sprintf("POST /admin/v1/user?new=true HTTP/1.1\nHost: %s\n"+
		"Connection: close\nContent-Type: application/json\nAuthorization: Bearer %s\nContent-Length: 66\n\n%-66s",
		n.Addresses().HTTP, n.token, `{"name":"own","password":"pass-own","roles":["admin"]}`))
	if status != http.StatusOK {
		t.Fatal(status, text)
	}
	return n
}

// rightPassword is the right password of a user.
func rightPassword(user string) string { return "pass-" + user }

// proofOf is the user name and the password of somebody; one with ! behind its name gives a wrong one.
func proofOf(who string) (user, password string) {
	if user, wrong := strings.CutSuffix(who, "!"); wrong {
		return user, "wrong"
	}
	return who, rightPassword(who)
}

// deviceAs connects; its reason is that of a CONNACK.
func deviceAs(t *testing.T, n *Node, who string, v packet.Version) (*client.Client, packet.ReasonCode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	user, password := proofOf(who)
	c, err := client.Dial(ctx, n.Addresses().MQTT, client.Options{ClientID: "c-" + user, UserName: user,
		Password: []byte(password), Version: v, KeepAlive: -1})
	if err != nil {
		return nil, packet.ReasonOf(err)
	}
	t.Cleanup(c.Abort)
	return c, packet.Success
}

// saslAs logs in over Kafka, by PLAIN, and gives the code of the answer and for how long the session is good.
func saslAs(t *testing.T, n *Node, who string) (code int16, lifetime int64) {
	t.Helper()
	nc, err := net.Dial("tcp", n.Addresses().Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	b := &backEnd{m: &matrix{t: t}, nc: nc}
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Mechanism = "PLAIN"
	b.must(hello, 1)
	login := kmsg.NewPtrSASLAuthenticateRequest()
	user, password := proofOf(who)
	login.SASLAuthBytes = []byte("\x00" + user + "\x00" + password)
	said, _ := b.must(login, 2)
	resp, _ := said.(*kmsg.SASLAuthenticateResponse)
	return resp.ErrorCode, resp.SessionLifetimeMillis
}

// asksHTTP asks for the users as somebody.
func asksHTTP(t *testing.T, n *Node, who string) int {
	t.Helper()
	user, password := proofOf(who)
	at := n.Addresses().HTTP
	status, _ := request(t, at, get("/admin/v1/users", at, basicAuth(user, password)))
	return status
}

// TestLoginService: users whom only the service knows come in by every door, and each door says in its own words who is
// not let in, and that it cannot be found out.
func TestLoginService(t *testing.T) {
	d := newDirectory(t, map[string]string{
		"viewer": `{"result":"allow","roles":["viewer"]}`,
		"short":  `{"result":"allow","expires_in":3600}`,
		"banned": `{"result":"deny"}`,
		"broken": `{"result":"allow","role":"admin"}`,
	}, rightPassword)
	n := served(t, d, "")
	const wrong, away = packet.BadUserNameOrPassword, packet.ServerUnavailable
	for _, one := range []struct {
		user, doors string // few doors where it fails: that makes the next ones from this machine wait
		mqtt        packet.ReasonCode
		kafka       int16
		http        int
	}{
		{"own", "53kh", packet.Success, 0, 200},
		{"viewer", "53kh", packet.Success, 0, 200},
		{"short", "53kh", packet.Success, 0, 403},
		{"broken", "53kh", away, 7, 503},
		{"banned", "5k", wrong, 58, 0},
		{"viewer!", "3h", wrong, 0, 401},
		{"nobody", "5", wrong, 0, 0},
	} {
		for door, version := range map[string]packet.Version{"5": packet.V5, "3": packet.V311} {
			if !strings.Contains(one.doors, door) {
				continue
			}
			if _, got := deviceAs(t, n, one.user, version); got != one.mqtt {
				t.Errorf("%s, MQTT %s: %s, want %s", one.user, door, got, one.mqtt)
			}
		}
		if strings.Contains(one.doors, "k") {
			code, lifetime := saslAs(t, n, one.user)
			if code != one.kafka || (lifetime > 0) != (one.user == "short") || lifetime > 3_600_000 {
				t.Errorf("%s, Kafka: %d for %d ms, want %d", one.user, code, lifetime, one.kafka)
			}
			if heard := d.heard(); one.user != "own" && (heard["protocol"] != "kafka" || heard["listener"] != "kafka" ||
				heard["address"] != "127.0.0.1" || heard["username"] != one.user) {
				t.Errorf("%s: the service heard %v", one.user, heard)
			}
		}
		if strings.Contains(one.doors, "h") {
			if got := asksHTTP(t, n, one.user); got != one.http {
				t.Errorf("%s, HTTP: %d, want %d", one.user, got, one.http)
			}
		}
	}
	shows(t, n.Addresses().HTTP, `firth_access_http_answers_total{result="allow"} 8`,
		`firth_access_http_answers_total{result="bad"} 4`, `firth_access_http_in_flight 0`, `firth_access_http_down 0`)
}

// TestLoginServiceEnds: what the service gives holds for the connection, and ends it when the service said so: in MQTT
// by DISCONNECT, in Kafka when the client has not authenticated again.
func TestLoginServiceEnds(t *testing.T) {
	d := newDirectory(t, map[string]string{
		"hal": `{"result":"allow","roles":["producer"],"rules":[{"effect":"allow","operations":["subscribe"],` +
			`"kind":"topic","pattern":"filter","name":"hal/${clientid}/#"},{"effect":"deny","operations":["write"],` +
			`"kind":"topic","pattern":"literal","name":"closed"}]}`,
	}, rightPassword)
	n := served(t, d, "")
	var c *client.Client
	for seconds := 1; c == nil; seconds *= 2 { // until it is in before it has ended
		d.mu.Lock()
		d.known["soon"] = fmt.Sprintf(`{"result":"allow","expires_in":%d}`, seconds)
		d.mu.Unlock()
		var reason packet.ReasonCode
		if c, reason = deviceAs(t, n, "soon", packet.V5); c == nil && (reason != packet.NotAuthorized || seconds > 60) {
			t.Fatal(reason)
		}
	}
	select {
	case <-c.Done():
	case <-time.After(2 * time.Minute):
		t.Fatal("it goes on")
	}
	if got := packet.ReasonOf(c.Err()); got != packet.NotAuthorized {
		t.Errorf("it ends by %s", got)
	}
	hal, reason := deviceAs(t, n, "hal", packet.V5)
	if reason != packet.Success {
		t.Fatal(reason)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	reasons, err := hal.Subscribe(ctx, packet.Properties{}, packet.Subscription{Filter: []byte("hal/c-hal/x")},
		packet.Subscription{Filter: []byte("hal/other/x")})
	if err != nil || !slices.Equal(reasons, []packet.ReasonCode{packet.Success, packet.NotAuthorized}) {
		t.Errorf("%v, %v", reasons, err)
	}
	k, err := kgo.NewClient(kgo.SeedBrokers(n.Addresses().Kafka), kgo.AllowAutoTopicCreation(),
		kgo.SASL(plain.Auth{User: "hal", Pass: "pass-hal"}.AsMechanism()))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.ProduceSync(ctx, &kgo.Record{Topic: "open", Value: []byte("x")}).FirstErr(); err != nil {
		t.Error(err)
	}
	err = k.ProduceSync(ctx, &kgo.Record{Topic: "closed", Value: []byte("x")}).FirstErr()
	if !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("what the service denies: %v", err)
	}
}

// TestLoginServiceDown: while the service is away, users of the node's own come in, connections stay, and who is not
// let in is told to come again; a client that does so is in when the service is back.
func TestLoginServiceDown(t *testing.T) {
	d := newDirectory(t, map[string]string{"hal": `{"result":"allow","roles":["viewer"]}`}, rightPassword)
	n := served(t, d, "")
	c, reason := deviceAs(t, n, "hal", packet.V5)
	if reason != packet.Success {
		t.Fatal(reason)
	}
	d.shut(true)
	if _, reason := deviceAs(t, n, "hal", packet.V5); reason != packet.ServerUnavailable {
		t.Errorf("MQTT: %s", reason)
	}
	if code, _ := saslAs(t, n, "hal"); code != kerr.RequestTimedOut.Code {
		t.Errorf("Kafka: %d", code)
	}
	if status := asksHTTP(t, n, "hal"); status != http.StatusServiceUnavailable {
		t.Errorf("HTTP: %d", status)
	}
	shows(t, n.Addresses().HTTP, "firth_access_http_down 1")
	asked := d.asked.Load()
	if _, reason := deviceAs(t, n, "own", packet.V5); reason != packet.Success {
		t.Errorf("a user of the node: %s", reason)
	}
	if c.Err() != nil {
		t.Errorf("who is here ends: %v", c.Err())
	}
	if d.asked.Load() != asked {
		t.Error("the service was asked about a user of the node")
	}
	k, err := kgo.NewClient(kgo.SeedBrokers(n.Addresses().Kafka),
		kgo.SASL(plain.Auth{User: "hal", Pass: "pass-hal"}.AsMechanism()))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	in := make(chan error, 1)
	go func() { // it is refused at first, and goes on by itself
		for {
			err := k.Ping(ctx)
			if err == nil || ctx.Err() != nil {
				in <- err
				return
			}
		}
	}()
	d.shut(false)
	if err := <-in; err != nil {
		t.Errorf("it does not come in: %v", err)
	}
	shows(t, n.Addresses().HTTP, "firth_access_http_down 0")
}

// TestLoginServiceOfTheManual runs the service that docs/access.md shows, and logs in with what it knows.
func TestLoginServiceOfTheManual(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3")
	}
	page, err := os.ReadFile("../../docs/access.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```python\n")
	text, _, _ = strings.Cut(text, "```")
	const serve = `ThreadingHTTPServer(("127.0.0.1", 8181), Firth).serve_forever()`
	if !strings.Contains(text, serve) || strings.Count(text, "\n") > 25 {
		t.Fatalf("it is not where it was, or grew:\n%s", text)
	}
	text = strings.Replace(text, serve, `server = ThreadingHTTPServer(("127.0.0.1", 0), Firth)
print(server.server_port, flush=True)
server.serve_forever()`, 1)
	service := exec.Command(python, "-c", text)
	out, err := service.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = service.Process.Kill()
		_ = service.Wait()
	})
	var port int
	if _, err := fmt.Fscan(out, &port); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Sources{File: "firth.yaml", Text: fmt.Appendf(nil,
		"access: { http: { url: \"http://127.0.0.1:%d/\", timeout: 1m } }", port)})
	if err != nil {
		t.Fatal(err)
	}
	ready := local(t)
	ready.Access, ready.Limits.ConnectTimeout = c.Access, time.Minute
	n := start(t, ready)
	for _, one := range []struct {
		user, password, topic string
		login, publish        packet.ReasonCode
	}{
		{"meter-17", "a-long-secret", "devices/meter-17/power", packet.Success, packet.Success},
		{"meter-17", "a-long-secret", "devices/meter-18/power", packet.Success, packet.NotAuthorized},
		{"meter-17", "another-secret", "", packet.BadUserNameOrPassword, 0},
		{"nobody", "a-long-secret", "", packet.BadUserNameOrPassword, 0},
		{"report", "another-secret", "devices/meter-17/power", packet.Success, packet.NotAuthorized},
	} {
		acked := make(chan packet.ReasonCode, 1)
		m, err := client.Dial(t.Context(), n.Addresses().MQTT, client.Options{ClientID: one.user, UserName: one.user,
			Password: []byte(one.password), OnAck: func(_ uint64, reason packet.ReasonCode, _ error) { acked <- reason }})
		if err != nil {
			if packet.ReasonOf(err) != one.login {
				t.Errorf("%s with %s: %v", one.user, one.password, err)
			}
			continue
		}
		err = m.Publish(&packet.Publish{Topic: []byte(one.topic), Payload: []byte("230"), QoS: 1}, 0)
		if got := <-acked; err != nil || got != one.publish && (got.Failed() || one.publish.Failed()) ||
			one.login.Failed() {
			t.Errorf("%s publishes to %s: %s, %v", one.user, one.topic, got, err)
		}
		m.Abort()
	}
}

// TestServiceOptions: what is wrong with access.http is told with its place.
func TestServiceOptions(t *testing.T) {
	for text, want := range map[string]string{
		`url: "id.example.org"`:                   `firth.yaml:3:10: access.http.url: id.example.org is no address such as`,
		`url: "https://u:canary@id.example.org/"`: `firth.yaml:3:10: access.http.url: the address of id.example.org holds`,
		`url: "http://id.example.org/firth"`:      `firth.yaml:3:10: access.http.url: http://id.example.org/firth is not`,
		`url: "ftp://id.example.org/"`:            `is no address such as`,
		`token_file: /etc/t`:                      `firth.yaml:3:17: access.http.token_file: there is no access.http.url`,
		`{url: "https://a/", certificate: c}`:     `access.http.certificate: it needs access.http.key`,
		`{url: "https://a/", key: c}`:             `access.http.key: it needs access.http.certificate`,
		`{url: "https://a/", timeout: 2h}`:        `access.http.timeout: 2h is out of range`,
		`{url: "https://a/", in_flight: 0}`:       `access.http.in_flight: 0 is out of range`,
		`{url: "https://a/", tokenfile: c}`:       `unknown key "tokenfile" under access.http (did you mean "token_file"?)`,
		`url: "http://127.0.0.1:1/"`:              "",
		`{url: "http://a/", without_tls: true}`:   "",
		`{url: "https://a/?b=c", certificate: c, key: k, ca: d, token_file: e, cache: 1h}`: "",
	} {
		_, err := Load(Sources{File: "firth.yaml", Text: []byte("access:\n  http:\n    " + text + "\n")})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) ||
			err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestLoginServiceStorm: a thousand devices whose service takes its time keep nobody waiting who is there: a device and
// a back end go on while not one of them is in.
func TestLoginServiceStorm(t *testing.T) {
	let := make(chan struct{})
	var asked atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-let:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(web.Close)
	d := &directory{Server: web}
	n := served(t, d, ", timeout: 1m, in_flight: 4")
	live, reason := deviceAs(t, n, "own", packet.V5)
	if reason != packet.Success {
		t.Fatal(reason)
	}
	const devices, messages = 1000, 500
	var storm sync.WaitGroup
	var in atomic.Int64
	for i := range devices {
		storm.Go(func() {
			c, err := client.Dial(t.Context(), n.Addresses().MQTT, client.Options{ClientID: fmt.Sprint("d", i),
				UserName: fmt.Sprint("d", i), Password: []byte("x"), KeepAlive: -1})
			if err == nil {
				in.Add(1)
				c.Abort()
			}
		})
	}
	until(t, "the service is not asked", func() bool { return asked.Load() == 4 })
	begun := time.Now()
	for i := range messages {
		if err := live.Publish(&packet.Publish{Topic: []byte("a/b"), Payload: []byte("x"), QoS: 1}, uint64(i)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := live.Drain(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	took := time.Since(begun)
	if code, _ := saslAs(t, n, "own"); code != 0 {
		t.Errorf("Kafka: %d", code)
	}
	if in.Load() != 0 {
		t.Errorf("%d are in", in.Load())
	}
	close(let)
	storm.Wait()
	t.Logf("%d messages one by one in %s beside %d logins that wait; %d came in", messages, took, devices, in.Load())
}
