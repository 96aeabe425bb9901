package node

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestCertificateIdentity: access.certificate_identity says at every door whose a certificate is, and refuses those
// that do not say it.
func TestCertificateIdentity(t *testing.T) {
	e := startEncrypted(t, "require", func(c *Config) { c.Access.Identity = "spiffe:${cert.san.uri}" })
	const user = rule.UserPrefix + "spiffe:urn:pump-7"
	if err := e.access.Apply(t.Context(), &access.Change{Rules: []rule.Rule{
		{Effect: rule.Allow, Principal: user, Operations: rule.Everything,
			Resource: rule.Resource{Kind: rule.Cluster, Pattern: rule.Literal, Name: rule.ClusterName}},
		{Effect: rule.Allow, Principal: user, Operations: rule.Everything,
			Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Literal, Name: "seven"}},
	}}); err != nil {
		t.Fatal(err)
	}
	named := e.devices.ClientOf(&x509.Certificate{Subject: pkix.Name{CommonName: "x"},
		URIs: []*url.URL{{Scheme: "urn", Opaque: "pump-7"}, {Scheme: "urn", Opaque: "other"}}})
	nameless := e.devices.Client("spiffe:urn:pump-7")
	for _, c := range []struct {
		pair securetest.Pair
		may  bool
	}{{named, true}, {nameless, false}} {
		config := e.config(t, &c.pair)
		conn, err := tls.Dial("tcp", e.a.MQTTS, config)
		if err != nil {
			t.Fatal(err)
		}
		ack := knock(t, conn, "")
		if want := map[bool]packet.ReasonCode{true: packet.Success, false: packet.NotAuthorized}[c.may]; ack.Reason != want {
			t.Errorf("MQTT: %s, want %s", ack.Reason, want)
		}
		if told := string(ack.Props.ReasonString); strings.Contains(told, "san.uri") == c.may {
			t.Errorf("MQTT: %s, because of %q", ack.Reason, told)
		}
		cl, err := kgo.NewClient(kgo.SeedBrokers(e.a.Kafkas), kgo.DialTLSConfig(config), kgo.AllowAutoTopicCreation(),
			kgo.RecordRetries(1), kgo.RequestRetries(1))
		if err != nil {
			t.Fatal(err)
		}
		err = cl.ProduceSync(t.Context(), &kgo.Record{Topic: "seven", Value: []byte("x")}).FirstErr()
		cl.Close()
		if (err == nil) != c.may {
			t.Errorf("Kafka: %v", err)
		}
		web := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		r, err := web.Get("https://" + e.a.HTTPS + adminPath + "/users")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close() // it was read
		if (r.StatusCode == http.StatusOK) != c.may || !c.may && !strings.Contains(string(text), "san.uri") {
			t.Errorf("HTTP: %s %s", r.Status, text)
		}
	}
}

// TestExplainCertificate: firth acl explain is told what a certificate says, and knows whose it is.
func TestExplainCertificate(t *testing.T) {
	e := startEncrypted(t, "request", func(c *Config) { c.Access.Identity = "plant:${cert.san.dns}" })
	if err := e.access.Apply(t.Context(), &access.Change{Rules: []rule.Rule{
		{Effect: rule.Allow, Principal: "User:plant:pump-7.example", Operations: rule.Of(rule.Write),
			Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: "${cert.ou}/${cert.cn}/#"}},
	}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, query string
		want        string
	}{
		{"all fields", "cert=cn%3Dpump-7&cert=ou%3Dhall&cert=san.dns%3Dpump-7.example", `"allowed":true`},
		{"another unit", "cert=cn%3Dpump-7&cert=ou%3Dyard&cert=san.dns%3Dpump-7.example", `"allowed":false`},
		{"whose it is", "cert=cn%3Dpump-7&cert=ou%3Dhall", `"allowed":false.*has no san.dns`},
		{"somebody else", "user=ana&cert=cn%3Dpump-7&cert=ou%3Dhall&cert=san.dns%3Dpump-7.example", `"allowed":false`},
		{"no certificate", "", `"allowed":false.*no rule allows it`},
		{"no such field", "cert=colour%3Dred", `colour=red is no field`},
		{"no value", "cert=cn", `cn is no field of a certificate with a value`},
	} {
		call := fmt.Sprintf("GET %s/explain?operation=write&pattern=filter&name=hall/pump-7/x&%s HTTP/1.1\nHost: %s\n"+
			"Connection: close\nAuthorization: Bearer %s\n\n", adminPath, c.query, e.a.HTTP, e.token)
		if _, body := request(t, e.a.HTTP, call); !regexp.MustCompile(c.want).MatchString(body) {
			t.Errorf("%s: %s, want %s", c.name, body, c.want)
		}
	}
}
