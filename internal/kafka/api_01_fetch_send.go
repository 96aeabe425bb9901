package kafka

import (
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
)

// A chunk is how much of the stored records of a response is in memory at once, unless a single batch is larger. It
// fits the second-level cache of a processor: the bytes come from the page cache, go through the checksum and on to
// the socket without a way to main memory and back.
const (
	largeChunk  = 1 << 20   // what clients ask of one partition: in one write it wakes them less often
	smallChunk  = 256 << 10 // for a response beside largeChunks others: a client may take its time
	largeChunks = 4
	smallChunks = 16 // free ones that are kept
)

// chunks lends chunks to responses.
type chunks struct {
	large chan []byte // largeChunks of them, or nil for one that was not needed yet
	small chan []byte
}

func newChunks() chunks {
	c := chunks{large: make(chan []byte, largeChunks), small: make(chan []byte, smallChunks)}
	for range largeChunks {
		c.large <- nil
	}
	return c
}

// take gives a chunk for one response.
func (c *chunks) take() []byte {
	select {
	case b := <-c.large:
		if b == nil {
			b = make([]byte, 0, largeChunk)
		}
		return b
	default:
	}
	select {
	case b := <-c.small:
		return b
	default:
		return make([]byte, 0, smallChunk)
	}
}

// giveBack takes it back.
func (c *chunks) giveBack(chunk []byte) {
	to := c.small
	if cap(chunk) == largeChunk {
		to = c.large
	}
	select {
	case to <- chunk[:0]:
	default: // a small one too many
	}
}

// send writes a response: what is in memory from where it is, stored records a chunk at a time, each one
// checked before it goes out. How long the response is was said before its end is read. So a batch that
// turns out to be damaged then ends the connection: nothing of it is served. The client asks again, and for
// a partition that is known to be damaged the log reads before it promises: this time the client gets all
// that lies before the damage, and then the error.
func (f *fetch) send(pieces [][]byte, stored bool) error {
	if !stored {
		f.begun = true
		return f.c.writeAll(pieces)
	}
	chunk := f.c.door.chunks.take()
	defer f.c.door.chunks.giveBack(chunk)
	buf, parts := chunk, f.parts
	var err error
	f.pending, f.unsent = f.pending[:0], 0
	for _, piece := range pieces {
		if piece != nil {
			f.pending = append(f.pending, piece)
			continue
		}
		for parts[0].result.Stored == 0 {
			parts = parts[1:]
		}
		if buf, err = f.load(&parts[0], buf); err != nil {
			return err
		}
		parts = parts[1:]
	}
	return f.flush()
}

// load puts the records of a part that are not in memory behind what is pending, and flushes when there is enough.
// What they were when they were found, they still are, or the connection ends: their length was promised.
func (f *fetch) load(p *fetchPart, buf []byte) ([]byte, error) {
	at, left, st := p.from, p.result.Stored, &p.stored
	for left > 0 {
		if st.Size() == 0 {
			var err error
			if f.scratch, *st, err = f.again(p, at, min(left, f.most)); err != nil {
				return buf, err
			}
			for _, b := range f.scratch {
				left, at, f.unsent = left-len(b), b.LastOffset()+1, f.unsent+len(b)
				f.pending = append(f.pending, b)
			}
			if st.Size() > left || left < 0 || len(f.scratch) == 0 && st.Size() == 0 {
				return buf, fault.New(fault.Corrupt, "kafka.Fetch", "partition %d: the records at offset %d are not what they were",
					p.id, p.from)
			}
			if f.unsent >= f.most {
				if err := f.flush(); err != nil {
					return buf, err
				}
				buf = buf[:0]
			}
			continue
		}
		before := st.Size()
		var err error
		if buf, f.pending, err = st.Load(buf, f.pending); err != nil {
			return buf, err
		}
		left -= before - st.Size()
		if st.Size() > 0 { // buf is full
			if err := f.flush(); err != nil {
				return buf, err
			}
			buf = buf[:0] // the larger one, where a batch needed it
			continue
		}
		at = st.Next()
	}
	return buf, nil
}

// again finds once more what was found of a part, from an offset on.
func (f *fetch) again(p *fetchPart, at record.Offset, limit int) ([]record.Batch, store.Stretch, error) {
	if f.committed() { // what lies behind may share a piece of a file with it
		return f.c.door.log.FindBelow(p.id, at, p.next, limit, f.scratch[:0])
	}
	return f.c.door.log.Find(p.id, at, limit, f.scratch[:0])
}

// flush writes what is pending.
func (f *fetch) flush() error {
	f.begun = true
	err := f.c.writeAll(f.pending)
	clear(f.pending)
	f.pending, f.unsent = f.pending[:0], 0
	return err
}
