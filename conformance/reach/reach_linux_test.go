package reach

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The test of what other machines reach runs in network namespaces of its own: one is the server, the other is a
// machine beside it. Both are this binary, run again with a role.
const (
	roleVariable = "NETWORK_TEST_ROLE"
	serverRole   = "server"
	beside       = "beside"
)

// Addresses of the two, as docs/security.md has them.
const (
	server4, server6 = "192.0.2.10", "2001:db8::10"
	beside4, beside6 = "192.0.2.20", "2001:db8::20"
)

// TestReachedFromElsewhere: of 65,535 ports of a server with its defaults another machine reaches none, by IPv4 and
// IPv6; after the five commands of docs/security.md it reaches those of TLS and no other, and by them a device with its
// own certificate publishes to a consumer with a password.
func TestReachedFromElsewhere(t *testing.T) {
	switch os.Getenv(roleVariable) {
	case serverRole:
		reachServer(t)
		return
	case beside:
		if err := answerBeside(); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, tool := range []string{"ip", "kcat", "mosquitto_pub", "curl", "openssl", "bash"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: conformance/install.sh clients installs it", err)
		}
	}
	cmd := again(serverRole)
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if errors.Is(err, syscall.EPERM) && os.Getuid() != 0 && os.Getenv("CI") == "" { // there it has to run
		t.Skip("this user may not make network namespaces: ", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	t.Log(out.String())
}

// again is this test once more, in a network namespace of its own, with a role.
func again(role string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestReachedFromElsewhere$", "-test.v", "-test.timeout=20m")
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// order is what the server asks the machine beside it to do.
type order struct {
	Scan  string // all ports of an address
	Get   string // a URL
	Shell string // a command
	Dir   string // where
}

// answer is what has come of it.
type answer struct {
	Open   []int
	Status int
	Out    string
	Err    string
}

// shell runs commands of the network.
func shell(commands ...string) error {
	for _, c := range commands {
		words := strings.Fields(c)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", c, err, out)
		}
	}
	return nil
}

// answerBeside is the machine beside the server: it does what standard input says, and answers by descriptor 3.
func answerBeside() error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.NewFile(3, "answers"))
	first := true
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil // the server has ended
		} else if err != nil {
			return err
		}
		var a answer
		var err error
		switch {
		case first:
			err = shell("ip link set lo up", "ip addr add "+beside4+"/24 dev firth1",
				"ip -6 addr add "+beside6+"/64 dev firth1 nodad", "ip link set firth1 up")
		case o.Scan != "":
			a.Open, err = scan(o.Scan)
		case o.Get != "":
			a.Status, err = statusOf(o.Get)
		default:
			cmd := exec.Command("bash", "-c", o.Shell)
			cmd.Dir = o.Dir
			var text []byte
			text, err = cmd.CombinedOutput()
			a.Out = string(text)
		}
		if first = false; err != nil {
			a.Err = err.Error()
		}
		if err := out.Encode(&a); err != nil {
			return err
		}
	}
}

// scan finds the ports of an address that take a connection. It tries again what neither takes nor refuses one.
func scan(host string) (open []int, err error) {
	const ports, together = 65535, 64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for first := range together {
		wg.Go(func() {
			for port := first + 1; port <= ports; port += together {
				is, bad := reaches(net.JoinHostPort(host, fmt.Sprint(port)))
				mu.Lock()
				if is {
					open = append(open, port)
				}
				err = errors.Join(err, bad)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(open)
	return open, err
}

func reaches(address string) (is bool, err error) {
	for range 5 {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", address, 30*time.Second); err == nil {
			return true, c.Close()
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return false, nil
		}
	}
	return false, err
}

// statusOf asks for a page by TLS. Whom it asks is not the question here.
func statusOf(url string) (int, error) {
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
	}}
	r, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	return r.StatusCode, r.Body.Close()
}

// machine is the one beside the server, as the server sees it.
type machine struct {
	t   *testing.T
	in  *json.Encoder
	out *json.Decoder
}

// startBeside starts the machine beside this one, and the wire between them.
func startBeside(t *testing.T) *machine {
	t.Helper()
	cmd := again(beside)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles, cmd.Stderr = []*os.File{theirs}, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close() // the other has it
	t.Cleanup(func() { _ = errors.Join(in.Close(), cmd.Wait()) })
	err = shell("ip link set lo up",
		fmt.Sprintf("ip link add firth0 type veth peer name firth1 netns %d", cmd.Process.Pid),
		"ip addr add "+server4+"/24 dev firth0", "ip -6 addr add "+server6+"/64 dev firth0 nodad", "ip link set firth0 up")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t, json.NewEncoder(in), json.NewDecoder(answers)}
	m.do(order{})
	return m
}

func (m *machine) do(o order) answer {
	m.t.Helper()
	if err := m.in.Encode(o); err != nil {
		m.t.Fatal(err)
	}
	var a answer
	if err := m.out.Decode(&a); err != nil {
		m.t.Fatal(err)
	}
	if a.Err != "" {
		m.t.Fatalf("%+v: %s\n%s", o, a.Err, a.Out)
	}
	return a
}

// reach sees which ports of an address of this machine the other one reaches.
func (m *machine) reach(what, host string, want ...int) {
	m.t.Helper()
	begin := time.Now()
	open := m.do(order{Scan: host}).Open
	if !slices.Equal(open, want) {
		m.t.Errorf("%s: the ports %v of %s are open to others, want %v", what, open, host, want)
	}
	m.t.Logf("%s: of 65,535 ports of %s %d are open, seen in %s", what, host, len(open), time.Since(begin))
}

// block is the block of commands of docs/security.md behind a comment, line by line.
func block(t *testing.T, name string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "<!-- "+name+" -->\n```sh\n")
	body, _, closed := strings.Cut(rest, "\n```")
	if !found || !closed {
		t.Fatalf("docs/security.md has no block %q", name)
	}
	return strings.Split(strings.ReplaceAll(body, "\\\n", ""), "\n")
}

// reachServer is the test itself, where the server is.
func reachServer(t *testing.T) {
	m := startBeside(t)
	folder, bin := clone(t), t.TempDir()
	t.Setenv("GOBIN", bin)
	t.Setenv("GOFLAGS", "-trimpath -buildvcs=false")
	t.Setenv("CGO_ENABLED", "0")
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	commands := block(t, "five commands")
	if len(commands) != 5 || commands[4] != "firth serve" {
		t.Fatalf("these are %d commands: %q", len(commands), commands)
	}
	do := func(command string) string {
		t.Helper()
		cmd := exec.Command("bash", "-c", command)
		cmd.Dir = folder
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		t.Logf("%s\n%s", command, out)
		return string(out)
	}
	do(commands[0])

	end := serveIn(t, t.TempDir(), "127.0.0.1:1883")
	m.reach("with the defaults", server4)
	m.reach("with the defaults", server6)
	end()

	do(commands[1])
	do(commands[2])
	password := regexp.MustCompile(`password of billing: (\S+)`).FindStringSubmatch(do(commands[3]))
	if password == nil {
		t.Fatal("no password was made")
	}
	end = serveIn(t, folder, server4+":8883")
	m.reach("exposed", server4, 8084, 8443, 8883, 9093)
	m.reach("exposed by IPv4", server6)
	for path, want := range map[string]int{"/healthz": 200, "/metrics": 401, "/admin/v1/users": 403} {
		if got := m.do(order{Get: "https://" + server4 + ":8443" + path}).Status; got != want {
			t.Errorf("%s is answered with %d, want %d", path, got, want)
		}
	}
	var seen string
	for _, command := range block(t, "from another machine") {
		command = strings.ReplaceAll(command, "PASSWORD", password[1])
		seen += m.do(order{Shell: "timeout 60 " + command, Dir: folder}).Out
	}
	if !strings.Contains(seen, "21.5") {
		t.Errorf("the consumer saw %q", seen)
	}
	token := regexp.MustCompile(`claim of pump-8: (\S+)`).FindStringSubmatch(do("firth cert claim pump-8"))
	if token == nil {
		t.Fatal("no token was made")
	}
	for _, command := range block(t, "enrol") {
		m.do(order{Shell: "timeout 60 " + strings.ReplaceAll(command, "TOKEN", token[1]), Dir: folder})
	}
	do("openssl verify -purpose sslclient -CAfile ca.pem pump-8.pem")
	end()

	folder = t.TempDir()
	do("firth expose --address " + server6 + " --address " + server4)
	defer serveIn(t, folder, "["+server6+"]:8883")()
	m.reach("exposed by both", server4, 8084, 8443, 8883, 9093)
	m.reach("exposed by both", server6, 8084, 8443, 8883, 9093)
}

// clone is what a newcomer has: the sources in a folder of their own.
func clone(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	const root = "../../"
	for _, name := range []string{"cmd", "docs", "examples", "internal"} {
		if err := os.CopyFS(filepath.Join(folder, name), os.DirFS(root+name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(folder, "bench"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"go.*", "*.go", "*.md", "bench/*.md"} {
		names, err := filepath.Glob(root + pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %q, %v", pattern, names, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err == nil {
				err = os.WriteFile(filepath.Join(folder, strings.TrimPrefix(name, root)), text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return folder
}

// serveIn serves in a folder until end is called, and waits until an address answers.
func serveIn(t *testing.T, folder, address string) (end func()) {
	t.Helper()
	cmd := exec.Command("bash", "-c", "exec firth serve")
	cmd.Dir = folder
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if is, _ := reaches(address); is {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("nobody answers at %s", address)
		}
	}
	return func() {
		t.Helper()
		if err := errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()); err != nil {
			t.Errorf("firth serve ended with %v", err)
		}
	}
}
