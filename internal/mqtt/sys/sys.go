// Package sys is what a broker tells of itself below $SYS/broker, with the names, the units and the meaning that
// Mosquitto 2 gives them (mosquitto(8), section BROKER STATUS), so that dashboards and exporters for it work.
//
//	var tree sys.Tree
//	changed := tree.Update(sys.Counts{...}, uptime)
//	all := tree.Values()
package sys

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Prefix begins the name of every value.
const Prefix = "$SYS/broker/"

// Below tells whether a topic filter may match values of the tree: its first level is $SYS [MQTT-4.7.2-1].
func Below(filter string) bool { return filter == "$SYS" || strings.HasPrefix(filter, "$SYS/") }

// Counts is what is counted since the broker began, and how much there is now.
type Counts struct {
	Version string // of the broker, for people

	// Ever since the start.
	BytesReceived, BytesSent               int64
	PacketsReceived, PacketsSent           int64 // of all types: Mosquitto calls them messages
	PublishReceived, PublishSent           int64 // PUBLISH packets
	PublishDropped                         int64 // for subscribers who were too slow
	PublishBytesReceived, PublishBytesSent int64 // of payload
	Sockets                                int64 // connections accepted
	Connects                               int64 // CONNECT packets
	Expired                                int64 // sessions that ended because nobody came back

	// Now.
	Connected, Disconnected            int64 // sessions with a connection, and without
	Maximum                            int64 // the most sessions with a connection that there ever were
	Subscriptions, SharedSubscriptions int64
	Retained, RetainedBytes            int64
	Heap, HeapMaximum                  int64 // bytes of memory in use, and the most that there were
}

// Value is one topic of the tree and its payload.
type Value struct{ Topic, Payload string }

// Tree is the values as they were told last. The zero value has none.
type Tree struct {
	values  []Value
	bridges []Value       // what bridges said of themselves, by topic
	at      time.Duration // of the last update
	loads   []load
}

// load is how much comes a minute, as a moving average of 1, 5 and 15 minutes.
type load struct {
	last     int64
	averages [3]float64
}

// spans are the minutes of the averages.
func spans() [3]float64 { return [3]float64{1, 5, 15} }

// Values are all values, by name. They are not to be changed.
func (t *Tree) Values() []Value { return t.values }

// Update takes the counts at a time since the start of the broker, and gives the values that are not what they were.
// The averages move by the time that has passed since the last update.
func (t *Tree) Update(c Counts, uptime time.Duration) (changed []Value) {
	before := t.values
	t.values = plain(&c, uptime)
	t.values = append(append(t.values, t.moving(&c, uptime)...), t.bridges...)
	slices.SortFunc(t.values, byTopic)
	t.at = uptime
	for _, v := range t.values {
		if i, known := slices.BinarySearchFunc(before, v, byTopic); !known || before[i] != v {
			changed = append(changed, v)
		}
	}
	return changed
}

// plain is the values that are told as they are. Some are there twice: Mosquitto keeps their older names.
func plain(c *Counts, uptime time.Duration) []Value {
	var all []Value
	text := func(name, payload string) { all = append(all, Value{Prefix + name, payload}) }
	number := func(name string, n int64) { text(name, fmt.Sprint(n)) }
	text("version", strings.TrimSpace("firth version "+c.Version))
	text("uptime", fmt.Sprintf("%d seconds", int64(uptime/time.Second)))
	number("clients/total", c.Connected+c.Disconnected)
	number("clients/connected", c.Connected)
	number("clients/active", c.Connected)
	number("clients/disconnected", c.Disconnected)
	number("clients/inactive", c.Disconnected)
	number("clients/maximum", c.Maximum)
	number("clients/expired", c.Expired)
	number("messages/received", c.PacketsReceived)
	number("messages/sent", c.PacketsSent)
	number("messages/stored", c.Retained)
	number("store/messages/count", c.Retained)
	number("store/messages/bytes", c.RetainedBytes)
	number("retained messages/count", c.Retained)
	number("subscriptions/count", c.Subscriptions)
	number("shared_subscriptions/count", c.SharedSubscriptions)
	number("publish/messages/received", c.PublishReceived)
	number("publish/messages/sent", c.PublishSent)
	number("publish/messages/dropped", c.PublishDropped)
	number("publish/bytes/received", c.PublishBytesReceived)
	number("publish/bytes/sent", c.PublishBytesSent)
	number("bytes/received", c.BytesReceived)
	number("bytes/sent", c.BytesSent)
	number("heap/current", c.Heap)
	number("heap/maximum", c.HeapMaximum)
	return all
}

// moving is the values below load.
func (t *Tree) moving(c *Counts, uptime time.Duration) []Value {
	counted := []struct {
		name  string
		count int64
	}{
		{"messages/received", c.PacketsReceived}, {"messages/sent", c.PacketsSent},
		{"publish/received", c.PublishReceived}, {"publish/sent", c.PublishSent}, {"publish/dropped", c.PublishDropped},
		{"bytes/received", c.BytesReceived}, {"bytes/sent", c.BytesSent},
		{"sockets", c.Sockets}, {"connections", c.Connects},
	}
	if t.loads == nil {
		t.loads = make([]load, len(counted))
	}
	passed := (uptime - t.at).Minutes()
	var all []Value
	for i, one := range counted {
		l := &t.loads[i]
		l.move(one.count, passed)
		for j, span := range spans() {
			name := fmt.Sprintf("%sload/%s/%.0fmin", Prefix, one.name, span)
			all = append(all, Value{name, fmt.Sprintf("%.2f", l.averages[j])})
		}
	}
	return all
}

// move takes a count some minutes after the last one.
func (l *load) move(count int64, minutes float64) {
	if minutes <= 0 {
		return
	}
	rate := float64(count-l.last) / minutes
	l.last = count
	for i, span := range spans() {
		l.averages[i] = rate + math.Exp(-minutes/span)*(l.averages[i]-rate)
	}
}
