package node

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/log/replica"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// makes makes a user by the API of a gateway.
func (n *Node) makes(t *testing.T, by, name, role string) {
	t.Helper()
	apiClient{t, n, by}.change("POST", "/users",
		fmt.Sprintf(`{"name":%q,"password":%q,"roles":[%q]}`, name, mxPassword, role), 201)
}

// knows waits until a gateway knows a user.
func (n *Node) knows(t *testing.T, name string) {
	t.Helper()
	becomes(t, "it knows "+name, func() bool { return n.access.Catalog().User(name) != nil })
}

// as is a device that is a user.
func as(id, user string) client.Options {
	return client.Options{ClientID: id, UserName: user, Password: []byte(mxPassword)}
}

// refusal is the reason code that a gateway refuses a device with; Success: it is let in.
func (n *Node) refusal(t *testing.T, o client.Options) packet.ReasonCode {
	t.Helper()
	c, err := client.Dial(t.Context(), n.Addresses().MQTT, o)
	if err == nil {
		c.Abort()
		return packet.Success
	}
	return packet.ReasonOf(err)
}

// parted waits for the end of a connection, and gives its reason.
func parted(t *testing.T, c *client.Client) packet.ReasonCode {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(2 * time.Minute):
		t.Fatal("the connection does not end")
	}
	return packet.ReasonOf(c.Err())
}

// TestSharedUsers: users and rules that one gateway changes hold on all, on connections that are there, too, and on one
// that starts later.
func TestSharedUsers(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	a, b, c := start(t, amongEquals(t, f)), start(t, amongEquals(t, f)), start(t, amongEquals(t, f))
	share(t, a, b, c)
	id := c.idOf("pump") // its session is on c, and it connects to b
	stranger := b.visit(t, client.Options{ClientID: c.idOf("stranger")})
	a.makes(t, "", "root", "admin")
	if reason := parted(t, stranger); reason != packet.NotAuthorized {
		t.Errorf("who did not say who it is was told %s", reason)
	}
	b.knows(t, "root")
	b.makes(t, "root", "pump", "consumer")
	for _, n := range []*Node{a, c} {
		n.knows(t, "pump")
		if reason := n.refusal(t, client.Options{ClientID: id}); reason != packet.NotAuthorized {
			t.Errorf("nobody gets %s", reason)
		}
	}
	pump := b.visit(t, as(id, "pump"))
	plant := packet.Subscription{Filter: []byte("plant/#")}
	if acks, err := pump.Subscribe(t.Context(), packet.Properties{}, plant); err != nil || acks[0].Failed() {
		t.Errorf("a subscription gets %v: %v", acks, err)
	}
	deny := rule.Rule{Effect: rule.Deny, Principal: "User:pump", Operations: rule.Of(rule.Read),
		Resource: rule.Resource{Kind: rule.Topic, Pattern: rule.Filter, Name: "plant/#"}}
	if err := a.access.Apply(t.Context(), &access.Change{Rules: []rule.Rule{deny}}); err != nil {
		t.Fatal(err)
	}
	becomes(t, "the rule holds where its session is", func() bool {
		_, is := c.access.Catalog().Rule(deny.ID())
		return is
	})
	acks, err := pump.Subscribe(t.Context(), packet.Properties{}, plant)
	if err != nil || acks[0] != packet.NotAuthorized {
		t.Errorf("a subscription that is denied gets %v: %v", acks, err)
	}
	if err := a.access.RemoveUser(t.Context(), "pump"); err != nil {
		t.Fatal(err)
	}
	if reason := parted(t, pump); reason != packet.NotAuthorized {
		t.Errorf("who was removed was told %s", reason)
	}
	becomes(t, "all know", func() bool {
		return b.access.Catalog().User("pump") == nil && c.access.Catalog().User("pump") == nil
	})
	if reason := a.refusal(t, as(id, "pump")); reason != packet.BadUserNameOrPassword {
		t.Errorf("who was removed gets %s", reason)
	}
	all := start(t, amongEquals(t, f)).access.Catalog()
	if all.User("root") == nil || all.User("pump") != nil || len(all.Rules()) != 1 {
		t.Error("a gateway that starts behind the edits does not know them")
	}
}

// TestSharedTags: of edits by one tag on all gateways at once one is made, and the others are told that it is not what
// it was.
func TestSharedTags(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	all := []*Node{start(t, amongEquals(t, f)), start(t, amongEquals(t, f)), start(t, amongEquals(t, f))}
	all[0].makes(t, "", "root", "admin")
	all[0].makes(t, "root", "ann", "viewer")
	for _, n := range all {
		n.knows(t, "ann")
	}
	for round := range 4 {
		tag := apiClient{t, all[round%3], "root"}.send("GET", "/users/ann", "").tag
		var got [3]answered
		var editing sync.WaitGroup
		for i, n := range all {
			editing.Go(func() {
				got[i] = apiClient{t, n, "root"}.send("PATCH", "/users/ann",
					fmt.Sprintf(`{"groups":["by%d","round%d"]}`, i, round), ifMatch(tag))
			})
		}
		editing.Wait()
		won := -1
		for i := range got {
			switch {
			case got[i].status == http.StatusOK && won < 0:
				won = i
			case got[i].status != http.StatusPreconditionFailed:
				t.Errorf("round %d: %d was told %d %s, %d has won", round, i, got[i].status, got[i].text, won)
			}
		}
		if won < 0 {
			t.Fatalf("round %d: nobody has won", round)
		}
		for _, n := range all {
			becomes(t, "all have the same", func() bool {
				return n.access.Catalog().UserTag(n.access.Catalog().User("ann")) == strings.Trim(got[won].tag, `"`)
			})
		}
	}
}

// TestSharedUnknown: a gateway that cannot read what others change lets nobody new in after a while, and says so; who
// is there stays, nothing is edited there, and it goes on by itself.
func TestSharedUnknown(t *testing.T) {
	for _, topic := range []string{access.TopicName, mqtt.BansTopic, authority.TopicName} {
		t.Run(topic, func(t *testing.T) {
			t.Parallel() // it waits
			isUnknown(t, topic)
		})
	}
}

func isUnknown(t *testing.T, topic string) {
	f := brokers(t)
	var later atomic.Int64
	n := newNode(amongEquals(t, f))
	n.clocks.passed = func() time.Duration { return clock.Passed() + time.Duration(later.Load()) }
	if _, err := n.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	share(t, n)
	n.makes(t, "", "root", "admin")
	stays := n.visit(t, as("stays", "root"))
	cut, of := new(atomic.Bool), n.keeper.Topics().ByName(topic)
	f.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		for _, one := range req.(*kmsg.FetchRequest).Topics {
			if cut.Load() && (one.TopicID == of.ID || one.Topic == of.Name) {
				return nil, errors.New("cut off"), true
			}
		}
		return nil, nil, false
	})
	cut.Store(true)
	becomes(t, "it does not know", func() bool {
		err := n.access.Unsure()
		if err == nil { // a read may just have been answered
			later.Add(int64(replica.Patience) + 1)
		}
		return err != nil && strings.Contains(err.Error(), topic) // what it can read it reads anew
	})
	if reason := n.refusal(t, as("new", "root")); reason != packet.ServerUnavailable {
		t.Errorf("who comes gets %s", reason)
	}
	status, text := newBrowser(t, n).do("GET", "/readyz", "")
	if status != http.StatusServiceUnavailable || !strings.Contains(text, topic+" could not be read") {
		t.Errorf("readyz: %d %s", status, text)
	}
	if status, text := newBrowser(t, n).login("root", mxPassword); status != http.StatusServiceUnavailable {
		t.Errorf("a login by HTTP: %d %s", status, text)
	}
	cut.Store(false)
	becomes(t, "it goes on", func() bool { return n.refusal(t, as("new", "root")) == packet.Success })
	select {
	case <-stays.Done():
		t.Errorf("who was there is gone: %v", stays.Err())
	default:
	}
	if err := n.access.EnsureUser(t.Context(), "ann", nil, ""); err != nil {
		t.Error(err)
	}
}
