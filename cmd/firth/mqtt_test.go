package main

import (
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

func TestParseProperties(t *testing.T) {
	got, err := parseProperties([]string{"publish", "PUBLISH", "connect", "will", "subscribe", "connect", "publish",
		"disconnect", "disconnect", "unsubscribe"}, strings.Fields(
		"user-property k v content-type text/plain receive-maximum 7 will-delay-interval 5 subscription-identifier 9 "+
			"topic-alias-maximum 10 topic-alias 3 session-expiry-interval 60 reason-string bye user-property a b"))
	if err != nil {
		t.Fatal(err)
	}
	if p := got["publish"]; string(p.ContentType) != "text/plain" || p.User.Len() != 1 {
		t.Errorf("publish %+v", p)
	}
	if got["connect"].ReceiveMaximum != 7 || got["will"].WillDelay != 5 || got["subscribe"].SubscriptionID() != 9 {
		t.Errorf("got %+v", got)
	}
	if got["connect"].TopicAliasMaximum != 10 || got["publish"].TopicAlias != 3 || got["unsubscribe"].User.Len() != 1 ||
		got["disconnect"].SessionExpiry != 60 || string(got["disconnect"].ReasonString) != "bye" {
		t.Errorf("got %+v", got)
	}
}

func TestParsePropertiesRefuses(t *testing.T) {
	cases := []struct{ command, rest string }{
		{"publish", ""},
		{"publish", "user-property k"},
		{"nothing", "user-property k v"},
		{"publish", "no-such-property 1"},
		{"publish", "receive-maximum 1"}, // a property of CONNECT
		{"connect", "receive-maximum 65536"},
		{"connect", "receive-maximum 0"},
		{"publish", "topic-alias 0"},
		{"disconnect", "will-delay-interval 1"},
		{"publish", "payload-format-indicator x"},
		{"publish", "content-type a left-over"},
	}
	for _, c := range cases {
		_, err := parseProperties([]string{c.command}, strings.Fields(c.rest))
		if output.Code(err) != output.ExitUsage {
			t.Errorf("-D %s %s: %v", c.command, c.rest, err)
		}
	}
}

func TestMQTTFlagsFromURL(t *testing.T) {
	cases := []struct {
		url, topic, host, user, password string
		port                             int
		tls                              bool
	}{
		{"mqtt://u:p@broker:1884/a/b", "a/b", "broker", "u", "p", 1884, false},
		{"mqtt://broker/a", "a", "broker", "", "", 1883, false},
		{"mqtts://broker/a", "a", "broker", "", "", 8883, true},
	}
	for _, c := range cases {
		m := &mqttFlags{url: c.url}
		topic, err := m.settle(nil)
		if err != nil || topic != c.topic || m.host != c.host || m.user != c.user || m.password != c.password ||
			m.port != c.port || m.tls() != c.tls {
			t.Errorf("%s: %q %+v %v", c.url, topic, m, err)
		}
	}
	if _, err := (&mqttFlags{url: "http://x/y"}).settle(nil); output.Code(err) != output.ExitUsage {
		t.Errorf("got %v", err)
	}
}

func TestMQTTOptions(t *testing.T) {
	m := &mqttFlags{id: "me", version: "mqttv311", keepAlive: 0, resume: true, sessionExpiry: -2}
	m.will.topic, m.will.qos, m.will.retain = "gone", 1, true
	if _, err := m.settle(nil); err != nil {
		t.Fatal(err)
	}
	o, err := m.options()
	if err != nil || o.Version != packet.V311 || o.KeepAlive >= 0 || !o.Resume || o.Props.SessionExpiry != 1<<32-1 ||
		o.Will == nil || string(o.Will.Topic) != "gone" || o.Will.QoS != 1 || !o.Will.Retain {
		t.Errorf("got %+v, %v", o, err)
	}
	m.version = "6"
	if _, err := m.options(); output.Code(err) != output.ExitUsage {
		t.Errorf("got %v", err)
	}
}
