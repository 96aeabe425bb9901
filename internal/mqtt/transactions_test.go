package mqtt_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// foreign is a transactional producer at the other door, which writes to every partition of a topic.
type foreign struct {
	h     *house
	id    int64
	epoch int16
	ps    []stream.PartitionID
}

func (h *house) foreign(topic string, id int64) *foreign {
	h.t.Helper()
	tp := h.log.Topics().ByName(topic)
	if tp == nil {
		h.t.Fatalf("there is no topic %s", topic)
	}
	h.disk().KnowProducer(id, 0)
	return &foreign{h: h, id: id, ps: tp.Partitions}
}

// begin writes a record into every partition, in a transaction.
func (f *foreign) begin(value string) {
	f.h.t.Helper()
	for _, p := range f.ps {
		var bu record.Builder
		bu.Reset(nil, 1000)
		bu.SetProducer(f.id, f.epoch, 0)
		bu.SetTransactional()
		bu.Append(&record.Record{Timestamp: 1000, Key: []byte("a/t"), Value: []byte(value)})
		done := make(receipt, 1)
		w := store.BatchWrite{Partition: p, Batch: bu.Seal(0, 0), Implicit: true}
		if err := f.h.disk().AppendBatch(w, done, 0); err != nil {
			f.h.t.Fatal(err)
		}
		if err := <-done; err != nil {
			f.h.t.Fatal(err)
		}
	}
}

// end ends the transaction.
func (f *foreign) end(commit bool) {
	f.h.t.Helper()
	done := make(receipt, 1)
	f.epoch++
	u := &store.Unit{Ends: []store.EndTxn{{ProducerID: f.id, Epoch: f.epoch, Commit: commit}}}
	if err := f.h.disk().Commit(u, done, 0); err != nil {
		f.h.t.Fatal(err)
	}
	if err := <-done; err != nil {
		f.h.t.Fatal(err)
	}
}

// takes gathers n messages and acknowledges them, and checks that nothing follows.
func (c *raw) takes(n int) (all []string) {
	c.t.Helper()
	for open := 0; len(all) < n || open > 0; {
		switch p := want[packet.Packet](c).(type) {
		case *packet.Publish:
			all = append(all, string(p.Payload))
			if p.QoS == 2 {
				c.send(&packet.Pubrec{PacketID: p.PacketID})
				open++
			} else {
				c.send(&packet.Puback{PacketID: p.PacketID})
			}
		case *packet.Pubrel:
			c.send(&packet.Pubcomp{PacketID: p.PacketID})
			open--
		default:
			c.t.Fatalf("got %#v", p)
		}
	}
	c.quiet()
	return all
}

// TestPublishBehindATransaction publishes behind what a transaction at the other door has open: it is acknowledged at
// once, and who has subscribed gets it once, when that has ended, wherever the session was meanwhile.
func TestPublishBehindATransaction(t *testing.T) {
	both(t, func(t *testing.T, v packet.Version) {
		for _, commit := range []bool{true, false} {
			for _, away := range []string{"there", "away at the end", "back before the end", "restart"} {
				t.Run(fmt.Sprintf("commit=%v/%s", commit, away), func(t *testing.T) {
					publishBehind(t, v, commit, away)
				})
			}
		}
	})
}

func publishBehind(t *testing.T, v packet.Version, commit bool, away string) {
	table, err := hinge.New(nil, hinge.Options{PlainQoS: 1}) // of what comes from the other door
	if err != nil {
		t.Fatal(err)
	}
	mapped := func(o *mqtt.Options) { o.Mapping = table }
	h := open(t, mapped)
	stays := h.connect(t, v, "stays", lasting)
	stays.subscribe(2, "a/#")
	device := h.connect(t, v, "device", nil)
	device.published("a/b", "before", false)
	stays.gets("a/b", "before")
	other := h.foreign("a", 100)
	other.begin("in it")
	device.published("a/b", "one", false)
	device.publishExactly("a/b", "two")
	stays.quiet()
	leave := func() {
		stays.send(&packet.Disconnect{})
		stays.closed()
		device.published("a/b", "three", false)
	}
	switch away {
	case "there":
		device.published("a/b", "three", false)
		other.end(commit)
	case "away at the end":
		leave()
		other.end(commit)
		stays = h.connect(t, v, "stays", lasting)
	case "back before the end":
		leave()
		stays = h.connect(t, v, "stays", lasting)
		stays.quiet()
		other.end(commit)
	case "restart":
		leave()
		h.stop()
		h = openOn(t, h.fs, mapped)
		defer h.stop()
		device = h.connect(t, v, "device", nil)
		stays = h.connect(t, v, "stays", lasting)
		stays.quiet()
		other.h = h
		other.end(commit)
	}
	device.published("a/b", "last", false)
	expected := []string{"one", "two", "three", "last"}
	if commit {
		expected = slices.Insert(expected, 0, slices.Repeat([]string{"in it"}, len(other.ps))...)
	}
	got := stays.takes(len(expected))
	slices.Sort(got)
	slices.Sort(expected)
	if !slices.Equal(got, expected) {
		t.Errorf("the subscriber got %q, want %q", got, expected)
	}
}
