package node

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

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
	commit := func(user, password, group string, all ...int64) {
		a := kadm.NewClient(g.kafkaAs(user, password))
		for _, at := range all {
			done, err := a.CommitOffsets(ctx, group, kadm.Offsets{"plant": {0: {Topic: "plant", At: at}}})
			if err != nil || done.Error() != nil {
				t.Fatal(err, done.Error())
			}
		}
	}
	commit("reader", devicePassword, "g", 4, 9, 2)
	commit("boss", adminPassword, "h", 4)
	commit("boss", adminPassword, "h", 9)
	g.expect("change User:reader  offsets.set group:g success", "change User:boss  offsets.set group:h success")
	// Of an administrator: set, and then on from there, as a consumer without a group, in one record.
	want := map[string][]string{
		"g": {`begun {"offsets":{"plant":{"0":9}}} {"offsets":{"plant":{"0":2}}}`, "success  "},
		"h": {`begun {"offsets":{}} {"offsets":{"plant":{"0":4}}}`, "success  ",
			`success {"offsets":{"plant":{"0":4}}} {"offsets":{"plant":{"0":9}}}`},
	}
	told := func() map[string][]string {
		got := map[string][]string{}
		for _, r := range g.query(nil) {
			if e := &r.Data; e.Action == "offsets.set" {
				got[e.Resource.Name] = append(got[e.Resource.Name], fmt.Sprintf("%s %s %s", e.Outcome, e.Before, e.After))
			}
		}
		return got
	}
	eventually(t, func() bool { return len(told()["h"]) >= 3 })
	if got := told(); !reflect.DeepEqual(got, want) {
		t.Errorf("told\n%q\nnot\n%q", got, want)
	}
}

// TestAuditRemovedMembers: members that somebody else removes from a group are told, with whose they were, before it is
// done; those that leave are not.
func TestAuditRemovedMembers(t *testing.T) {
	g := startGuarded(t, local(t))
	ctx := t.Context()
	boss := g.kafkaAs("boss", adminPassword)
	join := func(instance *string) string {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = "g", 600_000, 1
		req.ProtocolType, req.InstanceID = "consumer", instance
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		for { // it is told its id first, and joins with that
			resp, err := req.RequestWith(ctx, boss)
			if err != nil {
				t.Fatal(err)
			}
			if req.MemberID = resp.MemberID; resp.ErrorCode == 0 {
				return resp.MemberID
			}
			if resp.MemberID == "" {
				t.Fatalf("join: code %d", resp.ErrorCode)
			}
		}
	}
	leave := func(by *kgo.Client, m kmsg.LeaveGroupRequestMember) {
		req := kmsg.NewPtrLeaveGroupRequest()
		req.Group, req.Members = "g", []kmsg.LeaveGroupRequestMember{m}
		resp, err := req.RequestWith(ctx, by)
		if err != nil || resp.ErrorCode != 0 || resp.Members[0].ErrorCode != 0 {
			t.Fatalf("leave: %v, %+v", err, resp)
		}
	}
	own := join(nil)
	leave(boss, kmsg.LeaveGroupRequestMember{MemberID: own})
	static := join(new("press"))
	leave(boss, kmsg.LeaveGroupRequestMember{InstanceID: new("press"), Reason: new("it hangs")})
	other := join(nil)
	tool := g.kafkaClient(t, kgo.SASL(plain.Auth{User: "boss", Pass: adminPassword}.AsMechanism()), kgo.ClientID("tool"))
	leave(tool, kmsg.LeaveGroupRequestMember{MemberID: other})
	told := func() (all []string) {
		for _, r := range g.query(url.Values{"type": {"change"}, "resource": {"group:g"}}) {
			e := &r.Data
			all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.Action, e.Outcome, e.Before, e.After)))
		}
		return all
	}
	of := func(before, after string) string {
		return `group.remove_members begun {"members":[{` + before + `,"client":"kgo","host":"/127.0.0.1"}]} ` + after
	}
	want := []string{of(`"id":"`+static+`","instance":"press"`, `{"left":0,"reason":"it hangs"}`),
		of(`"id":"`+other+`"`, `{"left":0}`)}
	var got []string
	eventually(t, func() bool {
		got = slices.DeleteFunc(told(), func(line string) bool { return strings.HasSuffix(line, "success") })
		return len(got) >= 2 && len(told()) > len(got)
	})
	if !slices.Equal(got, want) {
		t.Errorf("told\n%q\nnot\n%q", got, want)
	}
}
