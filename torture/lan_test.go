package torture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// lan is a network of the test's own, each broker in a namespace of it, so that one can be cut off: it stays alive, and
// no packet is refused, but none arrives. It needs root, and ip of iproute2.
type lan struct {
	t      *testing.T
	bridge string // in the test's own namespace, where its clients and gateways are
	net    string // the first three numbers of the addresses
	nodes  int
}

// newLAN makes a network for so many brokers. Errors: there is no right to.
func newLAN(t *testing.T, nodes int) (*lan, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	n := rand.IntN(1 << 16)
	// 198.18.0.0/15 is for tests (RFC 2544): nobody is reached by it.
	l := &lan{t: t, bridge: fmt.Sprintf("firth%04x", n), net: fmt.Sprintf("198.%d.%d", 18+n>>8&1, n&0xff), nodes: nodes}
	t.Cleanup(l.remove)
	err := ip("link", "add", l.bridge, "type", "bridge", "forward_delay", "0")
	if err == nil {
		err = ip("addr", "add", l.net+".1/24", "dev", l.bridge)
	}
	if err == nil {
		err = ip("link", "set", l.bridge, "up")
	}
	for id := 1; err == nil && id <= nodes; id++ {
		err = l.add(id)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (l *lan) add(id int) error {
	space, port := l.space(id), l.port(id)
	for _, args := range [][]string{
		{"netns", "add", space},
		{"link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space},
		{"link", "set", port, "master", l.bridge, "up"},
		{"-n", space, "addr", "add", l.address(id) + "/24", "dev", "eth0"},
		{"-n", space, "link", "set", "lo", "up"},
		{"-n", space, "link", "set", "eth0", "up"},
	} {
		if err := ip(args...); err != nil {
			return err
		}
	}
	return nil
}

func (l *lan) remove() {
	for id := 1; id <= l.nodes; id++ {
		_ = ip("netns", "delete", l.space(id)) // it may not be there
	}
	_ = ip("link", "delete", l.bridge)
}

func (l *lan) space(id int) string   { return fmt.Sprintf("%s-%d", l.bridge, id) }
func (l *lan) port(id int) string    { return fmt.Sprintf("%s.%d", l.bridge, id) }
func (l *lan) address(id int) string { return fmt.Sprintf("%s.%d", l.net, 10+id) }

// within is what a command of a broker begins with.
func (l *lan) within(id int) []string { return []string{"ip", "netns", "exec", l.space(id)} }

// brokers are the addresses of brokers, then those of their controllers.
func (l *lan) brokers(nodes int) (at []string) {
	for _, port := range []int{9092, 9093} {
		for id := 1; id <= nodes; id++ {
			at = append(at, fmt.Sprintf("%s:%d", l.address(id), port))
		}
	}
	return at
}

// cut cuts a broker off from everybody, and mend has it back.
func (l *lan) cut(id int) error { return ip("link", "set", l.port(id), "down") }

func (l *lan) mend(id int) error { return ip("link", "set", l.port(id), "up") }

// part cuts a broker off from the other brokers, and not from who uses them: its frames to them go to nobody.
func (l *lan) part(id int) error {
	return l.others(id, func(at string) error {
		return ip("-n", l.space(id), "neigh", "replace", at, "lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "permanent")
	})
}

// rejoin has it reach the others again.
func (l *lan) rejoin(id int) error {
	return l.others(id, func(at string) error { return ip("-n", l.space(id), "neigh", "del", at, "dev", "eth0") })
}

func (l *lan) others(id int, do func(at string) error) error {
	for other := 1; other <= l.nodes; other++ {
		if other == id {
			continue
		}
		if err := do(l.address(other)); err != nil {
			return err
		}
	}
	return nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// TestLAN cuts one of two off, from all and from the other one, and has it back.
func TestLAN(t *testing.T) {
	l, err := newLAN(t, 2)
	if err != nil {
		if os.Geteuid() != 0 && os.Getenv("CI") == "" { // there it has to run
			t.Skip("this user may not make networks: ", err)
		}
		t.Fatal(err)
	}
	// Who is there refuses a connection to a port where nobody listens; who is cut off says nothing.
	refuses := func(from []string, to string) bool {
		knock := append(slices.Clone(from), "timeout", "1", "bash", "-c", "exec 3<>/dev/tcp/"+to+"/9")
		out, err := exec.Command(knock[0], knock[1:]...).CombinedOutput()
		return err != nil && strings.Contains(string(out), "refused")
	}
	var one, two, all = l.within(1), l.within(2), []string{"env"}
	for _, step := range []struct {
		name                     string
		do                       func(id int) error
		oneToTwo, twoToOne, from bool // the test
	}{
		{"whole", func(int) error { return nil }, true, true, true},
		{"part", l.part, false, false, true},
		{"rejoin", l.rejoin, true, true, true},
		{"cut", l.cut, false, false, false},
		{"mend", l.mend, true, true, true},
	} {
		if err := step.do(1); err != nil {
			t.Fatal(err)
		}
		for _, way := range []struct {
			name string
			from []string
			to   int
			is   bool
		}{{"1 to 2", one, 2, step.oneToTwo}, {"2 to 1", two, 1, step.twoToOne}, {"test to 1", all, 1, step.from}} {
			is := refuses(way.from, l.address(way.to))
			for end := time.Now().Add(startLimit); way.is && !is && time.Now().Before(end); { // neighbours are looked for anew
				is = refuses(way.from, l.address(way.to))
			}
			if is != way.is {
				t.Errorf("%s: %s: reached %v", step.name, way.name, is)
			}
		}
	}
}
