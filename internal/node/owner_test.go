package node

import (
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/firthmq/firth/internal/access"
)

// TestNobodyTakesTheSessionOfAnother: a session is that of the user who began it, here, away and after a restart, also
// where nothing binds its client identifier. Who does not say who it is leaves it to anybody.
func TestNobodyTakesTheSessionOfAnother(t *testing.T) {
	c := local(t)
	c.Access.Anonymous = "allow"
	n := start(t, c)
	for _, name := range []string{"alice", "bob"} {
		err := n.access.AddUser(t.Context(), access.UserChange{Name: name, Password: []byte(name),
			Roles: &[]string{"admin"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	connect := func(user, id string, clean bool) (paho.Client, error) {
		t.Helper()
		opt := paho.NewClientOptions().AddBroker("tcp://" + n.Addresses().MQTT).SetClientID(id).SetCleanSession(clean).
			SetUsername(user).SetPassword(user).SetAutoReconnect(false)
		client := paho.NewClient(opt)
		token := client.Connect()
		if !token.WaitTimeout(time.Minute) {
			t.Fatal("no answer")
		}
		return client, token.Error()
	}
	may := func(user, id string) paho.Client {
		t.Helper()
		client, err := connect(user, id, false)
		if err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		return client
	}
	mayNot := func(when, user string) {
		t.Helper()
		for _, clean := range []bool{false, true} {
			client, err := connect(user, "pump", clean)
			if err == nil {
				client.Disconnect(0)
			}
			if err == nil || !strings.Contains(err.Error(), "not Authorized") {
				t.Errorf("%s: %q takes the session: %v", when, user, err)
			}
		}
	}
	first := may("alice", "pump")
	mayNot("connected", "bob")
	mayNot("connected", "")
	if !first.IsConnected() {
		t.Error("the session was disturbed")
	}
	may("alice", "pump").Disconnect(0)
	until(t, "alice is away", func() bool {
		line, err := n.mqtt.Session("pump")
		return err == nil && line.State != "connected"
	})
	mayNot("away", "bob")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = start(t, c)
	mayNot("after a restart", "bob")
	may("alice", "pump").Disconnect(0)
	may("", "valve").Disconnect(0)
	may("bob", "valve").Disconnect(0)
	if _, err := n.mqtt.Kick(t.Context(), "pump", true); err != nil {
		t.Fatal(err)
	}
	may("bob", "pump").Disconnect(0)
}
