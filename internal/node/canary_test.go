package node

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/firthmq/firth/internal/access/oidc/oidctest"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// secretOptions are the options that have to do with secrets, by their place in Config. Those with a file hold the path
// of one: what is in it is a canary. A new option with such a name fails TestSecretOptions until it is judged here, and
// one that holds a secret itself is to be driven by TestCanaries.
var secretOptions = map[string]string{
	"TLS.Key":               "file",
	"Listeners.TLS.Key":     "file",
	"Access.JWT.Secret":     "file",
	"Access.OIDC.Secret":    "file",
	"Access.HTTP.TokenFile": "file", "Access.HTTP.Key": "file",
	"Access.JWT.Keys": "public keys", "Access.JWT.KeysURL": "public keys, and no user or password in it",
	"Log.Kafka.TLS.Key": "file", "Log.Kafka.SASL.PasswordFile": "file", "Log.Kafka.SASL.TokenFile": "file",
	"TLS.ClientAuth": "no secret", "Listeners.TLS.ClientAuth": "no secret",
	"Encryption.KeyFile": "file", "Encryption.KeyEnv": "name of a variable",
	"Mapping.Key":         "keys of records",
	"Webhooks.SecretFile": "file", "Bridges.PasswordFile": "file", "Bridges.TLS.Key": "file",
}

// TestSecretOptions wants every option judged that might hold a secret, and none that is gone.
func TestSecretOptions(t *testing.T) {
	suspect := regexp.MustCompile(`(?i)(password|passphrase|passwd|secret|token|credential|auth$|key|private|pin$)`)
	found := map[string]bool{}
	var walk func(at string, is reflect.Type)
	walk = func(at string, is reflect.Type) {
		for is.Kind() == reflect.Slice || is.Kind() == reflect.Pointer {
			is = is.Elem()
		}
		if is.Kind() != reflect.Struct || !strings.HasPrefix(is.PkgPath(), "github.com/firthmq/firth/internal/") {
			return
		}
		for f := range is.Fields() {
			place := strings.TrimPrefix(at+"."+f.Name, ".")
			kind := f.Type.Kind()
			holds := kind == reflect.String || kind == reflect.Slice && f.Type.Elem().Kind() != reflect.Struct ||
				kind == reflect.Map
			if f.IsExported() && holds && suspect.MatchString(f.Name) {
				if found[place] = true; secretOptions[place] == "" {
					t.Errorf("%s may hold a secret: judge it in secretOptions", place)
				}
			}
			if f.IsExported() {
				walk(place, f.Type)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	for place := range secretOptions {
		if !found[place] {
			t.Errorf("%s is gone", place)
		}
	}
}

// canaries are values that stand in one secret each, by what they are.
type canaries map[string]string

// sing makes a canary.
func (c canaries) sing(what string) string {
	var chance [24]byte
	rand.Read(chance[:]) // never fails
	c[what] = "CANARY" + hex.EncodeToString(chance[:])
	return c[what]
}

// forms are how a canary may look: as it is, in hexadecimal, and in base64 wherever it begins.
func forms(canary string) (all []string) {
	all = append(all, canary, hex.EncodeToString([]byte(canary)))
	for skip := range 3 {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, skip), canary...))
		cut := text[(skip*8+5)/6 : len(canary)*8/6-2] // what none of its neighbours changes
		all = append(all, cut, strings.NewReplacer("+", "-", "/", "_").Replace(cut))
	}
	return all
}

// in names the canaries that a text holds, of what is not let.
func (c canaries) in(text []byte, let ...string) (found []string) {
next:
	for what, canary := range c {
		for _, allowed := range let {
			if what == allowed {
				continue next
			}
		}
		for _, form := range forms(canary) {
			if bytes.Contains(text, []byte(form)) {
				found = append(found, what)
				continue next
			}
		}
	}
	return found
}

// canaryFolder is set for the process that TestCanaries searches.
const canaryFolder = "FIRTH_CANARIES"

// TestCanariesChild is the node that TestCanaries searches, in a process of its own.
func TestCanariesChild(t *testing.T) {
	folder := os.Getenv(canaryFolder)
	if folder == "" {
		t.Skip("it is for TestCanaries")
	}
	text, err := os.ReadFile(filepath.Join(folder, "firth.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	err = Run(context.Background(), Process{Load: func() (*Config, error) {
		return Load(Sources{File: "firth.yaml", Text: text})
	}, Out: os.Stdout, Err: os.Stderr, JSON: true, ReadyFile: filepath.Join(folder, "ready.json")})
	if err != nil {
		t.Fatal(err)
	}
}

// aviary is a node in another process, whose every secret is a canary.
type aviary struct {
	t      *testing.T
	c      canaries
	folder string
	yaml   string
	said   bytes.Buffer // by the process
	errs   bytes.Buffer // to clients
	child  *exec.Cmd
	ready  Ready
	id     *oidctest.Provider
}

// breed writes the configuration, and the files that it names.
func breed(t *testing.T) *aviary {
	t.Helper()
	a := &aviary{t: t, c: canaries{}, folder: t.TempDir()}
	ca := securetest.NewCA(t, "canaries")
	cert, key := ca.Server("localhost").Write(t, a.folder, "server")
	text, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	a.c["key of TLS"] = strings.Split(string(text), "\n")[2][:40] // what all keys of a kind begin with says nothing
	secret := securetest.Write(t, a.folder, "jwt.secret", []byte(a.c.sing("secret of JWT")))
	a.id = oidctest.New(t)
	a.id.Secret = a.c.sing("secret of OIDC")
	oidc := securetest.Write(t, a.folder, "oidc.secret", []byte(a.id.Secret))
	token := securetest.Write(t, a.folder, "service.token", []byte(a.c.sing("token for the service")))
	service := httptest.NewServer(http.HandlerFunc(a.serveLogins))
	t.Cleanup(service.Close)
	a.yaml = fmt.Sprintf(`data: %q
listen: { mqtt: "127.0.0.1:0", ws: "127.0.0.1:0", kafka: "127.0.0.1:0", http: "127.0.0.1:0", mqtts: "127.0.0.1:0" }
tls: { certificate: %q, key: %q }
access:
  damaged: accept
  jwt: [{ issuer: aviary, audience: firth, secret: %q, roles: roles }]
  oidc: { issuer: %q, client_id: firth, client_secret_file: %q, roles: [ops=admin], groups_claim: groups }
  http: { url: %q, token_file: %q, cache: 1h }
http: { public_url: "http://localhost:8080" }
audit: { data: "*" }
log: { level: debug }
profiles: true
`, filepath.Join(a.folder, "data"), cert, key, secret, a.id.URL, oidc,
		service.URL, token)
	securetest.Write(t, a.folder, "firth.yaml", []byte(a.yaml))
	return a
}

// serveLogins is the service that knows users: what it knows of some of them is how to fail.
func (a *aviary) serveLogins(w http.ResponseWriter, r *http.Request) {
	var said struct{ Username, Password string }
	text, _ := io.ReadAll(r.Body)
	switch _ = json.Unmarshal(text, &said); said.Username {
	case "guest":
		_, _ = io.WriteString(w, `{"result":"allow","roles":["admin"]}`)
	case "echoed":
		_, _ = w.Write(text)
	case "answered":
		_, _ = fmt.Fprintf(w, `{"result":%q}`, said.Password)
	case "named":
		_, _ = fmt.Fprintf(w, `{"result":"allow","roles":[%q,""]}`, said.Password)
	case "failed":
		http.Error(w, said.Password, http.StatusInternalServerError)
	case "sent":
		http.Redirect(w, r, "/"+said.Password, http.StatusFound)
	case "denied":
		http.Error(w, said.Password, http.StatusForbidden)
	case "missed":
		http.Error(w, r.Header.Get("Authorization"), http.StatusServiceUnavailable)
	default:
		_, _ = io.WriteString(w, `{"result":"ignore"}`)
	}
}

// flyService logs in by every door as users whom only the service knows, or does not.
func (a *aviary) flyService() {
	a.t.Helper()
	for _, user := range []string{"guest", "echoed", "answered", "named", "failed", "sent", "missed"} {
		password := a.c.sing("password of " + user + " for the service")
		a.http("GET", "/admin/v1/users", basicAuth(user, password), "", false)
		m, err := client.Dial(a.t.Context(), a.ready.Addresses.MQTT, client.Options{ClientID: "s" + user, UserName: user,
			Password: []byte(password)})
		if a.tell(err); err == nil {
			m.Abort()
		}
		k, err := kgo.NewClient(kgo.SeedBrokers(a.ready.Addresses.Kafka), kgo.RequestRetries(0),
			kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()))
		if err != nil {
			a.t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(a.t.Context(), time.Second)
		a.tell(k.Ping(ctx))
		cancel()
		k.Close()
	}
	a.http("GET", "/admin/v1/users", basicAuth("denied", a.c.sing("password of denied for the service")), "", false)
}

// hatch starts the process; false: it does not start.
func (a *aviary) hatch() bool {
	a.t.Helper()
	ready := filepath.Join(a.folder, "ready.json")
	if err := os.Remove(ready); err != nil && !os.IsNotExist(err) {
		a.t.Fatal(err)
	}
	a.child = exec.Command(os.Args[0], "-test.run=^TestCanariesChild$", "-test.timeout=30m")
	a.child.Env = append(os.Environ(), canaryFolder+"="+a.folder)
	a.child.Stdout, a.child.Stderr = &a.said, &a.said
	if err := a.child.Start(); err != nil {
		a.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.child.Wait() }()
	a.t.Cleanup(func() { _ = a.child.Process.Kill() })
	for limit := time.Now().Add(2 * time.Minute); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(ready); err == nil && json.Unmarshal(text, &a.ready) == nil {
			a.child.Cancel = func() error { <-ended; return nil }
			return true
		}
		select {
		case <-ended:
			return false
		default:
		}
	}
	a.t.Fatalf("it did not start:\n%s", a.said.String())
	return false
}

// end sends a signal, and waits until the process has ended.
func (a *aviary) end(by syscall.Signal) {
	a.t.Helper()
	if err := a.child.Process.Signal(by); err != nil {
		a.t.Fatal(err)
	}
	_ = a.child.Cancel() // it waits
}

// tell keeps what a client was told.
func (a *aviary) tell(err error) {
	if err != nil {
		fmt.Fprintln(&a.errs, err)
	}
}

// http asks, and keeps the answer with what clients were told, unless it is let.
func (a *aviary) http(method, path, auth, body string, let bool) string {
	a.t.Helper()
	at := a.ready.Addresses.HTTP
	_, text := request(a.t, at, fmt.Sprintf("%s %s HTTP/1.1\nHost: %s\nConnection: close\n"+
		"Content-Type: application/json\nContent-Length: %d\n%s\n%s", method, path, at, len(body), auth, body))
	if !let {
		a.errs.WriteString(text)
	}
	return text
}

// jwt signs a token with the secret that is configured.
func (a *aviary) jwt(claims string) string {
	enc := base64.RawURLEncoding.EncodeToString
	text := enc([]byte(`{"alg":"HS256"}`)) + "." + enc([]byte(claims))
	mac := hmac.New(sha256.New, []byte(a.c["secret of JWT"]))
	mac.Write([]byte(text))
	return text + "." + enc(mac.Sum(nil))
}

// fly uses every secret, rightly and wrongly, in every way in.
func (a *aviary) fly() {
	t, c := a.t, a.c
	t.Helper()
	token, err := os.ReadFile(filepath.Join(a.folder, "data", TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	c["admin token"] = strings.TrimSpace(string(token))
	bearer := func(s string) string { return "Authorization: Bearer " + s + "\n" }
	by := bearer(c["admin token"])
	a.flyService() // before those that fail, which make the next ones wait
	for _, user := range []string{"boss", "dev"} {
		a.http("POST", "/admin/v1/user?new=true", by, fmt.Sprintf(`{"name":%q,"password":%q,"roles":["admin"]}`, user,
			c.sing("password of "+user)), false)
	}
	a.http("POST", "/admin/v1/user", by, fmt.Sprintf(`{"name":"nobody","password":%q}`, c.sing("password of nobody")),
		false)
	a.http("POST", "/admin/v1/user?new=true", by, fmt.Sprintf(`{"name":"x","pass":%q}`, c.sing("unknown field")), false)
	a.http("POST", "/admin/v1/user?new=true", by, fmt.Sprintf(`{"name":"x","password":%q`, c.sing("broken JSON")),
		false)
	a.http("GET", "/admin/v1/users", basicAuth("boss", c.sing("wrong password by HTTP")), "", false)
	a.http("GET", "/admin/v1/users", basicAuth("boss", c["password of boss"]), "", false)
	a.http("GET", "/admin/v1/users", bearer(c.sing("wrong token by HTTP")), "", false)
	a.http("GET", "/admin/v1/users", "Authorization: "+c.sing("no scheme")+"\n", "", false)
	good := a.jwt(fmt.Sprintf(`{"iss":"aviary","aud":"firth","sub":"jay","exp":%d,"roles":"admin"}`,
		time.Now().Add(time.Hour).Unix()))
	old := a.jwt(`{"iss":"aviary","aud":"firth","sub":"jay","exp":1}`)
	c["good JWT"], c["old JWT"] = good[len(good)-40:], old[len(old)-40:]
	a.http("GET", "/admin/v1/users", bearer(good), "", false)
	a.http("GET", "/admin/v1/users", bearer(old), "", false)
	a.http("POST", "/admin/v1/authority?name=a", by, "", false)
	var claim struct{ Token string }
	_ = json.Unmarshal([]byte(a.http("POST", "/admin/v1/claim", by, `{"name":"pump","uses":2,"for":"1h"}`, true)), &claim)
	if claim.Token != "" {
		c["token of a claim"] = claim.Token
	}
	c.sing("payload")
	a.flyAPI(by)
	a.flyPeople()
	a.flyMQTT(good, old)
	a.flyKafka(good, old)
}

// flyAPI gives secrets to the API, rightly and wrongly, and looks at all that it tells of the cluster.
func (a *aviary) flyAPI(by string) {
	a.t.Helper()
	users, one := api.Path+"/users", by+"If-Match: *\n"
	a.http("POST", users, by, fmt.Sprintf(`{"name":"api","password":%q}`, a.c.sing("password by the API")), false)
	a.http("POST", users, by, fmt.Sprintf(`{"name":"api","password":%q}`, a.c.sing("password of who is there")), false)
	a.http("POST", users, by, fmt.Sprintf(`{"name":"x","pass":%q}`, a.c.sing("unknown field of the API")), false)
	a.http("PATCH", users+"/api", one, fmt.Sprintf(`{"password":%q`, a.c.sing("broken JSON of the API")), false)
	a.http("PATCH", users+"/api", one, fmt.Sprintf(`{"password":%q}`, a.c.sing("second password by the API")), false)
	a.http("PATCH", users+"/api", by, fmt.Sprintf(`{"password":%q}`, a.c.sing("password of no condition")), false)
	made := func(what, path, body, field string) {
		a.t.Helper()
		text := a.http("POST", api.Path+path, by, body, true)
		var said map[string]any
		if _ = json.Unmarshal([]byte(text), &said); said[field] == nil {
			a.t.Errorf("%s: %s", path, text)
			return
		}
		a.c[what], _ = said[field].(string)
	}
	made("password that the API made", "/users", fmt.Sprintf(`{"name":"made%d","generate":true}`, len(a.c)),
		"password")
	made("token that the API made", "/tokens", `{"owner":"api","expires":"1h"}`, "token")
	a.flyRoutes(by)
}

// flyRoutes asks every route of the API, rightly as far as it takes nothing away, with what no one may say, and with a
// token that is none. What it tells of messages, which may be in it, is let.
func (a *aviary) flyRoutes(by string) {
	a.t.Helper()
	a.http("POST", api.Path+"/names/a%2Fb/messages", by, fmt.Sprintf(`{"payload":{"text":%q},"retain":true}`,
		a.c["payload"]), false)
	a.http("POST", api.Path+"/topics/a/records", by, fmt.Sprintf(`{"records":[{"value":{"text":%q}}]}`, a.c["payload"]),
		false)
	wrong := "Authorization: Bearer " + a.c.sing("wrong token for the API") + "\n"
	for _, line := range api.Lines() {
		path := strings.NewReplacer("{user}", "api", "{role}", "admin", "{topic}", "a", "{name}", "a%2Fb", "{filter}",
			"a%2F%23", "{client}", "mboss", "{group}", "g", "{kind}", "client").Replace(line.Path)
		shows := line.On == rule.Topic && line.Method == http.MethodGet
		switch {
		case line.Flows:
			a.flow(path, by)
		case line.Method == http.MethodGet:
			a.http("GET", path, by, "", shows)
		default: // what it says is none of what is taken
			a.http(line.Method, path, by, fmt.Sprintf(`{"none":%q}`, a.c.sing("unknown field for "+line.Method+" "+line.Path)),
				false)
		}
		a.http(line.Method, path, wrong, "", false)
	}
}

// flow follows a filter up to the first message.
func (a *aviary) flow(path, by string) {
	a.t.Helper()
	b := &browser{t: a.t, at: a.ready.Addresses.HTTP, cookies: map[string]*http.Cookie{}}
	answer := b.open(http.MethodGet, path, "", strings.TrimSpace(by))
	defer answer.Body.Close()
	s := &eventStream{a.t, answer.Body, bufio.NewReader(answer.Body)}
	_, _, data := s.next()
	if !strings.Contains(data, a.c["payload"]) {
		a.t.Errorf("%s: %q", path, data)
	}
	for what := range a.c {
		if what != "payload" && strings.Contains(data, a.c[what]) {
			a.t.Errorf("%s: %s", path, what)
		}
	}
}

func (a *aviary) flyMQTT(good, old string) {
	t, c := a.t, a.c
	t.Helper()
	payload := []byte(c["payload"])
	for user, password := range map[string]string{"boss": c["password of boss"], "dev": c.sing("wrong password by MQTT"),
		"": c.sing("password without a user"), "jay": good, "old": old} {
		will := &packet.Will{Topic: []byte("will"), Payload: []byte(c.sing("payload of a will"))}
		m, err := client.Dial(t.Context(), a.ready.Addresses.MQTT, client.Options{ClientID: "m" + user, UserName: user,
			Password: []byte(password), Will: will})
		if a.tell(err); err != nil {
			continue
		}
		a.tell(m.Publish(&packet.Publish{Topic: []byte("a/b"), QoS: 1, Retain: true, Payload: payload}, 0))
		a.tell(m.Publish(&packet.Publish{Topic: []byte("$SYS/x"), QoS: 1, Payload: payload}, 0))
		m.Flush()
		a.tell(m.Drain(t.Context()))
		m.Abort()
	}
	for method, data := range map[string]string{"SCRAM-SHA-256": "n,,n=boss,r=" + c.sing("AUTH data"),
		"OAUTHBEARER": "n,,\x01auth=Bearer " + c.sing("AUTH token") + "\x01\x01", "unknown": c.sing("AUTH of no method")} {
		var props packet.Properties
		props.SetAuthMethod([]byte(method))
		props.SetAuthData([]byte(data))
		m, err := client.Dial(t.Context(), a.ready.Addresses.MQTT, client.Options{ClientID: "auth", Props: props})
		if a.tell(err); err == nil {
			m.Abort()
		}
	}
	if nc, err := net.Dial("tcp", a.ready.Addresses.MQTT); err == nil { // a CONNECT that is cut off, and one that is none
		_, _ = nc.Write([]byte("\x10\x50\x00\x04MQTT\x05\xc2\x00\x3c\x00\x00\x01a\x00\x04boss\x00\xff" +
			c.sing("password in a broken CONNECT")))
		_ = nc.Close()
	}
}

func (a *aviary) flyKafka(good, old string) {
	t, c := a.t, a.c
	t.Helper()
	boss := c["password of boss"]
	for i, m := range []sasl.Mechanism{
		plain.Auth{User: "boss", Pass: boss}.AsMechanism(),
		scram.Auth{User: "boss", Pass: boss}.AsSha256Mechanism(),
		oauth.Auth{Token: good}.AsMechanism(),
		plain.Auth{User: "boss", Pass: c.sing("wrong password by PLAIN")}.AsMechanism(),
		plain.Auth{User: c.sing("no name, and too long") + strings.Repeat("x", 2000), Pass: "x"}.AsMechanism(),
		scram.Auth{User: "boss", Pass: c.sing("wrong password by SCRAM")}.AsSha512Mechanism(),
		oauth.Auth{Token: old}.AsMechanism(),
		oauth.Auth{Token: c.sing("wrong token by OAUTHBEARER")}.AsMechanism(),
	} {
		k, err := kgo.NewClient(kgo.SeedBrokers(a.ready.Addresses.Kafka), kgo.SASL(m), kgo.RequestRetries(0))
		if err != nil {
			t.Fatal(err)
		}
		patience := 20 * time.Second
		if i > 2 { // it is refused, and tries again
			patience = time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		a.tell(k.Ping(ctx))
		admin := kadm.NewClient(k)
		_, err = admin.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{{User: "sam", Mechanism: kadm.ScramSha256,
			Iterations: 4096, Password: c.sing("password by AlterUserScramCredentials")}})
		a.tell(err)
		a.tell(k.ProduceSync(ctx, &kgo.Record{Topic: "plant", Value: []byte(c["payload"])}).FirstErr())
		if i == 1 {
			a.flyDelegation(k)
		}
		cancel()
		k.Close()
	}
	delete(c, "no name, and too long") // a name is no secret
}

// flyPeople logs in with a browser, rightly and wrongly, and uses the session.
func (a *aviary) flyPeople() {
	a.t.Helper()
	b := &browser{t: a.t, at: a.ready.Addresses.HTTP, cookies: map[string]*http.Cookie{}}
	for user, password := range map[string]string{"boss": a.c.sing("wrong password by a form"),
		a.c.sing("no name but a password") + strings.Repeat("x", 2000): "x"} {
		_, said := b.login(user, password)
		a.errs.WriteString(said)
	}
	delete(a.c, "no name but a password") // a name is no secret
	_, said := b.do("POST", "/auth/login", `{"name":"boss","password":"`+a.c.sing("password in broken JSON"))
	a.errs.WriteString(said)
	if status, said := b.login("boss", a.c["password of boss"]); status != 200 {
		a.t.Errorf("nobody logs in: %d %s", status, said)
		return
	}
	a.c["cookie"], a.c["token of a session"] = b.cookies["firth_session"].Value, b.csrf
	for _, ask := range [][2]string{{"GET", "/admin/v1/users"}, {"GET", "/admin/v1/logins"}, {"DELETE", "/admin/v1/user"},
		{"POST", "/auth/logout"}, {"GET", "/admin/v1/users"}} {
		_, said := b.do(ask[0], ask[1], "")
		a.errs.WriteString(said)
	}
	a.flyOIDC(b)
	b.cookies["firth_session"] = &http.Cookie{Name: "firth_session", Value: a.c.sing("a cookie that is none")}
	_, said = b.do("POST", "/auth/logout", "", "X-CSRF-Token: "+a.c.sing("a token that is none"))
	a.errs.WriteString(said)
}

// flyOIDC logs in at the identity provider, rightly and wrongly.
func (a *aviary) flyOIDC(b *browser) {
	a.t.Helper()
	a.id.Set(func() {
		a.id.Claims = func(c map[string]any) { c["groups"] = "ops" }
		a.id.Told = func(what, secret string) { a.c[what] = secret[max(len(secret)-40, 0):] }
	})
	for what, change := range map[string]func(url.Values){
		"with a code that is none":    func(q url.Values) { q.Set("code", a.c.sing("a code that is none")) },
		"with a state that is none":   func(q url.Values) { q.Set("state", a.c.sing("a state that is none")) },
		"with a session that is none": func(url.Values) { b.cookies["firth_login"].Value = a.c.sing("a flow that is none") },
		"rightly":                     func(url.Values) { a.c["flow"] = b.cookies["firth_login"].Value },
	} {
		delete(b.cookies, "firth_session")
		status, said := b.arrive(a.id, "/", change)
		if a.errs.WriteString(said); (status == http.StatusOK) != (what == "rightly") {
			a.t.Errorf("%s: %d %s", what, status, said)
		}
		if c := b.cookies["firth_session"]; c != nil {
			a.c["cookie by OIDC"], a.c["token by OIDC"] = c.Value, b.standing().CSRF
			_, said = b.do("GET", "/admin/v1/logins", "")
			a.errs.WriteString(said)
		}
	}
}

// flyDelegation gets a delegation token, and shows it rightly and wrongly.
func (a *aviary) flyDelegation(by *kgo.Client) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	made, err := kmsg.NewPtrCreateDelegationTokenRequest().RequestWith(ctx, by)
	a.tell(err)
	if err != nil || made.ErrorCode != 0 {
		a.t.Errorf("no delegation token: %+v, %v", made, err)
		return
	}
	mac := base64.StdEncoding.EncodeToString(made.HMAC)
	a.c["HMAC of a delegation token"] = mac
	for id, patience := range map[string]time.Duration{made.TokenID: time.Minute, "another": time.Second} {
		m := scram.Auth{User: id, Pass: mac, IsToken: true}.AsSha512Mechanism()
		k, err := kgo.NewClient(kgo.SeedBrokers(a.ready.Addresses.Kafka), kgo.SASL(m), kgo.RequestRetries(0))
		if err != nil {
			a.t.Fatal(err)
		}
		login, cancel := context.WithTimeout(ctx, patience)
		a.tell(k.Ping(login))
		cancel()
		k.Close()
	}
	renew := kmsg.NewPtrRenewDelegationTokenRequest()
	renew.HMAC = made.HMAC
	_, err = renew.RequestWith(ctx, by)
	a.tell(err)
}

// look takes what people may see of a node.
func (a *aviary) look() map[string]string {
	a.t.Helper()
	seen := map[string]string{}
	auth := "Authorization: Bearer " + a.c["admin token"] + "\n"
	for _, path := range []string{"/", "/healthz", "/readyz?verbose", "/metrics", "/debug/pprof/goroutine?debug=2",
		"/debug/pprof/cmdline", "/admin/v1/users", "/admin/v1/sessions", "/admin/v1/session?client=mboss",
		"/admin/v1/events?client=mboss", "/admin/v1/events?client=mdev", "/admin/v1/retained", "/admin/v1/slow",
		"/admin/v1/shares", "/admin/v1/bans", "/admin/v1/rules", "/admin/v1/roles", "/admin/v1/authority",
		"/admin/v1/certificates", "/admin/v1/claims", "/admin/v1/keys", "/admin/v1/audit", "/admin/v1/audit/key",
		"/admin/v1/logins", "/auth/session", "/api/v1/topics?internal=true", "/api/v1/config", "/api/v1/health",
		"/api/v1/topics/__firth_sessions/records", "/api/v1/topics/__firth_access/records",
		"/api/v1/sessions", "/api/v1/sessions/mboss", "/api/v1/groups"} {
		seen[path] = a.http("GET", path, auth, "", true)
	}
	return seen
}

// diagnose searches what firth diagnose gathers. That it is found where it would be, the line of a log shows.
func (a *aviary) diagnose() {
	a.t.Helper()
	b := &browser{t: a.t, at: a.ready.Addresses.HTTP, cookies: map[string]*http.Cookie{}}
	answer := b.open(http.MethodPost, "/admin/v1/diagnose?profile=100ms&check=1m", "{}",
		"Authorization: Bearer "+a.c["admin token"], "Content-Type: application/json")
	defer answer.Body.Close()
	var names []string
	in := tar.NewReader(answer.Body)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		var text []byte
		if err == nil {
			text, err = io.ReadAll(in)
		}
		if err != nil {
			a.t.Fatalf("behind %q: %v", names, err)
		}
		if strings.HasSuffix(h.Name, ".pprof") {
			packed, err := gzip.NewReader(bytes.NewReader(text))
			if err == nil {
				text, err = io.ReadAll(packed)
			}
			if err != nil {
				a.t.Errorf("%s: %v", h.Name, err)
			}
		}
		names = append(names, h.Name)
		a.search("diagnose: "+h.Name, text)
		for part, want := range map[string]string{"log.txt": "level=DEBUG", "config.yaml": "client_secret_file",
			"files.txt": TokenFile, "check.json": `"done":true`, "health.txt": "log: ok", "metrics.txt": "firth_log_topics"} {
			if part == h.Name && !bytes.Contains(text, []byte(want)) {
				a.t.Errorf("diagnose: %s has no %s: %.300s", part, want, text)
			}
		}
	}
	want := []string{"version.json", "health.txt", "config.yaml", "metrics.txt", "hour.json", "log.txt", "files.txt",
		"goroutines.txt", "heap.pprof", "cpu.pprof", "check.json"}
	if !slices.Equal(names, want) {
		a.t.Errorf("diagnose: %q, want %q", names, want)
	}
}

// TestCanaries puts a value of its own into every secret there is, uses each rightly and wrongly, damages the disk, and
// searches what comes out: log lines at level debug, metrics, profiles, all that administrators are answered, the
// audit, what clients are told, the configuration as it is printed, the dump of a process that ends by SIGQUIT, and the
// data folder.
func TestCanaries(t *testing.T) {
	a := breed(t)
	if !a.hatch() {
		t.Fatalf("it did not start:\n%s", a.said.String())
	}
	a.fly()
	limit := time.Now().Add(time.Minute)
	for !strings.Contains(a.http("GET", "/admin/v1/audit", "Authorization: Bearer "+a.c["admin token"]+"\n", "", true),
		`"method":"OAUTHBEARER"`) && time.Now().Before(limit) {
		time.Sleep(20 * time.Millisecond)
	}
	for where, text := range a.look() {
		a.search(where, []byte(text))
	}
	a.diagnose()
	a.end(syscall.SIGQUIT)
	if !strings.Contains(a.said.String(), "goroutine 1") || !strings.Contains(a.said.String(), "level=DEBUG") {
		t.Error("there is no dump, or no line of level debug")
	}
	a.searchFolder(false)
	a.damage()
	key, err := atrest.Generate()
	if err != nil {
		t.Fatal(err)
	}
	a.c["key of what is stored"] = key
	keys := securetest.Write(t, a.folder, "keys", []byte(key+"\n"))
	a.yaml += fmt.Sprintf("encryption: { key_file: %q }\n", keys)
	securetest.Write(t, a.folder, "firth.yaml", []byte(a.yaml))
	if !a.hatch() {
		t.Errorf("it does not start with damage that is accepted:\n%s", a.said.String())
	} else {
		a.fly()
		a.http("POST", "/admin/v1/rotate", "Authorization: Bearer "+a.c["admin token"]+"\n", "", false)
		for where, text := range a.look() {
			a.search(where, []byte(text))
		}
		a.end(syscall.SIGTERM)
	}
	securetest.Write(t, a.folder, "keys", []byte(a.c.sing("a key that is none")+"\n"))
	securetest.Write(t, a.folder, "server.key", []byte(a.c.sing("a key of TLS that is none")+"\n"))
	if a.hatch() {
		t.Error("it starts with a key that is none")
	}
	a.searchFolder(true)
	a.search("what the process says", a.said.Bytes())
	a.search("what clients are told", a.errs.Bytes())
	a.searchConfig()
}

// search wants no canary in a text.
func (a *aviary) search(where string, text []byte, let ...string) {
	a.t.Helper()
	for _, what := range a.c.in(text, let...) {
		at := bytes.Index(text, []byte(a.c[what]))
		a.t.Errorf("%s: %s: ...%.200q", where, what, text[max(at-80, 0):])
	}
}

// searchFolder wants no canary in the data folder but payloads, and the token in its own file; and is itself tried by
// these. Where what is stored is encrypted, payloads are not there either.
func (a *aviary) searchFolder(encrypted bool) {
	a.t.Helper()
	payload, token := false, false
	err := filepath.WalkDir(filepath.Join(a.folder, "data"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		let := []string{}
		if !encrypted {
			let = append(let, "payload", "payload of a will")
		}
		if filepath.Base(name) == TokenFile {
			let = append(let, "admin token")
			token = len(a.c.in(text)) == 1
		}
		payload = payload || len(a.c.in(text)) > len(a.c.in(text, "payload"))
		a.search(name, text, let...)
		return nil
	})
	if err != nil || payload == encrypted || !token {
		a.t.Errorf("%v; the search found payloads %v, the token %v", err, payload, token)
	}
}

// damage spoils files of the log in their middle.
func (a *aviary) damage() {
	a.t.Helper()
	spoiled := 0
	err := filepath.WalkDir(filepath.Join(a.folder, "data"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !regexp.MustCompile(`\.(journal|segment|j|seg|log)$`).MatchString(name) {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for at := bytes.Index(text, []byte("user/boss")); at >= 0 && spoiled < 3; at = -1 {
			text[at+20] ^= 0xff
			spoiled++
		}
		return os.WriteFile(name, text, 0o600)
	})
	if err != nil {
		a.t.Fatal(err)
	}
	if spoiled == 0 {
		a.t.Error("nothing was spoiled")
	}
}

// searchConfig wants no canary in the configuration as it is printed, nor in what is said of one that is wrong.
func (a *aviary) searchConfig() {
	a.t.Helper()
	c, err := Load(Sources{File: "firth.yaml", Text: []byte(a.yaml)})
	if err != nil {
		a.t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.WriteYAML(&out, true); err != nil {
		a.t.Fatal(err)
	}
	if err := c.WriteJSON(&out, true); err != nil {
		a.t.Fatal(err)
	}
	_, err = Load(Sources{File: "firth.yaml", Text: fmt.Appendf(nil, "access:\n  jwt: [{ issuer: a, audience: b, "+
		"keys_url: \"https://me:%s@example.org\" }]\n", a.c.sing("password in a URL"))})
	if err == nil {
		a.t.Error("a URL with a password was taken")
	}
	fmt.Fprintln(&out, err)
	a.search("the configuration", out.Bytes())
}
