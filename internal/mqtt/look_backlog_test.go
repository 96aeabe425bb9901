package mqtt_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TestBacklog: a session is behind by what was stored since it went away, by partition as in all; who has everything is
// not behind, and of who is not there nothing is told.
func TestBacklog(t *testing.T) {
	h := open(t, nil)
	p := h.connect(t, packet.V5, "p", nil)
	p.published("a/1", "old", false)
	p.published("b/1", "old", false)
	there, _ := h.comeBack(t, packet.V5, "there", nil)
	there.subscribe(1, "#")
	for id, filters := range map[string][]string{"one": {"a/#"}, "both": {"a/#", "b/1", "+/1"}, "none": {"c/#"}} {
		c, _ := h.comeBack(t, packet.V5, id, nil)
		c.subscribe(1, filters...)
		h.leave(c)
	}
	for i := range 3 {
		p.published("a/1", fmt.Sprint(i), false)
		p.published("b/1", fmt.Sprint(i), false)
	}
	for range 6 { // those of two topics come in any order
		there.send(&packet.Puback{PacketID: want[*packet.Publish](there).PacketID})
	}
	backlogs := h.door.Backlogs()
	for id, want := range map[string]int64{"one": 3, "both": 6, "none": 0, "there": 0, "nobody": 0} {
		if n, err := backlogs.Of(id); n != want || err != nil {
			t.Errorf("%s is behind by %d, %v", id, n, err)
		}
		if id == "nobody" {
			continue
		}
		s, err := h.door.Session(id)
		sum := int64(0)
		for i := range s.Lag {
			sum += s.Lag[i].Lag
		}
		if err != nil || sum != want {
			t.Errorf("%s: %+v, %v", id, s.Lag, err)
		}
	}
}

// TestRecipients: of each session with a subscription that a message is for it is told how far it has come.
func TestRecipients(t *testing.T) {
	h := open(t, nil)
	p := h.connect(t, packet.V5, "p", nil)
	p.published("a/1", "first", false)
	has, _ := h.comeBack(t, packet.V5, "has", nil)
	has.subscribe(1, "a/#")
	flight, _ := h.comeBack(t, packet.V5, "flight", nil)
	flight.subscribe(1, "a/+")
	away, _ := h.comeBack(t, packet.V5, "away", nil)
	away.subscribe(1, "a/1", "+/1")
	h.leave(away)
	member, _ := h.comeBack(t, packet.V5, "member", nil)
	member.subscribe(1, "$share/g/a/1")
	other, _ := h.comeBack(t, packet.V5, "other", nil)
	other.subscribe(1, "a", "b/1", "$SYS/#")
	p.published("a/1", "second", false)
	has.gets("a/1", "second")
	if m := want[*packet.Publish](flight); string(m.Payload) != "second" {
		t.Fatalf("%s", m.Payload)
	}
	eventually(t, "time goes on", func() bool { return time.Now().UnixMilli() > h.records("a")[1].Timestamp })
	brief := h.connect(t, packet.V5, "brief", nil) // its session ends with it
	brief.subscribe(0, "#")
	p.published("a/1", "third", false)
	brief.gets("a/1", "third")
	has.gets("a/1", "third")

	partition := h.log.Topics().ByName("a").Partitions[0]
	all := h.records("a")
	for i, want := range []map[string]mqtt.Stage{
		{"has": mqtt.StageBefore, "flight": mqtt.StageBefore, "away": mqtt.StageBefore, "brief": mqtt.StageBefore},
		{"has": mqtt.StageHas, "flight": mqtt.StageInFlight, "away": mqtt.StageWaits},
		{"has": mqtt.StageHas, "away": mqtt.StageWaits, "brief": mqtt.StageHas},
	} {
		want["member"] = mqtt.StageShared
		sought := mqtt.Sought{Name: "a/1", Partition: partition, Offset: all[i].Offset, Time: all[i].Timestamp}
		got := map[string]mqtt.Stage{}
		stages := func() bool {
			clear(got)
			h.door.EachRecipient(sought, func(r mqtt.Recipient) { got[r.Client] = r.Stage })
			for id, stage := range want {
				if got[id] != stage {
					return false
				}
			}
			return true
		}
		eventually(t, fmt.Sprintf("record %d is where it should be: %v", i, want), stages)
		if _, is := got["other"]; is {
			t.Errorf("record %d is for somebody else, too: %v", i, got)
		}
	}
}
