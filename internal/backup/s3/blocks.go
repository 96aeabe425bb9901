package s3

import "sync"

const (
	// blockBytes is what is read at once of an object of which somebody wants a part.
	blockBytes = 1 << 20
	mostBlocks = 32
)

type blockKey struct {
	name   string
	number int64
}

// blocks are the parts of objects that were read last: who checks a log reads many small parts, near each other. No
// object is ever changed.
type blocks struct {
	mu     sync.Mutex
	read   map[blockKey][]byte
	oldest []blockKey
}

func (b *blocks) get(key blockKey) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	block, ok := b.read[key]
	return block, ok
}

func (b *blocks) put(key blockKey, block []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.read[key]; ok {
		return
	}
	if b.read == nil {
		b.read = make(map[blockKey][]byte)
	}
	if len(b.oldest) == mostBlocks {
		delete(b.read, b.oldest[0])
		b.oldest = b.oldest[1:]
	}
	b.read[key] = block
	b.oldest = append(b.oldest, key)
}
