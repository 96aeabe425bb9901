package node

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/erasure"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// secretOfAlice is in all that is about alice.
const secretOfAlice = "SECRET-OF-ALICE"

// atRest is the configuration of a node that encrypts.
func atRest(t *testing.T) *Config {
	t.Helper()
	c := local(t)
	key, err := atrest.Generate()
	if err != nil {
		t.Fatal(err)
	}
	c.Encryption = Encryption{KeyFile: filepath.Join(t.TempDir(), "keys"), NewFiles: true}
	if err := os.WriteFile(c.Encryption.KeyFile, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// fillShreds writes about alice and bob by both doors: messages, a retained and a delayed one, wills of clients that
// are there and that are not, and records.
func (g *guarded) fillShreds(boss *kgo.Client) {
	t, ctx := g.t, g.t.Context()
	t.Helper()
	admin := kadm.NewClient(boss)
	for topic, subject := range map[string]string{"orders": "header:customer", "people": "key"} {
		if _, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{"firth.subject": &subject}, topic); err != nil {
			t.Fatal(err)
		}
	}
	d, err := client.Dial(ctx, g.Addresses().MQTT, client.Options{ClientID: "d1", UserName: "boss",
		Password: []byte(adminPassword)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{"orders/1", "orders/kept", "$delayed/3600/orders/2"} {
		for _, who := range []string{"bob", "alice"} {
			p := &packet.Publish{Topic: []byte(name), QoS: 1, Payload: []byte("of bob"), Retain: name == "orders/kept"}
			if who == "alice" {
				p.Payload = []byte(secretOfAlice)
			}
			p.Props.AddUser("customer", who)
			if err := d.Publish(p, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	d.Flush()
	if err := d.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"bob", "alice"} {
		g.leaveWill(who, "gone-"+who[:1]).Abort()
		g.leaveWill(who, "here-"+who[:1])
	}
	for _, who := range []string{"alice", "bob"} {
		value := map[bool]string{true: secretOfAlice, false: "of bob"}[who == "alice"]
		for _, topic := range []string{"orders", "people"} {
			r := &kgo.Record{Topic: topic, Key: []byte(who), Value: []byte(value), Headers: []kgo.RecordHeader{
				{Key: "customer", Value: []byte(who)}, {Key: "mail", Value: []byte(value)}}}
			if err := boss.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// leaveWill has a client connect whose will is about somebody, and waits for an hour.
func (g *guarded) leaveWill(who, id string) *client.Client {
	g.t.Helper()
	will := &packet.Will{Topic: []byte("orders/will"), Payload: []byte("of " + who), QoS: 1}
	if who == "alice" {
		will.Payload = []byte(secretOfAlice)
	}
	will.Props.AddUser("customer", who)
	will.Props.SetWillDelay(3600)
	o := client.Options{ClientID: id, UserName: "boss", Password: []byte(adminPassword), Will: will, Resume: true}
	o.Props.SetSessionExpiry(7200)
	c, err := client.Dial(g.t.Context(), g.Addresses().MQTT, o)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return c
}

// everywhere lists all records of all topics, internal ones too.
func (g *guarded) everywhere() (lines []string) {
	g.t.Helper()
	for _, topic := range g.store.Topics().All() {
		for _, p := range topic.Partitions {
			_, err := stream.Fold(g.t.Context(), g.store, p, 0, func(v *record.View) error {
				_, gone := v.Header(hinge.HeaderShredded)
				lines = append(lines, fmt.Sprintf("%s %d %s=%s %s %v", topic.Name, v.Offset, v.Key, v.Value,
					v.EncodedHeaders(), gone))
				return nil
			})
			if err != nil {
				g.t.Fatal(err)
			}
		}
	}
	return lines
}

// shreds awaits the end of all requests.
func (g *guarded) shreds() (all []erasure.Status) {
	g.t.Helper()
	for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err := json.Unmarshal([]byte(g.must("GET", "/shreds", "")), &all); err != nil {
			g.t.Fatal(err)
		}
		ended := true
		for _, st := range all {
			ended = ended && st.Ended != nil
		}
		if ended {
			return all
		}
		if time.Now().After(limit) {
			g.t.Fatalf("it does not come to an end: %+v", all)
		}
	}
}

func subjectBody(who string) string {
	return `{"subject":"` + base64.StdEncoding.EncodeToString([]byte(who)) + `"}`
}

// TestShred makes a customer unreadable, by whichever door the records came, and proves it.
func TestShred(t *testing.T) {
	c := atRest(t)
	g := startGuarded(t, c)
	boss := g.kafkaAs("boss", adminPassword)
	g.fillShreds(boss)
	if !strings.Contains(strings.Join(g.everywhere(), "\n"), secretOfAlice) {
		t.Fatal("the search finds nothing that is there")
	}
	if status, text := g.ask("POST", "/shred", subjectBody("alice"), basicAuth("dev", devicePassword)); status !=
		http.StatusForbidden {
		t.Fatalf("a device may shred: %d %s", status, text)
	}
	g.must("POST", "/shred", subjectBody("alice"))
	all := g.shreds()
	if len(all) != 1 || all[0].Records["orders"] != 3 || all[0].Records["people"] != 1 || all[0].Files == 0 {
		t.Fatalf("%+v", all)
	}
	lines := strings.Join(g.everywhere(), "\n")
	if strings.Contains(lines, secretOfAlice) {
		t.Fatal(lines)
	}
	if n := strings.Count(lines, "of bob"); n < 6 || strings.Count(lines, " true") != 4 {
		t.Fatalf("%d records of bob in\n%s", n, lines)
	}
	if retained := g.must("GET", "/retained", ""); strings.Contains(retained, "orders/kept") {
		t.Errorf("retained: %s", retained)
	}
	if found := g.must("POST", "/shreds", subjectBody("alice")); !strings.Contains(found, all[0].ID) {
		t.Errorf("who knows the subject does not find the request: %s", found)
	}
	if found := g.must("POST", "/shreds", subjectBody("bob")); strings.Contains(found, all[0].ID) {
		t.Errorf("it is found by another subject: %s", found)
	}
	g.expect("change node  subject.shredded subject:" + all[0].ID + " success")
	_, told := g.ask("GET", "/audit", "")
	if fault := g.verify(told); fault != nil {
		t.Error(fault)
	}
	if strings.Contains(told, "alice") || !strings.Contains(told, all[0].Subject) || !strings.Contains(told, "old_key") {
		t.Errorf("the audit names the subject, or proves nothing:\n%s", told)
	}
}

// TestShredNeedsEncryption refuses where what a disk keeps of old files could be read.
func TestShredNeedsEncryption(t *testing.T) {
	g := startGuarded(t, local(t))
	g.fillShreds(g.kafkaAs("boss", adminPassword))
	if status, text := g.ask("POST", "/shred", subjectBody("alice")); status == http.StatusOK ||
		!strings.Contains(text, "encryption.key_file") {
		t.Fatalf("%d %s", status, text)
	}
}
