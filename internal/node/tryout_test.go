package node

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestAccessReport: with access.mode report both doors let through what rules deny, and the node tells what it is, with
// the rules that would allow it, also in the audit. Nobody comes in by it, and nobody administers.
func TestAccessReport(t *testing.T) {
	e := startEncrypted(t, "require", func(c *Config) { c.Access.Mode = modeReport })
	r := rule.Rule{Effect: rule.Allow, Principal: "Role:boss", Operations: rule.Everything,
		Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Literal, Name: "x"}}
	if err := e.access.Apply(t.Context(), &access.Change{Rules: []rule.Rule{r}}); err != nil {
		t.Fatal(err)
	}
	pump := e.devices.Client("pump")
	config := e.config(t, &pump)
	d, err := connectDevice(e, "c1", config)
	if err != nil {
		t.Fatal(err)
	}
	publish := &packet.Publish{QoS: 1, PacketID: 1, Topic: []byte("sensors/1"), Payload: []byte("x")}
	answers(t, "PUBLISH", d.c, publish.AppendTo(nil, packet.V5))
	cl, err := kgo.NewClient(kgo.SeedBrokers(e.a.Kafkas), kgo.DialTLSConfig(config), kgo.AllowAutoTopicCreation(),
		kgo.ConsumeTopics("orders"), kgo.ConsumerGroup("g"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if f := cl.PollFetches(t.Context()); f.Err() != nil || f.NumRecords() != 1 {
		t.Fatalf("%d records, %v", f.NumRecords(), f.Err())
	}

	said, err := e.adminDenied(nil)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, line := range said.(deniedLines).Denied {
		if line.Fix == nil || line.Fix.Principal != "User:pump" || len(line.By) > 0 {
			t.Errorf("%+v", line)
		}
		told = append(told, line.Operation+" "+line.Text)
	}
	for _, want := range []string{"write names sensors/1", "write topic orders", "read topic orders", "read group g"} {
		if !slices.Contains(told, want) {
			t.Errorf("%s is not in %q", want, told)
		}
	}
	token, err := os.ReadFile(filepath.Join(e.cfg.Data, TokenFile))
	if err != nil {
		t.Fatal(err)
	}
	g := &guarded{Node: e.Node, t: t, token: strings.TrimSpace(string(token))}
	eventually(t, func() bool {
		found := 0
		for _, r := range g.query(url.Values{"type": {chain.TypeRefused}}) {
			if r.Data.Outcome == chain.LetThrough && r.Data.Rule == "" && r.Data.Actor.Principal == "User:pump" {
				found += 1 + len(r.Data.Also)
			}
		}
		return found >= len(told)
	})
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	answer, err := web.Get("https://" + e.a.HTTPS + adminPath + "/denied")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode == http.StatusOK || !json.Valid(text) {
		t.Errorf("pump administers: %s %s %v", answer.Status, text, err)
	}
}

// TestAccessModeReload: a reload puts rules in force for a device that is connected, and has them be tried out again.
func TestAccessModeReload(t *testing.T) {
	e := startEncrypted(t, "require", func(c *Config) { c.Access.Mode = modeReport })
	r := rule.Rule{Effect: rule.Allow, Principal: "User:pump", Operations: rule.Everything,
		Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Literal, Name: "x"}}
	if err := e.access.Apply(t.Context(), &access.Change{Rules: []rule.Rule{r}}); err != nil {
		t.Fatal(err)
	}
	pump := e.devices.Client("pump")
	a := e.Addresses()
	c, err := client.Dial(t.Context(), a.MQTTS, client.Options{ClientID: "c1", TLS: e.config(t, &pump)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abort)
	for i, mode := range []string{modeReport, modeEnforce, modeReport, modeEnforce} {
		next := *e.cfg
		next.Access.Mode = mode
		keys, waiting, err := e.Reload(&next)
		if changed := slices.Equal(keys, []string{"access.mode"}); err != nil || len(waiting) > 0 || changed != (i > 0) {
			t.Fatalf("%s: changed %q, waiting %q, %v", mode, keys, waiting, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		reasons, err := c.Subscribe(ctx, packet.Properties{}, packet.Subscription{Filter: []byte("sensors/1")})
		cancel()
		if err != nil || reasons[0].Failed() != (mode == modeEnforce) {
			t.Errorf("%s: SUBACK %v, %v", mode, reasons, err)
		}
	}
}
