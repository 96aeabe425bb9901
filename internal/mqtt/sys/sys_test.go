package sys

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// mosquitto is what Mosquitto 2.0.11 publishes below $SYS.
const mosquitto = `bytes/received bytes/sent clients/active clients/connected clients/disconnected clients/expired
clients/inactive clients/maximum clients/total heap/current heap/maximum
load/bytes/received/15min load/bytes/received/1min load/bytes/received/5min
load/bytes/sent/15min load/bytes/sent/1min load/bytes/sent/5min
load/connections/15min load/connections/1min load/connections/5min
load/messages/received/15min load/messages/received/1min load/messages/received/5min
load/messages/sent/15min load/messages/sent/1min load/messages/sent/5min
load/publish/dropped/15min load/publish/dropped/1min load/publish/dropped/5min
load/publish/received/15min load/publish/received/1min load/publish/received/5min
load/publish/sent/15min load/publish/sent/1min load/publish/sent/5min
load/sockets/15min load/sockets/1min load/sockets/5min
messages/received messages/sent messages/stored
publish/bytes/received publish/bytes/sent publish/messages/dropped publish/messages/received publish/messages/sent
retained_messages/count shared_subscriptions/count store/messages/bytes store/messages/count subscriptions/count
uptime version`

func TestNames(t *testing.T) {
	var tree Tree
	tree.Update(Counts{}, time.Second)
	var got []string
	for _, v := range tree.Values() {
		name := strings.TrimPrefix(v.Topic, Prefix)
		got = append(got, strings.ReplaceAll(name, "retained messages", "retained_messages"))
	}
	want := strings.Fields(mosquitto)
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func value(t *testing.T, values []Value, name string) string {
	t.Helper()
	for _, v := range values {
		if v.Topic == Prefix+name {
			return v.Payload
		}
	}
	return "missing"
}

func TestValues(t *testing.T) {
	var tree Tree
	first := tree.Update(Counts{Version: "1.2", Connected: 3, Disconnected: 4, Retained: 5}, 61*time.Second)
	if len(first) != len(tree.Values()) {
		t.Errorf("%d of %d values are news at first", len(first), len(tree.Values()))
	}
	for name, want := range map[string]string{
		"version": "firth version 1.2", "uptime": "61 seconds", "clients/total": "7", "clients/connected": "3",
		"clients/inactive": "4", "retained messages/count": "5", "load/sockets/5min": "0.00",
	} {
		if got := value(t, tree.Values(), name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	changed := tree.Update(Counts{Version: "1.2", Connected: 4, Disconnected: 3, Retained: 5}, 61*time.Second)
	want := []string{"active", "connected", "disconnected", "inactive"}
	for _, v := range changed {
		if name := strings.TrimPrefix(v.Topic, Prefix+"clients/"); !slices.Contains(want, name) {
			t.Errorf("%s has changed", v.Topic)
		}
	}
	if len(changed) != len(want) {
		t.Errorf("changed: %v", changed)
	}
}

// TestLoad: a steady rate is told a minute, by the shorter averages sooner; they sink when nothing comes.
func TestLoad(t *testing.T) {
	var tree Tree
	n, now := int64(0), time.Duration(0)
	tick := func(times int, each int64) {
		for range times {
			n, now = n+each, now+10*time.Second
			tree.Update(Counts{PublishReceived: n}, now)
		}
	}
	tick(1, 10) // 60 a minute; as Mosquitto has it: 60 × (1 - e^(-1/6))
	if got := value(t, tree.Values(), "load/publish/received/1min"); got != "9.21" {
		t.Errorf("after 10 s the load of 1 minute is %s", got)
	}
	tick(600, 10)
	for span, want := range map[string]string{ // after 100 minutes: 60 × (1 - e^(-100/15)) for the longest
		"1min": "60.00", "5min": "60.00", "15min": "59.92",
	} {
		if got := value(t, tree.Values(), "load/publish/received/"+span); got != want {
			t.Errorf("the load of %s is %s", span, got)
		}
	}
	tick(6, 0)
	if got := value(t, tree.Values(), "load/publish/received/1min"); got != "22.07" { // 60 / e
		t.Errorf("after a minute of silence the load of 1 minute is %s", got)
	}
	tree.Update(Counts{PublishReceived: n + 1000}, now) // no time has passed
	if got := value(t, tree.Values(), "load/publish/received/1min"); got != "22.07" {
		t.Errorf("the load of 1 minute is %s", got)
	}
}

func TestBelow(t *testing.T) {
	for filter, want := range map[string]bool{"$SYS/#": true, "$SYS": true, "$SYS/broker/uptime": true, "#": false,
		"+/broker/uptime": false, "$SYSTEM/#": false, "$share/g/$SYS/#": false, "": false} {
		if Below(filter) != want {
			t.Errorf("%q: %v", filter, !want)
		}
	}
}
