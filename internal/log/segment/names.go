package segment

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"

	"github.com/firthmq/firth/internal/log/record"
)

// Names tells which MQTT topic names the records of a run have, chapter by chapter, so that who looks for
// few of them need not read it all. It is immutable.
type Names struct {
	// Mapping says by which mapping the names were given. Under another one they tell nothing.
	Mapping  uint64
	chapters []chapter
}

// chapter is the names of some batches that lie one behind the other.
type chapter struct {
	last record.Offset // of the last record
	kind byte
	data []byte // by kind
}

// Kinds of a chapter.
const (
	namesUnknown = 0 // nobody knew them
	namesListed  = 1 // each behind its length
	namesHashed  = 2 // a Bloom filter of the names and their stems
)

const (
	// chapterBytes is how much data a chapter covers: what a name that is not there costs when the filter
	// errs, and what has to be read for one that is.
	chapterBytes = 8 << 20
	// listedBytes bounds the names that are kept as they are.
	listedBytes = 2 << 10
	// hashBits is how many bits of a filter each entry gets, hashProbes how many of them it sets: one answer
	// in 300 is a wrong yes. A filter is at most maxHashBytes long; above that it errs more often.
	hashBits     = 12
	hashProbes   = 8
	maxHashBytes = 64 << 10
	maxName      = 1<<16 - 1
)

// Wanted is what a reader looks for.
type Wanted struct {
	// Match tells whether a record of the name may be wanted.
	Match func(name []byte) bool
	// Stems: each wanted name is one of them, or begins with one of them and a slash. Without any, every
	// name has to be asked for.
	Stems [][]byte
}

// Skip is the first offset from an offset on at which a wanted record may be: it passes over chapters that
// have none. Behind the last chapter it is the offset behind it.
func (n *Names) Skip(from record.Offset, w *Wanted) record.Offset {
	i, _ := slices.BinarySearchFunc(n.chapters, from, func(c chapter, at record.Offset) int {
		if c.last < at {
			return -1
		}
		return 1
	})
	for ; i < len(n.chapters); i++ {
		c := &n.chapters[i]
		if c.may(w) {
			return from
		}
		from = c.last + 1
	}
	return from
}

// may tells whether a wanted record may be in the chapter.
func (c *chapter) may(w *Wanted) bool {
	switch c.kind {
	case namesListed:
		for rest := c.data; len(rest) > 0; {
			n := 2 + int(le.Uint16(rest))
			if w.Match(rest[2:n]) {
				return true
			}
			rest = rest[n:]
		}
		return false
	case namesHashed:
		return len(w.Stems) == 0 || slices.ContainsFunc(w.Stems, func(stem []byte) bool {
			return filter(c.data).has(hashOf(stem))
		})
	}
	return true
}

// filter is a Bloom filter: a power of two of bits.
type filter []byte

func newFilter(entries int) filter {
	n := max(entries*hashBits/8, 8)
	return make(filter, min(1<<bits.Len(uint(n-1)), maxHashBytes))
}

// probe is the place of the i-th bit of a hash (Kirsch and Mitzenmacher, 2006).
func (f filter) probe(hash uint64, i uint64) (at int, bit byte) {
	second := hash>>32 | 1
	n := (hash + i*second) & uint64(len(f)*8-1)
	return int(n / 8), 1 << (n % 8)
}

func (f filter) add(hash uint64) {
	for i := range uint64(hashProbes) {
		at, bit := f.probe(hash, i)
		f[at] |= bit
	}
}

func (f filter) has(hash uint64) bool {
	for i := range uint64(hashProbes) {
		if at, bit := f.probe(hash, i); f[at]&bit == 0 {
			return false
		}
	}
	return true
}

// FNV-1a, 64 bits.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// hashOf is the hash of a name or a stem.
func hashOf(name []byte) uint64 {
	h := uint64(fnvOffset)
	for _, c := range name {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return mix(h)
}

// mix spreads a hash over all its bits (the end of MurmurHash3).
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// hashes calls see with the hash of a name and of each of its stems: what comes before a slash.
func hashes(name []byte, see func(uint64)) {
	h := uint64(fnvOffset)
	for _, c := range name {
		if c == '/' {
			see(mix(h))
		}
		h = (h ^ uint64(c)) * fnvPrime
	}
	see(mix(h))
}

// NamesBuilder gathers the names of a run, batch by batch. The zero builder begins a run.
type NamesBuilder struct {
	Mapping  uint64
	chapters []chapter

	bytes   int64
	last    record.Offset
	unknown bool
	listed  map[string]struct{} // while they fit
	size    int                 // of listed
	ended   int                 // bytes of chapters
	hashed  map[uint64]struct{} // once they do not
}

// Add takes the names of the next batches, as many bytes up to the offset last; nil: they are not known.
func (nb *NamesBuilder) Add(last record.Offset, size int, names func(yield func([]byte) bool)) {
	if names != nil && !nb.unknown {
		for name := range names {
			nb.Name(name)
		}
	}
	nb.Batches(last, size, names != nil)
}

// Batches ends the next batches, as many bytes up to the offset last, whose names came before it, if they are known.
func (nb *NamesBuilder) Batches(last record.Offset, size int, known bool) {
	nb.last = last
	nb.bytes += int64(size)
	nb.unknown = nb.unknown || !known
	if nb.bytes >= chapterBytes {
		nb.endChapter()
	}
}

// Held is about how many bytes of memory the names take.
func (nb *NamesBuilder) Held() int {
	const perName, perHash = 32, 16
	return nb.ended + nb.size + perName*len(nb.listed) + perHash*len(nb.hashed)
}

// Name takes a name of the next batches.
func (nb *NamesBuilder) Name(name []byte) {
	if nb.unknown {
		return
	}
	if len(nb.hashed) > 0 {
		if _, ok := nb.hashed[hashOf(name)]; !ok {
			hashes(name, nb.addHash)
		}
		return
	}
	if _, ok := nb.listed[string(name)]; ok {
		return
	}
	if nb.listed == nil {
		nb.listed = make(map[string]struct{})
	}
	nb.listed[string(name)] = struct{}{}
	if nb.size += 2 + len(name); nb.size <= listedBytes && len(name) <= maxName {
		return
	}
	for listed := range nb.listed {
		hashes([]byte(listed), nb.addHash)
	}
	clear(nb.listed)
}

func (nb *NamesBuilder) addHash(h uint64) {
	if nb.hashed == nil {
		nb.hashed = make(map[uint64]struct{})
	}
	nb.hashed[h] = struct{}{}
}

func (nb *NamesBuilder) endChapter() {
	if nb.bytes == 0 {
		return
	}
	c := chapter{last: nb.last}
	switch {
	case nb.unknown:
	case len(nb.hashed) > 0:
		f := newFilter(len(nb.hashed))
		for h := range nb.hashed {
			f.add(h)
		}
		c.kind, c.data = namesHashed, f
	default:
		c.kind = namesListed
		for _, name := range slices.Sorted(maps.Keys(nb.listed)) {
			c.data = append(le.AppendUint16(c.data, uint16(len(name))), name...)
		}
	}
	if n := len(nb.chapters); n > 0 && c.kind == nb.chapters[n-1].kind && bytes.Equal(c.data, nb.chapters[n-1].data) {
		nb.chapters[n-1].last = c.last
	} else {
		nb.chapters = append(nb.chapters, c)
		nb.ended += len(c.data)
	}
	clear(nb.listed)
	clear(nb.hashed)
	nb.bytes, nb.size, nb.unknown = 0, 0, false
}

// Names ends the run and gives its names; nil if none are known. The builder begins anew.
func (nb *NamesBuilder) Names() *Names {
	nb.endChapter()
	n := &Names{Mapping: nb.Mapping, chapters: nb.chapters}
	nb.chapters, nb.ended = nil, 0
	if !slices.ContainsFunc(n.chapters, func(c chapter) bool { return c.kind != namesUnknown }) {
		return nil
	}
	return n
}

// append writes the names of a run; nil writes that they are not known.
func (n *Names) append(dst []byte) []byte {
	if n == nil {
		return append(dst, topicsPartial)
	}
	dst = append(dst, topicsChapters)
	dst = le.AppendUint64(dst, n.Mapping)
	for i := range n.chapters {
		c := &n.chapters[i]
		dst = le.AppendUint64(dst, uint64(c.last))
		dst = append(dst, c.kind)
		dst = binary.AppendUvarint(dst, uint64(len(c.data)))
		dst = append(dst, c.data...)
	}
	return dst
}

// decodeNames reads what append wrote. Names of version 1 do not say by which mapping they were given: they
// count as not known.
func decodeNames(b []byte) (n *Names, ok bool) {
	switch {
	case len(b) == 0 || b[0] > topicsChapters:
		return nil, false
	case b[0] != topicsChapters:
		return nil, true
	case len(b) < 9:
		return nil, false
	}
	n = &Names{Mapping: le.Uint64(b[1:])}
	for b = b[9:]; len(b) > 0; {
		const head = 9
		if len(b) < head {
			return nil, false
		}
		c := chapter{last: record.Offset(le.Uint64(b)), kind: b[8]}
		size, at := binary.Uvarint(b[head:])
		if at <= 0 || size > uint64(len(b)-head-at) {
			return nil, false
		}
		b = b[head+at:]
		c.data, b = b[:size:size], b[size:]
		if k := len(n.chapters); !c.sound() || k > 0 && n.chapters[k-1].last >= c.last {
			return nil, false
		}
		n.chapters = append(n.chapters, c)
	}
	return n, true
}

// sound tells whether the data of a chapter is of its kind.
func (c *chapter) sound() bool {
	switch c.kind {
	case namesUnknown:
		return len(c.data) == 0
	case namesListed:
		for rest := c.data; len(rest) > 0; {
			if len(rest) < 2 || len(rest)-2 < int(le.Uint16(rest)) {
				return false
			}
			rest = rest[2+int(le.Uint16(rest)):]
		}
		return true
	case namesHashed:
		n := len(c.data)
		return n >= 8 && n <= maxHashBytes && bits.OnesCount(uint(n)) == 1
	}
	return false
}
