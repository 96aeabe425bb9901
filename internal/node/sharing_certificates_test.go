package node

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// certifiedAmong is gateways that share sessions, and whose folders hold the same authority.
func certifiedAmong(t *testing.T, f *kfake.Cluster) (all []*certified) {
	t.Helper()
	first := amongEquals(t, f)
	n := start(t, first)
	if err := n.authority.Create(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.authority.IssueServer(t.Context(), []string{"localhost", "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	var nodes []*Node
	for range 3 {
		c := amongEquals(t, f)
		copyAuthority(t, first, c)
		c.Listen.MQTTS = "127.0.0.1:0"
		c.TLS.Certificate, c.TLS.Key = c.ownFile(authority.ServerFile), c.ownFile(authority.ServerKeyFile)
		c.TLS.ClientCA, c.TLS.ClientAuth = c.ownFile(authority.CertificateFile), "require"
		e := &certified{Node: start(t, c), t: t, pool: x509.NewCertPool()}
		e.a = e.Addresses()
		text, err := e.authority.PEM()
		if err != nil {
			t.Fatal(err)
		}
		e.pool.AppendCertsFromPEM(text)
		all, nodes = append(all, e), append(nodes, e.Node)
	}
	share(t, nodes...)
	return all
}

// copyAuthority gives a gateway the authority of another one, as an operator does.
func copyAuthority(t *testing.T, from, to *Config) {
	t.Helper()
	if err := os.MkdirAll(to.ownFile(authority.Folder), 0o700); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(from.ownFile(authority.Folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range files {
		text, err := os.ReadFile(filepath.Join(from.ownFile(authority.Folder), one.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to.ownFile(authority.Folder), one.Name()), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// letsIn tells whether a device with a certificate gets a CONNACK with Success.
func (e *certified) letsIn(config *tls.Config, id string) bool {
	e.t.Helper()
	c, err := tls.Dial("tcp", e.a.MQTTS, config)
	if err != nil {
		return false
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		e.t.Fatal(err)
	}
	hello := &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: []byte(id)}
	if _, err := c.Write(hello.AppendTo(nil, packet.V5)); err != nil {
		return false
	}
	var ack [4]byte // type, length, flags, reason
	_, err = io.ReadFull(c, ack[:])
	return err == nil && ack[3] == byte(packet.Success)
}

// TestSharedCertificates: what one gateway revokes is gone from all, wherever its session is, and what one issues all
// know; a claim that is good once is used once, on whatever gateways it is shown at a time.
func TestSharedCertificates(t *testing.T) {
	t.Parallel() // it waits
	all := certifiedAmong(t, brokers(t))
	a, b, c := all[0], all[1], all[2]
	stolen, good := a.config("stolen"), b.config("good")
	there, err := tls.Dial("tcp", b.a.MQTTS, stolen)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	id := c.idOf("stolen") // its session is on c, and it connects to b
	helloAs(t, there, id)
	for _, e := range all {
		becomes(t, "it knows both", func() bool { return len(e.authority.Certificates()) == 3 }) // and that of the server
	}
	if _, err := a.authority.Revoke(t.Context(), "stolen", "a test"); err != nil {
		t.Fatal(err)
	}
	if err := there.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, there) // until it ends
	if timeout, is := err.(interface{ Timeout() bool }); is && timeout.Timeout() {
		t.Error("what is revoked lives on")
	}
	for i, e := range all {
		becomes(t, fmt.Sprint(i, " refuses what is revoked"), func() bool { return !e.letsIn(stolen, id) })
		if !e.letsIn(good, e.idOf("good")) {
			t.Errorf("%d refuses what is good", i)
		}
	}
	if _, err := c.authority.Revoke(t.Context(), "stolen", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("revoked twice: %v", err)
	}
	claimedOnce(t, all)
}

// claimedOnce has all gateways be shown a claim at once that is good for one certificate.
func claimedOnce(t *testing.T, all []*certified) {
	t.Helper()
	_, token, err := all[0].authority.AddClaim(t.Context(), &authority.NewClaim{Name: "new", Uses: 1, For: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		becomes(t, "it knows the claim", func() bool {
			_, err := e.authority.Find("new", []byte(token))
			return err == nil
		})
	}
	var errs [3]error
	var enrolling sync.WaitGroup
	csr, _ := all[0].request("new")
	for i, e := range all {
		enrolling.Go(func() {
			_, _, errs[i] = e.authority.Enrol(t.Context(), "new", []byte(token), csr, func(string) bool { return false })
		})
	}
	enrolling.Wait()
	made := 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case !fault.Is(err, fault.Denied):
			t.Errorf("who was not the first was told %v", err)
		}
	}
	if made != 1 {
		t.Errorf("%d have a certificate by a claim for one", made)
	}
}
