package demo

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/node"
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

// text is a writer that may be read while it is written.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

func startNode(t *testing.T) *node.Node {
	t.Helper()
	c := node.Default()
	c.Data, c.Logger = t.TempDir(), logtest.New(t)
	c.Listen.MQTT, c.Listen.Kafka, c.Listen.WS, c.Listen.HTTP = "127.0.0.1:0", "127.0.0.1:0", "", ""
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// The demo for two seconds against a real node: everything published is acknowledged and read, commands
// come back, and latencies are shown.
func TestRun(t *testing.T) {
	for _, live := range []bool{false, true} {
		t.Run(fmt.Sprintf("live %v", live), func(t *testing.T) {
			for d := 2 * time.Second; !flows(t, live, d); d *= 4 {
				if d > 20*time.Second {
					t.Fatalf("little flowed in %v", d)
				}
			}
		})
	}
}

// flows runs the demo against a node of its own. False: little flowed, for a machine may be busy.
func flows(t *testing.T, live bool, d time.Duration) bool {
	t.Helper()
	a := startNode(t).Addresses()
	var out text
	err := Run(t.Context(), Options{MQTT: a.MQTT, Kafka: a.Kafka, Devices: 20, Interval: 50 * time.Millisecond,
		Duration: d, Out: &out, Live: live, lastWait: time.Minute})
	if err != nil || !enough(t, out.String()) {
		t.Logf("%v\n%s", err, out.String())
		return false
	}
	shown := `to Kafka p50 [0-9.]+ ms p99 [0-9.]+ ms`
	if !regexp.MustCompile(shown).MatchString(out.String()) {
		t.Errorf("no latency in\n%s", out.String())
	}
	if strings.Contains(out.String(), "last error") {
		t.Errorf("an error in\n%s", out.String())
	}
	return true
}

// enough reads the summary: nothing was lost on the way. False: too little came to say so.
func enough(t *testing.T, out string) bool {
	t.Helper()
	var sent, acked, read, commands int
	summed := regexp.MustCompile(`(?s)([0-9,]+) messages were published over MQTT, ([0-9,]+) acknowledged.*?` +
		`([0-9,]+) were read by the Kafka consumer group "demo": p50 [0-9.]+ ms.*?([0-9,]+) commands`).FindStringSubmatch(out)
	if summed == nil {
		t.Fatalf("no summary in\n%s", out)
	}
	for i, to := range []*int{&sent, &acked, &read, &commands} {
		if _, err := fmt.Sscan(strings.ReplaceAll(summed[i+1], ",", ""), to); err != nil {
			t.Fatal(err)
		}
	}
	if acked != sent || read != sent {
		t.Errorf("sent %d, acknowledged %d, read %d", sent, acked, read)
	}
	return sent >= 100 && commands >= 1
}

func TestRunWithoutADoor(t *testing.T) {
	if err := Run(t.Context(), Options{MQTT: "127.0.0.1:1", Kafka: startNode(t).Addresses().Kafka,
		Out: &text{}}); err == nil {
		t.Error("nobody listens for MQTT there")
	}
}
