package node

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// TestDelegationTokensAdministered: who administers the node sees delegation tokens, but not what proves them, and ends
// one with its connections.
func TestDelegationTokensAdministered(t *testing.T) {
	g := startGuarded(t, local(t))
	g.must("POST", "/user?new=true", `{"name":"looks","password":"`+devicePassword+`","roles":["viewer"]}`)
	g.must("POST", "/token", `{"owner":"boss","expires":"1h","name":"nightly"}`)
	ask := kmsg.NewPtrCreateDelegationTokenRequest()
	ask.Renewers = []kmsg.CreateDelegationTokenRequestRenewer{{PrincipalType: "User", PrincipalName: "dev"}}
	made, err := ask.RequestWith(t.Context(), g.kafkaAs("boss", adminPassword))
	if err != nil || made.ErrorCode != 0 {
		t.Fatalf("%+v, %v", made, err)
	}
	mac := base64.StdEncoding.EncodeToString(made.HMAC)
	worker := g.kafkaClient(t, kgo.RequestRetries(0),
		kgo.SASL(scram.Auth{User: made.TokenID, Pass: mac, IsToken: true}.AsSha512Mechanism()))
	if err := worker.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/tokens", "/tokens?id=" + made.TokenID} {
		status, text := g.ask("GET", path, "", basicAuth("looks", devicePassword))
		var lines []tokenLine
		if err := json.Unmarshal([]byte(text), &lines); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, status, text)
		}
		if strings.Contains(text, mac) {
			t.Errorf("%s tells what proves a token", path)
		}
		d := lines[len(lines)-1]
		if d.ID != made.TokenID || d.Kind != delegationToken || d.Owner != "boss" || d.Requester != "boss" ||
			len(d.Renewers) != 1 || d.Renewers[0] != "dev" || d.Ends == nil || d.Last == nil || !d.Last.After(*d.Ends) {
			t.Errorf("%s: %s", path, text)
		}
		if all := strings.Count(text, `"kind":"program"`); all != 1 && path == "/tokens" || all+1 != len(lines) {
			t.Errorf("%s: %s", path, text)
		}
	}
	end := "/token?id=" + made.TokenID
	if status, text := g.ask("DELETE", end, "", basicAuth("looks", devicePassword)); status != http.StatusForbidden {
		t.Errorf("a viewer ended it: %d %s", status, text)
	}
	g.must("DELETE", end, "")
	if worker.Ping(t.Context()) == nil {
		t.Error("its connection goes on, or it is good for another one")
	}
	for _, path := range []string{"/tokens?id=" + made.TokenID, "/tokens?id=x"} {
		if status, text := g.ask("GET", path, ""); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	g.expect("change admin.token admin.token delegation.remove delegation_token:" + made.TokenID + " success")
}
