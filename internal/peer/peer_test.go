package peer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

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

// gateway is a Peers with a listener for devices and one for links. What the door gets says its name and what it heard
// back.
type gateway struct {
	*Peers
	devices, links string
	identity       *Identity
}

// book is the fingerprints of a cluster.
type book struct {
	written atomic.Pointer[[]Fingerprint]
	late    atomic.Pointer[[]Fingerprint] // is written once somebody has asked
	patient time.Duration                 // how long who is not in it is waited for; 0: not long
}

func (b *book) write(all ...Fingerprint) { b.written.Store(&all) }

func (b *book) knows(f Fingerprint) bool {
	all := b.written.Load()
	if late := b.late.Swap(nil); late != nil {
		b.written.Store(late)
	}
	return all != nil && slices.Contains(*all, f)
}

// newGateway makes one that knows those that are in a book.
func newGateway(t *testing.T, name string, most int, known *book) *gateway {
	t.Helper()
	identity, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{identity: identity}
	g.Peers = New(Options{Identity: identity, Timeout: time.Minute, Most: most, Metrics: telemetry.New(),
		Knows: known.knows, Acquaint: cmp.Or(known.patient, 50*time.Millisecond)})
	links, devices := listen(t), listen(t)
	door := g.Listen("mqtt", devices)
	g.devices, g.links = devices.Addr().String(), links.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served, answered := make(chan error, 1), make(chan struct{})
	go func() { served <- g.Serve(ctx, links) }()
	go func() {
		defer close(answered)
		answerAll(name, door)
	}()
	t.Cleanup(func() {
		_ = door.Close()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		<-answered
	})
	return g
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// answerAll says to each client who serves it and what its address is, then all that it says.
func answerAll(name string, door net.Listener) {
	for {
		c, err := door.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.WriteString(c, name+" "+c.RemoteAddr().String()+"\n")
			_, _ = io.Copy(c, c)
		}()
	}
}

// device connects to a gateway.
func (g *gateway) device(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", g.devices)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// greeting is what a device that is there hears at first.
func greeting(name string, c net.Conn) string { return name + " " + c.LocalAddr().String() + "\n" }

// hears reads what a device is to hear.
func hears(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("heard %q, want %q: %v", got, want, err)
	}
}

func (g *gateway) asTarget() Target { return Elsewhere(g.links, g.identity.Fingerprint()) }

// TestPassedOn: a device is served where the sessions are, whichever gateway it came to, with its own address, and its
// bytes go both ways. It waits while nobody serves, and is cut off when another gateway does.
func TestPassedOn(t *testing.T) {
	var known book
	a, b := newGateway(t, "a", 0, &known), newGateway(t, "b", 0, &known)
	known.write(a.identity.Fingerprint(), b.identity.Fingerprint())
	early := a.device(t) // nobody serves yet
	b.Route(Here())
	a.Route(b.asTarget())
	hears(t, early, greeting("b", early))
	much := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() { _, _ = early.Write(much) }()
	hears(t, early, string(much))

	b.Route(Target{})
	a.Route(Here())
	if n, err := early.Read(make([]byte, 1)); err == nil {
		t.Errorf("it still hears %d bytes", n)
	}
	again := a.device(t)
	hears(t, again, greeting("a", again))
	b.Route(a.asTarget())
	other := b.device(t)
	hears(t, other, greeting("a", other))
	if err := other.(*net.TCPConn).CloseWrite(); err != nil { // it has said all
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(other); err != nil || len(rest) > 0 {
		t.Errorf("at its end it hears %q: %v", rest, err)
	}
}

// TestGatewayThatSaysNothing: the one that serves has stopped without a word. Who is to be passed on to it does not
// wait for it once another gateway serves.
func TestGatewayThatSaysNothing(t *testing.T) {
	var known book
	a, mute := newGateway(t, "a", 0, &known), listen(t)
	t.Cleanup(func() { _ = mute.Close() })
	a.Route(Elsewhere(mute.Addr().String(), Fingerprint{}))
	device := a.device(t)
	link, err := mute.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = link.Close() })
	a.Route(Here())
	hears(t, device, greeting("a", device))
}

// TestAcquaintance: a gateway that is not known yet is waited for.
func TestAcquaintance(t *testing.T) {
	known := book{patient: time.Minute}
	a, b := newGateway(t, "a", 0, &known), newGateway(t, "b", 0, &known)
	known.late.Store(&[]Fingerprint{a.identity.Fingerprint()})
	b.Route(Here())
	a.Route(b.asTarget())
	early := a.device(t)
	hears(t, early, greeting("b", early))
}

// TestReach: a gateway is reached itself, whoever serves, by gateways only.
func TestReach(t *testing.T) {
	var known book
	a, b := newGateway(t, "a", 0, &known), newGateway(t, "b", 0, &known)
	known.write(a.identity.Fingerprint(), b.identity.Fingerprint())
	a.Route(Here())
	b.Route(a.asTarget())
	own := b.Own()
	said := make(chan error, 1)
	go func() {
		c, err := own.Accept()
		if err == nil {
			_, err = io.WriteString(c, "b itself")
			err = errors.Join(err, c.Close())
		}
		said <- err
	}()
	c, err := a.Reach(t.Context(), b.asTarget())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "b itself" {
		t.Errorf("heard %q: %v", got, err)
	}
	if err := errors.Join(<-said, own.Close()); err != nil {
		t.Error(err)
	}
	if c, err := own.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed, it accepts %v: %v", c, err)
	}
	known.write(b.identity.Fingerprint()) // a is a stranger now
	stranger, err := a.Reach(t.Context(), b.asTarget())
	if err == nil {
		defer stranger.Close()
		if n, err := stranger.Read(make([]byte, 1)); err == nil {
			t.Errorf("b hears a stranger: %d bytes", n)
		}
	}
}

// TestBackPressure: a device that is not read from, far away, cannot send without end.
func TestBackPressure(t *testing.T) {
	var known book
	a, b := newGateway(t, "a", 0, &known), newGateway(t, "b", 0, &known)
	known.write(a.identity.Fingerprint(), b.identity.Fingerprint())
	b.Route(Here())
	a.Route(b.asTarget())
	c := a.device(t)
	hears(t, c, greeting("b", c))
	// It is told all that it says, and does not read it: at some time nothing goes any more.
	if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	sent, err := io.Copy(onlyWriter{c}, io.LimitReader(zeros{}, 1<<30))
	if sent == 1<<30 || err == nil {
		t.Errorf("%d bytes were taken, and nobody has read them", sent)
	}
}

type (
	zeros      struct{}
	onlyWriter struct{ io.Writer }
)

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// TestStrangers: nobody opens a link but the gateways of the cluster, and none is opened to somebody else.
func TestStrangers(t *testing.T) {
	var known book
	a, b := newGateway(t, "a", 0, &known), newGateway(t, "b", 0, &known)
	known.write(b.identity.Fingerprint())
	b.Route(Here())
	a.Route(b.asTarget()) // b does not know a
	c := a.device(t)
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("b serves a stranger: %d bytes", n)
	}
	known.write(a.identity.Fingerprint(), b.identity.Fingerprint())
	a.Route(Elsewhere(b.links, a.identity.Fingerprint())) // who answers there is not the one who is meant
	c = a.device(t)
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("a passes on to a stranger: %d bytes", n)
	}
	odd, err := a.dial(t.Context(), header{door: "no such", client: c.LocalAddr()}, b.asTarget())
	if err != nil {
		t.Fatal(err) // b finds out when it has read the header
	}
	defer odd.Close()
	if n, err := odd.Read(make([]byte, 1)); err == nil {
		t.Errorf("b serves by a listener that it has not: %d bytes", n)
	}
	plain, err := net.Dial("tcp", b.links)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := io.WriteString(plain, signature+"\x01\x04mqtt\x01\x0b127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(plain); bytes.Contains(answer, []byte("127.0.0.1")) {
		t.Errorf("b serves who has no certificate: %q", answer)
	}
}

// TestMostPassedOn: no more are passed on than may be.
func TestMostPassedOn(t *testing.T) {
	var known book
	a, b := newGateway(t, "a", 1, &known), newGateway(t, "b", 0, &known)
	known.write(a.identity.Fingerprint(), b.identity.Fingerprint())
	b.Route(Here())
	a.Route(b.asTarget())
	first := a.device(t)
	hears(t, first, greeting("b", first))
	if n, err := a.device(t).Read(make([]byte, 1)); err == nil {
		t.Errorf("one too many is served: %d bytes", n)
	}
}

func headers() map[string]header {
	return map[string]header{
		"IPv4":   {door: "mqtt", client: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7).To4(), Port: 54321}},
		"IPv6":   {door: "mqtts", client: &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 1}},
		"zone":   {door: "ws", client: &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 1, Zone: "eth0"}},
		"unix":   {door: "", client: &net.UnixAddr{Name: "/run/client", Net: "unix"}},
		"none":   {door: strings.Repeat("d", maxField), client: &net.UnixAddr{Net: "unix"}},
		"opened": {door: "mqtt", client: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7).To4(), Port: 1}, opened: true},
		"no certificate": {door: "mqtts", client: &net.UnixAddr{Name: "/run/client", Net: "unix"}, opened: true,
			tls: &TLS{Version: tls.VersionTLS12, ServerName: "broker.example"}},
		"a chain": {door: "wss", client: &net.TCPAddr{IP: net.ParseIP("2001:db8::7"), Port: 1}, opened: true,
			tls: &TLS{Version: tls.VersionTLS13,
				Chain: [][]byte{[]byte("its own"), {}, bytes.Repeat([]byte("c"), maxCertificate)}}},
	}
}

// same tells whether two headers say the same.
func same(a, b *header) bool {
	return a.door == b.door && a.client.String() == b.client.String() && a.opened == b.opened &&
		(a.tls == nil) == (b.tls == nil) && (a.tls == nil || a.tls.Version == b.tls.Version &&
		a.tls.ServerName == b.tls.ServerName && slices.EqualFunc(a.tls.Chain, b.tls.Chain, bytes.Equal))
}

// TestHandedOver: a connection that is handed over comes out with what is known of its device, whoever serves by the
// table; bytes go both ways, and the end of one side is told to the other. Too many are refused, as are those by a
// listener that nobody asked for.
func TestHandedOver(t *testing.T) {
	var known book
	a, b := newGateway(t, "a", 1, &known), newGateway(t, "b", 0, &known)
	known.write(a.identity.Fingerprint(), b.identity.Fingerprint())
	opened := b.Opened("mqtts")
	from := Device{Door: "mqtts", Client: &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7).To4(), Port: 54321},
		TLS: &TLS{Version: tls.VersionTLS13, ServerName: "broker.example", Chain: [][]byte{[]byte("a certificate")}}}
	link, err := a.HandOver(t.Context(), from, b.asTarget())
	if err != nil {
		t.Fatal(err)
	}
	if second, err := a.HandOver(t.Context(), from, b.asTarget()); err == nil {
		t.Error("one too many is handed over", second.Close())
	}
	_ = link.SetDeadline(time.Now().Add(time.Minute))
	n, err := opened.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, ok := n.(*Conn)
	if !ok || c.RemoteAddr().String() != "203.0.113.7:54321" || c.TLS() == nil ||
		c.TLS().ServerName != "broker.example" || string(c.TLS().Chain[0]) != "a certificate" {
		t.Fatalf("it is %+v of %v", n, n.RemoteAddr())
	}
	go func() { _, _ = io.WriteString(link, "CONNECT") }()
	hears(t, c, "CONNECT")
	go func() { _, _ = io.WriteString(c, "CONNACK"); _ = c.CloseWrite() }()
	if all, err := io.ReadAll(link); err != nil || string(all) != "CONNACK" {
		t.Errorf("heard %q: %v", all, err)
	}
	if err := errors.Join(link.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	from.Door = "mqtt" // devices by it are served as they come, and nobody has asked for those that are opened
	odd, err := a.HandOver(t.Context(), from, b.asTarget())
	if err != nil {
		t.Fatal(err)
	}
	if n, err := odd.Read(make([]byte, 1)); err == nil {
		t.Errorf("b serves by a listener that it has not: %d bytes", n)
	}
	if err := errors.Join(odd.Close(), opened.Close()); err != nil {
		t.Error(err)
	}
	if c, err := opened.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed, it accepts %v: %v", c, err)
	}
}

// TestHeaders: each header comes as it went, however its bytes come, and leaves what is behind it.
func TestHeaders(t *testing.T) {
	for name, h := range headers() {
		b, err := h.appendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		r := strings.NewReader(string(b) + "MQTT")
		got, err := readHeader(iotest.OneByteReader(r))
		if err != nil || !same(&got, &h) || r.Len() != 4 {
			t.Errorf("%s: %+v, %d bytes left: %v", name, got, r.Len(), err)
		}
		for n := range min(len(b), 300) {
			if _, err := readHeader(bytes.NewReader(b[:n])); err == nil {
				t.Errorf("%s: %d bytes of %d are enough", name, n, len(b))
			}
		}
		if _, err := readHeader(bytes.NewReader(b[:len(b)-1])); err == nil {
			t.Errorf("%s: all but the last byte is enough", name)
		}
		b[len(signature)] = openedVersion + 1
		if _, err := readHeader(bytes.NewReader(b)); !errors.Is(err, errHeader) {
			t.Errorf("%s: of another version: %v", name, err)
		}
	}
	tcp := &net.TCPAddr{}
	for _, h := range []header{
		{client: &net.IPAddr{}}, {client: &net.UnixAddr{Name: strings.Repeat("n", maxField+1)}},
		{client: tcp, opened: true, tls: &TLS{Version: 1, ServerName: strings.Repeat("n", maxField+1)}},
		{client: tcp, opened: true, tls: &TLS{Version: 1, Chain: make([][]byte, maxChain+1)}},
		{client: tcp, opened: true, tls: &TLS{Version: 1, Chain: [][]byte{make([]byte, maxCertificate+1)}}},
	} {
		if b, err := h.appendTo(nil); err == nil {
			t.Errorf("%+v became %q", h, b)
		}
	}
}

// FuzzHeader: whatever begins a link is refused, or is a header that can be written again.
func FuzzHeader(f *testing.F) {
	for _, h := range headers() {
		b, err := h.appendTo(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := readHeader(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := h.appendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readHeader(bytes.NewReader(again))
		if err != nil || !same(&got, &h) {
			t.Errorf("%+v became %+v: %v", h, got, err)
		}
	})
}
