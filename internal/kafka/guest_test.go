package kafka

import (
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
)

// TestGuests: what a guest asks for is done as for a connection, and refused as for one, with a kind that says why.
func TestGuests(t *testing.T) {
	h := openHouse(t, Options{})
	d, g := h.door, Guest{}
	wants := func(what string, err error, kind fault.Kind) {
		t.Helper()
		if !fault.Is(err, kind) {
			t.Errorf("%s: %v, want %v", what, err, kind)
		}
	}
	good := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	good(d.CreateTopic(t.Context(), g, "t", 2, map[string]string{"retention.ms": "1000"}))
	wants("again", d.CreateTopic(t.Context(), g, "t", 0, nil), fault.Exists)
	wants("a setting", d.CreateTopic(t.Context(), g, "u", 0, map[string]string{"x": "y"}), fault.Invalid)
	wants("one of the log", d.CreateTopic(t.Context(), g, "__firth_x", 0, nil), fault.Invalid)
	good(d.GrowTopic(t.Context(), g, "t", 3))
	wants("fewer", d.GrowTopic(t.Context(), g, "t", 1), fault.Invalid)
	good(d.ConfigureTopic(t.Context(), g, "t", map[string]*string{"retention.ms": nil, "segment.ms": new("60000")}))
	if c := h.door.log.Topics().ByName("t").Config; len(c) != 1 || c["segment.ms"] != "60000" {
		t.Errorf("%v", c)
	}
	wants("a value", d.ConfigureTopic(t.Context(), g, "t", map[string]*string{"retention.ms": new("x")}), fault.Invalid)
	records := []record.Record{{Timestamp: 1, Key: []byte("k"), Value: []byte("v")}, {Timestamp: 2}}
	for range 2 {
		done, err := d.Produce(t.Context(), g, "t", map[int32][]record.Record{0: records, 2: records[:1], 7: records})
		good(err)
		wants("partition 7", done[7].Err, fault.NotFound)
		if done[0].Err != nil || done[2].Err != nil {
			t.Fatalf("%+v", done)
		}
	}
	if done, err := d.Produce(t.Context(), g, "t", map[int32][]record.Record{0: records}); err != nil ||
		done[0].Offset != 4 {
		t.Errorf("%+v, %v", done, err)
	}
	if done, err := d.Produce(t.Context(), g, "none", map[int32][]record.Record{0: records}); err != nil {
		t.Error(err)
	} else {
		wants("no topic", done[0].Err, fault.NotFound)
	}
	good(d.CommitOffsets(t.Context(), g, "billing", map[string]map[int32]int64{"t": {0: 3, 1: 0}}))
	if look := d.Group("billing"); look == nil || len(look.Behind) != 2 || look.Behind[0].Committed != 3 {
		t.Errorf("%+v", look)
	}
	wants("no topic", d.CommitOffsets(t.Context(), g, "billing", map[string]map[int32]int64{"no": {0: 3}}), fault.NotFound)
	good(d.DeleteGroup(t.Context(), g, "billing"))
	wants("no group", d.DeleteGroup(t.Context(), g, "billing"), fault.NotFound)
	if left, err := d.DeleteRecords(t.Context(), g, "t", 0, 2); err != nil || left != 2 {
		t.Errorf("%d, %v", left, err)
	}
	_, err := d.DeleteRecords(t.Context(), g, "t", 0, 99)
	wants("behind the end", err, fault.OutOfRange)
	good(d.DeleteTopic(t.Context(), g, "t"))
	wants("no topic", d.DeleteTopic(t.Context(), g, "t"), fault.NotFound)
}
