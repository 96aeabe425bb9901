package node

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// bans keeps somebody out by the API of a gateway.
func (n *Node) bans(t *testing.T, by, kind, who string) {
	t.Helper()
	apiClient{t, n, by}.change("POST", "/bans", fmt.Sprintf(`{"kind":%q,"who":%q}`, kind, who), 201)
}

// TestSharedBans: bans that one gateway sets or lifts hold on all, on connections that are there, too, and on one that
// starts later.
func TestSharedBans(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	a, b, c := start(t, amongEquals(t, f)), start(t, amongEquals(t, f)), start(t, amongEquals(t, f))
	share(t, a, b, c)
	a.makes(t, "", "root", "admin")
	a.makes(t, "root", "ann", "admin")
	for _, n := range []*Node{b, c} {
		n.knows(t, "ann")
	}
	evil := as(c.idOf("evil"), "root") // its session is on c, and it connects to b
	there, good := b.visit(t, evil), b.visit(t, as(c.idOf("good"), "root"))
	ann, reader := b.visit(t, as(a.idOf("pump"), "ann")), newBrowser(t, c)
	if status, text := reader.login("ann", mxPassword); status != http.StatusOK {
		t.Fatalf("ann gets %d %s", status, text)
	}
	a.bans(t, "root", "client", evil.ClientID)
	b.bans(t, "root", "user", "ann")
	c.bans(t, "root", "address", "192.0.2.0/24")
	for _, one := range []*client.Client{there, ann} {
		if reason := parted(t, one); reason != packet.AdministrativeAction {
			t.Errorf("who is banned was told %s", reason)
		}
	}
	becomes(t, "who is banned has no session over HTTP", func() bool {
		status, _ := reader.do("GET", "/api/v1/users", "")
		return status == http.StatusUnauthorized
	})
	select {
	case <-good.Done():
		t.Errorf("who is not banned is gone: %v", good.Err())
	default:
	}
	later := start(t, amongEquals(t, f))
	for i, n := range []*Node{a, b, c, later} {
		becomes(t, fmt.Sprint("all is known on ", i), func() bool { return len(n.mqtt.Bans()) == 3 })
		for _, who := range []client.Options{evil, as("other", "ann")} {
			becomes(t, "it is refused, also while its session moves", func() bool {
				reason := n.refusal(t, who)
				if reason == packet.Success {
					t.Errorf("%d lets %s in", i, who.ClientID)
				}
				return reason == packet.Banned
			})
		}
	}
	apiClient{t, b, "root"}.change("DELETE", "/bans/client/"+evil.ClientID, "", 200)
	for _, n := range []*Node{a, b, c, later} {
		becomes(t, "it is let in again", func() bool { return n.refusal(t, evil) == packet.Success })
	}
}

// TestSharedBansAtOnce: of bans on all gateways at once none is lost, and one that is lifted on all at once is lifted
// once.
func TestSharedBansAtOnce(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	all := []*Node{start(t, amongEquals(t, f)), start(t, amongEquals(t, f)), start(t, amongEquals(t, f))}
	const each = 5
	var at sync.WaitGroup
	for i, n := range all {
		at.Go(func() {
			for round := range each {
				n.bans(t, "", "client", fmt.Sprint("by", i, "round", round))
			}
		})
	}
	at.Wait()
	for _, n := range all {
		becomes(t, "all have all", func() bool { return len(n.mqtt.Bans()) == each*len(all) })
	}
	var got [3]answered
	for i, n := range all {
		at.Go(func() { got[i] = apiClient{t, n, ""}.send("DELETE", "/bans/client/by0round0", "") })
	}
	at.Wait()
	lifted := 0
	for i := range got {
		switch got[i].status {
		case http.StatusOK:
			lifted++
		case http.StatusNotFound:
		default:
			t.Errorf("%d was told %d %s", i, got[i].status, got[i].text)
		}
	}
	if lifted != 1 {
		t.Errorf("it was lifted %d times", lifted)
	}
}

// TestSharedFlapping: a client that comes and goes too often, on whatever gateways, is banned on all.
func TestSharedFlapping(t *testing.T) {
	t.Parallel() // it waits
	f := brokers(t)
	var all []*Node
	for range 3 {
		cfg := amongEquals(t, f)
		cfg.Flapping.Disconnects, cfg.Flapping.Window, cfg.Flapping.Ban = 3, time.Hour, time.Hour
		all = append(all, start(t, cfg))
	}
	share(t, all...)
	moth, come := client.Options{ClientID: all[2].idOf("moth")}, 0
	becomes(t, "it is banned", func() bool {
		come++
		return all[come%3].refusal(t, moth) == packet.Banned
	})
	for _, n := range all {
		becomes(t, "all know", func() bool {
			all := n.mqtt.Bans()
			return len(all) == 1 && all[0].By == "flapping"
		})
	}
}
