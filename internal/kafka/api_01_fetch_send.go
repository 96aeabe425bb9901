package kafka

// chunkBytes is how much of the stored records of a response is in memory at once, unless a single batch is
// larger. It fits the second-level cache of a processor: the bytes come from the page cache, go through the
// checksum and on to the socket without a way to main memory and back.
const chunkBytes = 256 << 10

// keepChunks is how many free chunks the door keeps.
const keepChunks = 16

// chunk gives a chunk for one response.
func (d *Door) chunk() []byte {
	select {
	case b := <-d.chunks:
		return b
	default:
		return make([]byte, 0, chunkBytes)
	}
}

// giveBack takes it back.
func (d *Door) giveBack(chunk []byte) {
	select {
	case d.chunks <- chunk[:0]:
	default:
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
	chunk := f.c.door.chunk()
	defer f.c.door.giveBack(chunk)
	buf, parts := chunk, f.parts
	f.pending = f.pending[:0]
	for _, piece := range pieces {
		if piece != nil {
			f.pending = append(f.pending, piece)
			continue
		}
		for parts[0].stored.Size() == 0 {
			parts = parts[1:]
		}
		for st := &parts[0].stored; st.Size() > 0; {
			var err error
			if buf, f.pending, err = st.Load(buf, f.pending); err != nil {
				return err
			}
			if st.Size() > 0 { // buf is full
				if err := f.flush(); err != nil {
					return err
				}
				buf = chunk
			}
		}
	}
	return f.flush()
}

// flush writes what is pending.
func (f *fetch) flush() error {
	f.begun = true
	err := f.c.writeAll(f.pending)
	clear(f.pending)
	f.pending = f.pending[:0]
	return err
}
