package format

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

func sample() *Message {
	expiry, utf8Payload := uint32(60), byte(1)
	return &Message{
		Time:  time.Date(2026, 11, 21, 5, 50, 39, 7_000_123, time.FixedZone("", 3600)),
		Topic: "a/b", Payload: []byte("he\"llo é "), QoS: 1, Retain: true, PacketID: 1,
		ContentType: "text/plain", ResponseTopic: "re/s", Correlation: []byte("abc"), Expiry: &expiry,
		PayloadFormat: &utf8Payload, SubIDs: []uint32{7}, User: []Property{{"k", "v"}, {"k", "w"}},
	}
}

// What the formats print was taken down from mosquitto_sub 2.0.11 with the same message.
func TestMQTT(t *testing.T) {
	cases := []struct{ spec, want string }{
		{"%t %p", "a/b he\"llo é "},
		{"%t|%p|%q|%r|%l|%m|%P|%C|%D|%E|%F|%R|%S|%x|%X|%A|%%",
			`a/b|he"llo é |1|1|10|1|k:v k:w|text/plain|abc|60|1|re/s|7|6865226c6c6f20c3a920|6865226C6C6F20C3A920||%`},
		{"%10t|%-10t|%2.2t|%05l|%5l|%-5l|", "       a/b|a/b       |a/|00010|   10|10   |"},
		{"%I|%U|@Y-@m-@dT@H:@M:@S.@N@z|@@|@s",
			"2026-11-21T05:50:39+0100|1795236639.007000123|2026-11-21T05:50:39.007000123+0100|@|1795236639"},
		{`\t|\0|\\|\e[1m\a\v\r\n`, "\t|\x00|\\|\x1b[1m\a\v\r\n"},
		{"%j", `{"tst":"2026-11-21T05:50:39.007000+0100","topic":"a/b","qos":1,"retain":1,"payloadlen":10,"mid":1,` +
			`"properties":{"subscription-identifier":7,"user-properties":{"k":"v","k":"w"},"content-type":"text/plain",` +
			`"response-topic":"re/s","correlation-data":"abc","payload-format-indicator":1,"message-expiry-interval":60},` +
			`"payload":"he\"llo é "}`},
		{"", ""},
	}
	for _, c := range cases {
		f, err := ParseMQTT(c.spec)
		if err != nil {
			t.Errorf("%q: %v", c.spec, err)
			continue
		}
		got, err := f.AppendTo(nil, sample())
		if err != nil || string(got) != c.want {
			t.Errorf("%q\n got %s (%v)\nwant %s", c.spec, got, err, c.want)
		}
	}
}

func TestMQTTRefusesWhatMosquittoRefuses(t *testing.T) {
	for _, spec := range []string{"%Z", "%", "%05", "%.3", "@", "@Q", `\`, `\q`, "%t %5"} {
		if _, err := ParseMQTT(spec); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

func TestMQTTRawJSON(t *testing.T) {
	f, err := ParseMQTT("%J")
	if err != nil {
		t.Fatal(err)
	}
	m := &Message{Topic: "a/j", Payload: []byte("{\"a\": 9007199254740993,\n \"b\": \"x \\\" y\"}")}
	got, err := f.AppendTo(nil, m)
	if err != nil || !strings.HasSuffix(string(got), `"payload":{"a":9007199254740993,"b":"x \" y"}}`) {
		t.Errorf("got %s, %v", got, err)
	}
	m.Payload = []byte("{")
	if _, err := f.AppendTo(nil, m); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
}

func TestJSONIsValidAndLosesNothing(t *testing.T) {
	m := &Message{Topic: "a", Payload: []byte("a\xff\x01\x7fb")}
	var got map[string]any
	if err := json.Unmarshal(AppendMQTTJSON(nil, m), &got); err != nil {
		t.Fatal(err)
	}
	if got["payload"] != "a\ufffd\x01\x7fb" || got["payload_base64"] != "Yf8Bf2I=" {
		t.Errorf("got %v", got)
	}
}

func TestKafka(t *testing.T) {
	r := &Record{Topic: "t", Partition: 2, Offset: 41, Time: 1700000000123, Key: []byte("k"), Value: []byte("v1"),
		Headers: []Header{{"a", []byte("1")}, {"b", nil}}}
	null := &Record{Topic: "t"}
	cases := []struct {
		spec, null string
		r          *Record
		want       string
	}{
		{`Topic %t [%p] at offset %o: key %k: %s\n`, "", r, "Topic t [2] at offset 41: key k: v1\n"},
		{`%K %S %T %h %%\t\x41\101`, "", r, "1 2 1700000000123 a=1,b=NULL %\tAA"},
		{`%R`, "", r, "\x00\x00\x00\x02"},
		{`%k|%K|%s|%S|%h|`, "", null, "|-1||-1||"},
		{`%k|%s`, "NULL", null, "NULL|NULL"},
	}
	for _, c := range cases {
		f, err := ParseKafka(c.spec, c.null)
		if err != nil {
			t.Errorf("%q: %v", c.spec, err)
			continue
		}
		if got := f.AppendTo(nil, c.r); string(got) != c.want {
			t.Errorf("%q: got %q, want %q", c.spec, got, c.want)
		}
	}
	for _, spec := range []string{"%", "%z", `\`, `\q`, `\x`, `\777`} {
		if _, err := ParseKafka(spec, ""); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

func TestRecordJSON(t *testing.T) {
	r := &Record{Topic: "t", Partition: 2, Offset: 41, Time: 1700000000123, Leader: 1, Key: []byte("k\n"),
		Value: []byte("\xfe"), Headers: []Header{{"a", []byte("1")}, {"b", nil}}}
	want := `{"topic":"t","partition":2,"offset":41,"tstype":"create","ts":1700000000123,"broker":1,` +
		`"headers":["a","1","b",null],"key":"k\n","payload":"\ufffd","payload_base64":"/g=="}`
	if got := AppendRecordJSON(nil, r); string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	r = &Record{Topic: "t", Leader: -1, LogTime: true}
	want = `{"topic":"t","partition":0,"offset":0,"tstype":"logappend","ts":0,"key":null,"payload":null}`
	if got := AppendRecordJSON(nil, r); string(got) != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func readAll(t *testing.T, spec, input string) ([]Record, error) {
	t.Helper()
	in, err := ParseInput(spec)
	if err != nil {
		t.Fatal(err)
	}
	var all []Record
	from := bufio.NewReader(strings.NewReader(input))
	for {
		var r Record
		if err := in.Read(from, &r); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return all, err
		}
		all = append(all, r)
	}
}

func TestInput(t *testing.T) {
	cases := []struct {
		spec, input string
		want        []Record
	}{
		{`%k %v\n`, "a b\nc d e\n", []Record{{Key: []byte("a"), Value: []byte("b")},
			{Key: []byte("c"), Value: []byte("d e")}}},
		{`%k %v\n`, "a b\nc d", []Record{{Key: []byte("a"), Value: []byte("b")}, {Key: []byte("c"), Value: []byte("d")}}},
		{`%t;%p;%h;%v\n`, "x;3;a=1,b:2;v\n", []Record{{Topic: "x", Partition: 3, Value: []byte("v"),
			Headers: []Header{{"a", []byte("1")}, {"b", []byte("2")}}}}},
		{`%v`, "a\nb\n", []Record{{Value: []byte("a\nb\n")}}},
		{`<%v>\n`, "<a>\n<>\n", []Record{{Value: []byte("a")}, {Value: []byte{}}}},
		{`%v%%\x2c`, "a%,b%%,", []Record{{Value: []byte("a")}, {Value: []byte("b%")}}},
	}
	for _, c := range cases {
		got, err := readAll(t, c.spec, c.input)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: got %+v (%v), want %+v", c.spec, got, err, c.want)
		}
	}
	if _, err := readAll(t, `%k %v\n`, "a b\nonly"); !fault.Is(err, fault.Invalid) {
		t.Errorf("half a record: %v", err)
	}
	if _, err := readAll(t, `%p %v\n`, "x y\n"); !fault.Is(err, fault.Invalid) {
		t.Errorf("a partition that is no number: %v", err)
	}
	for _, spec := range []string{"", "%k%v", "%z", "%", `%v\q`} {
		if _, err := ParseInput(spec); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", spec, err)
		}
	}
}

func TestParseHeader(t *testing.T) {
	cases := []struct {
		in   string
		want Header
	}{
		{"a=1", Header{"a", []byte("1")}},
		{"a:b=1", Header{"a", []byte("b=1")}},
		{"a=", Header{"a", []byte{}}},
		{"a", Header{"a", nil}},
	}
	for _, c := range cases {
		if got, err := ParseHeader(c.in); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: got %v, %v", c.in, got, err)
		}
	}
	for _, in := range []string{"", "=1"} {
		if _, err := ParseHeader(in); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"%t %p", `%-05.3l@Y\n`, "%k %v\\n", `%%\x4`, "%9999999t"} {
		f.Add(s)
	}
	m, r := sample(), &Record{Topic: "t", Key: []byte("k")}
	f.Fuzz(func(t *testing.T, spec string) {
		if p, err := ParseMQTT(spec); err == nil && !strings.Contains(spec, "J") {
			if _, err := p.AppendTo(nil, m); err != nil {
				t.Errorf("%q parses and does not print: %v", spec, err)
			}
		}
		if p, err := ParseKafka(spec, ""); err == nil {
			p.AppendTo(nil, r)
		}
		if p, err := ParseInput(spec); err == nil {
			from := bufio.NewReader(strings.NewReader("some input\nof two lines\n"))
			for range 30 {
				if p.Read(from, &Record{}) != nil {
					break
				}
			}
		}
	})
}
