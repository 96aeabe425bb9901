package access_test

import (
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/fault"
)

// shown is a certificate.
type shown map[string]string

func (c shown) Value(field string) string { return c[field] }

// TestIdentity: a template says whose a certificate is, and who it does not name is refused.
func TestIdentity(t *testing.T) {
	cert := shown{"subject": "CN=pump,O=Example", "san.dns": "pump.example", "san.uri": "spiffe://x/pump", "o": "a:b",
		"san.email": "*@example.org", "san.ip": "192.0.2.7\n", "serial": "2a"}
	for _, c := range []struct{ template, user, why string }{
		{"", "pump", ""}, {"${cert.cn}", "pump", ""}, {"${cert.subject}", "CN=pump,O=Example", ""},
		{"device-${cert.san.dns}", "device-pump.example", ""}, {"${cert.san.uri}", "spiffe://x/pump", ""},
		{"${cert.cn}@${cert.serial}!", "pump@2a!", ""}, {"${cert.ou}", "", "has no ou"},
		{"${cert.san.email}", "", "names no user"}, {"${cert.san.ip}", "", "names no user"},
		{"${cert.o}:${cert.cn}", "", "names no user"}, // could be that of another
		{"${cert.cn}:${cert.o}", "pump:a:b", ""},
	} {
		opt := access.Options{Anonymous: access.Always}
		if c.template != "" {
			var err error
			if opt.Identity, err = access.ParseIdentity(c.template); err != nil {
				t.Fatal(err)
			}
		}
		h := open(t, opt)
		h.apply(access.Change{Users: []*access.User{user(t, "boss", "x")}})
		who := rule.Subject{CommonName: "pump", Certificate: cert, Encrypted: true}
		pass, err := h.Enter(t.Context(), who, nil)
		who.User = rule.Anonymous
		admitted := h.Admit(who)
		switch {
		case c.why == "" && (err != nil || pass.Over() != nil || pass.Who().User != c.user ||
			admitted.Who().User != c.user || admitted.Over() != nil):
			t.Errorf("%s: %v, want %s", c.template, err, c.user)
		case c.why != "" && (!fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), c.why) ||
			admitted.Over() == nil || admitted.Proven()):
			t.Errorf("%s: %v, want %q", c.template, err, c.why)
		}
		if _, err := h.Enter(t.Context(), rule.Subject{CommonName: "pump", Certificate: cert, User: "boss"},
			[]byte("x")); err != nil {
			t.Errorf("%s: a password besides it: %v", c.template, err)
		}
	}
	for _, template := range []string{"", "x", "${cn}", "${cert.cn", "${cert.x}", "${cert.cn}${cert.o}", "${username}"} {
		if _, err := access.ParseIdentity(template); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is taken: %v", template, err)
		}
	}
}

// TestCertificateFields: rules name what a certificate says, also for who is gone.
func TestCertificateFields(t *testing.T) {
	h := open(t, access.Options{Anonymous: access.Never})
	deny := mayRead("User:*", "a/+/${cert.serial}")
	deny.Effect = rule.Deny
	h.apply(access.Change{Rules: []rule.Rule{deny, mayRead("User:pump", "a/${cert.o}/+"),
		mayRead("User:pump", "b/${cert.san.uri}"), mayRead("User:pump", "c/${cert.san.dns}")}})
	pass, err := h.Enter(t.Context(), rule.Subject{CommonName: "pump",
		Certificate: shown{"o": "plant", "san.uri": "x/y", "san.dns": "#", "serial": "7"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	gone := h.Recall(rule.Subject{User: "pump"}, pass.From())
	for name, may := range map[string]bool{
		"a/plant/1": true, "a/plant/7": false, "a/other/1": false, "b/x/y": false, "b/x": false, "c/x": false,
	} {
		if h.reads(pass, name) != may || h.reads(gone, name) != may {
			t.Errorf("%s: %v, and when it is gone %v", name, h.reads(pass, name), h.reads(gone, name))
		}
	}
	for n := range pass.From() {
		if gone := h.Recall(rule.Subject{User: "pump"}, pass.From()[:n]); h.reads(gone, "a/plant/1") {
			t.Errorf("%d bytes of it allow something", n)
		}
	}
	if again := h.Recall(rule.Subject{User: "pump"}, "\xff").From(); again != "" {
		t.Errorf("what was not understood is told as %q", again)
	}
	if again := gone.From(); again != pass.From() {
		t.Errorf("%q became %q", pass.From(), again)
	}
}

// FuzzRecall reads any bytes as how somebody was here; what is understood is told again as it was.
func FuzzRecall(f *testing.F) {
	h := open(f, access.Options{Anonymous: access.Never})
	for _, who := range []rule.Subject{{CommonName: "pump"}, {CommonName: "pump", Certificate: shown{"o": "plant"}}} {
		who.User = rule.Anonymous
		f.Add(h.Admit(who).From())
	}
	f.Fuzz(func(t *testing.T, from string) {
		told := h.Recall(rule.Subject{User: "pump"}, from).From()
		if again := h.Recall(rule.Subject{User: "pump"}, told).From(); again != told {
			t.Errorf("%q became %q", told, again)
		}
	})
}
