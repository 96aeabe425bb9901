package vfs

import (
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
)

// CrashClone makes the disk that a power cut at this moment could leave. All that was synced is in
// it. Of the rest any part is: each write is kept, dropped or torn at sectors of 512 bytes, whatever
// becomes of the others; so is each change of size, and each create, rename (the old name or the
// new) and remove. How much is kept at all differs from call to call, from nothing to everything.
// With a nil rng nothing is kept that was not synced. Nobody holds a lock in the clone; all that it
// has is synced. The disk itself goes on as if nothing had happened.
func (m *Memory) CrashClone(rng *rand.Rand) *Memory {
	m.mu.RLock()
	defer m.mu.RUnlock()
	clone := &Memory{capacity: m.capacity}
	clone.root = m.root.crash(newDice(rng), clone)
	return clone
}

func (n *node) crash(d *dice, into *Memory) *node {
	if !n.isFolder() {
		left := &node{content: n.content.crash(d), linked: true}
		into.used += left.size
		return left
	}
	kept := maps.Clone(n.stable)
	done := make([]bool, len(n.ops))
	for i := range n.ops {
		if d.keep() {
			n.replay(i, kept, done)
		}
	}
	left := newFolder()
	for _, name := range slices.Sorted(maps.Keys(kept)) { // in order: the same dice, the same disk
		left.entries[name] = kept[name].crash(d, into)
	}
	left.stable = maps.Clone(left.entries)
	return left
}

// replay does the i-th change of the folder again. If its name is still taken by a file that had been
// given another name by then, that rename is done first: a rename never loses both names.
func (n *node) replay(i int, kept map[string]*node, done []bool) {
	if done[i] {
		return
	}
	done[i] = true
	op := n.ops[i]
	if holder := kept[op.to]; holder != nil && holder != op.target && holder != op.replaced {
		for j := i - 1; j >= 0; j-- {
			if n.ops[j].target == holder {
				n.replay(j, kept, done)
				break
			}
		}
	}
	op.apply(kept)
}

// Clone copies the disk as it is, with what is synced and what is not. Nobody holds a lock or an
// open file in the clone; a file without a name is not in it, unless a crash could bring it back.
func (m *Memory) Clone() *Memory {
	m.mu.RLock()
	defer m.mu.RUnlock()
	clone := &Memory{capacity: m.capacity}
	clone.root = m.root.clone(map[*node]*node{}, clone)
	return clone
}

func (n *node) clone(done map[*node]*node, into *Memory) *node {
	if c := done[n]; c != nil {
		return c
	}
	c := &node{linked: n.linked}
	done[n] = c
	if !n.isFolder() {
		c.content = n.content.clone()
		if c.linked {
			into.used += c.size
		}
		return c
	}
	copyAll := func(from map[string]*node) map[string]*node {
		to := make(map[string]*node, len(from))
		for name, child := range from {
			to[name] = child.clone(done, into)
		}
		return to
	}
	c.entries, c.stable = copyAll(n.entries), copyAll(n.stable)
	for _, op := range n.ops {
		copied := entryOp{target: op.target.clone(done, into), to: op.to}
		if op.replaced != nil {
			copied.replaced = op.replaced.clone(done, into)
		}
		c.ops = append(c.ops, copied)
	}
	return c
}

// Flip inverts one bit of a file, now and in what is stored, as a decaying disk does. Bit 0 is the
// lowest of the first byte. Errors: NotFound; OutOfRange beyond the end.
func (m *Memory) Flip(name string, bit int64) error {
	const op = "vfs.Flip"
	return m.damage(op, name, func(n *node) error {
		off := bit / 8
		if bit < 0 || off >= n.size {
			return fault.New(fault.OutOfRange, op, "%s: no bit %d in %d bytes", name, bit, n.size)
		}
		n.own(off / pageSize)[off%pageSize] ^= 1 << (bit % 8)
		return nil
	})
}

// Cut takes away the end of a file, now and in what is stored; size is what is left, in bytes.
// Errors: NotFound; OutOfRange if the file is shorter.
func (m *Memory) Cut(name string, size int64) error {
	const op = "vfs.Cut"
	return m.damage(op, name, func(n *node) error {
		if size < 0 || size > n.size {
			return fault.New(fault.OutOfRange, op, "%s: cannot cut %d bytes to %d", name, n.size, size)
		}
		m.resize(n, size)
		return nil
	})
}

// damage changes a file behind everybody's back; what is in it afterwards counts as synced.
func (m *Memory) damage(op, name string, change func(*node) error) error {
	name, err := clean(op, name)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.file(op, name)
	if err != nil {
		return err
	}
	if err := change(n); err != nil {
		return err
	}
	n.settle()
	return nil
}
