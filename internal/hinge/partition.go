package hinge

import "encoding/binary"

// Partition is the partition that Kafka's default partitioner gives a key in a topic of n partitions:
// murmur2 of the key, made positive, modulo n. A null key has none: which partition it goes to is the
// caller's choice, and Partition says 0. n is at least 1.
func Partition(key []byte, n int) int32 {
	if key == nil || n <= 1 {
		return 0
	}
	return int32(murmur2(key) & 0x7fffffff % uint32(n))
}

// murmur2 is the 32 bit hash of Kafka's clients, with their seed.
func murmur2(b []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
		r    = 24
	)
	h := seed ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := binary.LittleEndian.Uint32(b) * m
		k ^= k >> r
		h = h*m ^ k*m
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h = (h ^ h>>13) * m
	return h ^ h>>15
}
