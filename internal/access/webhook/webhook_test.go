package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// The vector of the Standard Webhooks specification and its libraries.
const (
	stdSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	stdID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	stdStamp     = 1614265330
	stdBody      = `{"test": 2432232314}`
	stdSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

// The vector of GitHub's documentation.
const (
	hubSecret    = "It's a Secret to Everybody"
	hubBody      = "Hello, World!"
	hubSignature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
)

func headers(all ...string) func(string) string {
	h := http.Header{}
	for i := 0; i < len(all); i += 2 {
		h.Set(all[i], all[i+1])
	}
	return h.Get
}

func stripe(secret, body string, at int64) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(mac, "%d.%s", at, body)
	return hex.EncodeToString(mac.Sum(nil))
}

// TestVerify holds the schemes to the vectors of those who made them, and changes one thing of each at a time.
// Long: it is a table.
func TestVerify(t *testing.T) {
	at := time.Unix(stdStamp, 0)
	std := func(id, stamp, signature string) func(string) string {
		return headers("webhook-id", id, "webhook-timestamp", stamp, "webhook-signature", signature)
	}
	other := strings.Repeat("another secret ", 3)
	const stamp = "1614265330"
	sum := stripe(hubSecret, hubBody, stdStamp)
	for name, tc := range map[string]struct {
		scheme, secrets string
		header          func(string) string
		body            string
		now             time.Time
		good            bool
	}{
		"standard": {"standard", stdSecret, std(stdID, stamp, stdSignature), stdBody, at, true},
		"two signatures": {"standard", stdSecret, std(stdID, stamp, "v1,AAAA v1a,x "+stdSignature),
			stdBody, at, true},
		"two secrets": {"standard", other + "\n# old\n" + stdSecret, std(stdID, stamp, stdSignature),
			stdBody, at, true},
		"as late as may be": {"standard", stdSecret, std(stdID, stamp, stdSignature),
			stdBody, at.Add(5 * time.Minute), true},
		"too late": {"standard", stdSecret, std(stdID, stamp, stdSignature),
			stdBody, at.Add(5*time.Minute + 1), false},
		"too early": {"standard", stdSecret, std(stdID, stamp, stdSignature),
			stdBody, at.Add(-5*time.Minute - 1), false},
		"another id": {"standard", stdSecret, std("msg_x", stamp, stdSignature),
			stdBody, at, false},
		"another time": {"standard", stdSecret, std(stdID, "1614265331", stdSignature),
			stdBody, at, false},
		"no time": {"standard", stdSecret, std(stdID, "", stdSignature), stdBody, at, false},
		"time that is none": {"standard", stdSecret, std(stdID, "1614265330.0", stdSignature),
			stdBody, at, false},
		"time beyond all": {"standard", stdSecret, std(stdID, "9223372036854775807", stdSignature),
			stdBody, at, false},
		"another body": {"standard", stdSecret, std(stdID, stamp, stdSignature),
			stdBody + " ", at, false},
		"another secret": {"standard", other, std(stdID, stamp, stdSignature), stdBody, at, false},
		"another version": {"standard", stdSecret, std(stdID, stamp, "v2"+stdSignature[2:]),
			stdBody, at, false},
		"no signature":           {"standard", stdSecret, std(stdID, stamp, ""), stdBody, at, false},
		"a signature of nothing": {"standard", stdSecret, std(stdID, stamp, "v1,"), stdBody, at, false},
		"an id with a dot":       {"standard", stdSecret, std("a.b", stamp, stdSignature), stdBody, at, false},
		"github": {"github", hubSecret, headers("X-Hub-Signature-256", hubSignature),
			hubBody, at, true},
		"github, another body": {"github", hubSecret, headers("X-Hub-Signature-256", hubSignature),
			"Hello", at, false},
		"github, SHA-1": {"github", hubSecret, headers("X-Hub-Signature", hubSignature),
			hubBody, at, false},
		"github, cut": {"github", hubSecret, headers("X-Hub-Signature-256", hubSignature[:40]),
			hubBody, at, false},
		"stripe": {"stripe", hubSecret, headers("Stripe-Signature", "t="+stamp+",v1=00,v1="+sum+",v0=x"),
			hubBody, at, true},
		"stripe, too late": {"stripe", hubSecret, headers("Stripe-Signature", "t="+stamp+",v1="+sum),
			hubBody, at.Add(time.Hour), false},
		"stripe, another time": {"stripe", hubSecret, headers("Stripe-Signature", "t=1614265331,v1="+sum),
			hubBody, at, false},
		"stripe, without its time": {"stripe", hubSecret, headers("Stripe-Signature", "v1="+sum),
			hubBody, at, false},
		"stripe, what is no digest": {"stripe", hubSecret, headers("Stripe-Signature", "t="+stamp+",v1=x"),
			hubBody, at, false},
	} {
		s, err := Parse(tc.scheme, "", 5*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		secrets, err := s.Secrets([]byte(tc.secrets))
		if err != nil {
			t.Fatal(name, err)
		}
		m, err := s.Verify(tc.header, []byte(tc.body), secrets, tc.now)
		if (err == nil) != tc.good || tc.good && (m.Key == Key{} || tc.scheme == "standard" && m.ID != stdID) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

// TestSecrets: what is no secret, or too short to be one, is refused, and not repeated.
func TestSecrets(t *testing.T) {
	s, err := Parse("standard", "", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "# none\n\n", "hunter2hunter2", "whsec_hunter2", "whsec_aHVudGVyMg=="} {
		if all, err := s.Secrets([]byte(text)); err == nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%q: %d secrets, %v", text, len(all), err)
		}
	}
	if _, err := Parse("none", "", 0); err == nil {
		t.Error("a scheme that there is not")
	}
	if _, err := Parse("standard", "X-Other", 0); err == nil {
		t.Error("the standard with a header of another name")
	}
}

// TestSeen: a message is stored once while it is remembered, comes again when it was not stored, and what cannot be
// remembered is not taken.
func TestSeen(t *testing.T) {
	s, now := NewSeen(time.Minute, 2), time.Unix(1000, 0)
	a, b, c := Key{1}, Key{2}, Key{3}
	want := func(what string, key Key, state State) {
		t.Helper()
		if is := s.Begin(key, now); is != state {
			t.Errorf("%s: %d, want %d", what, is, state)
		}
	}
	want("the first", a, New)
	want("again, while it is under way", a, Under)
	s.Done(a, true)
	want("again, when it is stored", a, Stored)
	want("another", b, New)
	s.Done(b, false)
	want("a third, with two in line", c, Full)
	now = now.Add(time.Minute)
	want("what was not stored", b, New)
	s.Done(b, true)
	want("the first, when it is forgotten", a, New)
	s.Done(Key{9}, true) // which nobody began
	if len(s.of) != 2 || len(s.line) != 2 {
		t.Errorf("%d of %d are remembered", len(s.of), len(s.line))
	}
}
