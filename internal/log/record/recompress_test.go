package record

import (
	"bytes"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

// From every codec to every other the records and all that the header says of them stay, and what comes out is valid.
func TestRecompress(t *testing.T) {
	var bu Builder
	bu.Reset(nil, 1000)
	bu.SetProducer(7, 3, 9)
	bu.SetTransactional()
	for i := range 20 {
		bu.Append(&Record{Timestamp: int64(1000 + i), Key: []byte{byte(i)}, Value: bytes.Repeat([]byte("value "), 200)})
	}
	var s Scratch
	plain := bu.Seal(5, 2)
	for from := None; from <= Zstd; from++ {
		b, err := bu.SealCompressed(5, 2, from)
		if err != nil {
			t.Fatal(err)
		}
		for to := None; to <= Zstd; to++ {
			got, err := s.Recompress(b, to, 1<<20)
			if err != nil || got.Attributes().Codec() != to || !got.Attributes().Transactional() {
				t.Fatalf("%s to %s: %v, attributes %x", from, to, err, got.Attributes())
			}
			if err := judge(got, 1<<20, &s); err != nil {
				t.Errorf("%s to %s: %v", from, to, err)
			}
			inside, err := s.records(got)
			if err != nil || !bytes.Equal(inside, plain[BatchOverhead:]) {
				t.Errorf("%s to %s: other records, %v", from, to, err)
			}
			if !bytes.Equal(got[atLastOffsetDelta:BatchOverhead], plain[atLastOffsetDelta:BatchOverhead]) ||
				!bytes.Equal(got[:atLength], plain[:atLength]) {
				t.Errorf("%s to %s: the header says something else", from, to)
			}
			if from == to && &got[0] != &b[0] {
				t.Errorf("%s was copied", from)
			}
		}
	}
	small, err := bu.SealCompressed(5, 2, Zstd)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []Codec{None, Snappy} {
		if _, err := s.Recompress(small, to, len(small)); !fault.Is(err, fault.TooLarge) {
			t.Errorf("to %s, which takes more: %v", to, err)
		}
	}
	if _, err := s.Recompress(plain, 7, 1<<20); !fault.Is(err, fault.Invalid) {
		t.Errorf("to a codec that is none: %v", err)
	}
}
