package record

import "testing"

func TestFillerTakesOffsetsAndHoldsNothing(t *testing.T) {
	b := NewFiller(7, 1<<31, 3, 1000)
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	if b.BaseOffset() != 7 || b.LastOffset() != 1<<31 || b.Count() != 0 || b.LeaderEpoch() != 3 ||
		b.ProducerID() != -1 || b.MaxTimestamp() != 1000 {
		t.Errorf("%d to %d, %d records, epoch %d, producer %d, time %d", b.BaseOffset(), b.LastOffset(), b.Count(),
			b.LeaderEpoch(), b.ProducerID(), b.MaxTimestamp())
	}
	var it Iter
	if err := it.Reset(b, &Scratch{}); err != nil {
		t.Fatal(err)
	}
	if v := (View{}); it.Next(&v) || it.Err() != nil {
		t.Errorf("a record %+v: %v", v, it.Err())
	}
}
