package mosquitto

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/names"
)

var (
	rounds = flag.Int("acl.rounds", 10, "random ACL files to compare with Mosquitto")
	seed   = flag.Uint64("acl.seed", 1, "of the first of them")
)

// the alphabet of random files.
var (
	levels  = []string{"a", "b", "c", "two words", "$x", "alice", "c1"}
	users   = []string{"alice", "bob smith"}
	clients = []rule.Subject{
		{User: rule.Anonymous, ClientID: "c1"}, {User: rule.Anonymous, ClientID: "alice"}, {User: "alice", ClientID: "c2"},
		{User: "bob smith", ClientID: "c"}, {User: "carol", ClientID: "c3"},
	}
)

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// randomFilter makes a filter; that of a pattern has %c or %u in it, as Mosquitto asks.
func randomFilter(r *rand.Rand, pattern bool) string {
	n := 1 + r.IntN(3)
	list := make([]string, n)
	for i := range list {
		list[i] = pick(r, append([]string{"+", "+"}, levels...)...)
	}
	if pattern {
		list[r.IntN(n)] = pick(r, "%c", "%u", "%c", "%u", "x%c", "%u-%c")
	}
	filter := strings.Join(list, "/")
	if r.IntN(3) == 0 {
		filter += "/#"
	}
	return filter
}

// randomACL makes an ACL file. Its last section is for who publishes to everything.
func randomACL(r *rand.Rand) string {
	var b strings.Builder
	line := func() {
		pattern := r.IntN(4) == 0
		word := map[bool]string{false: "topic", true: "pattern"}[pattern]
		access := pick(r, "read ", "write ", "readwrite ", "deny ", "")
		filter := randomFilter(r, pattern)
		if strings.Contains(filter, " ") && access == "" {
			access = "readwrite "
		}
		b.WriteString(word + pick(r, " ", "  ") + access + filter + pick(r, "", " ", "\r") + "\n")
	}
	for range r.IntN(4) {
		line()
	}
	for range r.IntN(4) {
		b.WriteString("user " + pick(r, users...) + "\n# comment\n")
		for range r.IntN(5) {
			line()
		}
	}
	b.WriteString("user root\ntopic readwrite #\ntopic readwrite $x/#\ntopic readwrite $x\n")
	return b.String()
}

// randomName makes a topic name.
func randomName(r *rand.Rand) string {
	list := make([]string, 1+r.IntN(4))
	for i := range list {
		list[i] = pick(r, append([]string{"c2", "c1", "xc2", "alice-c2"}, levels...)...)
	}
	return strings.Join(list, "/")
}

// TestAsMosquitto holds the rules of random ACL files to what a Mosquitto with the same files lets its clients publish
// and receive: what the rules allow it allows, and what they deny it denies, but for what a pattern denies (stricter).
func TestAsMosquitto(t *testing.T) {
	apart := 0 // names that may be read and not written, or the other way round
	for i := range uint64(*rounds) {
		r := rand.New(rand.NewPCG(*seed+i, 7))
		text := randomACL(r)
		t.Run(fmt.Sprint(*seed+i), func(t *testing.T) {
			all, err := ParseACL("acl", []byte(text))
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			topics := make([]string, 40)
			for j := range topics {
				topics[j] = randomName(r)
			}
			apart += compare(t, text, all, topics)
		})
	}
	if apart == 0 {
		t.Error("the files distinguish nothing")
	}
}

func compare(t *testing.T, text string, all []Grant, topics []string) (apart int) {
	t.Helper()
	policy := rule.New(RightsOf(all).Rules, nil)
	addr := startMosquitto(t, text)
	root := dialMosquitto(t, addr, rule.Subject{User: "root", ClientID: "root"})
	var readers []*peer
	for _, who := range clients {
		c := dialMosquitto(t, addr, who)
		c.subscribe("#")
		c.subscribe("$x/#")
		readers = append(readers, c)
	}
	for _, topic := range topics {
		if !root.publish(topic) {
			t.Fatalf("root may not publish to %s", topic)
		}
	}
	for i, c := range readers {
		c.sync()
		rights := policy.Rights(&clients[i])
		got := c.received
		for _, topic := range topics {
			read, write := rights.Name(rule.Read, []byte(topic), ""), rights.Name(rule.Write, []byte(topic), "")
			judge(t, text, verdict{clients[i], "read", topic, read, got[topic], all})
			judge(t, text, verdict{clients[i], "write", topic, write, c.publish(topic), all})
			if read != write {
				apart++
			}
		}
	}
	return apart
}

// verdict is what both say of one question.
type verdict struct {
	who          rule.Subject
	what, topic  string
	ours, theirs bool
	all          []Grant
}

func judge(t *testing.T, text string, v verdict) {
	t.Helper()
	if v.ours == v.theirs || v.theirs && deniedByPattern(v.all, v.topic) {
		return
	}
	t.Errorf("%s as %s: %s %s: the rules say %v, Mosquitto %v\n%s", v.who.User, v.who.ClientID, v.what, v.topic, v.ours,
		v.theirs, text)
}

func deniedByPattern(all []Grant, topic string) bool {
	for _, g := range all {
		if g.Pattern && g.Rule.Effect == rule.Deny && names.Match(anyone(g.Rule.Resource.Name), topic) {
			return true
		}
	}
	return false
}

// startMosquitto starts one with an ACL file, that takes every name for a user, and gives its address.
func startMosquitto(t *testing.T, acl string) string {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			t.Fatalf("%v: make deps installs it", err)
		}
	}
	dir := t.TempDir()
	// A port that is free, and that the system gives to nobody by itself before Mosquitto has it.
	port, addr := "", ""
	for addr == "" {
		port = fmt.Sprint(10_000 + rand.IntN(20_000))
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			addr = l.Addr().String()
			l.Close()
		}
	}
	file, conf := filepath.Join(dir, "acl"), filepath.Join(dir, "conf")
	lines := "listener " + port + " 127.0.0.1\nallow_anonymous true\nacl_file " + file + "\nuser root\n"
	for name, text := range map[string]string{file: acl, conf: lines} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	cmd := exec.Command(path, "-c", conf)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if nc, err := net.Dial("tcp", addr); err == nil {
			nc.Close()
			return addr
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("Mosquitto does not listen")
		}
	}
}

// peer is a client of Mosquitto.
type peer struct {
	t        *testing.T
	nc       net.Conn
	dec      packet.Decoder
	buf      []byte
	id       uint16
	name     string
	received map[string]bool // the topics of what root has sent
}

func dialMosquitto(t *testing.T, addr string, who rule.Subject) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(5 * time.Minute))
	c := &peer{t: t, nc: nc, name: who.User, received: map[string]bool{}}
	c.dec = packet.Decoder{Version: packet.V5, Client: true}
	hello := &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: []byte(who.ClientID)}
	if who.User != rule.Anonymous {
		hello.HasUserName, hello.UserName = true, []byte(who.User)
	}
	c.send(hello)
	if ack, ok := c.next().(*packet.Connack); !ok || ack.Reason != packet.Success {
		t.Fatalf("%s: %+v", who.User, ack)
	}
	return c
}

func (c *peer) send(p packet.Packet) {
	c.t.Helper()
	if _, err := c.nc.Write(p.AppendTo(nil, packet.V5)); err != nil {
		c.t.Fatal(err)
	}
}

// next takes a packet; messages are noted besides.
func (c *peer) next() packet.Packet {
	c.t.Helper()
	for {
		n, err := c.dec.Frame(c.buf, 1<<20)
		if err != nil {
			c.t.Fatal(err)
		}
		if n == 0 {
			var more [4096]byte
			m, err := c.nc.Read(more[:])
			if err != nil {
				c.t.Fatal(err)
			}
			c.buf = append(c.buf, more[:m]...)
			continue
		}
		frame := c.buf[:n]
		c.buf = append([]byte(nil), c.buf[n:]...)
		p, err := c.dec.Decode(frame)
		if err != nil {
			c.t.Fatal(err)
		}
		m, is := p.(*packet.Publish)
		if !is {
			return p
		}
		if string(m.Payload) == "root" {
			c.received[string(m.Topic)] = true
		}
	}
}

func (c *peer) subscribe(filter string) {
	c.id++
	c.send(&packet.Subscribe{PacketID: c.id, Subscriptions: []packet.Subscription{{Filter: []byte(filter)}}})
	if _, ok := c.next().(*packet.Suback); !ok {
		c.t.Fatal("no SUBACK")
	}
}

// publish tells whether the client may.
func (c *peer) publish(topic string) bool {
	c.t.Helper()
	c.id++
	c.send(&packet.Publish{Topic: []byte(topic), QoS: 1, PacketID: c.id, Payload: []byte(c.name)})
	ack, ok := c.next().(*packet.Puback)
	if !ok {
		c.t.Fatalf("%+v", ack)
	}
	return ack.Reason != packet.NotAuthorized
}

// sync waits until everything has come that was on its way.
func (c *peer) sync() {
	c.send(&packet.Pingreq{})
	if _, ok := c.next().(*packet.Pingresp); !ok {
		c.t.Fatal("no PINGRESP")
	}
}
