package mqtt_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/alloctest"
	"github.com/firthmq/firth/internal/kit/race"
	"github.com/firthmq/firth/internal/kit/seal"
	"github.com/firthmq/firth/internal/kit/secure"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// encrypted has a house listen with TLS besides, and gives the address and a client's configuration.
func encrypted(t testing.TB, h *house) (string, *tls.Config) {
	t.Helper()
	dir, ca := t.TempDir(), securetest.NewCA(t, "servers")
	cert, key := ca.Server().Write(t, dir, "server")
	source, err := secure.Open(secure.Files{Certificates: []string{cert}, Keys: []string{key}}, secure.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := secure.Listen(n, secure.ListenOptions{Source: source, Gate: secure.NewGate(256), Detach: true})
	var serving sync.WaitGroup
	serving.Go(func() { _ = h.door.Serve(context.Background(), l) }) // it ends when l does
	t.Cleanup(func() {
		_ = l.Close() // it is open
		serving.Wait()
	})
	return n.Addr().String(), &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}
}

// rawTLS is a client that makes the records behind the handshake by itself.
type rawTLS struct {
	t    *testing.T
	c    net.Conn
	in   seal.In
	out  seal.Out
	got  []byte // came, and is not opened
	keys map[string][]byte
	// resumes tells that the client takes a ticket, which comes first then.
	resumes bool
}

// Write implements io.Writer: it takes the lines of a key log.
func (r *rawTLS) Write(line []byte) (int, error) {
	words := bytes.Fields(line)
	secret, err := hex.DecodeString(string(words[2]))
	r.keys[string(words[0])] = secret
	return len(line), err
}

// frugalReader reads no byte behind the record in hand.
type frugalReader struct {
	net.Conn
	head []byte
	rest int
}

func (f *frugalReader) Read(b []byte) (int, error) {
	if f.rest > 0 {
		n, err := f.Conn.Read(b[:min(len(b), f.rest)])
		f.rest -= n
		return n, err
	}
	n, err := f.Conn.Read(b[:min(len(b), seal.Head-len(f.head))])
	if f.head = append(f.head, b[:n]...); len(f.head) == seal.Head {
		f.rest, f.head = int(binary.BigEndian.Uint16(f.head[3:])), nil
	}
	return n, err
}

func dialRaw(t *testing.T, address string, config *tls.Config) *rawTLS {
	t.Helper()
	r := &rawTLS{t: t, keys: map[string][]byte{}, resumes: config.ClientSessionCache != nil}
	var err error
	if r.c, err = net.Dial("tcp", address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.c.Close() }) // it may be closed
	config = config.Clone()
	config.KeyLogWriter = r
	c := tls.Client(&frugalReader{Conn: r.c}, config)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	suite := c.ConnectionState().CipherSuite
	if err := errors.Join(r.out.Begin(suite, r.keys["CLIENT_TRAFFIC_SECRET_0"], 0),
		r.in.Begin(suite, r.keys["SERVER_TRAFFIC_SECRET_0"])); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rawTLS) write(b []byte) {
	r.t.Helper()
	if _, err := r.c.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// read opens n bytes at least of what the server says; fewer when it ends, with how it did.
func (r *rawTLS) read(n int) (plain []byte, err error) {
	if err := r.c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	for len(plain) < n {
		size, p, _, bad := r.in.Open(r.got)
		if size > 0 {
			plain, r.got = append(plain, p...), r.got[size:]
		}
		if bad != nil {
			return plain, bad
		}
		if size > 0 {
			continue
		}
		var b [4096]byte
		m, bad := r.c.Read(b[:])
		if r.got = append(r.got, b[:m]...); bad != nil {
			return plain, bad
		}
	}
	return plain, nil
}

func connectPacket(id string) []byte {
	return (&packet.Connect{Version: packet.V311, CleanStart: true, ClientID: []byte(id)}).AppendTo(nil, packet.V311)
}

var pingreq = []byte{0xc0, 0}

// hello connects.
func (r *rawTLS) hello(id string) {
	r.t.Helper()
	if r.resumes {
		r.ticket()
	}
	r.write(r.out.Seal(nil, connectPacket(id)))
	if got, err := r.read(4); err != nil || got[0] != 0x20 || got[3] != 0 {
		r.t.Fatalf("CONNACK %x, %v", got, err)
	}
}

// ticket takes a ticket, which In does not know.
func (r *rawTLS) ticket() {
	r.t.Helper()
	var head [seal.Head]byte
	if _, err := io.ReadFull(r.c, head[:]); err != nil {
		r.t.Fatal(err)
	}
	record := make([]byte, int(binary.BigEndian.Uint16(head[3:])))
	if _, err := io.ReadFull(r.c, record); err != nil {
		r.t.Fatal(err)
	}
	if _, _, _, err := r.in.Open(append(head[:], record...)); !errors.Is(err, seal.UnexpectedMessage) {
		r.t.Fatalf("no ticket came first: %v", err)
	}
}

func (r *rawTLS) ping() {
	r.t.Helper()
	r.write(r.out.Seal(nil, pingreq))
	if got, err := r.read(2); err != nil || !bytes.Equal(got, []byte{0xd0, 0}) {
		r.t.Fatalf("PINGRESP %x, %v", got, err)
	}
}

// TestSealedRecords: records come in pieces, many at a time, of a byte each, and under other keys.
func TestSealedRecords(t *testing.T) {
	address, config := encrypted(t, open(t, nil))
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	r := dialRaw(t, address, config)
	r.hello("raw")
	r.ping()
	for _, b := range r.out.Seal(nil, pingreq) {
		r.write([]byte{b})
	}
	var many []byte
	for range 500 {
		many = r.out.Seal(many, pingreq[:1])
		many = r.out.Seal(many, pingreq[1:])
	}
	r.write(many)
	if got, err := r.read(2 * 501); err != nil || len(got) != 2*501 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	r.write(r.out.Update(nil))
	r.ping()
	for range 3 { // KeyUpdate that asks for one: In follows the server's
		before := r.in
		r.write(r.out.AskUpdate(nil))
		r.ping()
		if r.in.Same(&before) {
			t.Error("the server goes on with its old keys")
		}
	}
	r.write(r.out.Alert(nil, seal.CloseNotify))
	if got, err := r.read(1); !errors.Is(err, io.EOF) {
		t.Errorf("%x, %v", got, err)
	}
}

// TestSealedBad: what is wrong is answered with its alert and ends the connection, and no other.
func TestSealedBad(t *testing.T) {
	address, config := encrypted(t, open(t, nil))
	other := dialRaw(t, address, config)
	other.hello("other")
	for name, c := range map[string]struct {
		bad  func(o *seal.Out) []byte
		want error
	}{
		"tampered": {func(o *seal.Out) []byte { b := o.Seal(nil, pingreq); b[len(b)-1] ^= 1; return b },
			seal.Received{Alert: seal.BadRecordMAC}},
		"plain": {func(*seal.Out) []byte { return pingreq }, nil},
		"no record": {func(*seal.Out) []byte { return []byte("\x16\x03\x03\x00\x05hello") },
			seal.Received{Alert: seal.UnexpectedMessage}},
		"too long": {func(*seal.Out) []byte { return []byte("\x17\x03\x03\xff\xff") },
			seal.Received{Alert: seal.RecordOverflow}},
		"cut": {func(o *seal.Out) []byte { return o.Seal(nil, make([]byte, 1000))[:500] }, nil},
	} {
		r := dialRaw(t, address, config)
		r.hello(name)
		r.write(c.bad(&r.out))
		if c.want == nil { // the rest does not come
			if err := r.c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			c.want = io.EOF
		}
		if got, err := r.read(1); !errors.Is(err, c.want) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	other.ping()
}

// TestSealedBulk: large messages both ways, to a client that reads slowly, come as they went.
func TestSealedBulk(t *testing.T) {
	address, config := encrypted(t, open(t, nil))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := config.Clone()
		config.MinVersion, config.MaxVersion = version, version
		payload := make([]byte, 700<<10)
		rand.Read(payload) // never fails
		const count = 12
		sub, pub := dialTLS(t, address, config, "sub"), dialTLS(t, address, config, "pub")
		subscribe := []byte{0x82, 8, 0, 1, 0, 3, 'b', '/', '#', 1}
		ask(t, sub, subscribe, 5)
		go func() {
			for id := range uint16(count) {
				p := packet.Publish{Topic: []byte("b/x"), Payload: payload, QoS: 1, PacketID: id + 1}
				_, _ = pub.Write(p.AppendTo(nil, packet.V311)) // the test waits for what is missing
			}
		}()
		acks := make([]byte, 4*count)
		if _, err := io.ReadFull(pub, acks); err != nil {
			t.Fatal(err)
		}
		for i := range count {
			frame := make([]byte, 4+2+3+2+len(payload))
			if _, err := io.ReadFull(sub, frame); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
			if !bytes.Equal(frame[11:], payload) {
				t.Fatalf("message %d is another one", i)
			}
		}
	}
}

func dialTLS(t *testing.T, address string, config *tls.Config, id string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", address, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // it may be closed
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	ask(t, c, connectPacket(id), 4)
	return c
}

func ask(t *testing.T, c net.Conn, send []byte, answer int) {
	t.Helper()
	if _, err := c.Write(send); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, answer)); err != nil {
		t.Fatal(err)
	}
}

// TestIdleSealedMemory: an idle connection of TLS 1.3 has no goroutine, and little memory.
func TestIdleSealedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("opens many sockets")
	}
	address, config := encrypted(t, open(t, nil))
	const count, most = 500, 10 << 10 // with the client's side of it
	dialTLS(t, address, config, "first")
	before := inUse()
	all := make([]*rawTLS, count)
	for i := range all {
		all[i] = dialRaw(t, address, config)
		all[i].hello(fmt.Sprintf("idle-%d", i))
	}
	var each int64
	eventually(t, "the connections rest", func() bool {
		each = (inUse() - before) / count
		return (each <= most || race.Detector) && alloctest.Goroutines(ofConns) == 0 &&
			alloctest.Goroutines("github.com/firthmq/firth/internal/kit/secure.") <= 4
	})
	t.Logf("%d bytes for an idle connection and its client", each)
	runtime.KeepAlive(all)
}
