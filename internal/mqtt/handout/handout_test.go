package handout

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

// samples are frames of each kind. The first bytes of docs/format/gateways.md are those of the second.
func samples() []Frame {
	jobs := Name{Share: "g", Filter: "a/#"}
	return []Frame{
		&Hello{Version: Version},
		&Join{Member: 1, Group: jobs, Client: "c", Version: 5, QoS: 1, ID: 9, Window: 20, MaxPacket: 300},
		&Join{Member: 1<<32 - 1, Group: jobs, Version: 3, RetainAsPublished: true, Window: 1},
		&Serves{Shard: 63, Last: 1<<64 - 1},
		&Serves{Shard: 2, Last: 7, Groups: []Name{jobs, {Share: "ü", Filter: strings.Repeat("x/", 200)}}},
		&Claim{Request: 5, Shard: 3, Group: jobs}, &Unclaim{Shard: 3, Group: jobs}, &Unsubscribe{Member: 4},
		&Leave{Member: 4},
		&Done{Member: 4}, &Done{Member: 4, IDs: []uint64{1, 1<<64 - 1, 3}}, &Refuse{Member: 4, ID: 6, Topic: "a/b"},
		&Answer{Request: 5}, &Answer{Request: 5, Error: "no"}, &Ping{},
		&Message{Member: 4, ID: 6, Payload: 1, Publish: []byte{0x30, 4, 0, 1, 't', 'x'}},
		&Message{Publish: bytes.Repeat([]byte{1}, 200_000)},
	}
}

// TestFrames: frames come back as they were, one behind the other, and are refused when they are cut short or longer.
func TestFrames(t *testing.T) {
	var all []byte
	for _, f := range samples() {
		b := Append(nil, f)
		all = append(all, b...)
		for cut := range min(len(b)-lengthBytes, 500) {
			if got, err := Parse(b[lengthBytes : lengthBytes+cut]); err == nil {
				t.Errorf("the first %d bytes of %T gave %+v", cut, f, got)
			}
		}
		if _, err := Parse(append(b[lengthBytes:], 0)); !fault.Is(err, fault.Corrupt) {
			t.Errorf("a byte behind %T gave %v", f, err)
		}
	}
	r := bufio.NewReader(bytes.NewReader(all))
	for _, want := range samples() {
		if got, err := Read(r); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %T, %v, want %T", got, err, want)
		}
	}
	if _, err := Read(r); !errors.Is(err, io.EOF) {
		t.Errorf("the end gave %v", err)
	}
	const join = "000000100501016703612f23016305010914ac02"
	if got := hex.EncodeToString(Append(nil, samples()[1])); got != join {
		t.Errorf("the example is %s, want %s", got, join)
	}
}

// TestStrange: what no node says is refused, and one that lies about its length costs nothing.
func TestStrange(t *testing.T) {
	for what, text := range map[string]string{
		"no kind": "00000000", "too long": "ffffffff01", "kind 0": "0000000100", "of a later version": "000000017f",
		"many names": "000000060200 00 ffff03", "QoS 2": "0000000a0501016701610005020000010100",
		"a window of none": "0000000f0501016703612f2301630500090000",
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Read(bufio.NewReader(bytes.NewReader(b))); err == nil {
			t.Errorf("%s: %+v", what, got)
		}
	}
	short := append(bytes.Repeat([]byte{0x0f}, 4), make([]byte, 100)...)
	if _, err := Read(bufio.NewReader(bytes.NewReader(short))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a frame that ends too soon gave %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, one := range samples()[:len(samples())-1] {
		f.Add(Append(nil, one)[lengthBytes:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(Append(nil, got)[lengthBytes:])
		if err != nil || !reflect.DeepEqual(got, again) {
			t.Errorf("%+v came back as %+v, %v", got, again, err)
		}
	})
}
