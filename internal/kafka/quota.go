package kafka

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// quotaKind is what a quota bounds.
type quotaKind int

const (
	produceRate quotaKind = iota // bytes of Produce requests a second
	fetchRate                    // bytes of fetched records a second
	requestTime                  // percent of the time of one processor
	changeRate                   // topics and partitions made or deleted a second (KIP-599)
	connectRate                  // connections of an address a second (KIP-612)
	quotaKinds
)

// quotaNames are Kafka's.
var quotaNames = [quotaKinds]string{
	"producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate",
	"connection_creation_rate",
}

// quotaPart is the user, client id or address that a quota is for. The zero value is none.
type quotaPart struct {
	given bool
	name  string // "": the default, for all that have none of their own
}

// quotaEntity is who a quota is for: a user, a client id, both, or an address.
type quotaEntity struct{ user, client, ip quotaPart }

// quotaValues are the quotas of an entity; 0: none.
type quotaValues [quotaKinds]float64

// quotaTable is all quotas that are set. It is immutable.
type quotaTable struct {
	of        map[quotaEntity]quotaValues
	addresses bool // there are some for addresses
}

// with is the table with other quotas for some entities; nil, if none are left.
func (t *quotaTable) with(changed map[quotaEntity]quotaValues) *quotaTable {
	all := map[quotaEntity]quotaValues{}
	if t != nil {
		maps.Copy(all, t.of)
	}
	maps.Copy(all, changed)
	made := &quotaTable{of: all}
	for entity, values := range all {
		if values == (quotaValues{}) {
			delete(all, entity)
			continue
		}
		made.addresses = made.addresses || entity.ip.given
	}
	if len(all) == 0 {
		return nil
	}
	return made
}

// entities are those that have quotas, in order.
func (t *quotaTable) entities() []quotaEntity {
	if t == nil {
		return nil
	}
	return slices.SortedFunc(maps.Keys(t.of), func(a, b quotaEntity) int { return strings.Compare(a.key(), b.key()) })
}

// allowance is a quota that is in force for somebody: how much a second, and who shares it.
type allowance struct {
	rate   float64 // 0: none
	shared quotaEntity
}

// limitsOf finds what is in force for a user and a client id. The more exact goes first, for each kind by itself: both
// by name before a default, the user before the client id.
func (t *quotaTable) limitsOf(user, client string) (found [quotaKinds]allowance) {
	u, c := quotaPart{true, user}, quotaPart{true, client}
	var all, none quotaPart
	all.given = true
	for _, level := range [...]struct{ asked, shared quotaEntity }{
		{quotaEntity{user: u, client: c}, quotaEntity{user: u, client: c}},
		{quotaEntity{user: u, client: all}, quotaEntity{user: u, client: c}},
		{quotaEntity{user: u}, quotaEntity{user: u}},
		{quotaEntity{user: all, client: c}, quotaEntity{user: u, client: c}},
		{quotaEntity{user: all, client: all}, quotaEntity{user: u, client: c}},
		{quotaEntity{user: all, client: none}, quotaEntity{user: u}},
		{quotaEntity{client: c}, quotaEntity{client: c}},
		{quotaEntity{client: all}, quotaEntity{client: c}},
	} {
		for kind, rate := range t.of[level.asked] {
			if found[kind].rate == 0 {
				found[kind] = allowance{rate, level.shared}
			}
		}
	}
	return found
}

// limitOf finds how many connections of an address a second there may be.
func (t *quotaTable) limitOf(ip string) allowance {
	own := quotaEntity{ip: quotaPart{true, ip}}
	rate := t.of[own][connectRate]
	if rate == 0 {
		rate = t.of[quotaEntity{ip: quotaPart{given: true}}][connectRate]
	}
	return allowance{rate, own}
}

// quotas are the quotas of a door and what is used of them. A client that uses a second's worth at once goes on; who
// is beyond that waits for as long as it takes to come back to its rate.
type quotas struct {
	now   func() time.Duration
	table atomic.Pointer[quotaTable] // nil: there are none

	changing sync.Mutex // held over a change, the log included

	mu      sync.Mutex
	buckets map[bucketKey]*bucket
	sweep   int // when so many are there, those that are full go
}

type bucketKey struct {
	kind quotaKind
	who  quotaEntity
}

// bucket is what somebody may still use; below zero it is owed.
type bucket struct {
	level float64
	at    time.Duration
}

const (
	sweepBuckets = 10_000
	mostBuckets  = 100_000 // who comes beyond shares one
)

func newQuotas(now func() time.Duration) *quotas {
	return &quotas{now: now, buckets: map[bucketKey]*bucket{}, sweep: sweepBuckets}
}

// charge counts n as used and gives how long who used it has to wait before it goes on.
func (q *quotas) charge(kind quotaKind, l allowance, n float64) time.Duration {
	if l.rate == 0 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.bucketLocked(kind, l)
	b.level -= n
	return b.wait(l.rate)
}

// try counts one as used if it can be had now; otherwise it gives how long that takes.
func (q *quotas) try(kind quotaKind, l allowance) time.Duration {
	if l.rate == 0 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.bucketLocked(kind, l)
	if b.level < 1 {
		return time.Duration((1 - b.level) / l.rate * float64(time.Second))
	}
	b.level--
	return 0
}

// wait is how long it takes until nothing is owed.
func (b *bucket) wait(rate float64) time.Duration {
	if b.level >= 0 {
		return 0
	}
	return time.Duration(min(-b.level/rate, mostQuiet.Seconds()) * float64(time.Second))
}

// bucketLocked is the bucket of a limit, filled up to now. One that is full is as good as none.
func (q *quotas) bucketLocked(kind quotaKind, l allowance) *bucket {
	key, now, full := bucketKey{kind, l.shared}, q.now(), l.rate
	b := q.buckets[key]
	if b == nil {
		if len(q.buckets) >= q.sweep {
			q.sweepLocked(now)
		}
		if len(q.buckets) >= mostBuckets {
			key.who = quotaEntity{}
		}
		if b = q.buckets[key]; b == nil {
			b = &bucket{level: full, at: now}
			q.buckets[key] = b
		}
	}
	b.level = min(full, b.level+(now-b.at).Seconds()*l.rate)
	b.at = now
	return b
}

// sweepLocked removes the buckets that nobody has used for a second, if nothing is owed.
func (q *quotas) sweepLocked(now time.Duration) {
	maps.DeleteFunc(q.buckets, func(_ bucketKey, b *bucket) bool { return b.level >= 0 && now-b.at > time.Second })
	q.sweep = max(sweepBuckets, 2*len(q.buckets))
}
