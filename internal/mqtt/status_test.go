package mqtt_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

const broker = "$SYS/broker/"

// told is a value of $SYS as it came.
type told struct {
	payload string
	retain  bool
	qos     byte
	ids     int
}

// toldValues are values by topic.
type toldValues map[string]told

// number is a value that is one; 0: it has not come.
func (v toldValues) number(name string) int {
	n, err := strconv.Atoi(v[broker+name].payload)
	if err != nil {
		return 0
	}
	return n
}

// values reads PUBLISH packets until one is of a topic, and gives them by topic.
func (c *raw) values(until string) toldValues {
	c.t.Helper()
	all := toldValues{}
	for all[until].payload == "" {
		c.value(all)
	}
	return all
}

// value reads a PUBLISH into a map.
func (c *raw) value(all toldValues) {
	c.t.Helper()
	p := want[*packet.Publish](c)
	all[string(p.Topic)] = told{string(p.Payload), p.Retain, p.QoS, len(p.Props.SubscriptionIDs)}
}

// TestStatus: who subscribes to $SYS/# gets every value with RETAIN, then what changes without; a wildcard at the first
// level matches none of it [MQTT-4.7.2-1] [MQTT-4.7.2-1 of 3.1.1].
func TestStatus(t *testing.T) { both(t, tellStatus) }

func tellStatus(t *testing.T, v packet.Version) {
	h := open(t, func(o *mqtt.Options) { o.SysInterval, o.Version = 10*time.Millisecond, "1.2.3" })
	other := h.connect(t, v, "other", nil)
	other.subscribe(0, "#", "+/broker/uptime", "+/#")
	c := h.connect(t, v, "c", nil)
	c.published("a", "four", false)
	other.gets("a", "four")
	if ack := c.subscribe(2, "$SYS/#"); ack.Reasons[0] != packet.GrantedQoS2 {
		t.Fatalf("SUBACK %+v", ack)
	}
	all := c.values(broker + "version") // the last by name
	for name, p := range all {
		if !p.retain || p.qos != 0 {
			t.Errorf("%s came as %+v", name, p)
		}
	}
	if len(all) < 50 {
		t.Errorf("%d values", len(all))
	}
	for name, want := range map[string]string{ // in the end
		"version": "firth version 1.2.3", "clients/connected": "2", "clients/total": "2", "clients/maximum": "2",
		"publish/messages/received": "1", "publish/bytes/received": "4",
		"messages/received": "5", // CONNECT, SUBSCRIBE; CONNECT, PUBLISH, SUBSCRIBE
	} {
		for all[broker+name].payload != want {
			c.value(all)
		}
	}
	for name, least := range map[string]int{ // and the values themselves, as they come
		"publish/messages/sent": 1, "publish/bytes/sent": 4,
		"messages/sent": 6, // CONNACK, SUBACK, PUBLISH; CONNACK, PUBACK, SUBACK
	} {
		for all.number(name) < least {
			c.value(all)
		}
	}
	third := h.connect(t, v, "third", nil)
	if p := c.values(broker + "clients/connected")[broker+"clients/connected"]; p.payload != "3" || p.retain {
		t.Errorf("then came %+v", p)
	}
	third.subscribe(0, broker+"clients/+")
	for name, p := range third.values(broker + "clients/total") {
		if !strings.HasPrefix(name, broker+"clients/") {
			t.Errorf("%s = %+v", name, p)
		}
	}
	other.quiet()
	if n := len(h.records("$SYS")); n > 0 {
		t.Errorf("%d records in the log", n)
	}
}

// TestStatusOptions: options and identifiers of subscriptions hold below $SYS, and UNSUBSCRIBE ends it.
func TestStatusOptions(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.SysInterval = 10 * time.Millisecond })
	c := h.connect(t, packet.V5, "c", nil)
	const uptime, connected = broker + "uptime", broker + "clients/connected"
	p := &packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{
		{Filter: []byte(connected), RetainAsPublished: true, RetainHandling: 2}}}
	p.Props.AddSubscriptionID(3)
	c.send(p)
	want[*packet.Suback](c)
	c.subscribe(0, broker+"+")
	if p := c.values(uptime)[uptime]; !p.retain || p.ids > 0 {
		t.Errorf("got %+v", p)
	}
	h.connect(t, packet.V5, "other", nil)
	if p := c.values(connected)[connected]; p != (told{payload: "2", retain: true, ids: 1}) {
		t.Errorf("got %+v", p)
	}
	c.send(&packet.Unsubscribe{PacketID: 2, Filters: [][]byte{[]byte(broker + "+"), []byte(connected)}})
	for {
		p, err := c.next(patience)
		if err != nil {
			t.Fatal(err)
		}
		if _, is := p.(*packet.Unsuback); is {
			break
		}
	}
	h.connect(t, packet.V5, "third", nil)
	watcher := h.connect(t, packet.V5, "watcher", nil)
	watcher.subscribe(0, connected)
	for string(want[*packet.Publish](watcher).Payload) != "4" { // a round went by
	}
	c.quiet()
}

// TestStatusOfShares: subscriptions to groups are counted apart.
func TestStatusOfShares(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.SysInterval = 10 * time.Millisecond })
	for _, id := range []string{"a", "b", "c"} {
		h.connect(t, packet.V5, id, nil).subscribe(1, "$share/g/x/#")
	}
	c := h.connect(t, packet.V5, "watcher", nil)
	c.subscribe(0, broker+"shared_subscriptions/count")
	c.gets(broker+"shared_subscriptions/count", "3")
}

// TestStatusAfterReturn: a session that lasts is told again when it is back.
func TestStatusAfterReturn(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.SysInterval = 10 * time.Millisecond })
	c, _ := h.comeBack(t, packet.V5, "c", nil)
	c.subscribe(1, broker+"clients/disconnected")
	if p := c.gets(broker+"clients/disconnected", "0"); !p.Retain {
		t.Errorf("got %+v", p)
	}
	h.leave(c)
	c = h.back(t, packet.V5, "c")
	away, _ := h.comeBack(t, packet.V5, "away", nil)
	h.leave(away)
	for string(want[*packet.Publish](c).Payload) != "1" {
	}
}

// TestStatusOff: with an interval below 0 there is nothing below $SYS; nobody publishes there.
func TestStatusOff(t *testing.T) {
	h := open(t, func(o *mqtt.Options) { o.SysInterval = -1 })
	c := h.connect(t, packet.V5, "c", nil)
	c.subscribe(1, "$SYS/#")
	c.publish(1, 5, "$SYS/broker/uptime", "mine")
	if ack := want[*packet.Puback](c); ack.Reason != packet.TopicNameInvalid {
		t.Errorf("PUBACK %s", ack.Reason)
	}
	c.quiet()
}

// TestBridgesSayTheirState: what a bridge of Mosquitto says of itself, and its will, is told below $SYS at once, with
// RETAIN to who subscribes later, and nothing of it is in the log.
func TestBridgesSayTheirState(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		h := open(t, nil)
		const state = broker + "connection/edge.firth/state"
		w := h.connect(t, v, "watches", nil)
		w.subscribe(1, broker+"connection/+/state")
		w.subscribe(0, broker+"shared_subscriptions/count")
		w.gets(broker+"shared_subscriptions/count", "0") // so it was told what there was for the first, too: nothing
		bridge := h.connect(t, v, "edge", func(p *packet.Connect) {
			p.Will = &packet.Will{Topic: []byte(state), Payload: []byte("0"), QoS: 1, Retain: true}
		})
		bridge.published(state, "1", true)
		if m := w.gets(state, "1"); m.Retain || m.QoS != 0 {
			t.Errorf("%+v", m)
		}
		late := h.connect(t, v, "late", nil)
		late.subscribe(0, "$SYS/#")
		if all := late.values(state); all[state] != (told{"1", true, 0, 0}) || len(all) < 2 {
			t.Errorf("got %v", all)
		}
		bridge.net.Close()
		w.gets(state, "0")
		if n := len(h.records("$SYS")); n > 0 || h.door.Stats().Retained > 0 {
			t.Errorf("%d records, %d retained", n, h.door.Stats().Retained)
		}
		other := h.connect(t, v, "other", nil)
		other.publish(1, 5, state, "and more")
		if ack := want[*packet.Puback](other); v == packet.V5 && ack.Reason != packet.TopicNameInvalid {
			t.Errorf("PUBACK %s", ack.Reason)
		}
		w.quiet()
	})
}
