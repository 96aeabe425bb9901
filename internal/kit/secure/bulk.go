package secure

import (
	"net"
	"sync/atomic"
)

const (
	recordBytes = 16 << 10 // what a record carries at most (RFC 8446, section 5.1)
	bulkBytes   = 64 << 10 // of records go to the system at once: TCP cuts no more than that at once
)

// bulk is memory for what is sealed and written at once.
type bulk struct {
	plain  []byte      // of the record in hand, if no piece has all of it
	sealed []byte      // records that are not written yet; of who holds the right to write in package tls
	last   atomic.Bool // the record in hand is the last one
}

func newBulk() any {
	return &bulk{plain: make([]byte, 0, recordBytes), sealed: make([]byte, 0, bulkBytes+recordBytes)}
}

// WriteBuffers writes pieces as if they were one, in full records and some of these at once: by net.Buffers, each piece
// would begin a record, and each record ask the system. It consumes the pieces. Only one goroutine writes at a time.
// Errors: as Write; the connection is of no use then.
func (c *Conn) WriteBuffers(pieces net.Buffers) (written int64, err error) {
	left := 0
	for _, p := range pieces {
		left += len(p)
	}
	if left == 0 {
		return 0, nil
	}
	b := c.bulks.Get().(*bulk) //nolint:errcheck // there is nothing else in it
	b.last.Store(false)
	c.beneath.bulk.Store(b)
	for left > 0 {
		record := b.record(&pieces)
		if left -= len(record); left == 0 {
			b.last.Store(true)
		}
		n, err := c.Write(record)
		if written += int64(n); err != nil {
			c.beneath.bulk.Store(nil)
			return written, err // what is lent stays there: an alert may be under way
		}
	}
	c.bulks.Put(b)
	return written, nil
}

// record takes what the next record carries.
func (b *bulk) record(pieces *net.Buffers) []byte {
	b.plain = b.plain[:0]
	for len(*pieces) > 0 {
		p := (*pieces)[0]
		n := min(len(p), recordBytes-len(b.plain))
		if (*pieces)[0] = p[n:]; n == len(p) {
			*pieces = (*pieces)[1:]
		}
		if n == recordBytes || len(*pieces) == 0 && len(b.plain) == 0 {
			return p[:n]
		}
		if b.plain = append(b.plain, p[:n]...); len(b.plain) == recordBytes {
			break
		}
	}
	return b.plain
}

// gather takes records that are written, and tells what is to be written by now. A record of package tls that comes in
// between, as a KeyUpdate, keeps its place; if it is taken for the last one, that is written by itself.
func (b *beneath) gather(records []byte) (out []byte, done bool) {
	bulk := b.bulk.Load()
	if bulk == nil {
		return records, true
	}
	bulk.sealed = append(bulk.sealed, records...)
	last := bulk.last.Load()
	if last {
		b.bulk.Store(nil)
	} else if len(bulk.sealed) < bulkBytes {
		return nil, false
	}
	out, bulk.sealed = bulk.sealed, bulk.sealed[:0]
	return out, true
}
