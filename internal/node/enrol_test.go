package node

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

func (e *certified) claim(name string) string {
	e.t.Helper()
	_, token, err := e.authority.AddClaim(e.t.Context(), &authority.NewClaim{Name: name, Uses: 2, For: time.Hour})
	if err != nil {
		e.t.Fatal(err)
	}
	return token
}

// TestEnrolOverMQTT: a device of another maker's client gets its certificate by a claim, and is let in with it.
func TestEnrolOverMQTT(t *testing.T) {
	e := startCertified(t)
	csr, key := e.request("pump-7")
	got := make(chan paho.Message, 1)
	opt := paho.NewClientOptions().AddBroker("ssl://" + e.a.MQTTS).SetTLSConfig(e.config("")).SetClientID("x").
		SetUsername("pump-7").SetPassword(e.claim("pump-7")).SetAutoReconnect(false)
	opt.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { got <- m })
	c := paho.NewClient(opt)
	do := func(what string, token paho.Token) {
		t.Helper()
		if !token.WaitTimeout(time.Minute) || token.Error() != nil {
			t.Fatal(what, token.Error())
		}
	}
	do("connect", c.Connect())
	do("subscribe", c.Subscribe("$enroll/#", 1, nil))
	request := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.Raw})
	do("publish", c.Publish("$enroll/request", 1, false, request))
	var answer paho.Message
	select {
	case answer = <-got:
	case <-time.After(time.Minute):
		t.Fatal("no answer")
	}
	c.Disconnect(0)
	block, own := pem.Decode(answer.Payload())
	if answer.Topic() != "$enroll/accepted" || block == nil || !e.pool.AppendCertsFromPEM(own) {
		t.Fatalf("%s: %s", answer.Topic(), answer.Payload())
	}
	made, err := x509.ParseCertificate(block.Bytes)
	if err != nil || made.Subject.CommonName != "pump-7" {
		t.Fatal(made.Subject, err)
	}
	config := e.config("")
	config.Certificates = []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}}
	device, err := tls.Dial("tcp", e.a.MQTTS, config)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	helloAs(t, device, "pump-7")
	until(t, "the audit has it", func() bool {
		topic, has := e.store.Topics().ByName(audit.TopicName), false
		if topic == nil {
			return false
		}
		_, err := stream.Fold(t.Context(), e.store, topic.Partitions[0], 0, func(v *record.View) error {
			has = has || bytes.Contains(v.Value, []byte("certificate.enrol"))
			return nil
		})
		return err == nil && has
	})
	if u := e.access.Catalog().User("pump-7"); u == nil || u.ClientID != "${username}" || u.Roles[0] != "device" {
		t.Errorf("the user is %+v", u)
	}
}

// TestWhoEnrolsMayDoNothingElse: whatever a device with a claim does besides ends its connection, and changes nothing.
func TestWhoEnrolsMayDoNothingElse(t *testing.T) {
	e := startCertified(t)
	csr, _ := e.request("valve")
	token := e.claim("pump-*")
	bare := &packet.Publish{Topic: []byte("$enroll/request"), QoS: 1, PacketID: 7, Payload: csr.Raw}
	bare.Props.SetCorrelationData([]byte("seven"))
	for name, tc := range map[string]struct {
		user, token string
		say         packet.Packet
		want        string // in what is said until the end
	}{
		"another name":     {"valve", token, nil, "no claim that is good"},
		"a wrong token":    {"pump-1", altered(token), nil, "no claim that is good"},
		"another subject":  {"pump-1", token, bare, "$enroll/rejected"},
		"correlation":      {"pump-1", token, bare, "seven"},
		"no request":       {"pump-1", token, &packet.Publish{Topic: []byte("$enroll/request")}, "$enroll/rejected"},
		"another topic":    {"pump-1", token, &packet.Publish{Topic: []byte("a"), Retain: true}, "\xe0\x01\x87"},
		"QoS 2":            {"pump-1", token, &packet.Publish{Topic: bare.Topic, QoS: 2, PacketID: 1}, "\xe0\x01\x9b"},
		"other filters":    {"pump-1", token, &packet.Subscribe{PacketID: 1, Subscriptions: subscriptions("#")}, "\x87"},
		"a second CONNECT": {"pump-1", token, &packet.Connect{Version: packet.V5, ClientID: []byte("x")}, "\xe0\x01\x82"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := tls.Dial("tcp", e.a.MQTTS, e.config(""))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			hello := packet.Connect{Version: packet.V5, ClientID: []byte("victim"), HasUserName: true,
				UserName: []byte(tc.user), HasPassword: true, Password: []byte(tc.token)}
			text := hello.AppendTo(nil, packet.V5)
			if tc.say != nil {
				text = tc.say.AppendTo(text, packet.V5)
			}
			text = (&packet.Disconnect{}).AppendTo(text, packet.V5)
			if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(text); err != nil {
				t.Fatal(err)
			}
			said, err := io.ReadAll(c)
			if err != nil || !bytes.Contains(said, []byte(tc.want)) {
				t.Errorf("%v: said %q, want %q", err, said, tc.want)
			}
		})
	}
	if c := e.authority.Claims(); len(c) != 1 || c[0].Uses != 2 {
		t.Errorf("the claim has %+v", c)
	}
	if list, err := e.mqtt.Session("victim"); err == nil {
		t.Errorf("there is a session %+v", list)
	}
	plain := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + e.a.MQTT).SetClientID("x").
		SetUsername("pump-1").SetPassword(token)).Connect()
	if !plain.WaitTimeout(time.Minute) || plain.Error() == nil ||
		!strings.Contains(plain.Error().Error(), "not Authorized") {
		t.Errorf("in the clear: %v", plain.Error())
	}
}

// altered is a token with another last letter, whichever it has.
func altered(token string) string {
	last := len(token) - 1
	if token[last] == '_' {
		return token[:last] + "-"
	}
	return token[:last] + "_"
}

func subscriptions(filter string) []packet.Subscription {
	return []packet.Subscription{{Filter: []byte(filter)}}
}
