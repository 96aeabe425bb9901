package authority_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// house is an authority on a log in memory, and a clock that stands.
type house struct {
	t       *testing.T
	fs      vfs.FS
	log     *store.Store
	now     time.Time
	changed int
	*authority.Authority
}

func open(t *testing.T) *house {
	h := &house{t: t, fs: vfs.NewMemory(), now: time.Now()}
	h.start()
	return h
}

func (h *house) start() {
	h.t.Helper()
	var err error
	if h.log, err = store.Open(h.t.Context(), store.Options{FS: h.fs, Logger: logtest.New(h.t)}); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = h.log.Close() })
	h.Authority, err = authority.Open(h.t.Context(), authority.Options{FS: h.fs, Log: h.log, Logger: logtest.New(h.t),
		Clock: func() time.Time { return h.now }, Changed: func() { h.changed++ }})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) restart() {
	h.t.Helper()
	if err := h.log.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.start()
}

// created is a house whose authority is there.
func created(t *testing.T) *house {
	t.Helper()
	h := open(t)
	if err := h.Create(t.Context(), "devices"); err != nil {
		t.Fatal(err)
	}
	return h
}

// csr is a request for a name, checked.
func csr(t testing.TB, name string) *x509.CertificateRequest {
	t.Helper()
	r, err := authority.ParseRequest(rawCSR(t, name, nil))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func rawCSR(t testing.TB, name string, key any) []byte {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader,
		&x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (h *house) issue(r authority.Request) *authority.Issued {
	h.t.Helper()
	r.CSR = csr(h.t, r.Name)
	made, err := h.Issue(h.t.Context(), &r)
	if err != nil {
		h.t.Fatal(err)
	}
	return made
}

// verify holds a certificate against the authority.
func (h *house) verify(der []byte, opt x509.VerifyOptions) error {
	h.t.Helper()
	text, err := h.PEM()
	if err != nil {
		h.t.Fatal(err)
	}
	opt.Roots, opt.CurrentTime = x509.NewCertPool(), h.now
	opt.Roots.AppendCertsFromPEM(text)
	c, err := x509.ParseCertificate(der)
	if err != nil {
		h.t.Fatal(err)
	}
	_, err = c.Verify(opt)
	return err
}

// file is what a file holds.
func (h *house) file(name string) []byte {
	h.t.Helper()
	f, err := h.fs.Open(name)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		h.t.Fatal(err)
	}
	text := make([]byte, size)
	if _, err := f.ReadAt(text, 0); err != nil && size > 0 && err.Error() != "EOF" {
		h.t.Fatal(err)
	}
	return text
}

// list is the list of revoked certificates, by serial number.
func (h *house) list() (list *x509.RevocationList, serials []string) {
	h.t.Helper()
	block, _ := pem.Decode(h.file(authority.RevokedFile))
	list, err := x509.ParseRevocationList(block.Bytes)
	if err != nil {
		h.t.Fatal(err)
	}
	for i := range list.RevokedCertificateEntries {
		serials = append(serials, list.RevokedCertificateEntries[i].SerialNumber.Text(16))
	}
	return list, serials
}

func wants(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: %v, want %s", what, err, kind)
	}
}

func TestIssue(t *testing.T) {
	h := open(t)
	_, err := h.Issue(t.Context(), &authority.Request{CSR: csr(t, "pump"), Name: "pump"})
	wants(t, "no authority", err, fault.NotFound)
	if err := h.Create(t.Context(), "devices"); err != nil {
		t.Fatal(err)
	}
	wants(t, "another authority", h.Create(t.Context(), "others"), fault.Exists)

	pump := h.issue(authority.Request{Name: "pump"})
	server := h.issue(authority.Request{Name: "broker", Server: true,
		Names: []string{"broker.example", "192.0.2.1", "2001:db8::1"}})
	for range 2 { // the same authority after a restart
		client := x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if err := h.verify(pump.DER, client); err != nil {
			t.Error(err)
		}
		if err := h.verify(server.DER, client); err == nil {
			t.Error("a server passes as a client")
		}
		if err := h.verify(pump.DER, x509.VerifyOptions{}); err == nil {
			t.Error("a client passes as a server")
		}
		for _, name := range []string{"broker.example", "192.0.2.1", "[2001:db8::1]"} {
			if err := h.verify(server.DER, x509.VerifyOptions{DNSName: name}); err != nil {
				t.Error(err)
			}
		}
		if list := h.Certificates(); len(list) != 2 || list[0].Name != "broker" || list[1].Serial != pump.Serial ||
			len(pump.Serial) != 32 {
			t.Errorf("%+v, the serial of pump is %s", list, pump.Serial)
		}
		h.restart()
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	h := created(t)
	for what, r := range map[string]authority.Request{
		"no name":       {},
		"long name":     {Name: strings.Repeat("x", 65)},
		"anonymous":     {Name: "ANONYMOUS"},
		"everybody":     {Name: "*"},
		"line":          {Name: "a\nb"},
		"not UTF-8":     {Name: "a\xff"},
		"unseen":        {Name: "a\u200bb"},
		"nameless":      {Name: "s", Server: true},
		"no host":       {Name: "s", Server: true, Names: []string{"a b"}},
		"named client":  {Name: "c", Names: []string{"broker.example"}},
		"life too long": {Name: "c", Life: authority.MaxLife + 1},
	} {
		r.CSR = csr(t, "x")
		_, err := h.Issue(t.Context(), &r)
		wants(t, what, err, fault.Invalid)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err == nil {
		_, err = authority.ParseRequest(rawCSR(t, "x", weak))
		wants(t, "RSA of 1,024 bits", err, fault.Invalid)
	}
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = authority.ParseRequest(rawCSR(t, "x", small))
	wants(t, "P-224", err, fault.Invalid)
	forged := rawCSR(t, "x", nil)
	forged[len(forged)-1] ^= 1
	_, err = authority.ParseRequest(forged)
	wants(t, "without its key", err, fault.Invalid)
	_, err = authority.ParseRequest(make([]byte, authority.MaxRequest+1))
	wants(t, "large", err, fault.TooLarge)
}

func TestRevoke(t *testing.T) {
	h := created(t)
	one, two, other := h.issue(authority.Request{Name: "pump"}), h.issue(authority.Request{Name: "pump"}),
		h.issue(authority.Request{Name: "valve"})
	if _, none := h.list(); len(none) != 0 {
		t.Errorf("%s are revoked", none)
	}
	changed := h.changed
	gone, err := h.Revoke(t.Context(), "pump", "stolen")
	if err != nil || len(gone) != 2 || gone[0].Reason != "stolen" {
		t.Fatalf("%+v, %v", gone, err)
	}
	if h.changed == changed {
		t.Error("listeners were not told")
	}
	before, serials := h.list()
	if len(serials) != 2 || !slices.Contains(serials, one.Serial) || !slices.Contains(serials, two.Serial) {
		t.Errorf("the list has %s", serials)
	}
	_, err = h.Revoke(t.Context(), "pump", "")
	wants(t, "again", err, fault.NotFound)
	h.restart()
	h.now = h.now.Add(time.Second)
	if _, err := h.Revoke(t.Context(), other.Serial, ""); err != nil {
		t.Fatal(err)
	}
	after, serials := h.list()
	if len(serials) != 3 || after.Number.Cmp(before.Number) <= 0 {
		t.Errorf("the list %s has %s, the one before is %s", after.Number, serials, before.Number)
	}
	h.now = h.now.Add(authority.ClientLife) // what is over needs no list
	h.restart()
	if list, serials := h.list(); len(serials) != 0 || !list.NextUpdate.After(h.now) {
		t.Errorf("the list until %s has %s", list.NextUpdate, serials)
	}
}

func TestRenew(t *testing.T) {
	h := created(t)
	_, err := h.Renew(t.Context(), "broker", csr(t, "broker"), "")
	wants(t, "nothing there", err, fault.NotFound)
	h.issue(authority.Request{Name: "broker", Server: true, Names: []string{"broker.example"}, Life: 48 * time.Hour})
	h.now = h.now.Add(time.Hour)
	if n := len(h.Ending()); n != 1 {
		t.Errorf("%d end soon", n)
	}
	made, err := h.Renew(t.Context(), "broker", csr(t, "broker"), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.verify(made.DER, x509.VerifyOptions{DNSName: "broker.example"}); err != nil {
		t.Error(err)
	}
	if left := made.Until.Sub(h.now); left < 47*time.Hour || left > 48*time.Hour+time.Minute {
		t.Errorf("good for %s", left)
	}
}

// TestServerRenewsItself: the certificate of the server is renewed in time, with its names, for the same key.
func TestServerRenewsItself(t *testing.T) {
	h := created(t)
	names := []string{"broker.example", "192.0.2.1"}
	for _, want := range []bool{true, false} {
		if made, err := h.IssueServer(t.Context(), names); made != want || err != nil {
			t.Fatal(made, err)
		}
	}
	key, first := h.file(authority.ServerKeyFile), h.file(authority.ServerFile)
	h.restart()
	if string(h.file(authority.ServerFile)) != string(first) {
		t.Error("renewed too soon")
	}
	h.now = h.now.Add(authority.ServerLife * 3 / 4)
	h.restart()
	second := h.file(authority.ServerFile)
	if string(second) == string(first) || string(h.file(authority.ServerKeyFile)) != string(key) {
		t.Error("not renewed for the same key")
	}
	block, _ := pem.Decode(second)
	for _, name := range names {
		if err := h.verify(block.Bytes, x509.VerifyOptions{DNSName: name}); err != nil {
			t.Error(err)
		}
	}
	if made, err := h.IssueServer(t.Context(), []string{"other.example"}); !made || err != nil {
		t.Error(made, err)
	}
}

func nobody(string) bool { return false }

func TestClaims(t *testing.T) {
	h := created(t)
	claim := func(name string, uses int) string {
		t.Helper()
		_, token, err := h.AddClaim(t.Context(), &authority.NewClaim{Name: name, Uses: uses, For: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	enrol := func(name, token string) error {
		_, _, err := h.Enrol(t.Context(), name, []byte(token), csr(t, name), nobody)
		return err
	}
	once, fleet := claim("pump-1", 1), claim("valve-*", 3)
	for what, try := range map[string][2]string{
		"another name": {"pump-2", once}, "no token": {"pump-1", ""},
		"a wrong token":  {"pump-1", once[:len(once)-8] + "AAAAAAAA"},
		"not the prefix": {"pump-1", fleet}, "the pattern": {"valve-*", fleet},
	} {
		if err := enrol(try[0], try[1]); !errors.Is(err, authority.ErrClaim) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, err := h.Enrol(t.Context(), "pump-1", []byte(once), csr(t, "pump-9"), nobody)
	wants(t, "another subject", err, fault.Invalid)
	if err := enrol("pump-1", once); err != nil {
		t.Fatal(err)
	}
	h.restart() // what was used is used
	if err := enrol("pump-1", once); !errors.Is(err, authority.ErrClaim) {
		t.Errorf("twice: %v", err)
	}
	if err := enrol("valve-1", fleet); err != nil {
		t.Fatal(err)
	}
	wants(t, "somebody's name", enrol("valve-1", fleet), fault.Exists)
	_, _, err = h.Enrol(t.Context(), "valve-root", []byte(fleet), csr(t, ""), func(name string) bool { return true })
	wants(t, "a user's name", err, fault.Exists)
	h.now = h.now.Add(2 * time.Hour)
	if err := enrol("valve-2", fleet); !errors.Is(err, authority.ErrClaim) {
		t.Errorf("late: %v", err)
	}
	h.now = h.now.Add(-2 * time.Hour)
	if err := h.RemoveClaim(t.Context(), h.Claims()[0].ID); err != nil {
		t.Fatal(err)
	}
	if err := enrol("valve-2", fleet); !errors.Is(err, authority.ErrClaim) {
		t.Errorf("removed: %v", err)
	}
	for _, bad := range []authority.NewClaim{
		{Name: "", Uses: 1, For: time.Hour}, {Name: "a*b", Uses: 1, For: time.Hour}, {Name: "a", For: time.Hour},
		{Name: "a", Uses: 1}, {Name: "a", Uses: 1, For: authority.MaxAwhile + 1},
	} {
		_, _, err := h.AddClaim(t.Context(), &bad)
		wants(t, bad.Name, err, fault.Invalid)
	}
}

func TestReEnrol(t *testing.T) {
	h := created(t)
	pump := h.issue(authority.Request{Name: "pump", Life: 72 * time.Hour})
	shown, err := x509.ParseCertificate(pump.DER)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.ReEnrol(t.Context(), shown, csr(t, "pump")); err != nil {
		t.Fatal(err)
	}
	_, err = h.ReEnrol(t.Context(), shown, csr(t, "valve"))
	wants(t, "another name", err, fault.Invalid)
	other := created(t)
	_, err = other.ReEnrol(t.Context(), shown, csr(t, "pump"))
	wants(t, "another authority", err, fault.Denied)
	if _, err := h.Revoke(t.Context(), pump.Serial, ""); err != nil {
		t.Fatal(err)
	}
	_, err = h.ReEnrol(t.Context(), shown, csr(t, "pump"))
	wants(t, "revoked", err, fault.Denied)
}

// TestCrashes: wherever the machine ends while an authority is made and a certificate revoked, the next start has a
// whole authority or none, and forgets no revocation that was acknowledged.
func TestCrashes(t *testing.T) {
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	type crash struct {
		disk    *vfs.Memory
		revoked bool // and it was acknowledged
	}
	var crashes []crash
	revoked := false
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	faulty.OnOp(func(op vfs.Op) {
		if op.Kind.Changes() && (strings.HasPrefix(op.Name, authority.Folder) || op.Kind == vfs.OpSyncDir) {
			crashes = append(crashes, crash{disk.CrashClone(rng), revoked}, crash{disk.CrashClone(nil), revoked})
		}
	})
	h := &house{t: t, fs: faulty, now: time.Now()}
	h.start()
	if err := h.Create(t.Context(), "devices"); err != nil {
		t.Fatal(err)
	}
	h.issue(authority.Request{Name: "pump"})
	h.issue(authority.Request{Name: "valve"})
	if _, err := h.IssueServer(t.Context(), []string{"broker.example"}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Revoke(t.Context(), "pump", ""); err != nil {
		t.Fatal(err)
	}
	revoked = true
	if _, err := h.Revoke(t.Context(), "valve", ""); err != nil {
		t.Fatal(err)
	}
	crashes = append(crashes, crash{disk.CrashClone(nil), true})
	if len(crashes) < 20 {
		t.Fatalf("only %d crashes", len(crashes))
	}
	for i, c := range crashes {
		after := &house{t: t, fs: c.disk, now: h.now}
		after.start()
		if !after.Exists() {
			if err := after.Create(t.Context(), "devices"); err != nil || c.revoked {
				t.Fatalf("crash %d: no authority, and %v", i, err)
			}
			continue
		}
		if _, serials := after.list(); c.revoked && len(serials) == 0 {
			t.Errorf("crash %d: nothing is revoked", i)
		}
		if _, err := after.IssueServer(t.Context(), []string{"broker.example"}); err != nil {
			t.Errorf("crash %d: %v", i, err)
		}
	}
}

func TestDamage(t *testing.T) {
	h := created(t)
	strange := record.Record{Timestamp: 1, Key: []byte("certificate/1"), Value: []byte("{")}
	if err := stream.StoreState(t.Context(), h.log, authority.TopicName, []record.Record{strange}); err != nil {
		t.Fatal(err)
	}
	_, err := authority.Open(t.Context(), authority.Options{FS: h.fs, Log: h.log})
	wants(t, "a record that is not understood", err, fault.Corrupt)
	if _, err := authority.Open(t.Context(), authority.Options{FS: h.fs, Log: h.log, AcceptDamage: true}); err != nil {
		t.Error(err)
	}
}

func FuzzParseRequest(f *testing.F) {
	der := rawCSR(f, "pump", nil)
	f.Add(der)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	f.Add([]byte("-----BEGIN X-----\n-----END X-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := authority.ParseRequest(text)
		if (r == nil) == (err == nil) {
			t.Errorf("%v, %v", r, err)
		}
		if err != nil && fault.KindOf(err) == fault.Internal {
			t.Error(err)
		}
	})
}
