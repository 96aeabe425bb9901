package session

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

var exampleTopic = [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

func examplePlace() PlaceRecord {
	return PlaceRecord{Next: 42, Flights: []Flight{
		{Position: 65_534, From: Place{Offset: 40}, QoS: 1},
		{Position: 65_535, From: Place{Offset: 41}, QoS: 1},
	}}
}

func exampleWill() WillRecord {
	return WillRecord{Delay: 10, Will: packet.Publish{Topic: []byte("t"), Payload: []byte("x"), QoS: 1}}
}

// exampleShared is a value that package share encodes, whose test has the same bytes.
type exampleShared struct{}

func (exampleShared) AppendTo(b []byte) []byte { return append(b, 1, 0x2d, 2, 2, 2) }

// appender is what a key and every value can do.
type appender interface{ AppendTo([]byte) []byte }

// TestRecordBytes holds the records to the example of docs/format/sessions.md.
func TestRecordBytes(t *testing.T) {
	page, err := os.ReadFile("../../../docs/format/sessions.md")
	if err != nil {
		t.Fatal(err)
	}
	place, will := examplePlace(), exampleWill()
	for _, c := range []struct {
		record appender
		want   string
	}{
		{&Key{Kind: KindSession, Client: "c1"}, "73 0002 6331"},
		{&SessionRecord{Version: packet.V5, Expiry: 3600, Away: 1000, Mark: 7}, "01 05 901c e807 07"},
		{&SessionRecord{Version: packet.V5, Expiry: 3600, Away: 1000, Mark: 7, Owner: "u1"},
			"02 05 901c e807 07 02 7531"},
		{&Key{Kind: KindFilter, Client: "c1", Filter: "a/#"}, "66 0002 6331 612f23"},
		{&FilterRecord{ID: 9, QoS: 1, Since: 3}, "01 01 09 03"},
		{&Key{Kind: KindWill, Client: "c1"}, "77 0002 6331"},
		{&will, "01 00 0a 09 32 07 0001 74 0001 00 78"},
		{&Key{Kind: KindPlace, Client: "c1", Topic: exampleTopic, Index: 2},
			"70 0002 6331 000102030405060708090a0b0c0d0e0f 00000002"},
		{&place, "01 2a 02 f9ff0f 03 05 02"},
		{&Key{Kind: KindReceived, Client: "c1", Chunk: 1}, "72 0002 6331 01"},
		{&ReceivedRecord{1, 2}, "01 0102 00…00"},
		{&Key{Kind: KindMark, Topic: exampleTopic, Index: 2}, "6d 000102030405060708090a0b0c0d0e0f 00000002"},
		{&MarkRecord{{Mark: 3, Offset: 30}, {Mark: 7, Offset: 42}}, "01 02 03 3c 04 18"},
		{&FilterRecord{ID: 9, QoS: 1, Since: 3, Where: true, From: From{FromOffset, 40}, Caught: true, Mark: 7},
			"02 01 09 03 0b 28 07"},
		{&Key{Kind: KindReplay, Client: "c1", Topic: exampleTopic, Index: 2, Filter: "a/#"},
			"68 0002 6331 000102030405060708090a0b0c0d0e0f 00000002 612f23"},
		{&ReplayRecord{Since: 3, Next: 42}, "01 03 2a"},
		{&Key{Kind: KindGroup, Client: "g1", Filter: "a/#"}, "67 0002 6731 612f23"},
		{&GroupRecord{Mark: 7}, "01 07"},
		{&GroupRecord{Mark: 7, Shards: []int{3, 4, 40}}, "02 07 03 03 00 23"},
		{&Key{Kind: KindShared, Client: "g1", Filter: "a/#", Topic: exampleTopic, Index: 2},
			"6f 0002 6731 000102030405060708090a0b0c0d0e0f 00000002 612f23"},
		{exampleShared{}, "01 2d 02 02 02"},
		{&WillRecord{Delay: 10, Will: will.Will, User: "u1"}, "02 00 0a 09 32 07 0001 74 0001 00 78 02 7531"},
		{&WillRecord{Delay: 10, Will: will.Will, User: "u1", From: "\x02\x01s\x00\x00"},
			"03 00 0a 09 32 07 0001 74 0001 00 78 02 7531 05 0201730000"},
		{&FilterRecord{QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2}, "01 2e 00 00"},
		{&PlaceRecord{Next: 300, Flights: []Flight{
			{Position: 0, From: Place{Offset: 299}, QoS: 2},
			{Position: 100, From: Place{Offset: 10}, QoS: 2, Released: true},
		}}, "01 ac02 02 02 01 9303 c104"},
	} {
		want, err := hex.DecodeString(strings.NewReplacer(" ", "", "00…00", strings.Repeat("00", 30)).Replace(c.want))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.record.AppendTo([]byte{9})[1:]; !bytes.Equal(got, want) {
			t.Errorf("%T:\n got %x\nwant %x", c.record, got, want)
		}
	}
	for line := range strings.SplitSeq(string(page), "\n") {
		text, found := strings.CutPrefix(line, "   value  ")
		if !found {
			continue
		}
		source, err := os.ReadFile("records_test.go")
		if err != nil || !bytes.Contains(source, []byte("\""+text+"\"")) {
			t.Errorf("no record of this test has the value %q of the page, %v", text, err)
		}
	}
}

// parsers are the decoders of the values, by kind.
var parsers = map[Kind]func([]byte) (appender, error){
	KindSession:  func(b []byte) (appender, error) { r, err := ParseSession(b); return &r, err },
	KindFilter:   func(b []byte) (appender, error) { r, err := ParseFilter(b); return &r, err },
	KindWill:     func(b []byte) (appender, error) { r, err := ParseWill(b); return &r, err },
	KindPlace:    func(b []byte) (appender, error) { r, err := ParsePlace(b); return &r, err },
	KindReceived: func(b []byte) (appender, error) { r, err := ParseReceived(b); return &r, err },
	KindMark:     func(b []byte) (appender, error) { r, err := ParseMark(b); return &r, err },
	KindReplay:   func(b []byte) (appender, error) { r, err := ParseReplay(b); return &r, err },
	KindGroup:    func(b []byte) (appender, error) { r, err := ParseGroup(b); return &r, err },
}

// samples are values of each kind, empty and full.
func samples() map[Kind][]appender {
	place, will := examplePlace(), exampleWill()
	rich := WillRecord{Due: 1 << 60, Delay: 1<<32 - 1, User: strings.Repeat("ü", 300), From: strings.Repeat("x", 200)}
	rich.Will = packet.Publish{Topic: []byte("long/topic"), QoS: 2, Retain: true}
	rich.Will.Props.SetContentType([]byte("text"))
	rich.Will.Props.SetMessageExpiry(7)
	rich.Will.Props.AddUser("a", "b")
	full := ReceivedRecord{}
	for i := range full {
		full[i] = 0xff
	}
	return map[Kind][]appender{
		KindSession: {&SessionRecord{Version: packet.V31}, &SessionRecord{
			Version: packet.V5, Expiry: 1<<32 - 1, Away: 1<<63 - 1, Mark: 1<<64 - 1}, &SessionRecord{Version: packet.V311,
			Owner: strings.Repeat("ü", 300)}},
		KindFilter: {&FilterRecord{}, &FilterRecord{
			ID: maxSubscriptionID, QoS: 2, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, Since: 1<<64 - 1},
			&FilterRecord{Since: 5, Where: true}, &FilterRecord{QoS: 1, Since: 5, From: From{Kind: FromEarliest}},
			&FilterRecord{Since: 5, From: From{FromTime, 1<<63 - 1}, Caught: true, Mark: 1<<64 - 1, Where: true}},
		KindReplay: {&ReplayRecord{}, &ReplayRecord{Since: 1<<64 - 1, Next: 1<<63 - 1}},
		KindWill:   {&will, &rich},
		KindPlace: {&PlaceRecord{}, &place, &PlaceRecord{Next: 1<<63 - 1, Flights: []Flight{
			{QoS: 2, Released: true}, {Position: maxPosition, QoS: 2, From: Place{Offset: 1<<63 - 1}}}}},
		KindReceived: {&ReceivedRecord{}, &full},
		KindGroup:    {&GroupRecord{}, &GroupRecord{Mark: 1<<64 - 1}, &GroupRecord{Shards: []int{0, 1, maxShard}}},
		KindMark:     {&MarkRecord{}, &MarkRecord{{Mark: 1, Offset: 1<<63 - 1}, {Mark: 1<<64 - 1}}},
	}
}

// TestRecordsRoundTrip: every value comes back as it was, also with more behind it, does not point into what it was
// decoded from, and is refused when it is cut short or of another version.
func TestRecordsRoundTrip(t *testing.T) {
	for kind, all := range samples() {
		parse := parsers[kind]
		for _, record := range all {
			b := record.AppendTo(nil)
			for _, more := range []string{"", "\x00", "what comes later"} {
				given := append(bytes.Clone(b), more...)
				back, err := parse(given)
				clear(given)
				if err != nil || !bytes.Equal(back.AppendTo(nil), b) {
					t.Errorf("%c: %+v came back with %d bytes more as %+v, %v", kind, record, len(more), back, err)
				}
			}
			for cut := range b {
				if _, err := parse(b[:cut]); !fault.Is(err, fault.Corrupt) {
					t.Errorf("%c: the first %d bytes of %x gave %v", kind, cut, b, err)
				}
			}
			b[0] = fromVersion + 1
			if _, err := parse(b); !fault.Is(err, fault.Unsupported) {
				t.Errorf("%c: version %d gave %v", kind, b[0], err)
			}
		}
	}
	place := examplePlace()
	if back, err := ParsePlace(place.AppendTo(nil)); err != nil || !reflect.DeepEqual(back, place) {
		t.Errorf("%+v came back as %+v, %v", place, back, err)
	}
	will := exampleWill()
	if back, err := ParseWill(will.AppendTo(nil)); err != nil || back.Delay != 10 || back.User != "" ||
		back.Will.PacketID != 0 ||
		string(back.Will.Topic) != "t" || string(back.Will.Payload) != "x" || back.Will.QoS != 1 {
		t.Errorf("%+v came back as %+v, %v", will, back, err)
	}
}

// TestRecordsRefuse: values that no Firth writes are damage, and lists that lie about their length cost nothing.
func TestRecordsRefuse(t *testing.T) {
	huge := "ffffffffffffffff7f"
	for _, c := range []struct {
		name  string
		kind  Kind
		value string
	}{
		{"a group of no shard", KindGroup, "02 07 00"},
		{"a group of many shards", KindGroup, "02 07 " + huge},
		{"a shard that nobody has", KindGroup, "02 07 01 808040"},
		{"protocol version 2", KindSession, "01 02 00 00 00"},
		{"protocol version 6", KindSession, "01 06 00 00 00"},
		{"expiry of 33 bits", KindSession, "01 05 8080808010 00 00"},
		{"away before 1970", KindSession, "01 05 00 ffffffffffffffffff01 00"},
		{"mark of 65 bits", KindSession, "01 05 00 00 ffffffffffffffffff02"},
		{"QoS 3", KindFilter, "01 03 00 00"},
		{"retain handling 3", KindFilter, "01 30 00 00"},
		{"reserved bits", KindFilter, "01 40 00 00"},
		{"subscription identifier of 29 bits", KindFilter, "01 01 8080808001 00"},
		{"a will that is a PINGREQ", KindWill, "01 00 00 02 c000"},
		{"a will with a topic alias", KindWill, "01 00 00 0a 30 08 0001 74 03 23 0001 78"},
		{"a will with a subscription identifier", KindWill, "01 00 00 09 30 07 0001 74 02 0b01 78"},
		{"a will without a topic", KindWill, "01 00 00 05 30 03 0000 00"},
		{"a user longer than its value", KindWill, "02 00 00 09 32 07 0001 74 0001 00 78 03 7531"},
		{"more of how it was here than its value", KindWill, "03 00 00 09 32 07 0001 74 0001 00 78 02 7531 03 0201"},
		{"a will longer than its value", KindWill, "01 00 00 " + huge},
		{"next offset below 0", KindPlace, "01 ffffffffffffffffff01 00"},
		{"more flights than bytes", KindPlace, "01 00 " + huge + " 05 02"},
		{"a flight without a step", KindPlace, "01 00 01 04 02"},
		{"one position twice", KindPlace, "01 00 02 05 02 01 02"},
		{"a position of 63 bits", KindPlace, "01 00 02 fdffffffffffffffff01 02 05 02"},
		{"offset below 0", KindPlace, "01 00 01 05 01"},
		{"mark 0", KindMark, "01 01 00 02"},
		{"one mark twice", KindMark, "01 02 05 02 00 02"},
		{"marks beyond 64 bits", KindMark, "01 02 05 02 ffffffffffffffffff01 02"},
		{"an offset at a mark below 0", KindMark, "01 01 05 01"},
		{"more marks than bytes", KindMark, "01 " + huge + " 05 02"},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(c.value, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		allocated := testing.AllocsPerRun(1, func() { _, err = parsers[c.kind](b) })
		if !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", c.name, err)
		}
		if allocated > 20 {
			t.Errorf("%s: %.0f allocations", c.name, allocated)
		}
	}
}

// TestKeys: every key comes back as it was; what is none is refused.
func TestKeys(t *testing.T) {
	long := strings.Repeat("ü", 0xffff/2)
	for _, k := range []Key{
		{Kind: KindSession, Client: "c"},
		{Kind: KindSession, Client: long},
		{Kind: KindFilter, Client: "c", Filter: "#"},
		{Kind: KindFilter, Client: "a\x00b", Filter: long},
		{Kind: KindWill, Client: "c"},
		{Kind: KindPlace, Client: "c", Topic: exampleTopic, Index: 1<<31 - 1},
		{Kind: KindReceived, Client: "c", Chunk: 255},
		{Kind: KindMark, Topic: exampleTopic},
		{Kind: KindReplay, Client: "c", Topic: exampleTopic, Index: 1<<31 - 1, Filter: long},
		{Kind: KindGroup, Client: "g", Filter: "a/+"},
		{Kind: KindShared, Client: "g", Filter: "a/+", Topic: exampleTopic, Index: 3},
	} {
		ends := len(k.AppendTo(nil)) - len(k.Filter) // where the filter begins that may be shorter, or longer
		b := k.AppendTo(nil)
		if back, err := ParseKey(b); err != nil || back != k {
			t.Errorf("%+v came back as %+v, %v", k, back, err)
		}
		for cut := range b {
			back, err := ParseKey(b[:cut])
			if k.Filter != "" && err == nil && cut > ends {
				continue // a shorter filter
			}
			if !fault.Is(err, fault.Corrupt) {
				t.Errorf("the first %d bytes of the key %x gave %+v, %v", cut, b, back, err)
				break
			}
		}
		if _, err := ParseKey(append(b, 0)); k.Filter == "" && !fault.Is(err, fault.Corrupt) {
			t.Errorf("%x and more gave %v", b, err)
		}
	}
	for _, c := range []struct {
		key  string
		want fault.Kind
	}{
		{"", fault.Corrupt},
		{"x\x00\x01c", fault.Unsupported},
		{"s\x00\x00", fault.Corrupt},
		{"p\x00\x01c0123456789abcdef\x80\x00\x00\x00", fault.Corrupt},
	} {
		if _, err := ParseKey([]byte(c.key)); !fault.Is(err, c.want) {
			t.Errorf("%q: %v", c.key, err)
		}
	}
}

// FuzzKey: a key that is taken is the only one of its record.
func FuzzKey(f *testing.F) {
	for _, k := range []Key{
		{Kind: KindSession, Client: "c"}, {Kind: KindFilter, Client: "c", Filter: "a/#"}, {Kind: KindWill, Client: "c"},
		{Kind: KindPlace, Client: "c", Index: 1}, {Kind: KindReceived, Client: "c", Chunk: 1}, {Kind: KindMark, Index: 1},
		{Kind: KindGroup, Client: "g", Filter: "a/#"}, {Kind: KindShared, Client: "g", Filter: "a/#", Index: 1},
	} {
		f.Add(k.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKey(b)
		switch {
		case err != nil:
			if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
				t.Fatal(err)
			}
		case !bytes.Equal(k.AppendTo(nil), b):
			t.Fatalf("%x is the key %+v, which is %x", b, k, k.AppendTo(nil))
		}
	})
}

// fuzzValue: no bytes make a decoder panic, and what it takes comes back the same when it is encoded and decoded again.
// Use is what is done with it then.
func fuzzValue(f *testing.F, kind Kind, use func(*testing.T, appender)) {
	for _, record := range samples()[kind] {
		f.Add(record.AppendTo(nil))
	}
	parse := parsers[kind]
	f.Fuzz(func(t *testing.T, b []byte) {
		record, err := parse(b)
		if err != nil {
			if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
				t.Fatal(err)
			}
			return
		}
		once := record.AppendTo(nil)
		again, err := parse(once)
		if err != nil || !bytes.Equal(again.AppendTo(nil), once) {
			t.Fatalf("%x is %+v, which is %x, which is %+v, %v", b, record, once, again, err)
		}
		if use != nil {
			use(t, record)
		}
	})
}

func FuzzSession(f *testing.F)  { fuzzValue(f, KindSession, nil) }
func FuzzFilter(f *testing.F)   { fuzzValue(f, KindFilter, nil) }
func FuzzWill(f *testing.F)     { fuzzValue(f, KindWill, nil) }
func FuzzGroup(f *testing.F)    { fuzzValue(f, KindGroup, nil) }
func FuzzReceived(f *testing.F) { fuzzValue(f, KindReceived, nil) }
func FuzzReplay(f *testing.F)   { fuzzValue(f, KindReplay, nil) }

func FuzzPlace(f *testing.F) {
	fuzzValue(f, KindPlace, func(t *testing.T, a appender) {
		place := a.(*PlaceRecord)
		var o Outbound
		if dropped := o.Restore(place.Flights); o.InFlight() != len(place.Flights)-dropped {
			t.Fatalf("%d of %d in flight, %d dropped", o.InFlight(), len(place.Flights), dropped)
		}
	})
}

func FuzzMark(f *testing.F) {
	fuzzValue(f, KindMark, func(t *testing.T, a appender) {
		record := *a.(*MarkRecord)
		var m Marks
		if m.Restore(1, record); len(record) == 0 {
			return
		}
		last := record[len(record)-1]
		if offset, ok := m.At(1, last.Mark); !ok || offset != last.Offset || m.Last() != last.Mark {
			t.Fatalf("at mark %d of %v: %d %v", m.Last(), record, offset, ok)
		}
	})
}
