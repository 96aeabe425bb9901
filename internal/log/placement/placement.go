// Package placement decides which gateway of a cluster has which shards of the sessions. The gateways are members of
// one consumer group: each says what it has (a Claim), the leader gives out the shards (Assign), and all learn who has
// which (a Table). docs/design/0014-gateway.md says how they use it.
//
// The rules are those of Kafka's cooperative sticky assignor: a shard stays where it is while its gateway is there; one
// that is to move is nobody's for a round, until who had it has let go of it; few move in a round.
package placement

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Bounds of what a Claim and a Table take.
const (
	MaxShards = 1024
	MaxNodes  = 1024
	maxText   = 255 // bytes of a name, and of an address
)

// Moves is how many shards change their gateway in a round, beside those that nobody has.
const Moves = 4

// version begins a Claim and a Table. A gateway that knows another one is not understood, and the other way round.
const version = 1

// Node is a gateway, as others know it.
type Node struct {
	Name        string   // in the cluster, the same after a restart
	Address     string   // host:port for other gateways
	Fingerprint [32]byte // SHA-256 of the certificate that it shows them
}

// Claim is what a gateway says when it asks for its place.
type Claim struct {
	Node

	// Revision makes a claim another one than that before, though it says the same: the group looks again then.
	Revision uint32
	// Generation of the group in which it was given its shards: of two that claim the same one, the later has it.
	Generation int32
	// Shards that it has, in ascending order.
	Shards []int
}

// Table says which gateway has which shard.
type Table struct {
	Nodes []Node // by name
	Owner []int  // of each shard the index of its gateway; -1: nobody has it
}

// Find gives the gateway of a name.
func (t *Table) Find(name string) (n Node, ok bool) {
	i, ok := slices.BinarySearchFunc(t.Nodes, name, func(n Node, name string) int { return cmp.Compare(n.Name, name) })
	if !ok {
		return Node{}, false
	}
	return t.Nodes[i], true
}

// Holder gives the gateway that has a shard; false: nobody has it.
func (t *Table) Holder(shard int) (n Node, ok bool) {
	if shard < 0 || shard >= len(t.Owner) || t.Owner[shard] < 0 {
		return Node{}, false
	}
	return t.Nodes[t.Owner[shard]], true
}

// Of gives the shards of a gateway, in ascending order.
func (t *Table) Of(name string) (shards []int) {
	for shard := range t.Owner {
		if n, ok := t.Holder(shard); ok && n.Name == name {
			shards = append(shards, shard)
		}
	}
	return shards
}

// Knows tells whether a gateway shows the certificate with this fingerprint.
func (t *Table) Knows(fingerprint [32]byte) bool {
	return slices.ContainsFunc(t.Nodes, func(n Node) bool { return n.Fingerprint == fingerprint })
}

// Changes tells what of its shards a gateway has won and lost. Both lists ascend.
func Changes(before, after []int) (gained, lost []int) {
	without := func(all, some []int) (rest []int) {
		for _, one := range all {
			if _, is := slices.BinarySearch(some, one); !is {
				rest = append(rest, one)
			}
		}
		return rest
	}
	return without(after, before), without(before, after)
}

// Assign gives out shards to those who claim a place. Who has more than others by two keeps all but the few that move
// in this round; these are nobody's until he has asked for his place again, without them.
func Assign(shards int, claims []Claim) Table {
	claims = newest(claims)
	t := Table{Owner: make([]int, shards)}
	for _, c := range claims {
		t.Nodes = append(t.Nodes, c.Node)
	}
	if len(claims) == 0 {
		for i := range t.Owner {
			t.Owner[i] = -1
		}
		return t
	}
	load := make([]int, len(claims)) // shards a gateway has, or will have
	for shard := range t.Owner {
		if t.Owner[shard] = holderOf(shard, claims); t.Owner[shard] >= 0 {
			load[t.Owner[shard]]++
		}
	}
	for shard, owner := range t.Owner {
		if owner < 0 {
			t.Owner[shard] = least(load)
			load[t.Owner[shard]]++
		}
	}
	for range Moves {
		rich, poor := most(load), least(load)
		if load[rich]-load[poor] < 2 {
			break
		}
		for shard := len(t.Owner) - 1; shard >= 0; shard-- {
			if t.Owner[shard] == rich {
				t.Owner[shard] = -1
				break
			}
		}
		load[rich]--
		load[poor]++
	}
	return t
}

// newest sorts claims by name. Of two by one name the later counts.
func newest(claims []Claim) []Claim {
	claims = slices.Clone(claims)
	slices.SortFunc(claims, func(a, b Claim) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.Generation, a.Generation),
			cmp.Compare(b.Revision, a.Revision), bytes.Compare(a.Fingerprint[:], b.Fingerprint[:]))
	})
	return slices.CompactFunc(claims, func(a, b Claim) bool { return a.Name == b.Name })
}

// holderOf is the index of who has a shard; -1: nobody claims it.
func holderOf(shard int, claims []Claim) int {
	holder := -1
	for i := range claims {
		_, claimed := slices.BinarySearch(claims[i].Shards, shard)
		if claimed && (holder < 0 || claims[i].Generation > claims[holder].Generation) {
			holder = i
		}
	}
	return holder
}

// least is the first of the smallest.
func least(load []int) (at int) {
	for i := range load {
		if load[i] < load[at] {
			at = i
		}
	}
	return at
}

// most is the first of the largest.
func most(load []int) (at int) {
	for i := range load {
		if load[i] > load[at] {
			at = i
		}
	}
	return at
}

// AppendTo appends the claim as it goes into the group (docs/format/gateways.md).
func (c *Claim) AppendTo(b []byte) []byte {
	b = c.appendTo(append(b, version))
	b = binary.AppendUvarint(b, uint64(c.Revision))
	b = binary.AppendUvarint(b, uint64(max(c.Generation, 0)))
	b = binary.AppendUvarint(b, uint64(len(c.Shards)))
	for _, shard := range c.Shards {
		b = binary.AppendUvarint(b, uint64(shard))
	}
	return b
}

// ParseClaim reads a claim. Errors: Corrupt.
func ParseClaim(b []byte) (c Claim, err error) {
	r := reader{rest: b}
	r.version()
	c.Node = r.node()
	c.Revision, c.Generation = uint32(r.number(1<<32-1)), int32(r.number(1<<31-1))
	for range r.number(MaxShards) {
		shard := int(r.number(MaxShards - 1))
		if n := len(c.Shards); n > 0 && c.Shards[n-1] >= shard {
			r.bad = true
		}
		if r.bad {
			break
		}
		c.Shards = append(c.Shards, shard)
	}
	if err := r.end("placement.ParseClaim"); err != nil {
		return Claim{}, err
	}
	return c, nil
}

// AppendTo appends the table as it goes into the group (docs/format/gateways.md).
func (t *Table) AppendTo(b []byte) []byte {
	b = binary.AppendUvarint(append(b, version), uint64(len(t.Nodes)))
	for i := range t.Nodes {
		b = t.Nodes[i].appendTo(b)
	}
	b = binary.AppendUvarint(b, uint64(len(t.Owner)))
	for _, owner := range t.Owner {
		b = binary.AppendUvarint(b, uint64(owner+1))
	}
	return b
}

// ParseTable reads a table. Errors: Corrupt.
func ParseTable(b []byte) (t Table, err error) {
	r := reader{rest: b}
	r.version()
	for range r.number(MaxNodes) {
		n := r.node()
		if last := len(t.Nodes) - 1; last >= 0 && t.Nodes[last].Name >= n.Name {
			r.bad = true
		}
		if r.bad {
			break
		}
		t.Nodes = append(t.Nodes, n)
	}
	for range r.number(MaxShards) {
		owner := int(r.number(uint64(len(t.Nodes)))) - 1
		if r.bad {
			break
		}
		t.Owner = append(t.Owner, owner)
	}
	if err := r.end("placement.ParseTable"); err != nil {
		return Table{}, err
	}
	return t, nil
}

func (n *Node) appendTo(b []byte) []byte {
	for _, text := range []string{n.Name, n.Address} {
		text = text[:min(len(text), maxText)]
		b = append(append(b, byte(len(text))), text...)
	}
	return append(b, n.Fingerprint[:]...)
}

// reader takes fields off bytes, until one is bad.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) version() {
	if b := r.take(1); b == nil || b[0] != version {
		r.bad = true
	}
}

func (r *reader) node() (n Node) {
	n.Name = r.text()
	n.Address = r.text()
	copy(n.Fingerprint[:], r.take(len(n.Fingerprint)))
	return n
}

func (r *reader) text() string {
	size := r.take(1)
	if size == nil {
		return ""
	}
	return string(r.take(int(size[0])))
}

// number reads one that is at most so large; 0 if it is not.
func (r *reader) number(most uint64) uint64 {
	n, size := binary.Uvarint(r.rest)
	if r.bad || size <= 0 || n > most {
		r.bad = true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.rest) < n {
		r.bad = true
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) end(op string) error {
	if r.bad || len(r.rest) > 0 {
		return fault.New(fault.Corrupt, op, "not of version %d", version)
	}
	return nil
}
