package limit

import (
	"sync"
	"sync/atomic"
)

// Budget is bytes that many may hold together. One half of it is for all alike: each holder may always have its part.
// The other half is for those who need more, for as long as it lasts: nobody has more than a quarter of what is free
// of it, so that the largest are held back first (the dynamic thresholds of shared switch buffers). It may be used from
// any goroutine.
type Budget struct {
	most    int64
	used    atomic.Int64
	holders atomic.Int64

	waiting atomic.Int32 // the length of line
	mu      sync.Mutex
	line    []func() // those who wait for room, first come first served
}

// shareOf is the part of what is free of the second half that one holder may hold.
const shareOf = 4

// NewBudget makes a budget of so many bytes.
func NewBudget(most int64) *Budget { return &Budget{most: most} }

// Most is the bytes that all may hold together.
func (b *Budget) Most() int64 { return b.most }

// Used is the bytes that all hold together.
func (b *Budget) Used() int64 { return b.used.Load() }

// Free is the bytes that nobody holds; 0 when there is more in use than the budget has.
func (b *Budget) Free() int64 { return max(b.most-b.used.Load(), 0) }

// Share is how many bytes one holder may hold in all before it is held back.
func (b *Budget) Share() int64 {
	half := b.most / 2
	return max(half/max(b.holders.Load(), 1), (half-b.used.Load())/shareOf)
}

// Wait puts somebody into the line who is told once, from any goroutine, when there may be room. It must not block.
func (b *Budget) Wait(roomy func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line = append(b.line, roomy)
	b.waiting.Store(int32(len(b.line)))
}

// atOnce is how many of those who wait are told when something was given back: they come again when it was not enough.
const atOnce = 8

func (b *Budget) next() []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(atOnce, len(b.line))
	first := append([]func(){}, b.line[:n]...)
	b.line = append(b.line[:0], b.line[n:]...)
	clear(b.line[len(b.line):cap(b.line)])
	b.waiting.Store(int32(len(b.line)))
	return first
}

// add changes what is in use, and tells those who wait when it is less. The caller holds no lock that they need.
func (b *Budget) add(n int64) {
	b.used.Add(n)
	if n < 0 && b.waiting.Load() > 0 && b.Free() > 0 {
		for _, roomy := range b.next() {
			roomy()
		}
	}
}

// Account is what one holder holds of a budget. It may be used from any goroutine.
type Account struct {
	budget *Budget
	mu     sync.Mutex
	held   int64
	closed bool
}

// Open begins an account in a budget. It is called once, before the account is used.
func (a *Account) Open(b *Budget) {
	a.budget = b
	b.holders.Add(1)
}

// Held is the bytes that the holder holds.
func (a *Account) Held() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held
}

// Add changes what the holder holds. Less may have those told who wait for room: the caller holds no lock that they
// need.
func (a *Account) Add(n int64) {
	if n != 0 && a.add(n) {
		a.budget.add(n)
	}
}

func (a *Account) add(n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.held += n
	return true
}

// Fits tells whether the holder may hold n bytes more: within its share of the budget.
func (a *Account) Fits(n int64) bool { return a.Held()+n <= a.budget.Share() }

// FitsOne is Fits for one thing that is legal although it may be larger than a share: it fits as well when it takes no
// more than half of what is free.
func (a *Account) FitsOne(n int64) bool { return n <= a.budget.Free()/2 || a.Fits(n) }

// Close gives back all that the holder holds. What is added after it does not count. The second time it does nothing.
func (a *Account) Close() { a.budget.add(-a.close()) }

func (a *Account) close() (held int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.budget.holders.Add(-1)
	}
	held, a.held, a.closed = a.held, 0, true
	return held
}
