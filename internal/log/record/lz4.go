package record

import "encoding/binary"

// The parts of an LZ4 frame (lz4_Frame_format.md), as far as its readers differ in what they take.
const (
	lz4Magic       = 0x184D2204
	lz4Head        = 7 // magic, flags, block sizes, header checksum
	lz4Version     = 1 << 6
	lz4VersionMask = 3 << 6
	lz4Independent = 1 << 5
	lz4BlockSums   = 1 << 4
	lz4ContentSize = 1 << 3
	lz4ContentSum  = 1 << 2
	lz4Reserved    = 3 // the lower one is a dictionary
	lz4SumBytes    = 4
	lz4Stored      = 1 << 31 // in the size of a block: it is not compressed
)

// foreignLZ4 says what in an LZ4 stream the decoder of Kafka's Java clients cannot read, if anything: they take one
// frame, of blocks that do not refer to one another, and stop at its end. Blocks are passed over, not looked into.
func foreignLZ4(b []byte) string {
	if len(b) < lz4Head || binary.LittleEndian.Uint32(b) != lz4Magic {
		return "it does not begin with a frame"
	}
	flags := b[4]
	switch {
	case flags&lz4VersionMask != lz4Version || flags&lz4Reserved != 0:
		return "flags that are not known"
	case flags&lz4Independent == 0:
		return "linked blocks"
	}
	at := lz4Head
	if flags&lz4ContentSize != 0 {
		at += 8
	}
	for {
		if at+4 > len(b) {
			return "the frame has no end"
		}
		size := binary.LittleEndian.Uint32(b[at:])
		at += 4
		if size == 0 {
			break
		}
		at += int(size &^ lz4Stored)
		if flags&lz4BlockSums != 0 {
			at += lz4SumBytes
		}
	}
	if flags&lz4ContentSum != 0 {
		at += lz4SumBytes
	}
	if at != len(b) {
		return "more than one frame"
	}
	return ""
}
