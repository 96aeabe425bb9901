package hook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/kit/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(patient{m}) }

// patient waits for goroutines that are about to end: goleak does so for half a second, too little on a busy machine.
type patient struct{ *testing.M }

func (p patient) Run() int {
	code := p.M.Run()
	for limit := time.Now().Add(time.Minute); code == 0 && goleak.Find() != nil && time.Now().Before(limit); {
	}
	return code
}

// house is a service, and what asks it.
type house struct {
	*Service
	t     *testing.T
	asked atomic.Int64
	now   atomic.Int64 // since 1970, in nanoseconds
	lines sync.Mutex
	said  bytes.Buffer // the log
}

// Write keeps a log line.
func (h *house) Write(line []byte) (int, error) {
	h.lines.Lock()
	defer h.lines.Unlock()
	return h.said.Write(line)
}

func (h *house) log() string {
	h.lines.Lock()
	defer h.lines.Unlock()
	return h.said.String()
}

func (h *house) pass(d time.Duration) { h.now.Add(int64(d)) }

// build starts a service that answers so.
func build(t *testing.T, change func(*Options), answer http.HandlerFunc) *house {
	t.Helper()
	h := &house{t: t}
	h.now.Store(int64(1_000_000 * time.Second))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.asked.Add(1)
		answer(w, r)
	}))
	t.Cleanup(web.Close)
	o := Options{URL: web.URL + "/who?key=canary-in-the-address", Timeout: time.Minute,
		Logger: slog.New(slog.NewTextHandler(h, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:    func() time.Time { return time.Unix(0, h.now.Load()) }}
	if change != nil {
		change(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	h.Service = s
	t.Cleanup(s.Close)
	return h
}

func alice() Login {
	return Login{User: "alice", Password: []byte("canary-password"), ClientID: "c1", Protocol: "mqtt", Listener: "mqtts",
		Address: netip.MustParseAddr("::ffff:192.0.2.7"), Encrypted: true, CommonName: "pump"}
}

// want asks, and wants an answer ("allow", "deny", "ignore") or a kind of error, after so many requests to the service.
func (h *house) want(what string, who Login, answer string, asked int64) Answer {
	h.t.Helper()
	a, err := h.Ask(h.t.Context(), who)
	got := a.Result.String()
	if err != nil {
		got = fault.KindOf(err).String()
		if strings.Contains(err.Error()+fault.HintOf(err), "127.0.0.1") || strings.Contains(err.Error(), "canary") {
			h.t.Errorf("%s: the client is told %v", what, err)
		}
	}
	if got != answer || h.asked.Load() != asked {
		h.t.Errorf("%s: %s after %d requests, want %s after %d: %v", what, got, h.asked.Load(), answer, asked, err)
	}
	return a
}

// TestAsked: the service is told who wants in, by whom it is asked, and nothing of it is in a log.
func TestAsked(t *testing.T) {
	type hello struct {
		Method, Path, Bearer, Type string
		Body                       map[string]any
	}
	got := make(chan hello, 3)
	token := securetest.Write(t, t.TempDir(), "token", []byte("canary-token\n"))
	h := build(t, func(o *Options) { o.TokenFile = token }, func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		got <- hello{r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), body}
		_, _ = io.WriteString(w, `{"result":"allow","roles":["meter"],"groups":["plant"],"expires_in":60}`)
	})
	a := h.want("alice", alice(), "allow", 1)
	if fmt.Sprint(a.Roles, a.Groups, a.Ends.Unix()) != "[meter] [plant] 1000060" {
		t.Errorf("%+v", a)
	}
	want := map[string]any{"username": "alice", "password": "canary-password", "client_id": "c1", "protocol": "mqtt",
		"listener": "mqtts", "address": "192.0.2.7", "tls": true, "common_name": "pump"}
	if one := <-got; one.Method != http.MethodPost || one.Path != "/who" || one.Bearer != "Bearer canary-token" ||
		one.Type != "application/json" || fmt.Sprint(one.Body) != fmt.Sprint(want) {
		t.Errorf("%+v", one)
	}
	h.want("from a socket", Login{User: "bob", Protocol: "http"}, "allow", 2)
	want = map[string]any{"username": "bob", "password": "", "protocol": "http", "tls": false}
	if one := <-got; fmt.Sprint(one.Body) != fmt.Sprint(want) {
		t.Errorf("%+v", one)
	}
	for _, bad := range []Login{{User: "alice", Password: []byte("\xff")}, {User: "\xfe", Password: []byte("x")}} {
		h.want("what JSON has no words for", bad, "deny", 2)
	}
	if strings.Contains(h.log(), "canary") {
		t.Error(h.log())
	}
}

// TestAnswers: what a service may say instead of an answer.
func TestAnswers(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if code/100 == 3 {
				http.Redirect(w, r, "/elsewhere", code)
				return
			}
			w.WriteHeader(code)
		}
	}
	body := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	for _, one := range []struct {
		what   string
		answer http.HandlerFunc
		want   string
	}{
		{"allow", body(`{"result":"allow"}`), "allow"},
		{"204", status(204), "allow"},
		{"deny", body(`{"result":"deny"}`), "deny"},
		{"ignore", body(`{"result":"ignore"}`), "ignore"},
		{"401", status(401), "deny"}, {"403", status(403), "deny"}, {"404", status(404), "deny"},
		{"408", status(408), "unavailable"}, {"429", status(429), "unavailable"},
		{"500", status(500), "unavailable"}, {"503", status(503), "unavailable"},
		{"201", status(201), "unavailable"}, {"200 and nothing", status(200), "unavailable"},
		{"302", status(302), "unavailable"}, {"307", status(307), "unavailable"},
		{"garbage", body("<html>canary-password</html>"), "unavailable"},
		{"twice", body(`{"result":"allow"}{"result":"allow"}`), "unavailable"},
		{"huge", body(`{"result":"allow","roles":["` + strings.Repeat("x", maxAnswer) + `"]}`), "unavailable"},
		{"a header without end", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 2*maxAnswer))
		}, "unavailable"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"result":"allow"}`)
		}, "unavailable"},
	} {
		h := build(t, nil, one.answer)
		h.want(one.what, alice(), one.want, 1)
		if one.want == "unavailable" && h.log() == "" || strings.Contains(h.log(), "canary") {
			t.Errorf("%s: %s", one.what, h.log())
		}
	}
}

// TestSlow: an answer that takes too long is none, however it dribbles, and who leaves is not counted against it.
func TestSlow(t *testing.T) {
	forever := func(begin string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, begin)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	}
	for _, begin := range []string{"", `{"result":"allow"`} {
		h := build(t, func(o *Options) { o.Timeout = 50 * time.Millisecond }, forever(begin))
		if a, err := h.Ask(t.Context(), alice()); !fault.Is(err, fault.Unavailable) || a.Result != Ignore {
			t.Errorf("%v, %v", a, err)
		}
	}
	h := build(t, nil, forever(""))
	for range 2 * missesToOpen {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := h.Ask(ctx, alice()); !fault.Is(err, fault.Timeout) {
			t.Error(err)
		}
		cancel()
	}
	if h.isDown() {
		t.Error("it is down because clients left")
	}
}

// TestRemembered: who was let in is not asked about again for a time, unless anything about the login is another; who
// was not is asked about each time.
func TestRemembered(t *testing.T) {
	result := "allow"
	h := build(t, func(o *Options) { o.Keep = time.Minute }, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"result":%q,"roles":["r"],"expires_in":90}`, result)
	})
	h.want("the first", alice(), "allow", 1)
	if a := h.want("the second", alice(), "allow", 1); fmt.Sprint(a.Roles, a.Ends.Unix()) != "[r] 1000090" {
		t.Errorf("%+v", a)
	}
	asked := int64(1)
	for _, change := range []func(*Login){
		func(l *Login) { l.User = "alic"; l.Password = []byte("ecanary-password") },
		func(l *Login) { l.Password = []byte("wrong") }, func(l *Login) { l.ClientID = "c2" },
		func(l *Login) { l.Protocol = "kafka" }, func(l *Login) { l.Listener = "mqtt" },
		func(l *Login) { l.Address = netip.MustParseAddr("192.0.2.8") }, func(l *Login) { l.Encrypted = false },
		func(l *Login) { l.CommonName = "" },
	} {
		who := alice()
		change(&who)
		asked++
		h.want(fmt.Sprintf("%+v", who), who, "allow", asked)
	}
	h.pass(time.Minute - 1)
	h.want("nearly a minute later", alice(), "allow", asked)
	h.pass(1)
	h.want("a minute later", alice(), "allow", asked+1)
	h.pass(time.Hour)
	result = "deny"
	h.want("locked out", alice(), "deny", asked+2)
	h.want("and again", alice(), "deny", asked+3)
	result = "ignore"
	h.want("not known", alice(), "ignore", asked+4)
	h.want("and again", alice(), "ignore", asked+5)

	h = build(t, func(o *Options) { o.Keep = time.Minute }, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"result":"allow","expires_in":10}`)
	})
	h.want("for ten seconds", alice(), "allow", 1)
	h.pass(10*time.Second - 1)
	h.want("nearly", alice(), "allow", 1)
	h.pass(1)
	h.want("they are over", alice(), "allow", 2)
}

// TestRememberedIsBounded: large answers do not fill the memory.
func TestRememberedIsBounded(t *testing.T) {
	large := strings.Repeat("x", maxAnswer-100)
	h := build(t, func(o *Options) { o.Keep = time.Hour }, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"result":"allow","roles":[%q]}`, large)
	})
	const logins = 4 * mostHeld / maxAnswer
	for i := range logins {
		who := alice()
		who.ClientID = fmt.Sprint(i)
		h.want("a login", who, "allow", int64(i+1))
	}
	if n := h.mu.good.Len(); n > 2*mostHeld/(maxAnswer-100)+2 || n < mostHeld/maxAnswer {
		t.Errorf("%d of %d answers of %d bytes are remembered", n, logins, maxAnswer)
	}
}

// eventually waits until something is.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// TestTogether: a login is asked about once, however many wait for the answer; when the one leaves that asks, the next
// asks in its place.
func TestTogether(t *testing.T) {
	let := make(chan struct{})
	h := build(t, nil, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-let:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusNoContent)
	})
	ctx, leave := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := h.Ask(ctx, alice())
		first <- err
	}()
	eventually(t, "nobody asks", func() bool { return h.asked.Load() == 1 })
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if a, err := h.Ask(t.Context(), alice()); err != nil || a.Result != Allow {
				t.Errorf("%v, %v", a, err)
			}
		})
	}
	joined := func(n float64) func() bool {
		return func() bool { return telemetry.Value(h.metrics.cached) == n }
	}
	eventually(t, "they do not wait together", joined(100))
	leave()
	if err := <-first; !fault.Is(err, fault.Timeout) {
		t.Errorf("who leaves: %v", err)
	}
	eventually(t, "they do not wait together again", joined(199))
	eventually(t, "nobody asks in its place", func() bool { return h.asked.Load() == 2 })
	close(let)
	all.Wait()
	if n := h.asked.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// TestInFlight: no more are asked about at a time than may be, and who waits too long is told so.
func TestInFlight(t *testing.T) {
	var now, most atomic.Int64
	let := make(chan struct{})
	h := build(t, func(o *Options) { o.InFlight = 3 }, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for was := most.Load(); n > was && !most.CompareAndSwap(was, n); was = most.Load() {
		}
		select {
		case <-let:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusNoContent)
	})
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			who := alice()
			who.User = fmt.Sprint("user", i)
			if a, err := h.Ask(t.Context(), who); err != nil || a.Result != Allow {
				t.Errorf("%v, %v", a, err)
			}
		})
	}
	eventually(t, "not three are asked about", func() bool { return now.Load() == 3 })
	close(let)
	all.Wait()
	if most.Load() != 3 {
		t.Errorf("%d at a time", most.Load())
	}
}

// TestCrowded: who waits too long for its turn is told so, and has not been asked about.
func TestCrowded(t *testing.T) {
	h := build(t, func(o *Options) { o.InFlight, o.Timeout = 1, time.Millisecond }, nil)
	if err := h.turns.Wait(t.Context(), netip.Addr{}, time.Hour); err != nil { // a request that takes for ever
		t.Fatal(err)
	}
	h.want("who waits too long", alice(), "limited", 0)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	if _, err := h.Ask(ctx, alice()); !fault.Is(err, fault.Timeout) && !fault.Is(err, fault.Limited) {
		t.Errorf("who leaves: %v", err)
	}
}

// TestDown: a service that does not answer is left alone, and everybody told at once; when it is back, so are all.
func TestDown(t *testing.T) {
	var up atomic.Bool
	h := build(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		if up.Load() {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	})
	for i := range int64(missesToOpen) {
		h.want("a miss", alice(), "unavailable", i+1)
	}
	for range 1000 {
		h.want("while it is down", alice(), "unavailable", missesToOpen)
	}
	h.pass(time.Second)
	h.want("after a pause", alice(), "unavailable", missesToOpen+1)
	h.pass(2*time.Second - 1)
	h.want("in the next pause", alice(), "unavailable", missesToOpen+1)
	up.Store(true)
	h.pass(1)
	h.want("it is back", alice(), "allow", missesToOpen+2)
	h.want("for all", alice(), "allow", missesToOpen+3)
	if log := h.log(); strings.Count(log, "level=WARN") != 1 || strings.Count(log, "answers again") != 1 {
		t.Error(log)
	}
}

// TestSomethingElse: what listens there hangs up, or speaks something else.
func TestSomethingElse(t *testing.T) {
	for _, speaks := range []string{"", "SSH-2.0-x\r\n"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(nc, speaks)
				_ = nc.Close()
			}
		}()
		h := build(t, func(o *Options) { o.URL = "http://" + l.Addr().String() }, nil)
		h.want(speaks, alice(), "unavailable", 0)
		_ = l.Close()
		h.want("nobody is there", alice(), "unavailable", 0)
	}
}

// TestTLS: who the service is has to be known, and it may want to know who asks.
func TestTLS(t *testing.T) {
	dir, ours, theirs := t.TempDir(), securetest.NewCA(t, "ours"), securetest.NewCA(t, "theirs")
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].Subject.CommonName != "broker" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	web.TLS = tlsOf(ours.Server("localhost").TLS(t), ours.Pool())
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	defer web.Close()
	url := strings.Replace(web.URL, "127.0.0.1", "localhost", 1)
	ca := securetest.Write(t, dir, "ours.pem", ours.PEM)
	cert, key := ours.Client("broker").Write(t, dir, "broker")
	stranger, strangers := theirs.Client("broker").Write(t, dir, "stranger")
	for _, one := range []struct {
		what string
		opt  Options
		want string
	}{
		{"known", Options{CA: ca, Certificate: cert, Key: key}, "allow"},
		{"no certificate", Options{CA: ca}, "deny"},
		{"a certificate of others, which is not shown", Options{CA: ca, Certificate: stranger, Key: strangers}, "deny"},
		{"not known", Options{Certificate: cert, Key: key}, "unavailable"},
		{"known to others", Options{CA: securetest.Write(t, dir, "theirs.pem", theirs.PEM)}, "unavailable"},
	} {
		one.opt.URL, one.opt.Timeout = url, time.Minute
		s, err := Open(one.opt)
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Ask(t.Context(), alice())
		got := a.Result.String()
		if err != nil {
			got = fault.KindOf(err).String()
		}
		if got != one.want {
			t.Errorf("%s: %s, %v", one.what, got, err)
		}
		s.Close()
	}
	for what, shows := range map[string]securetest.Pair{
		"one that has ended": ours.ServerUntil(time.Now().Add(-time.Hour), "localhost"),
		"one of a device":    ours.Client("broker"),
	} {
		other := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
		}))
		other.TLS = tlsOf(shows.TLS(t), ours.Pool())
		other.Config.ErrorLog = log.New(io.Discard, "", 0)
		other.StartTLS()
		s, err := Open(Options{URL: other.URL, CA: ca, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if a, err := s.Ask(t.Context(), alice()); !fault.Is(err, fault.Unavailable) {
			t.Errorf("it shows %s: %v, %v", what, a, err)
		}
		s.Close()
		other.Close()
	}
}

// tlsOf is TLS of a server that asks who is there, and lets in who does not say.
func tlsOf(own tls.Certificate, clients *x509.CertPool) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{own}, ClientCAs: clients,
		ClientAuth: tls.VerifyClientCertIfGiven}
}

// TestFilesChange: another token is used when it is there, and a bad one changes nothing.
func TestFilesChange(t *testing.T) {
	dir, bearer := t.TempDir(), make(chan string, 1)
	token := securetest.Write(t, dir, "token", []byte("first"))
	h := build(t, func(o *Options) { o.TokenFile = token }, func(w http.ResponseWriter, r *http.Request) {
		bearer <- r.Header.Get("Authorization")
		w.WriteHeader(http.StatusNoContent)
	})
	for i, step := range []struct{ text, want string }{
		{"first", "Bearer first"}, {"the second", "Bearer first"}, {"third", "Bearer third"}, {"", "Bearer third"},
		{"fourth", "Bearer fourth"},
	} {
		if i > 0 {
			securetest.Write(t, dir, "token", []byte(step.text))
		}
		h.pass(lookEvery)
		h.want(step.text, alice(), "allow", int64(i+1))
		if got := <-bearer; got != step.want {
			t.Errorf("%q: %s", step.text, got)
		}
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	h.pass(lookEvery)
	h.want("it is gone", alice(), "allow", 6)
	if got := <-bearer; got != "Bearer fourth" {
		t.Error(got)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, []byte("token"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o644); err != nil { // whatever the umask
		t.Fatal(err)
	}
	const url = "http://127.0.0.1:1/"
	for what, one := range map[string]struct {
		opt  Options
		kind fault.Kind
	}{
		"no address":            {Options{}, fault.Invalid},
		"http beyond":           {Options{URL: "http://id.example.org/"}, fault.Invalid},
		"no such token":         {Options{URL: url, TokenFile: filepath.Join(dir, "none")}, fault.NotFound},
		"others can read it":    {Options{URL: url, TokenFile: open}, fault.Denied},
		"no token":              {Options{URL: url, TokenFile: securetest.Write(t, dir, "a", []byte(" \n"))}, fault.Invalid},
		"two lines":             {Options{URL: url, TokenFile: securetest.Write(t, dir, "b", []byte("x\ny"))}, fault.Invalid},
		"no authorities":        {Options{URL: url, CA: open}, fault.Invalid},
		"a certificate, no key": {Options{URL: url, Certificate: open}, fault.NotFound},
	} {
		if _, err := Open(one.opt); !fault.Is(err, one.kind) {
			t.Errorf("%s: %v", what, err)
		}
	}
	s, err := Open(Options{URL: "http://id.example.org/", Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
