package group

import (
	"bytes"
	"encoding/hex"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The bytes are those of docs/format/internal-topics.md.
func TestRecordBytes(t *testing.T) {
	type one = []SnapshotMember
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"offset key", must((&Key{Group: "g1", Topic: "sensors", Partition: 3}).AppendOffset(nil)),
			"0001 0002 6731 0007 73656e736f7273 00000003"},
		{"offset value",
			must((&Offset{At: 42, LeaderEpoch: 5, Metadata: "m", Committed: 1000, Expires: NoExpiry}).Append(nil)),
			"0003 000000000000002a 00000005 0001 6d 00000000000003e8"},
		{"offset value that expires", must((&Offset{At: 42, LeaderEpoch: -1, Committed: 1000, Expires: 2000}).Append(nil)),
			"0001 000000000000002a 0000 00000000000003e8 00000000000007d0"},
		{"group key", must((&Key{Kind: KindClassic, Group: "g1"}).Append(nil)), "0002 0002 6731"},
		{"empty group", GroupValue(&Snapshot{ProtocolType: "consumer", Generation: 2, Since: 1000}),
			"0003 0008 636f6e73756d6572 00000002 ffff ffff 00000000000003e8 00000000"},
		{"group",
			GroupValue(&Snapshot{ProtocolType: "x", Generation: 1, Protocol: "p", Leader: "a", Since: 1, Members: one{{
				ID: "a", InstanceID: "i", ClientID: "c", ClientHost: "h", RebalanceTimeout: 2, SessionTimeout: 3,
				Metadata: []byte{9}, Assignment: []byte{8},
			}}}),
			"0003 0001 78 00000001 0001 70 0001 61 0000000000000001 00000001" +
				" 0001 61 0001 69 0001 63 0001 68 00000002 00000003 00000001 09 00000001 08"},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(c.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.got, want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, c.got, want)
		}
	}
}

func TestRecordsRoundTrip(t *testing.T) {
	for _, o := range []Offset{
		{At: 7, LeaderEpoch: 3, Metadata: "hello", Committed: 12, Expires: NoExpiry},
		{At: 0, LeaderEpoch: -1, Committed: 12, Expires: 99},
	} {
		b, err := o.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := DecodeOffset(b); err != nil || back != o {
			t.Errorf("%+v came back as %+v, %v", o, back, err)
		}
	}
	s := Snapshot{ProtocolType: "consumer", Generation: 9, Protocol: "range", Leader: "a", Since: 5}
	s.Members = []SnapshotMember{
		{ID: "a", ClientID: "c", ClientHost: "h", RebalanceTimeout: 30, SessionTimeout: 10,
			Metadata: []byte("m"), Assignment: []byte("z")},
		{ID: "b", InstanceID: "ib", RebalanceTimeout: 30, SessionTimeout: 10, Metadata: []byte{}, Assignment: []byte{}},
	}
	if back, err := DecodeGroup(GroupValue(&s)); err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("%+v came back as %+v, %v", s, back, err)
	}
	for _, k := range []Key{
		{Kind: KindClassic, Group: "g"}, {Kind: KindOffset, Group: "g", Topic: "t", Partition: 4},
		{Kind: KindConsumer, Group: "g"}, {Kind: KindTargetEpoch, Group: "g"}, {Kind: KindMember, Group: "g", Name: "m"},
		{Kind: KindTarget, Group: "g", Name: "m"}, {Kind: KindCurrent, Group: "g", Name: "m"},
		{Kind: KindRegex, Group: "g", Name: "a.*"},
	} {
		encode := func() ([]byte, error) { return k.AppendOffset(nil) }
		if k.Kind != KindOffset {
			encode = func() ([]byte, error) { return k.Append(nil) }
		}
		b, err := encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, known, err := DecodeKey(b); err != nil || !known || back != k {
			t.Errorf("%+v came back as %+v, %v, %v", k, back, known, err)
		}
	}
}

func TestRecordsRefuse(t *testing.T) {
	if _, _, err := DecodeKey([]byte{0}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a key of one byte: %v", err)
	}
	if _, known, err := DecodeKey([]byte{0, 99, 1, 2}); known || err != nil {
		t.Errorf("a key of a kind from elsewhere: %v, %v", known, err)
	}
	if _, _, err := DecodeKey([]byte{0, 1, 0, 9, 'g'}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a key that lies about its length: %v", err)
	}
	if _, err := DecodeOffset([]byte{0, 9, 1}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("a value from the future: %v", err)
	}
	lie := GroupValue(&Snapshot{ProtocolType: "x"})
	copy(lie[len(lie)-4:], []byte{127, 255, 255, 255})
	if _, err := DecodeGroup(lie); !fault.Is(err, fault.Corrupt) {
		t.Errorf("two billion members in no bytes: %v", err)
	}
	if _, err := DecodeOffset([]byte{0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1,
		0xff, 0xff, 0xff, 0xff, 0x0f}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("four billion tagged fields in no bytes: %v", err)
	}
	long := strings.Repeat("x", 40_000)
	if _, err := (&Key{Group: long, Topic: "t"}).AppendOffset(nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a long group: %v", err)
	}
	if _, err := (&Key{Kind: KindClassic, Group: long}).Append(nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("a long group: %v", err)
	}
	if _, err := (&Offset{Metadata: long}).Append(nil); !fault.Is(err, fault.Invalid) {
		t.Errorf("long metadata: %v", err)
	}
}

// The shapes fit every version that kmsg writes, and nothing that is cut short.
func TestRecordShapes(t *testing.T) {
	name, zone := "n", "z"
	for version := int16(0); version <= 4; version++ {
		offset := kmsg.OffsetCommitValue{Version: version, Offset: 1, Metadata: "m", TopicID: [16]byte{1}}
		group := kmsg.GroupMetadataValue{Version: version, ProtocolType: "consumer", Protocol: &name}
		group.Members = []kmsg.GroupMetadataValueMember{
			{MemberID: "a", ClientID: "c", ClientHost: "h", Subscription: []byte{1}, Assignment: []byte{2, 3}},
			{MemberID: "b", InstanceID: &name, Subscription: []byte{}},
		}
		subscription := kmsg.ConsumerMemberMetadata{Version: version, Topics: []string{"t", "u"}, UserData: []byte{1},
			Rack: &zone, OwnedPartitions: []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: "t", Partitions: []int32{1, 2}}}}
		for _, c := range []struct {
			name     string
			b        []byte
			shape    wire.Shape
			flexible int16
		}{
			{"offset", offset.AppendTo(nil), offsetShape, firstFlexible},
			{"group", group.AppendTo(nil), groupShape, firstFlexible},
			{"subscription", subscription.AppendTo(nil), subscriptionShape, math.MaxInt16},
		} {
			if !fits(c.shape, c.b, c.flexible) {
				t.Errorf("%s v%d: the shape does not fit %x", c.name, version, c.b)
			}
			for cut := range c.b {
				if fits(c.shape, c.b[:cut], c.flexible) {
					t.Errorf("%s v%d: the shape fits the first %d bytes of %x", c.name, version, cut, c.b)
				}
			}
		}
	}
}

// FuzzConsumerRecords: no bytes make the loader panic, whatever record they are said to be, and what it understands it
// writes so that it is understood again.
func FuzzConsumerRecords(f *testing.F) {
	g := NewConsumer("g", Options{}, 1)
	g.See(&topicMap{counts: map[string]int32{"t": 3}})
	g.Beat(1, Beat{Who: Who{"a", "i"}, Rebalance: 1, Topics: []string{"t"}, Regex: new("t.*"), Rack: new("r")})
	g.byID["a"].classic = &classicMember{session: 5, protocols: []Protocol{{"range", []byte{1}}}}
	for _, key := range g.Keys() {
		f.Add(int16(key.Kind), g.value(key))
	}
	f.Fuzz(func(t *testing.T, kind int16, value []byte) {
		records := map[Key][]byte{}
		for _, key := range g.Keys() {
			records[key] = g.value(key)
			if key.Kind == Kind(kind) {
				records[key] = value
			}
		}
		loaded, _, err := LoadConsumer("g", Options{}, 1, 1, records)
		if err != nil {
			return
		}
		if err := loaded.verify(); err != nil {
			t.Fatal(err)
		}
		clear(records)
		for _, key := range loaded.Keys() {
			if value := loaded.value(key); value != nil {
				records[key] = value
			}
		}
		again, strange, err := LoadConsumer("g", Options{}, 1, 1, records)
		if err != nil || strange > 0 || !reflect.DeepEqual(loaded.Describe(), again.Describe()) {
			t.Fatalf("%+v came back as %+v: %d strange records, %v", loaded.Describe(), again.Describe(), strange, err)
		}
	})
}

// FuzzRecords: no bytes make the decoders panic, and what decodes and is encoded again decodes to
// the same.
func FuzzRecords(f *testing.F) {
	key, _ := (&Key{Group: "g", Topic: "t", Partition: 1}).AppendOffset(nil)
	value, _ := (&Offset{At: 1, LeaderEpoch: 1, Metadata: "m", Committed: 1, Expires: NoExpiry}).Append(nil)
	f.Add(key, value)
	groupKey, _ := (&Key{Kind: KindClassic, Group: "g"}).Append(nil)
	f.Add(groupKey, GroupValue(&Snapshot{ProtocolType: "consumer", Generation: 1, Protocol: "p", Leader: "a",
		Members: []SnapshotMember{
			{ID: "a", SessionTimeout: 1, RebalanceTimeout: 1, Metadata: []byte{1}, Assignment: []byte{2}},
		}}))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		if _, _, err := DecodeKey(key); err != nil && !fault.Is(err, fault.Corrupt) {
			t.Fatalf("%v", err)
		}
		if o, err := DecodeOffset(value); err == nil {
			if b, err := o.Append(nil); err == nil {
				if back, err := DecodeOffset(b); err != nil || back.At != o.At || back.Metadata != o.Metadata {
					t.Fatalf("%+v came back as %+v, %v", o, back, err)
				}
			}
		}
		if s, err := DecodeGroup(value); err == nil {
			g := Load("g", Options{}, 0, s)
			if g.Len() > 0 {
				g.Subscribes()
			}
			if back, err := DecodeGroup(GroupValue(&s)); err != nil || len(back.Members) != len(s.Members) {
				t.Fatalf("%+v came back as %+v, %v", s, back, err)
			}
		}
	})
}
