package credential

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/firthmq/firth/internal/kit/fault"
)

const testNonce = "server-nonce-of-24-bytes"

func scrammed(t testing.TB, m Mechanism, password string) SCRAM {
	t.Helper()
	s, err := NewSCRAM(m, []byte(password), testSalt, MinIterations)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// only finds one user.
func only(user string, s SCRAM) Find {
	return func(name string, token bool) (SCRAM, bool) { return s, name == user && !token }
}

// TestRFC7677 is the example of section 3.
func TestRFC7677(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSCRAM(SHA256, []byte("pencil"), salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	e := SHA256.Begin(only("user", s), []byte("secret"), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
	for i, step := range []struct{ in, out string }{
		{"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
			"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"},
		{"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," +
			"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
			"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
	} {
		answer, done, err := e.Step([]byte(step.in))
		if err != nil || string(answer) != step.out || done != (i == 1) {
			t.Fatalf("step %d: %q, done %v, %v", i, answer, done, err)
		}
	}
	if e.User() != "user" || e.Token() {
		t.Errorf("user %q", e.User())
	}
	if _, _, err := e.Step([]byte("more")); !fault.Is(err, fault.Invalid) {
		t.Errorf("a third step: %v", err)
	}
}

// TestFranz runs the exchange with the client of franz-go, which checks our signature too.
func TestFranz(t *testing.T) {
	for _, m := range Mechanisms() {
		for _, c := range []struct {
			user, password, with string
			token, ok            bool
		}{
			{"user", "pencil", "pencil", false, true},
			{"us,er=", "pen,cil=", "pen,cil=", false, true},
			{"ü", "ö", "ö", false, true},
			{"user", "pencil", "pen", false, false},
			{"nobody", "pencil", "pencil", false, false},
			{"user", "pencil", "pencil", true, false},
		} {
			kept := scrammed(t, m, c.password)
			find := only(map[bool]string{true: c.user, false: "user"}[c.user != "nobody"], kept)
			auth := scram.Auth{User: c.user, Pass: c.with, IsToken: c.token}
			mechanism := auth.AsSha256Mechanism()
			if m == SHA512 {
				mechanism = auth.AsSha512Mechanism()
			}
			if ok, err := runFranz(mechanism, m.Begin(find, []byte("secret"), testNonce)); ok != c.ok {
				t.Errorf("%s, %q with %q: %v, %v", m, c.user, c.with, ok, err)
			} else if !ok && !fault.Is(err, fault.Denied) {
				t.Errorf("%s: %v", m, err)
			}
		}
	}
}

func runFranz(mechanism sasl.Mechanism, e *Exchange) (bool, error) {
	session, say, err := mechanism.Authenticate(context.Background(), "host")
	if err != nil {
		return false, err
	}
	for {
		answer, done, err := e.Step(say)
		if err != nil {
			return false, err
		}
		agreed, next, err := session.Challenge(answer)
		if err != nil {
			return false, fmt.Errorf("the client: %w", err)
		}
		if done || agreed {
			return done && agreed, nil
		}
		say = next
	}
}

// finalFor is what a client with the password "pencil" answers: with a header, and a nonce and extensions.
func finalFor(bare, said, binding, rest string) string {
	m := SHA256
	salted, err := pbkdf2.Key(m.hash(), "pencil", testSalt, MinIterations, m.size())
	if err != nil {
		panic(err)
	}
	without := "c=" + base64.StdEncoding.EncodeToString([]byte(binding)) + ",r=" + rest
	clientKey := m.mac(salted, "Client Key")
	proof := m.mac(m.digest(clientKey), bare+","+said+","+without)
	for i := range proof {
		proof[i] ^= clientKey[i]
	}
	return without + ",p=" + base64.StdEncoding.EncodeToString(proof)
}

// TestExchangeFlags: what a client may say in the beginning, and what it must repeat in the end. In each case the proof
// is right for what was said.
func TestExchangeFlags(t *testing.T) {
	const bare = "n=user,r=abc"
	for _, c := range []struct {
		what, gs2, bare, binding, nonce, more string
		first, final                          fault.Kind // Internal: none
	}{
		{"no channel binding", "n,,", bare, "n,,", "abc" + testNonce, "", 0, 0},
		{"the client could", "y,,", bare, "y,,", "abc" + testNonce, "", 0, 0},
		{"acts as itself", "n,a=user,", bare, "n,a=user,", "abc" + testNonce, "", 0, 0},
		{"extensions", "n,,", bare + ",tokenauth=false,x=y=z", "n,,", "abc" + testNonce, ",more=1", 0, 0},
		{"channel binding", "p=tls-unique,,", bare, "", "", "", fault.Unsupported, 0},
		{"acts as another", "n,a=root,", bare, "", "", "", fault.Denied, 0},
		{"a mandatory extension", "n,,m=x,", bare, "", "", "", fault.Unsupported, 0},
		{"another header", "n,,", bare, "y,,", "abc" + testNonce, "", 0, fault.Denied},
		{"another identity", "n,,", bare, "n,a=root,", "abc" + testNonce, "", 0, fault.Denied},
		{"its nonce twice, as librdkafka", "n,,", bare, "n,,", "abcabc" + testNonce, "", 0, 0},
		{"only its own nonce", "n,,", bare, "n,,", "abc", "", 0, fault.Denied},               // CVE-2024-56128
		{"another nonce", "n,,", bare, "n,,", "abd" + testNonce, "", 0, fault.Denied},        // "
		{"a longer nonce", "n,,", bare, "n,,", "abc" + testNonce + "x", "", 0, fault.Denied}, // "
		{"a bad extension", "n,,", bare, "n,,", "abc" + testNonce, ",1=2", 0, fault.Invalid},
	} {
		m := SHA256
		e := m.Begin(only("user", scrammed(t, m, "pencil")), []byte("secret"), testNonce)
		said, done, err := e.Step([]byte(c.gs2 + c.bare))
		if done || (err != nil) != (c.first != 0) || err != nil && !fault.Is(err, c.first) {
			t.Errorf("%s: first message: %v", c.what, err)
		}
		if err != nil {
			continue
		}
		_, done, err = e.Step([]byte(finalFor(c.bare, string(said), c.binding, c.nonce+c.more)))
		if done != (c.final == 0) || (err != nil) != (c.final != 0) || err != nil && !fault.Is(err, c.final) {
			t.Errorf("%s: final message: done %v, %v", c.what, done, err)
		}
	}
}

func TestBadMessages(t *testing.T) {
	for _, first := range []string{
		"", "n", "n,", "n,,", ",,n=user,r=abc", "x,,n=user,r=abc", "n,n=user,r=abc", "n,,n=,r=abc", "n,,n=user",
		"n,,n=user,r=", "n,,r=abc,n=user", "n,,n=us=er,r=abc", "n,,n=us=2cer,r=abc", "n,,n=user=,r=abc",
		"n,,n=us\x00er,r=abc", "n,,n=us\xffer,r=abc", "n,,n=user,r=a b", "n,,n=user,r=a\x7f",
		"n,,n=user,r=" + strings.Repeat("a", 513), "n,,n=user,r=abc,", "n,,n=user,r=abc,x",
		"n,,n=user,r=abc,=x", "n,,n=user,r=abc,x=", "n,b=user,n=user,r=abc", "n,a=,n=user,r=abc",
		"n,,n=" + strings.Repeat("u", 5000) + ",r=abc",
	} {
		e := SHA256.Begin(only("user", scrammed(t, SHA256, "pencil")), []byte("secret"), testNonce)
		if answer, done, err := e.Step([]byte(first)); !fault.Is(err, fault.Invalid) || done || answer != nil {
			t.Errorf("%.40q: %q, %v, %v", first, answer, done, err)
		}
		if _, _, err := e.Step([]byte("n,,n=user,r=abc")); err == nil {
			t.Errorf("%.40q: the exchange goes on", first)
		}
	}
	for _, final := range []string{
		"", "c=biws", "c=biws,r=abc" + testNonce, "c=biws,r=abc" + testNonce + ",p=", "c=biws,r=abc" + testNonce + ",p=AAAA",
		"r=abc" + testNonce + ",c=biws,p=" + strings.Repeat("A", 43) + "=", "c=biw,r=abc,p=" + strings.Repeat("A", 43) + "=",
		"c=,r=abc,p=" + strings.Repeat("A", 43) + "=", ",p=" + strings.Repeat("A", 43) + "=",
	} {
		e := SHA256.Begin(only("user", scrammed(t, SHA256, "pencil")), []byte("secret"), testNonce)
		if _, _, err := e.Step([]byte("n,,n=user,r=abc")); err != nil {
			t.Fatal(err)
		}
		if answer, done, err := e.Step([]byte(final)); !fault.Is(err, fault.Invalid) || done || answer != nil {
			t.Errorf("%.40q: %q, %v, %v", final, answer, done, err)
		}
	}
	e := SHA256.Begin(only("user", scrammed(t, SHA256, "pencil")), []byte("secret"), "short")
	if _, _, err := e.Step([]byte("n,,n=user,r=abc")); !fault.Is(err, fault.Internal) {
		t.Errorf("a short nonce of ours: %v", err)
	}
}

// TestUnknownUser: a user who is not there is told apart neither by what the server says nor by when it refuses.
func TestUnknownUser(t *testing.T) {
	find := func(string, bool) (SCRAM, bool) { return SCRAM{}, false }
	first := func(user, secret string) string {
		e := SHA256.Begin(find, []byte(secret), testNonce)
		said, _, err := e.Step([]byte("n,,n=" + user + ",r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = e.Step([]byte("c=biws,r=abc" + testNonce + ",p=" + strings.Repeat("A", 43) + "="))
		if !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", user, err)
		}
		return string(said)
	}
	a := first("alice", "secret")
	if b := first("alice", "secret"); a != b {
		t.Errorf("asked twice, the server says %s and %s", a, b)
	}
	if b := first("bob", "secret"); a == b {
		t.Error("two users have one salt")
	}
	if b := first("alice", "other"); a == b {
		t.Error("the salt does not come from the secret")
	}
	if !strings.HasSuffix(a, "i=8192") || len(strings.Split(a, ",")[1]) != len("s=")+24 {
		t.Errorf("the salt does not look like ours: %s", a)
	}
	// Who could compute the keys of the decoy would know the secret; a proof made from what was told fails.
	if Decoy(SHA256, []byte("secret"), "alice").Verify([]byte("")) {
		t.Error("an empty password fits a user who is not there")
	}
	// A verifier of the other mechanism is none.
	e := SHA512.Begin(only("user", scrammed(t, SHA256, "pencil")), []byte("secret"), testNonce)
	if said, _, err := e.Step([]byte("n,,n=user,r=abc")); err != nil || !strings.HasSuffix(string(said), "i=8192") {
		t.Errorf("%s, %v", said, err)
	}
}

func TestSCRAMText(t *testing.T) {
	for _, m := range Mechanisms() {
		s := scrammed(t, m, "pencil")
		again, err := ParseSCRAM(s.Text())
		if err != nil || again.Text() != s.Text() || !again.Verify([]byte("pencil")) || again.Verify([]byte("pen")) {
			t.Errorf("%s: %v", s.Text(), err)
		}
		text := s.Text()
		for _, bad := range []string{
			"", text + "x", text[1:], strings.Replace(text, "4096", "4095", 1), strings.Replace(text, "4096", "16385", 1),
			strings.Replace(text, "4096", "1000000000", 1), strings.Replace(text, "4096", "04096", 1),
			strings.Replace(text, "-256", "-1", 1) + "$", strings.Replace(text, ":", "", 1), strings.ReplaceAll(text, "$", "$$"),
			"SCRAM-SHA-1$4096:AAAA$AAAA:AAAA", strings.Replace(text, "=", "", 1), text + "\n",
		} {
			if s, err := ParseSCRAM(bad); !fault.Is(err, fault.Invalid) || !s.IsZero() {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
	for _, c := range []struct {
		m          Mechanism
		salt       string
		iterations int
	}{{0, "0123456789abcdef", 4096}, {3, "0123456789abcdef", 4096}, {SHA256, "", 4096}, {SHA256, "0123456789abcdef", 4095},
		{SHA256, "0123456789abcdef", 16385}, {SHA256, strings.Repeat("x", 129), 4096}} {
		if _, err := NewSCRAM(c.m, []byte("pencil"), []byte(c.salt), c.iterations); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v: %v", c, err)
		}
		if _, err := FromSalted(c.m, make([]byte, 32), []byte(c.salt), c.iterations); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v, salted: %v", c, err)
		}
	}
	if _, err := FromSalted(SHA256, make([]byte, 31), testSalt, 4096); !fault.Is(err, fault.Invalid) {
		t.Errorf("a short salted password: %v", err)
	}
}

// FuzzExchange: whatever a client says, it is done only if it has proven the password in this very exchange.
func FuzzExchange(f *testing.F) {
	s := scrammed(f, SHA256, "pencil")
	bare := "n=user,r=abc"
	said := "r=abc" + testNonce + ",s=" + base64.StdEncoding.EncodeToString(testSalt) + ",i=4096"
	f.Add("n,,"+bare, finalFor(bare, said, "n,,", "abc"+testNonce))
	f.Add("y,a=user,"+bare+",tokenauth=true", "c=biws,r=abc,p=AAAA")
	f.Add("n,,n=us=2C=3Der,r=abc", "c=biws,r=abc,m=1,p=")
	f.Fuzz(func(t *testing.T, first, final string) {
		e := SHA256.Begin(only("user", s), []byte("secret"), testNonce)
		answer, done, err := e.Step([]byte(first))
		if done || err == nil && (!strings.Contains(string(answer), testNonce) || e.User() == "") {
			t.Fatalf("%q: %q, %v", first, answer, done)
		}
		_, done, err = e.Step([]byte(final))
		if done && (err != nil || e.User() != "user" || !proves(s, first, string(answer), final)) {
			t.Fatalf("%q, %q: done, %v", first, final, err)
		}
	})
}

// proves looks at the proof once more, without the code under test taking the messages apart.
func proves(s SCRAM, first, said, final string) bool {
	bare := first[strings.Index(first, ",n=")+1:]
	at := strings.LastIndex(final, ",p=")
	proof, err := base64.StdEncoding.DecodeString(final[at+3:])
	if err != nil || len(proof) != 32 || !strings.Contains(final, testNonce) {
		return false
	}
	key := s.mechanism.mac(s.storedKey, bare+","+said+","+final[:at])
	for i := range key {
		key[i] ^= proof[i]
	}
	return hmac.Equal(s.mechanism.digest(key), s.storedKey)
}

func FuzzParseSCRAM(f *testing.F) {
	f.Add(scrammed(f, SHA256, "pencil").Text())
	f.Add(scrammed(f, SHA512, "pencil").Text())
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseSCRAM(text); err == nil && s.Text() != text {
			t.Fatalf("%q became %q", text, s.Text())
		}
	})
}

func BenchmarkExchange(b *testing.B) {
	s := scrammed(b, SHA256, "pencil")
	bare := "n=user,r=abc"
	said := "r=abc" + testNonce + ",s=" + base64.StdEncoding.EncodeToString(testSalt) + ",i=4096"
	first, final := []byte("n,,"+bare), []byte(finalFor(bare, said, "n,,", "abc"+testNonce))
	b.ReportAllocs()
	for b.Loop() {
		e := SHA256.Begin(only("user", s), []byte("secret"), testNonce)
		if _, _, err := e.Step(first); err != nil {
			b.Fatal(err)
		}
		if _, done, err := e.Step(final); !done {
			b.Fatal(err)
		}
	}
}

func BenchmarkSCRAMVerify(b *testing.B) {
	for _, m := range Mechanisms() {
		b.Run(m.String(), func(b *testing.B) {
			s, err := NewSCRAM(m, []byte("pencil"), testSalt, DefaultIterations)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				s.Verify([]byte("pencil"))
			}
		})
	}
}
