package ban

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

func TestFind(t *testing.T) {
	var bans Table
	for _, b := range []Ban{
		{Kind: Client, Who: "evil", Until: 1000}, {Kind: Client, Who: "forever"}, {Kind: User, Who: "mallory"},
		{Kind: Address, Who: "192.0.2.7"}, {Kind: Address, Who: "10.1.2.3/16"}, {Kind: Address, Who: "2001:db8::1/32"},
		{Kind: Address, Who: "::ffff:203.0.113.9"}, {Kind: Address, Who: "::ffff:198.51.100.0/120"},
	} {
		if err := bans.Add(b); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		client, user, address string
		now                   int64
		found                 string
	}{
		{"evil", "", "", 999, "evil"}, {"evil", "", "", 1000, ""}, {"forever", "", "", 1 << 60, "forever"},
		{"good", "mallory", "", 0, "mallory"}, {"mallory", "evil", "", 0, ""}, {"good", "", "", 0, ""},
		{"good", "", "192.0.2.7", 0, "192.0.2.7/32"}, {"good", "", "192.0.2.8", 0, ""},
		{"good", "", "10.1.255.1", 0, "10.1.0.0/16"}, {"good", "", "10.2.0.1", 0, ""},
		{"good", "", "::ffff:10.1.0.1", 0, "10.1.0.0/16"}, {"good", "", "203.0.113.9", 0, "203.0.113.9/32"},
		{"good", "", "198.51.100.200", 0, "198.51.100.0/24"},
		{"good", "", "2001:db8:5::1", 0, "2001:db8::/32"}, {"good", "", "2001:db9::1", 0, ""},
		{"good", "", "fe80::1%eth0", 0, ""},
	} {
		var a netip.Addr
		if c.address != "" {
			a = netip.MustParseAddr(c.address)
		}
		who := ""
		if b := bans.Find(c.client, c.user, a, c.now); b != nil {
			who = b.Who
		}
		if who != c.found {
			t.Errorf("%+v: found %q", c, who)
		}
	}
	if over := bans.Ended(1000); len(over) != 1 || over[0].Who != "evil" || bans.Len() != 8 {
		t.Errorf("over are %v of %d", over, bans.Len())
	}
	if !bans.Remove(Client, "evil") {
		t.Error("who is over was not there")
	}
	for _, b := range bans.All(0) {
		if !bans.Remove(b.Kind, b.Who) || bans.Remove(b.Kind, b.Who) {
			t.Errorf("%v was not there once", b)
		}
	}
	found := bans.Find("forever", "mallory", netip.MustParseAddr("10.1.0.1"), 0)
	if found != nil || bans.Len() != 0 || bans.bits != [2][129]int{} {
		t.Error("something is left")
	}
}

func TestCheck(t *testing.T) {
	for _, b := range []Ban{
		{Kind: Client}, {Kind: "topic", Who: "x"}, {Kind: Address, Who: "x"}, {Kind: Address, Who: "10.0.0.0/33"},
		{Kind: User, Who: "\xff"}, {Kind: Client, Who: strings.Repeat("x", 70_000)},
		{Kind: Client, Who: "x", Reason: strings.Repeat("x", 70_000)},
	} {
		if err := b.Check(); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.60v: %v", b, err)
		}
	}
}

func TestRecords(t *testing.T) {
	for _, b := range []Ban{
		{Kind: Client, Who: "a/b", Since: 1, Until: 2, By: "flapping", Reason: "because"},
		{Kind: Address, Who: "10.0.0.0/8", Since: 5},
	} {
		value, err := b.Value()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Parse(b.Key(), value); err != nil || got != b {
			t.Errorf("%v became %v, %v", b, got, err)
		}
	}
	for k, v := range map[string]string{"": "{}", "client/": "{}", "client/x": "[", "weather/x": "{}"} {
		if _, err := Parse([]byte(k), []byte(v)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q=%q: %v", k, v, err)
		}
	}
}

func TestFlapping(t *testing.T) {
	type step struct {
		client string
		at     int64
		flaps  bool
	}
	for what, c := range map[string]struct {
		most  int
		steps []step
	}{
		"off":                    {0, []step{{"a", 0, false}, {"a", 0, false}, {"a", 0, false}}},
		"the third in a window":  {2, []step{{"a", 0, false}, {"a", 500, false}, {"b", 600, false}, {"a", 1000, true}}},
		"not in the next one":    {2, []step{{"a", 0, false}, {"a", 500, false}, {"a", 1001, false}, {"a", 1002, false}}},
		"and then":               {2, []step{{"a", 0, false}, {"a", 1001, false}, {"a", 1002, false}, {"a", 2001, true}}},
		"it begins anew":         {1, []step{{"a", 0, false}, {"a", 1, true}, {"a", 2, false}, {"a", 3, true}}},
		"a clock that goes back": {1, []step{{"a", 5000, false}, {"a", 10, false}, {"a", 20, true}}},
	} {
		f := NewFlapping(c.most, time.Second)
		for i, s := range c.steps {
			if flaps := f.Left(s.client, s.at); flaps != s.flaps {
				t.Errorf("%s: step %d: %v", what, i, flaps)
			}
		}
	}
}

// TestFlappingIsBounded: however many clients come and go, memory is bounded; who is over is forgotten.
func TestFlappingIsBounded(t *testing.T) {
	f := NewFlapping(1, time.Second)
	for i := range maxTallies + 5 {
		f.Left(fmt.Sprint("c", i), int64(i%3))
	}
	if n := len(f.clients); n != maxTallies {
		t.Errorf("%d are counted", n)
	}
	f.Left("new", 1100)
	if n := len(f.clients); n != 1 {
		t.Errorf("%d are counted when the window is over", n)
	}
}
