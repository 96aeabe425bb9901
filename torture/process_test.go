package torture

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/firthmq/firth/conformance/outside"
)

// startLimit is how long a start may take before the test gives up on it.
const startLimit = 3 * time.Minute

// binary builds firth once for all tests, unless FIRTH names one.
var binary = sync.OnceValues(func() (string, error) { return outside.Build(workshop) })

// workshop is the folder of the built binary: TestMain makes it and takes it away.
var workshop string

// TestMain runs the tests around the workshop. It is also the server whose disk can be made to fail.
func TestMain(m *testing.M) {
	if set := os.Getenv(serveVariable); set != "" {
		serveOnFaulty(strings.Split(set, "\n"))
		return
	}
	var err error
	if workshop, err = os.MkdirTemp("", "firth-torture-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(workshop)
	os.Exit(code)
}

// server is the binary on one data directory. Its addresses stay the same over all starts.
type server struct {
	data, mqtt, kafka, http string

	set      []string // more settings, key=value
	faulty   bool     // it is this program on a disk that can be made to fail, not the binary
	expected []string // beginnings of what may be logged as an error

	t      *testing.T
	binary string
	cmd    *exec.Cmd
	disk   io.WriteCloser // takes the faults of a faulty one
	log    *spoken        // standard error of the current process
	ended  <-chan error
}

// spoken is what a process says, which may be looked at while it says more.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (w *spoken) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

// String implements fmt.Stringer.
func (w *spoken) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func newServer(t *testing.T, set ...string) *server {
	t.Helper()
	name, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, binary: name, data: t.TempDir(), set: set}
	at := quiet(t, 2)
	s.mqtt, s.kafka = at[0], at[1]
	t.Cleanup(func() {
		s.kill()
		if t.Failed() && s.log != nil {
			t.Logf("the last log of the server:\n%s", tail(s.log.String(), 4000))
		}
	})
	return s
}

// quiet are so many free addresses with ports that the system gives to no outgoing connection: any other one may be
// taken while the server is down, even by a client that knocks meanwhile.
func quiet(t *testing.T, n int) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	var least, most int
	if _, scanErr := fmt.Sscan(string(text), &least, &most); err != nil || scanErr != nil {
		return slices.Repeat([]string{"127.0.0.1:0"}, n) // not Linux
	}
	low, high := 10000, least // the larger of the ranges below and above
	if 65536-most > least-low {
		low, high = most+1, 65536
	}
	var found []string
	for try := 0; len(found) < n && try < 100 && low < high; try++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", low+rand.IntN(high-low)))
		if err == nil {
			defer l.Close()
			found = append(found, l.Addr().String())
		}
	}
	if len(found) < n {
		t.Fatalf("no %d free ports in [%d, %d)", n, low, high)
	}
	return found
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// launch runs the binary and returns its standard output.
func (s *server) launch() (*bufio.Reader, error) {
	set := append([]string{"data=" + s.data, "listen.mqtt=" + s.mqtt, "listen.kafka=" + s.kafka, "listen.ws=",
		"listen.http="}, s.set...)
	if s.faulty {
		if err := s.launchFaulty(set); err != nil {
			return nil, err
		}
	} else {
		args := []string{"serve", "-o", "json"}
		for _, set := range set {
			args = append(args, "--set", set)
		}
		s.cmd = exec.Command(s.binary, args...)
		s.cmd.Env = environment()
	}
	s.log = &spoken{}
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return bufio.NewReader(out), s.cmd.Start()
}

// environment is that of the binary: it refuses what it takes for an option and does not know.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(one string) bool { return strings.HasPrefix(one, jarsVariable+"=") })
}

// start runs the binary until it serves, and tells how long that took from outside.
func (s *server) start() (time.Duration, error) {
	begin := time.Now()
	out, err := s.launch()
	if err != nil {
		return 0, err
	}
	alarm := time.AfterFunc(startLimit, func() { s.cmd.Process.Kill() })
	defer alarm.Stop()
	at, err := outside.Serving(out)
	if err != nil {
		return 0, fmt.Errorf("no line of readiness: %w, %w\n%s", err, s.cmd.Wait(), s.log)
	}
	took := time.Since(begin)
	if s.mqtt != at.MQTT || s.kafka != at.Kafka { // the first time: from then on others read them
		s.mqtt, s.kafka = at.MQTT, at.Kafka
	}
	s.http = at.HTTP
	s.ended = outside.Ended(s.cmd, out)
	return took, nil
}

// stillborn starts the binary and kills it a moment later, wherever it is in its start.
func (s *server) stillborn(after time.Duration) error {
	if _, err := s.launch(); err != nil {
		return err
	}
	time.AfterFunc(after, func() { s.cmd.Process.Kill() })
	var exit *exec.ExitError
	err := s.cmd.Wait()
	s.wantQuiet()
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
		return nil
	}
	return fmt.Errorf("it ended by itself: %s\n%s", s.cmd.ProcessState, s.log)
}

// kill ends the process with SIGKILL and waits until it is gone. It tells whether the process was alive.
func (s *server) kill() bool {
	if s.ended == nil {
		return false
	}
	s.cmd.Process.Kill()
	<-s.ended
	s.ended = nil
	s.wantQuiet()
	return s.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled()
}

// wantQuiet fails the test for what a process logged as an error: no kill is a reason for one.
func (s *server) wantQuiet() {
	for line := range strings.Lines(s.log.String()) {
		bad := strings.Contains(line, "level=ERROR") || strings.HasPrefix(line, "panic:")
		if bad && !slices.ContainsFunc(s.expected, func(e string) bool { return strings.Contains(line, `msg="`+e) }) {
			s.t.Errorf("logged: %s", line)
		}
	}
}

// signal sends the process a signal that does not end it.
func (s *server) signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }

// stop ends the process with SIGTERM; it must close within a time and without complaint.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-s.ended:
		s.ended = nil
		s.wantQuiet()
		return err
	case <-time.After(startLimit):
		return errors.New("it does not end")
	}
}

// checkLog runs firth log check on the directory of a server that does not run.
func (s *server) checkLog(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, s.binary, "log", "check", s.data).CombinedOutput()
	if err != nil {
		return fmt.Errorf("firth log check: %w\n%s", err, tail(string(out), 4000))
	}
	return nil
}

// waited is how long the threads of the process, taken together, were ready to run while the machine ran others; 0
// where the kernel does not tell.
func (s *server) waited() (sum time.Duration) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for _, name := range files {
		var ran, waited int64
		if text, err := os.ReadFile(name); err == nil { // a thread may have ended
			if _, err := fmt.Sscan(string(text), &ran, &waited); err == nil {
				sum += time.Duration(waited)
			}
		}
	}
	return sum
}

// clockTick is the unit of CPU time in /proc on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

// cpu is the CPU time that the process has used: it does not depend on what else the machine does.
func (s *server) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // behind the name of the program
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat: %q", text)
	}
	user, err := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(err, err2)
}

// resident is the memory of the process in bytes, as Linux counts it.
func (s *server) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}
