package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// binaryHeader is a header of version 2.
func binaryHeader(command, family byte, rest ...byte) string {
	b := append([]byte(signature), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rest)))
	return string(append(b, rest...))
}

func v4(tlvs ...byte) []byte {
	return append([]byte{203, 0, 113, 7, 10, 0, 0, 1, 0xd4, 0x31, 0x07, 0x5b}, tlvs...)
}

func v6() []byte {
	b := make([]byte, 36)
	copy(b, net.ParseIP("2001:db8::7"))
	copy(b[16:], net.ParseIP("::1"))
	binary.BigEndian.PutUint16(b[32:], 54321)
	return b
}

func unixNames() []byte {
	b := make([]byte, 216)
	copy(b, "/run/client")
	return b
}

// TestHeaders: each header gives its address, or none, and leaves what comes behind it; however the bytes come.
func TestHeaders(t *testing.T) {
	for name, c := range map[string]struct{ header, want string }{
		"v1 TCP4":              {"PROXY TCP4 203.0.113.7 10.0.0.1 54321 1883\r\n", "203.0.113.7:54321"},
		"v1 TCP6":              {"PROXY TCP6 2001:db8::7 ::1 54321 1883\r\n", "[2001:db8::7]:54321"},
		"v1 shortest":          {"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", "1.1.1.1:1"},
		"v1 unknown":           {"PROXY UNKNOWN\r\n", ""},
		"v1 unknown with rest": {"PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\n", ""},
		"v1 longest": {"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff " +
			"65535 65535\r\n", ""},
		"v2 IPv4":            {binaryHeader(proxy, 0x11, v4()...), "203.0.113.7:54321"},
		"v2 IPv4 with TLVs":  {binaryHeader(proxy, 0x11, v4(4, 0, 3, 'x', 'y', 'z')...), "203.0.113.7:54321"},
		"v2 IPv6":            {binaryHeader(proxy, 0x21, v6()...), "[2001:db8::7]:54321"},
		"v2 unix":            {binaryHeader(proxy, 0x31, unixNames()...), "/run/client"},
		"v2 LOCAL":           {binaryHeader(local, 0x00), ""},
		"v2 LOCAL with rest": {binaryHeader(local, 0x11, v4()...), ""},
		"v2 unspec":          {binaryHeader(proxy, 0x00), ""},
		"v2 most": {binaryHeader(proxy, 0x11, append(v4(), make([]byte, maxRest-12)...)...),
			"203.0.113.7:54321"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, how := range []func(io.Reader) io.Reader{
				func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader,
			} {
				r := how(strings.NewReader(c.header + "MQTT"))
				got, err := ReadHeader(r)
				if err != nil {
					t.Fatal(err)
				}
				if got == nil && c.want != "" || got != nil && got.String() != c.want {
					t.Errorf("address %v, want %q", got, c.want)
				}
				if rest, err := io.ReadAll(r); err != nil || string(rest) != "MQTT" {
					t.Errorf("left %q, %v", rest, err)
				}
			}
		})
	}
}

func TestBadHeaders(t *testing.T) {
	for name, header := range map[string]string{
		"MQTT":              "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\xc0\x00",
		"HTTP":              "GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n",
		"v1 lower case":     "proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
		"v1 wrong family":   "PROXY TCP4 ::1 ::1 1 1\r\n",
		"v1 family of none": "PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n",
		"v1 family of 6":    "PROXY UDP6 ::1 ::1 1 1\r\n",
		"v1 mixed":          "PROXY TCP6 1.1.1.1 ::1 1 1\r\n",
		"v1 zone":           "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
		"v1 port":           "PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n",
		"v1 port with sign": "PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n",
		"v1 port with zero": "PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n",
		"v1 too few":        "PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n",
		"v1 too many":       "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n",
		"v1 two spaces":     "PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
		"v1 only LF":        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n" + strings.Repeat("x", maxLine),
		"v1 without end":    "PROXY UNKNOWN " + strings.Repeat("x", maxLine),
		"v2 version":        binaryHeader(0x11, 0x11, v4()...),
		"v2 command":        binaryHeader(0x22, 0x11, v4()...),
		"v2 datagram":       binaryHeader(proxy, 0x12, v4()...),
		"v2 family":         binaryHeader(proxy, 0x41, unixNames()...),
		"v2 short address":  binaryHeader(proxy, 0x11, v4()[:11]...),
		"v2 short IPv6":     binaryHeader(proxy, 0x21, v4()...),
		"v2 too long":       binaryHeader(proxy, 0x11, make([]byte, maxRest+1)...),
		"v2 broken":         signature[:11] + "x" + "\x21\x11\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			if a, err := ReadHeader(strings.NewReader(header)); !errors.Is(err, errHeader) {
				t.Errorf("%v, %v", a, err)
			}
		})
	}
}

// TestCutHeaders: a header that ends early at any byte is an error, not an address.
func TestCutHeaders(t *testing.T) {
	for _, whole := range []string{
		"PROXY TCP4 203.0.113.7 10.0.0.1 54321 1883\r\n", binaryHeader(proxy, 0x11, v4(4, 0, 0)...),
	} {
		for n := range len(whole) {
			if a, err := ReadHeader(strings.NewReader(whole[:n])); err == nil {
				t.Errorf("%q gave %v", whole[:n], a)
			}
		}
	}
}

func FuzzReadHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.7 10.0.0.1 54321 1883\r\nrest"))
	f.Add([]byte(binaryHeader(proxy, 0x21, v6()...)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		a, err := ReadHeader(r)
		if used := len(b) - r.Len(); used > fixed+maxRest {
			t.Errorf("read %d bytes", used)
		}
		if err != nil && a != nil {
			t.Errorf("%v with %v", a, err)
		}
	})
}

func listen(t *testing.T, opt Options) *Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := Listen(l, opt)
	t.Cleanup(func() { _ = p.Close() }) // it may be closed
	return p
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // it may be closed
	return c
}

func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// TestListener: who is slow holds up nobody, and gets in when his header is there.
func TestListener(t *testing.T) {
	l := listen(t, Options{})
	slow := dial(t, l)
	write(t, slow, "PROXY TCP4 203")
	write(t, dial(t, l), binaryHeader(proxy, 0x11, v4()...)+"hello")
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if got := c.RemoteAddr().String(); got != "203.0.113.7:54321" {
		t.Errorf("address %s", got)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Errorf("got %q, %v", b, err)
	}
	write(t, slow, ".0.113.8 10.0.0.1 1 2\r\n")
	if c, err = l.Accept(); err != nil || c.RemoteAddr().String() != "203.0.113.8:1" {
		t.Errorf("%v, %v", c, err)
	}
	own := dial(t, l)
	write(t, own, binaryHeader(local, 0))
	if c, err = l.Accept(); err != nil || c.RemoteAddr().String() != own.LocalAddr().String() {
		t.Errorf("LOCAL: %v, %v", c, err)
	}
}

// TestRefused: a bad header, none in time, and one connection too many that waits are closed, and told.
func TestRefused(t *testing.T) {
	why := make(chan error, 10)
	refused := func(_ net.Addr, err error) { why <- err }
	impatient := listen(t, Options{Timeout: 50 * time.Millisecond, Pending: 1, Refused: refused})
	patient := listen(t, Options{Timeout: time.Hour, Pending: 1, Refused: refused})
	closed := func(c net.Conn, want error) {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d, %v", n, err)
		}
		if err := <-why; !errors.Is(err, want) {
			t.Errorf("refused for %v, want %v", err, want)
		}
	}
	closed(dial(t, impatient), os.ErrDeadlineExceeded)
	bad := dial(t, impatient)
	write(t, bad, "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
	closed(bad, os.ErrDeadlineExceeded) // it is short of a header
	// One that was refused takes nobody's room, from when that is seen.
	for range 2 {
		wrong := dial(t, patient)
		write(t, wrong, strings.Repeat("x", minLine))
		closed(wrong, errHeader)
	}
}

func TestTooManyWait(t *testing.T) {
	why := make(chan error, 1)
	l := listen(t, Options{Timeout: time.Hour, Pending: 1, Refused: func(_ net.Addr, err error) { why <- err }})
	dial(t, l)
	dial(t, l)
	if err := <-why; !errors.Is(err, errPending) {
		t.Error(err)
	}
}

// TestCloseEndsAll: Close waits for nobody who is silent, and nobody is left.
func TestCloseEndsAll(t *testing.T) {
	l := listen(t, Options{Timeout: time.Hour, Refused: func(_ net.Addr, err error) { t.Errorf("refused: %v", err) }})
	silent, done := dial(t, l), dial(t, l)
	write(t, done, "PROXY UNKNOWN\r\n")
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	for _, c := range []net.Conn{silent, done} {
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection is left open")
		}
	}
}
