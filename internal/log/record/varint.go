package record

import "math/bits"

// Numbers inside records are zigzag varints. The reader's place is an index that turns to -1 at the
// first flaw and stays there, so that a row of reads needs one test at its end.

// broken is the place of a reader that has met a flaw.
const broken = -1

// varint reads a number at b[at:]. Nearly all are one byte long, which is inlined.
func varint(b []byte, at int) (int64, int) {
	if uint(at) < uint(len(b)) && b[at] < 0x80 {
		return int64(b[at]>>1) ^ -int64(b[at]&1), at + 1
	}
	return longVarint(b, at)
}

// longVarint reads a number of up to ten bytes. Inlined into varint, it would keep that from its callers.
//
//go:noinline
func longVarint(b []byte, at int) (int64, int) {
	if at < 0 || at > len(b) {
		return 0, broken
	}
	if b = b[at:]; len(b) >= 2 && b[1] < 0x80 { // two bytes: lengths from 64 to 8191
		u := uint64(b[0]&0x7f) | uint64(b[1])<<7
		return int64(u>>1) ^ -int64(u&1), at + 2
	}
	var u uint64
	for i, c := range b {
		if i == 9 && c > 1 {
			break // more than 64 bits
		}
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return int64(u>>1) ^ -int64(u&1), at + i + 1
		}
	}
	return 0, broken
}

// block reads a length and that many bytes. Length -1 is null and gives nil; 0 gives an empty slice
// that is not nil.
func block(b []byte, at int) ([]byte, int) {
	n, at := varint(b, at)
	if at < 0 || n < -1 || n > int64(len(b)-at) {
		return nil, broken
	}
	if n < 0 {
		return nil, at
	}
	end := at + int(n)
	return b[at:end:end], end
}

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

// varintLen is how many bytes v takes: one for each 7 bits begun.
func varintLen(v int64) int { return (bits.Len64(zigzag(v)|1) + 6) / 7 }

func appendVarint(dst []byte, v int64) []byte {
	u := zigzag(v)
	for u >= 0x80 {
		dst = append(dst, byte(u)|0x80)
		u >>= 7
	}
	return append(dst, byte(u))
}

// blockLen is how many bytes appendBlock takes.
func blockLen(p []byte) int {
	if p == nil {
		return 1
	}
	return varintLen(int64(len(p))) + len(p)
}

func appendBlock(dst, p []byte) []byte {
	if p == nil {
		return append(dst, 1) // zigzag of -1
	}
	return append(appendVarint(dst, int64(len(p))), p...)
}
