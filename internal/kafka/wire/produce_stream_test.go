package wire

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

// held is a source of bytes that are all there.
type held struct{ b []byte }

func (h *held) Left() int { return len(h.b) }

func (h *held) AppendTo(dst []byte, n int) ([]byte, error) {
	dst = append(dst, h.b[:n]...)
	h.b = h.b[n:]
	return dst, nil
}

// sameStreamed holds the stream to what Parse and Walk say of the same request.
func sameStreamed(t *testing.T, version int16, body []byte, whole *ProduceRequest, parsed error) {
	t.Helper()
	api := Find(Produce)
	frame := make([]byte, HeadLen, HeadLen+3+len(body))
	binary.BigEndian.PutUint16(frame[2:], uint16(version))
	frame = append(frame, 0, 0)
	frame = appendNoTags(frame, api.IsFlexible(version))
	in := &held{append(frame, body...)}
	walk := whole.Walk()
	s := new(ProduceStream)
	err := s.Begin(api, in, nil)
	if err == nil && (s.Request.Acks != whole.Acks || !bytes.Equal(s.Request.TransactionalID, whole.TransactionalID)) {
		t.Fatalf("v%d: %+v, not %+v", version, s.Request, whole)
	}
	for n := 0; err == nil; n++ {
		var more bool
		if more, err = s.Next(); err != nil || !more {
			break
		}
		if s.Size > in.Left() {
			t.Fatalf("v%d: %d bytes of records, %d are left", version, s.Size, in.Left())
		}
		records := in.b[:max(s.Size, 0)]
		in.b = in.b[len(records):]
		if parsed != nil {
			err = s.Rest()
			continue
		}
		if !walk.Next() || s.NewTopic != walk.NewTopic || s.Index != walk.Index || s.TopicID != walk.TopicID ||
			!bytes.Equal(s.Topic, walk.Topic) {
			t.Fatalf("v%d: partition %d: %+v, not %+v", version, n, s.ProducePartition, walk.ProducePartition)
		}
		if !bytes.Equal(records, walk.Records) || (s.Size < 0) != (walk.Records == nil) {
			t.Fatalf("v%d: partition %d: %d bytes of records, not %d", version, n, s.Size, len(walk.Records))
		}
		err = s.Rest()
	}
	if err == nil {
		err = s.Finish()
	}
	if (err == nil) != (parsed == nil) || err != nil && !fault.Is(err, fault.Invalid) {
		t.Fatalf("v%d: streamed %v, whole %v", version, err, parsed)
	}
	if err != nil {
		return
	}
	if walk.Next() || s.Request.Partitions != whole.Partitions {
		t.Fatalf("v%d: %d partitions, not %d", version, s.Request.Partitions, whole.Partitions)
	}
	results := make([]ProduceResult, whole.Partitions)
	if !bytes.Equal(AppendProduceResponse(nil, &s.Request, 1, results), AppendProduceResponse(nil, whole, 1, results)) {
		t.Fatalf("v%d: the answers differ", version)
	}
}
