package mqtt

import (
	"math/bits"
	"sync"
)

// buffer is a piece of memory that connections lend each other.
type buffer struct{ b []byte }

const (
	bufferBytes = 16 << 10
	// keptBuffer is the largest that is lent again.
	keptBuffer = bufferBytes << (bufferSizes - 1)
	// bufferSizes is how many sizes are lent: each is twice the one before.
	bufferSizes = 7
	// smallBuffer is what an outbox begins with when memory is scarce. It is not lent again.
	smallBuffer = 512
)

// buffers are those that nobody uses now, by size: the ones at i have bufferBytes<<i, and less than twice that.
type buffers [bufferSizes]sync.Pool

// lentSize is the least size that is lent and holds n bytes, 1 or more; 0: none does.
func lentSize(n int) int {
	if n > keptBuffer {
		return 0
	}
	return max(bufferBytes, 1<<bits.Len(uint(n-1)))
}

// take gives an empty buffer of a size of lentSize or more.
func (p *buffers) take(size int) *buffer {
	if b, ok := p[sizeIndex(size)].Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, 0, size)}
}

// give takes a buffer back, if there is one, and says how large it was.
func (p *buffers) give(b *buffer) (size int) {
	if b == nil {
		return 0
	}
	size = cap(b.b)
	if size >= bufferBytes && size < 2*keptBuffer {
		b.b = b.b[:0]
		p[sizeIndex(size)].Put(b)
	}
	return size
}

// sizeIndex is where buffers of a size are: bufferBytes at least.
func sizeIndex(size int) int { return bits.Len(uint(size/bufferBytes)) - 1 }
