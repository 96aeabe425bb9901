package fanout

import (
	"bytes"
	"hash/maphash"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/log/stream"
)

// known remembers what was found for keys that came before: the topic name that a key tells, and the
// subscriptions that match it. A record of a name that was just seen costs neither the mapping nor a walk of
// the trie. It belongs to one worker and forgets everything when the mapping or any subscription changes.
type known struct {
	table    *hinge.Table // by which the names were found
	version  uint64       // of the subscriptions
	seed     maphash.Seed
	places   []knownName // a key has one place, by its hash
	used     []*knownName
	at       *knownName // the place and the hash of the key that find looked for
	hash     uint64
	gathered []*subscription
	gather   func(*subscription)
}

// knownName is one key and what was found for it.
type knownName struct {
	full bool
	part stream.PartitionID
	hash uint64
	next uint64 // the hash of the last key that found its place taken
	key  []byte
	name []byte
	subs []*subscription
}

// Together they bound the memory to 2 MiB a worker.
const (
	knownPlaces = 1024
	knownBytes  = 512 // of a key and of a name
	knownSubs   = 128 // of a name; beyond it the trie is not what costs
)

// begin makes sure that what is known is right by this table and this version of the subscriptions.
func (k *known) begin(table *hinge.Table, version uint64) {
	if k.table == table && k.version == version {
		return
	}
	k.table, k.version = table, version
	for _, e := range k.used {
		clear(e.subs) // a member that left is not kept
		e.full, e.subs = false, e.subs[:0]
	}
	k.used = k.used[:0]
	clear(k.gathered[:cap(k.gathered)])
}

// find looks for a key. If it is not known, want tells whether it should be learned: its place is free, or the
// key came twice in a row to it, so that keys which come but once do not drive out the others.
func (k *known) find(part stream.PartitionID, key []byte) (e *knownName, want bool) {
	if len(key) > knownBytes {
		return nil, false
	}
	if k.places == nil {
		k.places, k.seed = make([]knownName, knownPlaces), maphash.MakeSeed()
		k.gather = func(sub *subscription) { k.gathered = append(k.gathered, sub) }
	}
	h := maphash.Bytes(k.seed, key) ^ uint64(part)*0x9E3779B97F4A7C15
	e = &k.places[h%knownPlaces]
	if e.full && e.hash == h && e.part == part && bytes.Equal(e.key, key) {
		return e, false
	}
	want = !e.full || e.next == h
	e.next = h
	k.at, k.hash = e, h
	return nil, want
}

// learn walks the trie for the key that find did not know, keeps what it finds, unless it is too much, and
// gives all subscriptions that match. They are valid until the next call.
func (k *known) learn(f *Fanout, part stream.PartitionID, key, name []byte) []*subscription {
	k.gathered = k.gathered[:0]
	f.subs.RLock()
	f.subs.trie.Match(name, k.gather)
	current := f.version.Load() == k.version
	f.subs.RUnlock()
	if !current || len(name) > knownBytes || len(k.gathered) > knownSubs {
		return k.gathered
	}
	e := k.at
	if !e.full {
		k.used = append(k.used, e)
	}
	e.full, e.part, e.hash, e.next = true, part, k.hash, 0
	e.key, e.name = append(e.key[:0], key...), append(e.name[:0], name...)
	clear(e.subs)
	e.subs = append(e.subs[:0], k.gathered...)
	return k.gathered
}
