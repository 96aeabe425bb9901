package credential

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

// small keeps the tests fast.
var small = Params{Memory: 64, Time: 1, Threads: 1}

// ofMosquitto is what mosquitto_passwd made of pässword.
const ofMosquitto = "$7$101$mzWbRV1MGq0/OrLr$" +
	"QLEF2eX26DotME/+45Zh+0xmPrVs7ruvqdtSCCKKcWwO6fXTC8WRKexFJdhCGTJej6GeE7BExyrWkE8VCtLUXA=="

var testSalt = []byte("0123456789abcdef")

func hashed(t *testing.T, password string, p Params) Password {
	t.Helper()
	made, err := HashPassword([]byte(password), testSalt, p)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestPasswordOfOthers verifies what other implementations made: the reference implementation of Argon2 and
// mosquitto_passwd 2.0, with their defaults and without.
func TestPasswordOfOthers(t *testing.T) {
	for text, password := range map[string]string{
		"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4": "password",
		ofMosquitto: "pässword",
		"$7$20000$szLkRHNgvvNaiqEH$" +
			"VnK5OtW+0HoyfrfkjL+X32eB1ocYC2ciTIw3PzqJ8Lc7PoQOeW0o3RewlJvOrD/8C1l4DnjB8AHCDrTlZVCEkw==": "pässword",
		"$6$zoXauSS1rc8OQA3U$" +
			"ZTs0YnjIJjZf5S9PodIhUCSs+fR+HSwTIc903hZ0w+OzBtdgP46X2/eh1UKjFOMnDqOTSsKp7BcDvkI3+DuArQ==": "pässword",
	} {
		p, err := ParsePassword(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if !p.Verify([]byte(password)) {
			t.Errorf("%s does not verify its password", text)
		}
		for _, wrong := range []string{"", "x", password + "x", password[:len(password)-1], strings.ToUpper(password)} {
			if p.Verify([]byte(wrong)) {
				t.Errorf("%s verifies %q", text, wrong)
			}
		}
		if p.Text() != text {
			t.Errorf("%s became %s", text, p.Text())
		}
	}
}

func TestHashPassword(t *testing.T) {
	p := hashed(t, "pencil", small)
	again, err := ParsePassword(p.Text())
	if err != nil || !again.Verify([]byte("pencil")) || again.Verify([]byte("Pencil")) {
		t.Errorf("%s: %v", p.Text(), err)
	}
	if p.Dated(small) || !p.Dated(DefaultParams) || !p.Slow() {
		t.Error("it is not known what the hash costs")
	}
	for _, c := range []struct {
		password, salt string
		p              Params
	}{
		{"", "0123456789abcdef", small},
		{strings.Repeat("x", MaxPassword+1), "0123456789abcdef", small},
		{"pencil", "short", small},
		{"pencil", strings.Repeat("x", 65), small},
		{"pencil", "0123456789abcdef", Params{Memory: 7, Time: 1, Threads: 1}},
		{"pencil", "0123456789abcdef", Params{}},
	} {
		if _, err := HashPassword([]byte(c.password), []byte(c.salt), c.p); !fault.Is(err, fault.Invalid) {
			t.Errorf("%d bytes with a salt of %d and %v: %v", len(c.password), len(c.salt), c.p, err)
		}
	}
}

func TestHashSecret(t *testing.T) {
	secret := []byte("Tmr3_5pWb0iYc8sQ4nUe-A")
	p, err := HashSecret(secret, testSalt)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParsePassword(p.Text())
	if err != nil || !again.Verify(secret) || again.Verify([]byte("Tmr3_5pWb0iYc8sQ4nUe-B")) {
		t.Errorf("%s: %v", p.Text(), err)
	}
	if p.Slow() || p.Dated(DefaultParams) {
		t.Error("a generated secret is not quick")
	}
	if _, err := HashSecret([]byte("too short to be chance"[:21]), testSalt); !fault.Is(err, fault.Invalid) {
		t.Errorf("a short secret: %v", err)
	}
}

// TestHostilePassword: a text that asks for much is refused before anything is allocated or computed, and so is one
// that is not written as we would write it.
func TestHostilePassword(t *testing.T) {
	salt, hash := "$c29tZXNhbHQ", "$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	long := base64.StdEncoding.EncodeToString(make([]byte, 64))
	for _, text := range []string{
		"", "$", "$$$$", "password", "$1$salt$hash", "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
		"$argon2i$v=19$m=64,t=1,p=1" + salt + hash,
		"$argon2id$m=64,t=1,p=1" + salt + hash,
		"$argon2id$v=16$m=64,t=1,p=1" + salt + hash,
		"$argon2id$v=19$m=4194304,t=1,p=1" + salt + hash,
		"$argon2id$v=19$m=4294967296,t=1,p=1" + salt + hash,
		"$argon2id$v=19$m=64,t=4294967295,p=1" + salt + hash,
		"$argon2id$v=19$m=262144,t=5,p=1" + salt + hash,
		"$argon2id$v=19$m=64,t=33,p=1" + salt + hash,
		"$argon2id$v=19$m=64,t=0,p=1" + salt + hash,
		"$argon2id$v=19$m=64,t=1,p=0" + salt + hash,
		"$argon2id$v=19$m=64,t=1,p=17" + salt + hash,
		"$argon2id$v=19$m=64,t=1,p=257" + salt + hash,
		"$argon2id$v=19$m=8,t=1,p=2" + salt + hash,
		"$argon2id$v=19$m=064,t=1,p=1" + salt + hash,
		"$argon2id$v=19$m=+64,t=1,p=1" + salt + hash,
		"$argon2id$v=19$t=1,m=64,p=1" + salt + hash,
		"$argon2id$v=19$m=64,t=1,p=1,x=1" + salt + hash,
		"$argon2id$v=19$m=64,t=1,p=1" + salt + hash + "$more",
		"$argon2id$v=19$m=64,t=1,p=1" + salt + "$c2hvcnQ",
		"$argon2id$v=19$m=64,t=1,p=1$c2hvcnQ" + hash,
		"$argon2id$v=19$m=64,t=1,p=1" + salt + "$" + strings.Repeat("A", 200),
		"$argon2id$v=19$m=64,t=1,p=1" + salt + hash + "=",
		"$7$0$AAAAAAAAAAAAAAAA$" + long, "$7$-1$AAAAAAAAAAAAAAAA$" + long, "$7$1000000000$AAAAAAAAAAAAAAAA$" + long,
		"$7$101$$" + long, "$7$101$AAAA$AAAA", "$6$$" + long, "$6$AAAA$", "$6$AAAA$" + long + "\n", "$6$AA\nAA$" + long,
		"$6$" + strings.Repeat("A", 1000) + "$" + long,
		"$secret$c29tZXNhbHQ$AAAA",
	} {
		p, err := ParsePassword(text)
		if !fault.Is(err, fault.Invalid) || !p.IsZero() {
			t.Errorf("%q: %v", text, err)
		}
		if len(text) > 20 && err != nil && strings.Contains(err.Error(), text[10:]) {
			t.Errorf("the error shows the verifier: %v", err)
		}
	}
}

// TestNoPassword: who has no verifier cannot log in with anything.
func TestNoPassword(t *testing.T) {
	var v Verifiers
	for _, password := range []string{"", "x", "no password"} {
		if v.VerifyPassword([]byte(password)) || v.Password.Verify([]byte(password)) || v.SCRAM256.Verify([]byte(password)) {
			t.Errorf("%q verifies without a verifier", password)
		}
	}
	if v.OfPassword() != "" || v.Password.Text() != "" || v.SCRAM512.Text() != "" {
		t.Error("no verifier has a text")
	}
}

// TestVerifiers: a password is held against whatever the user has.
func TestVerifiers(t *testing.T) {
	for name, v := range map[string]Verifiers{
		"password": {Password: hashed(t, "pencil", small)},
		"SHA-256":  {SCRAM256: scrammed(t, SHA256, "pencil")},
		"SHA-512":  {SCRAM512: scrammed(t, SHA512, "pencil")},
		"both":     {Password: hashed(t, "pencil", small), SCRAM256: scrammed(t, SHA256, "other")},
	} {
		if !v.VerifyPassword([]byte("pencil")) || v.VerifyPassword([]byte("other")) || v.OfPassword() == "" {
			t.Errorf("%s: the password is judged wrongly", name)
		}
	}
	var v Verifiers
	for _, m := range Mechanisms() {
		v.Put(scrammed(t, m, "pencil"))
		if got := v.SCRAM(m); got.Mechanism() != m || got.Iterations() != MinIterations {
			t.Errorf("%s is %s", m, got)
		}
	}
}

// TestNotShown: nothing of a verifier is printed, however it is printed.
func TestNotShown(t *testing.T) {
	v := Verifiers{Password: hashed(t, "pencil", small), SCRAM256: scrammed(t, SHA256, "pencil")}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, it := range []any{v, &v, v.Password, v.SCRAM256, []Password{v.Password}} {
			shown := fmt.Sprintf(format, it)
			salt := base64.RawStdEncoding.EncodeToString(testSalt)
			if strings.Contains(shown, salt) || strings.Contains(shown, string(testSalt)) || strings.Contains(shown, "48, 49") ||
				strings.Contains(shown, "0x30, 0x31") || strings.Contains(shown, "48 49") {
				t.Errorf("%s shows %s", format, shown)
			}
		}
	}
}

func FuzzParsePassword(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add(ofMosquitto)
	f.Add("$6$AAAA$BBBB")
	f.Add("$secret$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePassword(text)
		if err != nil {
			if !p.IsZero() || !fault.Is(err, fault.Invalid) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if p.Text() != text { // one verifier, one text
			t.Fatalf("%q became %q", text, p.Text())
		}
	})
}

func FuzzParsePlain(f *testing.F) {
	f.Add([]byte("\x00user\x00pencil"))
	f.Add([]byte("user\x00user\x00pencil"))
	f.Fuzz(func(t *testing.T, message []byte) {
		p, err := ParsePlain(message)
		if err == nil && (p.User == "" || len(p.Password) == 0 || strings.Contains(p.User, "\x00")) {
			t.Fatalf("%q: %+v", message, p)
		}
	})
}

func TestPlain(t *testing.T) {
	for message, want := range map[string]string{
		"\x00user\x00pencil":       "user pencil",
		"user\x00user\x00pencil":   "user pencil",
		"\x00us er\x00pen cil":     "us er pen cil",
		"\x00ü\x00ö":               "ü ö",
		"other\x00user\x00pencil":  "",
		"user\x00pencil":           "",
		"\x00user\x00pencil\x00":   "",
		"\x00\x00pencil":           "",
		"\x00user\x00":             "",
		"":                         "",
		"\x00\x00":                 "",
		"\x00us\xff\x00pencil":     "",
		"\x00user\x00pen\x00cil":   "",
		strings.Repeat("x", 1<<18): "",
	} {
		p, err := ParsePlain([]byte(message))
		switch got := p.User + " " + string(p.Password); {
		case want == "" && !fault.Is(err, fault.Invalid):
			t.Errorf("%.30q is taken as %q: %v", message, got, err)
		case want != "" && (err != nil || got != want):
			t.Errorf("%.30q is %q: %v", message, got, err)
		}
	}
}

func BenchmarkPassword(b *testing.B) {
	for _, p := range []Params{
		DefaultParams, {Memory: 46 * 1024, Time: 1, Threads: 1}, {Memory: 12 * 1024, Time: 3, Threads: 1},
		{Memory: 7 * 1024, Time: 5, Threads: 1},
	} {
		b.Run(fmt.Sprintf("m=%d,t=%d", p.Memory, p.Time), func(b *testing.B) {
			made, err := HashPassword([]byte("pencil"), testSalt, p)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				made.Verify([]byte("pencil"))
			}
		})
	}
	b.Run("secret", func(b *testing.B) {
		secret := []byte("Tmr3_5pWb0iYc8sQ4nUe-A")
		made, err := HashSecret(secret, testSalt)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			made.Verify(secret)
		}
	})
}
