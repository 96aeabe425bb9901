package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

const (
	secret   = "a secret with a space, and &"
	public   = "http://localhost:8080"
	callback = public + "/auth/oidc/callback"
	patience = 2 * time.Minute
)

// provide starts the provider, and gives its issuer.
func provide(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	issuer := "http://localhost:" + port
	storage.RegisterClients(storage.WebClient("firth", secret, callback))
	store := storage.NewStorage(storage.NewUserStore(issuer))
	s := &http.Server{Handler: exampleop.SetupServer(issuer, store, slog.New(slog.DiscardHandler), false),
		ReadHeaderTimeout: patience}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return issuer
}

// serve starts Firth, and gives the address of its HTTP door.
func serve(t *testing.T, issuer string) string {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{
		"secret": secret,
		"firth.yaml": "data: data\nlisten: { mqtt: 'off', ws: 'off', kafka: 'off', http: '127.0.0.1:0' }\n" +
			"http: { public_url: '" + public + "' }\naccess:\n  oidc: { issuer: '" + issuer + "', client_id: firth, " +
			"client_secret_file: secret, name_claim: email, scopes: [openid, profile, email] }\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := filepath.Abs(os.Getenv("FIRTH"))
	if err != nil {
		t.Fatal(err)
	}
	firth := exec.Command(binary, "serve", "--ready-file", "ready.json")
	firth.Dir, firth.Stdout, firth.Stderr = folder, os.Stdout, os.Stdout
	if err := firth.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(firth.Process.Signal(syscall.SIGTERM), firth.Wait()); err != nil {
			t.Error(err)
		}
	})
	var ready struct{ Addresses struct{ HTTP string } }
	for limit := time.Now().Add(patience); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(folder, "ready.json"))
		if err == nil && json.Unmarshal(text, &ready) == nil {
			return ready.Addresses.HTTP
		}
	}
	t.Fatal("firth does not serve in time")
	return ""
}

// visitor is a browser. What is at the public address it asks where Firth listens.
type visitor struct {
	t *testing.T
	*http.Client
}

func browse(t *testing.T, at string) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	dialer := &net.Dialer{Timeout: patience}
	return &visitor{t, &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if "http://"+address == public {
				address = at
			}
			return dialer.DialContext(ctx, network, address)
		},
	}}}
}

func (v *visitor) do(method, at string, form url.Values, headers ...string) (int, string) {
	v.t.Helper()
	r, err := http.NewRequestWithContext(v.t.Context(), method, at, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := v.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestLogin goes all the way that a person goes: to the provider, through its page, back, and out again.
func TestLogin(t *testing.T) {
	issuer := provide(t)
	v := browse(t, serve(t, issuer))
	if _, body := v.do("GET", public+"/auth/session", nil); !strings.Contains(body, `"known":false`) {
		t.Fatalf("before: %s", body)
	}
	status, page := v.do("GET", public+"/auth/oidc/start?return=/healthz", nil)
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(page)
	if status != http.StatusOK || id == nil {
		t.Fatalf("the page of the provider: %d %s", status, page)
	}
	status, page = v.do("POST", issuer+"/login/username", url.Values{"id": {id[1]}, "username": {"test-user@localhost"},
		"password": {"verysecure"}})
	if status != http.StatusOK || !strings.Contains(page, `content="0;url=/healthz"`) {
		t.Fatalf("back: %d %s", status, page)
	}
	_, body := v.do("GET", public+"/auth/session", nil)
	var who struct{ User, Method, CSRF string }
	if err := json.Unmarshal([]byte(body), &who); err != nil || who.User != "test-user@zitadel.ch" ||
		who.Method != "oidc" {
		t.Fatalf("who: %s", body)
	}
	status, body = v.do("POST", public+"/auth/logout", nil, "X-CSRF-Token", who.CSRF)
	var out struct{ Leave string }
	if err := json.Unmarshal([]byte(body), &out); err != nil || status != http.StatusOK ||
		!strings.HasPrefix(out.Leave, issuer+"/") {
		t.Fatalf("logout: %d %s", status, body)
	}
	if _, body := v.do("GET", public+"/auth/session", nil); !strings.Contains(body, `"known":false`) {
		t.Errorf("after: %s", body)
	}
}
