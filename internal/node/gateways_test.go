package node

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt/client"
)

// administer asks the interface for commands of a gateway.
func administer(t *testing.T, method, at, what string, out any) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+at+adminPath+what, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", adminType)
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	if a.StatusCode == http.StatusOK {
		if err := json.Unmarshal(b, out); err != nil {
			t.Fatal(err)
		}
	}
	return a.StatusCode, string(b)
}

// states gives how many gateways are in which state, by the one at an address.
func states(t *testing.T, at string) map[string]int {
	t.Helper()
	var lines []gatewayLine
	if status, text := administer(t, http.MethodGet, at, "/nodes", &lines); status != http.StatusOK {
		t.Fatal(status, text)
	}
	all := map[string]int{}
	for _, l := range lines {
		all[l.State]++
		if l.State == gatewaySilent { // it is about to go
			continue
		}
		if l.Name == "" || l.Address == "" || l.Since == nil || l.Since.IsZero() || l.Version == "" ||
			(l.State == gatewayServes) != (l.Shards == 1) {
			t.Errorf("a gateway tells %+v", l)
		}
	}
	return all
}

// drain drains a gateway by the one at an address.
func drain(t *testing.T, at, query string) {
	t.Helper()
	var line gatewayLine
	status, text := administer(t, http.MethodPost, at, "/node/drain?"+query, &line)
	if status != http.StatusOK || line.State != gatewayDrains {
		t.Fatalf("drained: %d %s", status, text)
	}
}

// TestDrain: the gateway that serves knows all that stand by; one of them is drained through it. Drained itself, it
// ends in order, and another one serves with the sessions, long before its place would run out. The last one is not
// drained unless that is wanted.
func TestDrain(t *testing.T) {
	f := brokers(t)
	gateway := func() *process {
		c := among(t, f)
		c.Log.Kafka.Takeover = 5 * time.Minute // longer than anything here waits
		return run(t, func() (*Config, error) { return c, nil })
	}
	serving := gateway()
	at := serving.ready(t).Addresses
	one, other := gateway(), gateway()
	next, last := one.ready(t).Addresses, other.ready(t).Addresses
	becomes(t, "three gateways", func() bool {
		all := states(t, at.HTTP)
		return all[gatewayServes] == 1 && all[gatewayStandsBy] == 2
	})
	status, text := administer(t, http.MethodGet, next.HTTP, "/nodes", nil)
	if status != http.StatusServiceUnavailable || !strings.Contains(text, "stands by") {
		t.Errorf("one that stands by answers %d: %s", status, text)
	}
	ended := func(err error) {
		t.Helper()
		if err != nil {
			t.Errorf("drained, it ended with %v", err)
		}
	}
	var lines []gatewayLine
	administer(t, http.MethodGet, at.HTTP, "/nodes", &lines)
	away := slices.IndexFunc(lines, func(l gatewayLine) bool { return l.State == gatewayStandsBy })
	drain(t, at.HTTP, "name="+lines[away].Name[:20])
	select {
	case err := <-one.ended:
		ended(err)
		one, next = other, last
	case err := <-other.ended:
		ended(err)
	}
	becomes(t, "two gateways", func() bool { return states(t, at.HTTP)[gatewayStandsBy] == 1 })

	visit := func(mqtt string, resume bool) *client.Client {
		t.Helper()
		c, err := client.Dial(t.Context(), mqtt, lasting("device", resume, nil))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Abort)
		return c
	}
	visit(next.MQTT, false)
	drain(t, at.HTTP, "")
	ended(<-serving.ended)
	one.out.await(t, `\n\{.*"cluster":"[^"]+".*\n`)
	if !visit(next.MQTT, true).Server().SessionPresent {
		t.Error("the session is gone")
	}
	for query, want := range map[string]string{
		"": "no other gateway stands by", "name=nobody": "no gateway has the name nobody",
	} {
		status, text := administer(t, http.MethodPost, next.HTTP, "/node/drain?"+query, nil)
		if status == http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("drained with %q: %d %s", query, status, text)
		}
	}
	drain(t, next.HTTP, "force=true")
	ended(<-one.ended)
}

// TestNobodyToDrain: a node that keeps its log is no gateway, and the only gateway of a cluster has nobody to hand over
// to.
func TestNobodyToDrain(t *testing.T) {
	alone := start(t, local(t)).Addresses().HTTP
	if status, text := administer(t, http.MethodGet, alone, "/nodes", nil); status != http.StatusBadRequest {
		t.Errorf("a node without a cluster lists %d %s", status, text)
	}
	only := start(t, gateway(t, brokers(t))).Addresses().HTTP
	var lines []gatewayLine
	status, text := administer(t, http.MethodGet, only, "/nodes", &lines)
	if status != http.StatusOK || len(lines) != 1 || lines[0].State != gatewayServes || lines[0].Name == "" {
		t.Errorf("the only gateway lists %d %s", status, text)
	}
	for _, at := range []string{alone, only} {
		status, text := administer(t, http.MethodPost, at, "/node/drain", nil)
		if status != http.StatusBadRequest {
			t.Errorf("drained: %d %s", status, text)
		}
	}
}
