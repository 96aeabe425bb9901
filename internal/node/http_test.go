package node

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/stream"
)

// request sends raw HTTP, so that a test may say what a browser would not, and gives the status and body.
func request(t *testing.T, address, text string) (int, string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	// The server may answer and close before it has read all of a bad request.
	go func() { _, _ = io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")) }()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil && r.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

func get(path, host string, more ...string) string {
	return fmt.Sprintf("GET %s HTTP/1.1\nHost: %s\nConnection: close\n%s\n", path, host, strings.Join(more, ""))
}

// TestProfiles: they are served only where the configuration says so, and end with the node.
func TestProfiles(t *testing.T) {
	cfg := local(t)
	for _, on := range []bool{false, true} {
		cfg.Profiles = on
		n := start(t, cfg)
		want := map[bool]int{false: 404, true: 200}[on]
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/mutex?debug=1"} {
			if status, body := request(t, n.Addresses().HTTP, get(path, n.Addresses().HTTP)); status != want {
				t.Errorf("profiles: %v: %s: %d, not %d: %.100s", on, path, status, want, body)
			}
		}
		if rate := runtime.SetMutexProfileFraction(-1); rate > 0 != on {
			t.Errorf("profiles: %v: one in %d contended locks is sampled", on, rate)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		if rate := runtime.SetMutexProfileFraction(-1); rate != 0 {
			t.Errorf("closed: one in %d contended locks is sampled", rate)
		}
	}
}

func TestHTTP(t *testing.T) {
	n := start(t, local(t))
	a := n.Addresses()
	port := a.HTTP[strings.LastIndex(a.HTTP, ":"):]
	for name, tc := range map[string]struct {
		request string
		status  int
		body    string // a pattern
	}{
		"front page": {get("/", a.HTTP), 200, `(?s)This is Firth.*/healthz.*/readyz.*/metrics`},
		"console":    {get("/topics", a.HTTP, "Accept: text/html\n"), 200, `<div id="root"></div>`},
		"no console": {get("/topics", a.HTTP), 404, `nothing at this path`},
		"health":     {get("/healthz", a.HTTP), 200, `^ok\n$`},
		"ready":      {get("/readyz", a.HTTP), 200, `^ok\n$`},
		"verbose": {get("/readyz?verbose", a.HTTP), 200,
			`^log: ok\nmqtt ADDR: ok\nws ADDR: ok\nkafka ADDR: ok\nhttp ADDR: ok\n$`},
		"metrics": {get("/metrics", a.HTTP), 200,
			`(?s)firth_build_info\{go="go[^"]+",revision="[^"]*",version="[^"]+"\} 1.*` +
				`firth_log_fsync_duration_seconds_bucket.*firth_mqtt_connections 0`},
		"nothing here": {get("/admin", a.HTTP), 404, ``},
		"path tricks":  {get("/..%2fetc/passwd", a.HTTP), 404, ``},
		"method":       {"POST /healthz HTTP/1.1\nHost: localhost\nConnection: close\nContent-Length: 0\n\n", 405, ``},
		"large header": {get("/", a.HTTP, "X-Large: "+strings.Repeat("x", 64<<10)+"\n"), 431, ``},
		"no host":      {"GET / HTTP/1.1\nConnection: close\n\n", 400, ``},

		"by name":            {get("/healthz", "localhost"+port), 200, `ok`},
		"by name, no port":   {get("/healthz", "LOCALHOST"), 200, `ok`},
		"by IPv6":            {get("/healthz", "[::1]"+port), 200, `ok`},
		"rebound name":       {get("/metrics", "evil.example"+port), 403, `"evil.example:\d+" is not this machine`},
		"name that begins":   {get("/metrics", "localhost.evil.example"), 403, `is not this machine`},
		"number that begins": {get("/metrics", "127.0.0.1.evil.example"), 403, `is not this machine`},
		"other address":      {get("/metrics", "192.0.2.1"), 403, `is not this machine`},
		"stranger's page":    {get("/metrics", a.HTTP, "Origin: http://evil.example\n"), 403, `is not this machine`},
		"local file's page":  {get("/metrics", a.HTTP, "Origin: null\n"), 403, `is not this machine`},
		"our page":           {get("/metrics", a.HTTP, "Origin: http://"+a.HTTP+"\n"), 200, ``},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := request(t, a.HTTP, tc.request)
			pattern := strings.ReplaceAll(tc.body, "ADDR", `127\.0\.0\.1:\d+`)
			if status != tc.status || !regexp.MustCompile(pattern).MatchString(body) {
				t.Errorf("got %d %.500q, want %d %q", status, body, tc.status, tc.body)
			}
		})
	}
}

const upgrade = "Upgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\n" +
	"Sec-WebSocket-Protocol: mqtt\n"

func TestWebSocketOrigins(t *testing.T) {
	c := local(t)
	c.WSOrigins = "app.example.org,*.example.net:8443"
	n := start(t, c)
	ws := n.Addresses().WS
	for name, tc := range map[string]struct {
		host, origin string
		status       int
	}{
		"no browser":          {ws, "", 101},
		"same address":        {ws, "http://" + ws, 101},
		"known site":          {ws, "https://app.example.org", 101},
		"pattern":             {ws, "https://a.example.net:8443", 101},
		"proxy of known site": {"app.example.org", "https://app.example.org", 101},
		"stranger":            {ws, "https://evil.example", 403},
		"other port":          {ws, "https://a.example.net", 403},
		"rebound name":        {"evil.example", "http://evil.example", 403},
		"rebound, no origin":  {"evil.example", "", 403},
	} {
		t.Run(name, func(t *testing.T) {
			more := []string{upgrade}
			if tc.origin != "" {
				more = append(more, "Origin: "+tc.origin+"\n")
			}
			text := strings.Replace(get("/mqtt", tc.host, more...), "Connection: close", "Connection: Upgrade", 1)
			if status, body := handshake(t, ws, text); status != tc.status {
				t.Errorf("got %d %q, want %d", status, body, tc.status)
			}
		})
	}
	if status, _ := request(t, ws, get("/", ws)); status != 404 {
		t.Errorf("elsewhere: %d", status)
	}
}

// handshake is request for an upgrade, whose body does not end.
func handshake(t *testing.T, address, text string) (int, string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, strings.ReplaceAll(text, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var status int
	if _, err := fmt.Sscanf(line, "HTTP/1.1 %d", &status); err != nil {
		t.Fatal(err)
	}
	return status, line
}

// TestNotReadyWhenClosing: the HTTP door outlives the others and says that clients should go.
func TestNotReadyWhenClosing(t *testing.T) {
	n := start(t, local(t))
	n.draining.Store(true)
	address := n.Addresses().HTTP
	status, body := request(t, address, get("/readyz", address))
	if status != 503 || !strings.Contains(body, "shutdown: closing") {
		t.Errorf("got %d %q", status, body)
	}
	if status, _ := request(t, address, get("/healthz", address)); status != 200 {
		t.Errorf("health: %d", status)
	}
}

// TestHealthyOnAFullDisk (E17): a node that can only serve reads is left alone, and no clients are sent to it.
func TestHealthyOnAFullDisk(t *testing.T) {
	disk := vfs.NewFaulty(vfs.NewMemory())
	c := local(t)
	c.FS, c.Logger = disk, logtest.New(t, "commit failed", "housekeeping of the log failed")
	n := start(t, c)
	address := n.Addresses().HTTP
	for _, kind := range []fault.Kind{fault.Full, fault.IO} {
		for _, op := range vfs.OpKinds() {
			if op.Changes() {
				disk.Inject(vfs.Fault{On: op, Kind: kind, Times: -1})
			}
		}
		// The log tries again with the file that it has ready, and then stays refused.
		until(t, "not ready", func() bool {
			if _, err := n.Log().CreateTopic(t.Context(), stream.TopicSpec{Name: "t"}); err == nil {
				t.Fatalf("%v: a topic was created", kind)
			}
			if status, body := request(t, address, get("/healthz", address)); status != 200 {
				t.Fatalf("%v: healthz %d %q", kind, status, body)
			}
			status, body := request(t, address, get("/readyz", address))
			return status == 503 && strings.HasPrefix(body, "log: ")
		})
		disk.Heal()
		until(t, "ready again", func() bool {
			status, _ := request(t, address, get("/readyz", address))
			return status == 200
		})
	}
}

// until waits for a condition.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// shows waits until the metrics say all of it.
func shows(t *testing.T, address string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		until(t, line, func() bool {
			_, page := request(t, address, get("/metrics", address))
			return strings.Contains(page, line)
		})
	}
}

// TestNotHealthyWithoutLog: a process whose log is closed has nothing left to do.
func TestNotHealthyWithoutLog(t *testing.T) {
	n := start(t, local(t))
	if err := n.Log().Close(); err != nil {
		t.Fatal(err)
	}
	if !fault.Is(n.Log().Refused(), fault.Closed) {
		t.Fatalf("refused with %v", n.Log().Refused())
	}
	address := n.Addresses().HTTP
	for path, want := range map[string]string{"/healthz": "log: ", "/readyz": "log: "} {
		if status, body := request(t, address, get(path, address)); status != 503 || !strings.HasPrefix(body, want) {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
}
