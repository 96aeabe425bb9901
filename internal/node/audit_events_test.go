package node

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestAuditHandshakes: a handshake of TLS that fails is told with its address, its listener, why, and whose certificate
// it claims to be; who connects and says nothing is not.
func TestAuditHandshakes(t *testing.T) {
	e := startEncrypted(t, "require")
	g := guardedOf(t, e.Node)
	strangers := securetest.NewCA(t, "strangers")
	mallory := strangers.Client("mallory")
	silent, err := net.Dial("tcp", e.a.MQTTS)
	if err != nil {
		t.Fatal(err)
	}
	_ = silent.Close()
	config := e.config(t, nil)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair := mallory.TLS(t) // whatever authorities it was asked for
		return &pair, nil
	}
	if c, err := tls.Dial("tcp", e.a.MQTTS, config); err == nil { // in TLS 1.3 it hears later of its certificate
		_, _ = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	if err := refused(e, t, e.a.Kafkas, nil); err != nil {
		t.Error(err)
	}
	of := func() (lines []string) {
		for _, r := range g.query(nil) {
			if r.Type == chain.TypeHandshake {
				reason, _, _ := strings.Cut(r.Data.Reason, ":")
				lines = append(lines, fmt.Sprint(r.Data.Origin.Address, " ", r.Data.Origin.Listener, " ", r.Data.Actor.CN, " ",
					r.Data.Outcome, " ", reason))
			}
		}
		return lines
	}
	eventually(t, func() bool { return len(of()) >= 2 })
	for _, want := range []string{"127.0.0.1 mqtts mallory failure bad_certificate",
		"127.0.0.1 kafkas  failure no_certificate"} {
		if got := of(); !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("there is no %q in\n%s", want, strings.Join(got, "\n"))
		}
	}
	for _, line := range of() {
		if strings.HasSuffix(line, "closed") {
			t.Errorf("told of one who said nothing: %s", line)
		}
	}
}

// TestAuditFlapping: the ban that a client gets for coming and going is told as a change by the node.
func TestAuditFlapping(t *testing.T) {
	cfg := local(t)
	cfg.Flapping = Flapping{Disconnects: 2, Window: time.Hour, Ban: time.Hour}
	g := startGuarded(t, cfg)
	for {
		c, err := g.connect("moth", "dev", devicePassword)
		if err != nil { // it is banned by now
			break
		}
		_ = c.Close()
	}
	g.expect("change node  ban.set ban:client moth success")
	for _, r := range g.query(nil) {
		if r.Data.Action == "ban.set" && (r.Data.Origin.Address != "127.0.0.1" ||
			!strings.Contains(string(r.Data.After), `"by":"flapping"`)) {
			t.Errorf("the ban is told as %+v", r.Data)
		}
	}
}

// TestAuditAgain: who authenticates again, and who fails to, is told as who comes.
func TestAuditAgain(t *testing.T) {
	g := startGuarded(t, local(t))
	var made tokenLine
	if err := json.Unmarshal([]byte(g.must("POST", "/token", `{"owner":"dev","expires":"1h"}`)), &made); err != nil {
		t.Fatal(err)
	}
	say := func(props *packet.Properties, token string) {
		props.SetAuthMethod([]byte("OAUTHBEARER"))
		props.SetAuthData([]byte("n,,\x01auth=Bearer " + token + "\x01\x01"))
	}
	c, err := net.Dial("tcp", g.Addresses().MQTT)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	hello := &packet.Connect{Version: packet.V5, CleanStart: true, ClientID: []byte("again")}
	say(&hello.Props, made.Text)
	answers(t, "CONNECT", c, hello.AppendTo(nil, packet.V5))
	for _, token := range []string{made.Text, made.Text + "x"} {
		again := &packet.Auth{Reason: packet.ReAuthenticate}
		say(&again.Props, token)
		answers(t, "AUTH", c, again.AppendTo(nil, packet.V5))
	}
	g.expect("login User:dev OAUTHBEARER connect  success", "login User:dev OAUTHBEARER reauthenticate  success",
		"login User:dev OAUTHBEARER reauthenticate  failure")
}

// TestAuditOffsets: what a consumer without a group commits is not told, but where it takes an offset back.
func TestAuditOffsets(t *testing.T) {
	g := startGuarded(t, local(t))
	g.must("POST", "/user?new=true", `{"name":"reader","password":"`+devicePassword+`","roles":["consumer"]}`)
	ctx := t.Context()
	if _, err := kadm.NewClient(g.kafkaAs("boss", adminPassword)).CreateTopic(ctx, 1, 1, nil, "plant"); err != nil {
		t.Fatal(err)
	}
	reader := kadm.NewClient(g.kafkaAs("reader", devicePassword))
	for _, at := range []int64{4, 9, 2} {
		done, err := reader.CommitOffsets(ctx, "g", kadm.Offsets{"plant": {0: {Topic: "plant", At: at}}})
		if err != nil || done.Error() != nil {
			t.Fatal(err, done.Error())
		}
	}
	g.expect("change User:reader  offsets.set group:g success")
	for _, r := range g.query(nil) {
		e := &r.Data
		if e.Action == "offsets.set" && e.Outcome == chain.Begun &&
			(!strings.Contains(string(e.Before), `"0":9`) || !strings.Contains(string(e.After), `"0":2`)) {
			t.Errorf("told of %s, %s", e.Before, e.After)
		}
	}
}
