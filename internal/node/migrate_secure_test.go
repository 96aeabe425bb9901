package node

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
)

// transact begins a transaction of one record in the topic of the plant, and ends it, if it is to end.
func transact(t *testing.T, address, id, value string, end ...kgo.TransactionEndTry) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.TransactionalID(id), kgo.DefaultProduceTopic("plant"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for _, how := range end {
		if err := cl.EndTransaction(t.Context(), how); err != nil {
			t.Fatal(err)
		}
	}
}

// moveKeys copies what a gateway needs besides what is in the log.
func moveKeys(t *testing.T, from, to string) {
	t.Helper()
	files := KeyFiles(from)
	if len(files) == 0 {
		t.Fatal("no file of keys is named")
	}
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o700)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// closedBrokers are brokers that ask for TLS and a password, and a gateway that has both.
func closedBrokers(t *testing.T, ca *securetest.CA) (*kfake.Cluster, *Config) {
	t.Helper()
	folder := t.TempDir()
	f := brokers(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "firth", "secret"),
		kfake.TLS(&tls.Config{Certificates: []tls.Certificate{ca.Server("127.0.0.1", "localhost").TLS(t)}}))
	to := gateway(t, f)
	to.Log.Kafka.TLS.Enabled, to.Log.Kafka.TLS.CA = true, securetest.Write(t, folder, "brokers.pem", ca.PEM)
	to.Log.Kafka.SASL = BrokerSASL{Mechanism: "plain", User: "firth", PasswordFile: filepath.Join(folder, "password")}
	if err := os.WriteFile(to.Log.Kafka.SASL.PasswordFile, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return f, to
}

// TestMigrateSecured moves a node whose disk is encrypted into a cluster that asks for TLS and a password. Transactions
// of Kafka clients are there as far as they were committed, and one that is open is waited for; the gateway is the
// certificate authority from then on, and lets nobody in whose certificate was revoked.
func TestMigrateSecured(t *testing.T) {
	from := atRest(t)
	n := start(t, from)
	e := &certified{Node: n, t: t, pool: x509.NewCertPool()}
	if err := n.authority.Create(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.authority.IssueServer(t.Context(), []string{"localhost", "127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	text, err := n.authority.PEM()
	if err != nil {
		t.Fatal(err)
	}
	e.pool.AppendCertsFromPEM(text)
	valve, pump := e.config("valve"), e.config("pump")
	if _, err := n.authority.Revoke(t.Context(), "pump", "stolen"); err != nil {
		t.Fatal(err)
	}
	n.stores(t, message("plant/a", "of a device", 2, false))
	kafka := n.Addresses().Kafka
	transact(t, kafka, "one", "committed", kgo.TryCommit)
	transact(t, kafka, "two", "aborted", kgo.TryAbort)
	transact(t, kafka, "three", "open")
	n.stores(t, message("plant/a", "behind it", 1, false))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}

	ca := securetest.NewCA(t, "brokers")
	f, to := closedBrokers(t, ca)
	moving := Migration{From: from, To: to, Log: logtest.New(t)}
	if _, err := Migrate(t.Context(), moving); !fault.Is(err, fault.Limited) || !strings.Contains(err.Error(), "open") {
		t.Fatalf("with an open transaction: %v", err)
	}
	n = start(t, from)
	transact(t, n.Addresses().Kafka, "three", "instead of it", kgo.TryCommit)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := Migrate(t.Context(), moving); err != nil || !r.Finished {
		t.Fatalf("%+v, %v", r, err)
	}

	moveKeys(t, from.Data, to.Data)
	to.Listen.MQTTS, to.TLS.ClientAuth = "127.0.0.1:0", "require"
	to.TLS.Certificate, to.TLS.Key = to.ownFile(authority.ServerFile), to.ownFile(authority.ServerKeyFile)
	to.TLS.ClientCA = to.ownFile(authority.CertificateFile)
	e.Node = start(t, to)
	e.a = e.Addresses()
	hello := func(c *tls.Config, name string) {
		t.Helper()
		conn, err := tls.Dial("tcp", e.a.MQTTS, c)
		if err != nil {
			t.Fatal(name, err)
		}
		defer conn.Close()
		helloAs(t, conn, name)
	}
	hello(valve, "valve")
	hello(e.config("tap"), "tap")
	refuses(t, e.a.MQTTS, pump)
	want := []string{"of a device", "committed", "behind it", "instead of it"}
	if got := committed(t, f.ListenAddrs()[0], len(want), kgo.DialTLSConfig(&tls.Config{RootCAs: ca.Pool()}),
		kgo.SASL(plain.Auth{User: "firth", Pass: "secret"}.AsMechanism())); !slices.Equal(got, want) {
		t.Errorf("the cluster has %q", got)
	}
}

// refuses wants a device not to be let in: with TLS 1.3 it is told after its handshake.
func refuses(t *testing.T, address string, c *tls.Config) {
	t.Helper()
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "bad certificate") {
		t.Errorf("a certificate that was revoked: %v", err)
	}
}

// committed reads the values of so many records of the topic of the plant.
func committed(t *testing.T, address string, n int, opts ...kgo.Opt) (values []string) {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(address), kgo.ConsumeTopics("plant"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for len(values) < n {
		fetches := cl.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatalf("%q: %v", values, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}
