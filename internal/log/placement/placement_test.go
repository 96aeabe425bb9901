package placement

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

// group plays the gateways of a cluster, each with what it has, over rounds of the group.
type group struct {
	t          *testing.T
	shards     int
	generation int32
	members    map[string]Claim
	moved      int // shards that have gone from one living gateway to another
}

func newGroup(t *testing.T, shards int, names ...string) *group {
	t.Helper()
	g := &group{t: t, shards: shards, members: map[string]Claim{}}
	for _, name := range names {
		g.join(name)
	}
	return g
}

func (g *group) join(name string) {
	g.members[name] = Claim{Node: Node{Name: name, Address: name + ":1"}}
}

// round has all ask for their place; what is nobody's was somebody's. It tells whether anybody lost a shard, and asks
// again.
func (g *group) round() (again bool) {
	g.t.Helper()
	g.generation++
	var claims []Claim
	for _, c := range g.members {
		claims = append(claims, c)
	}
	table := Assign(g.shards, claims)
	lostNow := 0
	for name, c := range g.members {
		mine := table.Of(name)
		for _, other := range claims {
			if _, gained := cut(c.Shards, mine); other.Name != name && overlap(gained, other.Shards) {
				g.t.Fatalf("round %d: %s is given %v, which %s still has", g.generation, name, gained, other.Name)
			}
		}
		_, lost := Changes(c.Shards, mine)
		lostNow += len(lost)
		c.Shards, c.Generation = mine, g.generation
		g.members[name] = c
	}
	if lostNow > Moves {
		g.t.Fatalf("round %d: %d shards move at once", g.generation, lostNow)
	}
	g.moved += lostNow
	return lostNow > 0
}

func cut(before, after []int) (lost, gained []int) {
	gained, lost = Changes(before, after)
	return lost, gained
}

func overlap(a, b []int) bool {
	return slices.ContainsFunc(a, func(one int) bool { return slices.Contains(b, one) })
}

// settle goes on until nothing moves, and looks at what is left.
func (g *group) settle() {
	g.t.Helper()
	for rounds := 0; g.round(); rounds++ {
		if rounds > g.shards {
			g.t.Fatal("it never ends")
		}
	}
	all, least, most := 0, g.shards, 0
	for _, c := range g.members {
		all, least, most = all+len(c.Shards), min(least, len(c.Shards)), max(most, len(c.Shards))
	}
	if len(g.members) > 0 && (all != g.shards || most-least > 1) {
		g.t.Fatalf("%d of %d shards are given out, between %d and %d to each", all, g.shards, least, most)
	}
}

// TestAssign: whoever comes and goes, each shard ends with one gateway, evenly, is never given to one while another has
// it, and no more move than have to.
func TestAssign(t *testing.T) {
	g := newGroup(t, 64, "a")
	g.settle()
	if g.moved != 0 || len(g.members["a"].Shards) != 64 {
		t.Fatalf("alone, a has %v", g.members["a"].Shards)
	}
	g.join("b")
	g.settle()
	if g.moved != 32 {
		t.Errorf("b came: %d moved, 32 would do", g.moved)
	}
	g.join("c")
	g.settle()
	if g.moved != 32+21 {
		t.Errorf("c came: %d moved in all, 53 would do", g.moved)
	}
	kept := slices.Clone(g.members["b"].Shards)
	delete(g.members, "a") // it died: nobody waits for what it had
	g.round()
	if _, lost := Changes(kept, g.members["b"].Shards); len(lost) > 0 {
		t.Errorf("a died, and b lost %v", lost)
	}
	g.settle()
}

// TestOneShard stays where it is, until its gateway leaves; then it goes at once to another.
func TestOneShard(t *testing.T) {
	g := newGroup(t, 1, "m")
	g.settle()
	g.join("a")
	g.join("z")
	g.settle()
	if !slices.Equal(g.members["m"].Shards, []int{0}) || g.moved != 0 {
		t.Fatalf("others came: %+v", g.members)
	}
	delete(g.members, "m")
	g.round()
	if !slices.Equal(g.members["a"].Shards, []int{0}) {
		t.Errorf("it left: %+v", g.members)
	}
}

// TestAssignAtRandom plays many groups.
func TestAssignAtRandom(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		g := newGroup(t, 1+r.IntN(70))
		for range 20 {
			name := fmt.Sprint("n", r.IntN(8))
			if _, is := g.members[name]; is {
				delete(g.members, name)
			} else {
				g.join(name)
			}
			if g.round(); r.IntN(2) == 0 {
				g.settle()
			}
		}
	}
}

// TestTwoClaim: of two that claim one shard, the one who got it later has it; of two by one name the later counts.
func TestTwoClaim(t *testing.T) {
	claims := []Claim{
		{Node: Node{Name: "a"}, Generation: 3, Shards: []int{0}},
		{Node: Node{Name: "b", Address: "old"}, Generation: 3, Shards: []int{1}},
		{Node: Node{Name: "b", Address: "new"}, Generation: 4, Shards: []int{0}},
	}
	table := Assign(2, claims)
	n, ok := table.Holder(0)
	if !ok || n.Address != "new" || !slices.Equal(table.Of("a"), []int{1}) {
		t.Errorf("%+v", table)
	}
	if _, ok := table.Holder(2); ok || len(table.Nodes) != 2 {
		t.Errorf("%+v", table)
	}
	if _, ok := table.Find("c"); ok {
		t.Error("c was found")
	}
	if n, ok = table.Find("b"); !ok || n.Address != "new" {
		t.Errorf("b is %+v", n)
	}
	if !table.Knows([32]byte{}) || table.Knows([32]byte{1}) {
		t.Error("fingerprints are not told apart")
	}
	if none := Assign(2, nil); !slices.Equal(none.Owner, []int{-1, -1}) {
		t.Errorf("without gateways: %+v", none)
	}
}

func sampleClaim() Claim {
	return Claim{Node: Node{Name: "n1", Address: "10.0.0.1:7883", Fingerprint: [32]byte{1, 2, 3}}, Revision: 7,
		Generation: 12, Shards: []int{0, 3, 63}}
}

func sampleTable() Table {
	return Table{Nodes: []Node{{Name: "a", Address: "h:1"}, {Name: "b", Fingerprint: [32]byte{9}}}, Owner: []int{1, -1, 0}}
}

// TestForms: what goes into the group comes out of it; what is cut short, goes on, or is of another version does not.
func TestForms(t *testing.T) {
	c, table := sampleClaim(), sampleTable()
	claim, tabled := c.AppendTo(nil), table.AppendTo(nil)
	gotClaim, err := ParseClaim(claim)
	if err != nil || !reflect.DeepEqual(c, gotClaim) {
		t.Error(err, gotClaim)
	}
	gotTable, err := ParseTable(tabled)
	if err != nil || !reflect.DeepEqual(table, gotTable) {
		t.Error(err, gotTable)
	}
	parseClaim := func(b []byte) error { _, err := ParseClaim(b); return err }
	parseTable := func(b []byte) error { _, err := ParseTable(b); return err }
	for _, one := range []struct {
		whole []byte
		parse func([]byte) error
	}{{claim, parseClaim}, {tabled, parseTable}} {
		whole := one.whole
		bad := [][]byte{append(bytes.Clone(whole), 0), append([]byte{version + 1}, whole[1:]...)}
		for n := range whole {
			bad = append(bad, whole[:n])
		}
		for _, b := range bad {
			if err := one.parse(b); !fault.Is(err, fault.Corrupt) {
				t.Errorf("%x is taken: %v", b, err)
			}
		}
	}
}

// FuzzForms: whatever a member of the group says is refused, or is a claim or a table that can be used.
func FuzzForms(f *testing.F) {
	c, table := sampleClaim(), sampleTable()
	f.Add(c.AppendTo(nil))
	f.Add(table.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseClaim(b); err == nil {
			again, err := ParseClaim(c.AppendTo(nil))
			if err != nil || !reflect.DeepEqual(c, again) {
				t.Error(err, again)
			}
			Assign(4, []Claim{c})
		}
		if table, err := ParseTable(b); err == nil {
			again, err := ParseTable(table.AppendTo(nil))
			if err != nil || !reflect.DeepEqual(table, again) {
				t.Error(err, again)
			}
			for shard := range table.Owner {
				table.Holder(shard)
			}
		}
	})
}
