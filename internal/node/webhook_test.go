package node

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/api"
	"github.com/firthmq/firth/internal/kit/secure/securetest"
)

// standardly are the headers of a message that is signed as the standard has it.
func standardly(secret, id, body string, at time.Time) []string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		panic(err)
	}
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%d.%s", id, at.Unix(), body)
	return []string{"webhook-id: " + id, fmt.Sprintf("webhook-timestamp: %d", at.Unix()),
		"webhook-signature: v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)),
		"Content-Type: application/json; charset=utf-8"}
}

func inHex(secret, text string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXI="
	hubSecret = "It's a Secret to Everybody"
)

// withWebhooks starts a node with a webhook of each scheme, and gives the file of the first one's secret.
func withWebhooks(t *testing.T) (n *Node, secret string) {
	t.Helper()
	c := local(t)
	dir := t.TempDir()
	secret = securetest.Write(t, dir, "shop", []byte(oldSecret+"\n"))
	hub := securetest.Write(t, dir, "hub", []byte(hubSecret))
	c.Webhooks = []Webhook{
		{Name: "shop", TopicName: "hooks/shop", Scheme: "standard", SecretFile: secret, Tolerance: 5 * time.Minute,
			MaxBody: 64 * kib},
		{Name: "hub", TopicName: "hooks/hub", Scheme: "github", SecretFile: hub, Tolerance: 5 * time.Minute, MaxBody: kib,
			Keep: "X-GitHub-Event,X-None"},
		{Name: "pay", TopicName: "hooks/pay", Scheme: "stripe", SecretFile: hub, Header: "X-Pay", User: "payer",
			Tolerance: 5 * time.Minute, MaxBody: kib},
	}
	return start(t, c), secret
}

// hooked is a node with webhooks, and what comes of them.
type hooked struct {
	n *Node
	*eventStream
}

// send sends a message, and wants an answer.
func (h hooked) send(hook, body string, status int, words string, headers ...string) {
	h.t.Helper()
	is, text := newBrowser(h.t, h.n).do(http.MethodPost, "/hooks/"+hook, body, headers...)
	if is != status || !strings.Contains(text, words) {
		h.t.Errorf("%s %.40q: %d %s, want %d with %q", hook, body, is, text, status, words)
	}
}

// comes wants a message to come.
func (h hooked) comes(name, payload string) api.Event {
	h.t.Helper()
	e := h.message()
	if e.Name != name || *e.Payload.Text != payload {
		h.t.Errorf("%+v, want %s %q", e, name, payload)
	}
	return e
}

// TestWebhooks: what is signed comes once to who follows the topic name, whatever is sent again, and what is not
// signed, too old or too long does not.
func TestWebhooks(t *testing.T) {
	n, secret := withWebhooks(t)
	s := hooked{n, apiClient{t, n, ""}.follow("/filters/hooks%2F%23/messages")}
	send, comes := s.send, s.comes
	now := time.Now()
	first := standardly(oldSecret, "msg_1", `{"n":1}`, now)
	send("shop", `{"n":1}`, 200, `"repeated":false`, first...)
	if e := comes("hooks/shop", `{"n":1}`); e.ContentType != "application/json" || len(e.User) != 2 ||
		e.User[0] != (api.Property{Name: "webhook", Value: "shop"}) ||
		e.User[1] != (api.Property{Name: "webhook-id", Value: "msg_1"}) {
		t.Errorf("%+v", e)
	}
	send("shop", `{"n":1}`, 200, `"repeated":true`, first...)
	send("shop", `{"n":1}`, 200, `"repeated":true`, standardly(oldSecret, "msg_1", `{"n":1}`, now.Add(time.Second))...)
	send("shop", `{"n":2}`, 401, "is not signed", first...)
	send("shop", `{"n":1}`, 401, "is not signed")
	send("shop", "x", 401, "is not signed", standardly(oldSecret, "msg_2", "x", now.Add(-time.Hour))...)
	send("shop", "x", 401, "is not signed", standardly(newSecret, "msg_2", "x", now)...)
	send("shop", strings.Repeat("x", 65*kib), 413, "longer than 65536 bytes", first...)
	send("none", "x", 404, "no such webhook", first...)
	send("hub", "{}", 200, `"repeated":false`, "X-Hub-Signature-256: sha256="+inHex(hubSecret, "{}"),
		"X-GitHub-Event: push")
	if e := comes("hooks/hub", "{}"); len(e.User) != 2 ||
		e.User[1] != (api.Property{Name: "X-GitHub-Event", Value: "push"}) {
		t.Errorf("%+v", e)
	}
	send("hub", "{}", 200, `"repeated":true`, "X-Hub-Signature-256: "+inHex(hubSecret, "{}"),
		"X-GitHub-Delivery: another")
	send("hub", "{}", 401, "is not signed", "X-Hub-Signature-256: sha256="+inHex(hubSecret+"x", "{}"))
	stamp := fmt.Sprint(now.Unix())
	send("pay", "p", 200, `"repeated":false`, "X-Pay: t="+stamp+",v1="+inHex(hubSecret, stamp+".p"))
	comes("hooks/pay", "p")
	send("pay", "p", 401, "is not signed", "Stripe-Signature: t="+stamp+",v1="+inHex(hubSecret, stamp+".p"))

	// The secret is replaced: for a while both are good, then the new one; one that is none changes nothing.
	for i, text := range []string{newSecret + "\n" + oldSecret + "\n", newSecret + "\n\n", "short"} {
		if err := os.WriteFile(secret, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprint("new", i)
		send("shop", body, 200, `"repeated":false`, standardly(newSecret, "msg_"+body, body, now)...)
		comes("hooks/shop", body)
		body, status := fmt.Sprint("old", i), 401
		if i == 0 {
			status = 200
		}
		send("shop", body, status, "", standardly(oldSecret, "msg_"+body, body, now)...)
		if i == 0 {
			comes("hooks/shop", body)
		}
	}
	_, text := newBrowser(t, n).do(http.MethodGet, "/metrics", "")
	for _, want := range []string{`{outcome="stored",webhook="shop"} 5`, `{outcome="repeated",webhook="shop"} 2`,
		`{outcome="unsigned",webhook="shop"} 6`, `{outcome="refused",webhook="shop"} 1`} {
		if !strings.Contains(text, "firth_webhook_messages_total"+want) {
			t.Errorf("%s is not in the metrics", want)
		}
	}
}

// TestWebhookRights: a webhook has the rights of its user and no other, and what was refused may come again.
func TestWebhookRights(t *testing.T) {
	n, _ := withWebhooks(t)
	addUser(t, n, "root", "admin")
	headers := standardly(oldSecret, "msg_1", "x", time.Now())
	want := func(what string, status int) {
		t.Helper()
		is, text := newBrowser(t, n).do(http.MethodPost, "/hooks/shop", "x", headers...)
		if is != status {
			t.Errorf("%s: %d %s, want %d", what, is, text, status)
		}
	}
	want("its user is not there", http.StatusForbidden)
	addUser(t, n, "webhook.shop")
	want("without a right", http.StatusForbidden)
	addRule(t, n, "User:webhook.shop", onNames("hooks/hub", rule.Write))
	want("with the right to another name", http.StatusForbidden)
	addRule(t, n, "User:webhook.shop", onNames("hooks/shop", rule.Write))
	want("with the right", http.StatusOK)
	want("again", http.StatusOK)
	page := apiClient{t, n, "root"}
	var records api.RecordPage
	page.get("/topics/hooks/records", &records)
	if len(records.Items) != 1 || *records.Items[0].Value.Text != "x" {
		t.Errorf("%+v", records.Items)
	}
}
