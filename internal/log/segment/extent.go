package segment

import (
	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/log/record"
)

// extentTarget is about how many bytes an extent gets in a rolled-up file: what one read of a cold
// record costs.
const extentTarget = 16 << 10

// Of is the extent of one sealed batch that lies at pos.
func Of(b record.Batch, pos int64) Extent {
	return Extent{
		Base: b.BaseOffset(), Last: b.LastOffset(), Pos: pos, Len: int32(len(b)), MaxTime: b.MaxTimestamp(),
		heads: addHead(0, b), built: b.Attributes().Codec() == record.None && b.ProducerID() < 0,
	}
}

// AsCame is the extent of a batch that came from a producer as it is.
func (e Extent) AsCame() Extent {
	e.built = false
	return e
}

// Opened is the extent, read from an encrypted file: what opened are the bytes that were written, and need no checksum.
func (e Extent) Opened() Extent {
	e.known = true
	return e
}

// Built tells whether the batch of the extent may have been built by this log record by record, and not by a
// producer that compresses or numbers its batches. Of an extent that was not made by Of that is not known.
func (e *Extent) Built() bool { return e.built || e.heads == 0 }

// add puts the batch b, whose extent is e, at the end of the run: into the last extent if that is small
// and ends where b begins.
func (r *Run) add(e Extent, b record.Batch) {
	n := len(r.Extents)
	if n == 0 || int(r.Extents[n-1].Len)+len(b) > extentTarget || r.Extents[n-1].End() != e.Pos {
		r.Extents = append(r.Extents, e)
		return
	}
	last := &r.Extents[n-1]
	last.Last, last.Len, last.MaxTime = e.Last, last.Len+e.Len, max(last.MaxTime, e.MaxTime)
	last.heads = addHead(last.heads, b)
}

// End is where the extent ends in its file.
func (e *Extent) End() int64 { return e.Pos + int64(e.Len) }

// gapBytes is the largest hole between two extents that is read along with them instead of reading twice.
const gapBytes = 4 << 10

// Near tells whether other lies so close behind e that one read of both is the cheaper way.
func (e *Extent) Near(other *Extent) bool {
	gap := other.Pos - e.End()
	return gap >= 0 && gap <= gapBytes
}

// Open opens the extent, one batch in an encrypted journal, in the memory of sealed: its bytes as they lie in the file,
// with the tag behind them. Errors: Corrupt, with file, byte and offsets.
func (e *Extent) Open(key *atrest.Key, file string, partition uint32, sealed []byte) error {
	at := atrest.Place{Pos: e.Pos, What: atrest.PieceBody, Of: partition, First: int64(e.Base)}
	if _, err := key.Open(sealed, at, nil); err != nil {
		return e.bad(file, e.Pos, err)
	}
	return nil
}
