package cases

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/firthmq/firth/conformance/outside"
)

// patience is how long anything may take that is bound to happen.
const patience = time.Minute

// workshop is the folder of the built binary: TestMain makes it and takes it away.
var workshop string

func TestMain(m *testing.M) {
	var err error
	if workshop, err = os.MkdirTemp("", "firth-cases-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(workshop)
	os.Exit(code)
}

// built builds firth once for all tests, unless FIRTH names one.
var built = sync.OnceValues(func() (string, error) { return outside.Build(workshop) })

// node is the binary on a data directory of its own.
type node struct {
	t                 *testing.T
	data              string
	set               []string // key=value
	mqtt, kafka, http string   // where it listens now

	cmd   *exec.Cmd
	log   *logged // standard error of all its processes
	ended <-chan error
}

// logged is what a process writes, for tests that read while it runs.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs the binary with settings key=value. When the test ends, so does the node, and it has to end well.
func start(t *testing.T, set ...string) *node {
	t.Helper()
	n := &node{t: t, data: filepath.Join(t.TempDir(), "data"), set: set, log: &logged{}}
	n.launch()
	t.Cleanup(n.end)
	return n
}

func (n *node) launch() {
	n.t.Helper()
	name, err := built()
	if err != nil {
		n.t.Fatal(err)
	}
	args := []string{"serve", "--data", n.data, "-o", "json"}
	for _, door := range []string{"mqtt", "kafka", "http"} {
		args = append(args, "--set", "listen."+door+"=127.0.0.1:0")
	}
	args = append(args, "--set", "listen.ws=off")
	for _, s := range n.set {
		args = append(args, "--set", s)
	}
	n.cmd = exec.Command(name, args...)
	n.cmd.Stderr = n.log
	pipe, err := n.cmd.StdoutPipe()
	if err == nil {
		err = n.cmd.Start()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	alarm := time.AfterFunc(patience, func() { n.cmd.Process.Kill() })
	defer alarm.Stop()
	out := bufio.NewReader(pipe)
	at, err := outside.Serving(out)
	if err != nil {
		n.t.Fatalf("it does not serve: %v, %v\n%s", err, n.cmd.Wait(), n.log)
	}
	n.mqtt, n.kafka, n.http = at.MQTT, at.Kafka, at.HTTP
	n.ended = outside.Ended(n.cmd, out)
}

// kill ends the process with SIGKILL.
func (n *node) kill() {
	n.cmd.Process.Kill()
	<-n.ended
	n.ended = nil
}

// stop ends the process with SIGTERM and wants it to say that all went well.
func (n *node) stop() {
	n.t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		n.t.Fatal(err)
	}
	select {
	case err := <-n.ended:
		n.ended = nil
		if err != nil {
			n.t.Errorf("it ended with %v", err)
		}
	case <-time.After(patience):
		n.kill()
		n.t.Error("it does not end")
	}
}

// bad is what no test may leave in the log of a node.
var bad = regexp.MustCompile(`(?m)^.*(level=ERROR|"level":"ERROR"|^panic:|^goroutine \d+ \[).*$`)

func (n *node) end() {
	if n.ended != nil {
		n.stop()
	}
	for _, line := range bad.FindAllString(n.log.String(), 5) {
		n.t.Errorf("logged: %s", line)
	}
	if out, err := exec.Command(n.cmd.Path, "log", "check", n.data).CombinedOutput(); err != nil {
		n.t.Errorf("firth log check: %v\n%.2000s", err, out)
	}
	if text := n.log.String(); n.t.Failed() {
		n.t.Logf("the last log lines:\n%s", text[max(0, len(text)-3000):])
	}
}

// lines are the log lines that hold all of the words.
func (n *node) lines(words ...string) (found []string) {
next:
	for line := range strings.Lines(n.log.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}

// until waits for a condition.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// metrics are the values of /metrics by name and labels.
func (n *node) metrics() map[string]float64 {
	n.t.Helper()
	r, err := http.Get("http://" + n.http + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && line[0] != '#' {
			values[name+"}"], _ = strconv.ParseFloat(value, 64)
		}
	}
	return values
}
