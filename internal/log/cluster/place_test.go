package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/placement"
	"github.com/firthmq/firth/internal/log/stream"
)

// joining has a node ask for a place where eight shards are given out.
func joining(t *testing.T, f *kfake.Cluster, name, address string) *cluster.Place {
	t.Helper()
	opt := serving(f, name)
	opt.Takeover = time.Minute // a busy machine is no dead node
	p, err := cluster.Join(t.Context(), opt, placement.Node{Name: name, Address: address}, cluster.Sharing{Shards: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// shared tells whether the places have all shards between them, evenly, and agree on that and on their addresses.
func shared(places map[string]*cluster.Place, addresses map[string]string) bool {
	owned := map[int]bool{}
	for name, p := range places {
		table, mine := p.Table(), p.Mine()
		if len(table.Nodes) != len(places) || !slices.Equal(table.Of(name), mine) ||
			len(mine) < 8/len(places) || len(mine) > (7+len(places))/len(places) {
			return false
		}
		for _, shard := range mine {
			for _, other := range places {
				seen := other.Table()
				n, ok := seen.Holder(shard)
				if !ok || n.Name != name || n.Address != addresses[name] {
					return false
				}
			}
			owned[shard] = true
		}
	}
	return len(owned) == 8
}

// TestPlaces: shards are given out evenly, again when a gateway comes or goes, and all know who has which and how it is
// reached, also when one comes back elsewhere under its name.
func TestPlaces(t *testing.T) {
	f := fake(t)
	places, addresses := map[string]*cluster.Place{}, map[string]string{}
	join := func(name, address string) {
		places[name], addresses[name] = joining(t, f, name, address), address
	}
	join("a", "a:1")
	eventually(t, "one has all", func() bool { return shared(places, addresses) })
	join("b", "b:1")
	join("c", "c:1")
	eventually(t, "three share", func() bool { return shared(places, addresses) })
	places["b"].Close()
	delete(places, "b")
	eventually(t, "two share", func() bool { return shared(places, addresses) })
	join("a", "a:2") // the process of before is not asked
	eventually(t, "one is back elsewhere", func() bool { return shared(places, addresses) })
}

// TestPlaceIsLost: a gateway that the group has forgotten has lost its place, if it had sessions.
func TestPlaceIsLost(t *testing.T) {
	f := fake(t)
	p := joining(t, f, "a", "a:1")
	eventually(t, "it has all", func() bool { return len(p.Mine()) == 8 })
	leave(t, f, "a")
	select {
	case err := <-p.Lost():
		if !fault.Is(err, fault.Fenced) || len(p.Mine()) > 0 {
			t.Errorf("it ended with %v, and has %v", err, p.Mine())
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not know")
	}
}

// TestPlacesAndTheOnlyOne: one gateway that is to be the only one and those that share a cluster do not go together.
func TestPlacesAndTheOnlyOne(t *testing.T) {
	f := fake(t)
	only := open(t, serving(f, "only"))
	p := joining(t, f, "a", "a:1")
	select {
	case err := <-p.Lost():
		if !fault.Is(err, fault.Exists) || fault.HintOf(err) == "" {
			t.Errorf("beside the only one: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits")
	}
	if err := only.Close(); err != nil {
		t.Fatal(err)
	}
	p = joining(t, f, "b", "b:1")
	eventually(t, "it has all", func() bool { return len(p.Mine()) == 8 })
	opt := serving(f, "only")
	opt.Takeover = time.Second
	if c, err := cluster.Open(context.Background(), opt); !fault.Is(err, fault.Exists) {
		t.Errorf("the only one beside others: %v, %v", c, err)
	}
}

// TestKeeperWithAPlace: the shard is taken anew while the place is held.
func TestKeeperWithAPlace(t *testing.T) {
	f := fake(t)
	opt := serving(f, "a")
	opt.Place = joining(t, f, "a", "a:1")
	eventually(t, "it has all", func() bool { return len(opt.Place.Mine()) == 8 })
	c := open(t, opt)
	topic := create(t, c, "a", 1, nil)
	own := func(c *cluster.Cluster) {
		if _, err := c.Own(context.Background(), c.Topics().ByName("a").Partitions[0]); err != nil {
			t.Error(err)
		}
	}
	owner, err := c.Own(t.Context(), topic.Partitions[0])
	if err != nil {
		t.Fatal(err)
	}
	appended := func(value string) error {
		told, u := newFates(), unit(value, topic.Partitions[0])
		u.Owner = owner
		if err := c.Append(u, told, 0); err != nil {
			return err
		}
		told.wait(t, 1)
		return told.errs[0]
	}
	stranger := open(t, cluster.Options{Seeds: f.ListenAddrs()})
	own(stranger) // as the cluster itself does after a transaction that was open for too long
	if err := appended("kept"); err != nil {
		t.Errorf("with its place: %v", err)
	}
	own(stranger)
	leave(t, f, "a")
	if err := appended("lost"); !fault.Is(err, fault.Fenced) {
		t.Errorf("without its place: %v", err)
	}
	if got := values(t, c, topic.Partitions[0]); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("%q is there", got)
	}
}

// unfinished begins a transaction by an id, which stays open.
func unfinished(t *testing.T, f *kfake.Cluster, id string) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(f.ListenAddrs()...), kgo.TransactionalID(id),
		kgo.TransactionTimeout(10*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(id)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLeftoversOfNobody: a gateway that starts ends what was left open by those who are gone, and what is its own, and
// nothing of those who are there and of their shards.
func TestLeftoversOfNobody(t *testing.T) {
	f := fake(t)
	maker := open(t, cluster.Options{Seeds: f.ListenAddrs()})
	topic := create(t, maker, "sessions", 9, nil)
	create(t, maker, "t", 1, nil)
	places := map[string]*cluster.Place{"a": joining(t, f, "a", "a:1"), "b": joining(t, f, "b", "b:1")}
	eventually(t, "two share", func() bool { return shared(places, map[string]string{"a": "a:1", "b": "b:1"}) })
	shard := func(number int) string { return fmt.Sprint("firth-", topic.ID, "-", number) }
	unended := map[string]*kgo.Client{}
	for _, id := range []string{"firth-units-a", "firth-units-b", "firth-units-gone", shard(places["a"].Mine()[0]),
		shard(places["b"].Mine()[0]), shard(8), "somebody's"} {
		unended[id] = unfinished(t, f, id)
	}
	opt := serving(f, "a")
	opt.Place, opt.Shards = places["a"], "sessions"
	open(t, opt)
	for id, c := range unended {
		err := c.EndTransaction(t.Context(), kgo.TryCommit)
		theirs := id == "firth-units-b" || id == shard(places["b"].Mine()[0]) || id == "somebody's"
		if (err == nil) != theirs {
			t.Errorf("%s goes on: %v", id, err)
		}
	}
}

// TestTopicMadeElsewhere: who asks for a topic that another node has just made is told that it is there, and finds it.
func TestTopicMadeElsewhere(t *testing.T) {
	f := fake(t)
	opt := cluster.Options{Seeds: f.ListenAddrs(), RefreshInterval: time.Hour}
	a, b := open(t, opt), open(t, opt)
	made := create(t, a, "plant", 2, nil)
	_, err := b.CreateTopic(t.Context(), stream.TopicSpec{Name: "plant"})
	if !fault.Is(err, fault.Exists) {
		t.Errorf("made again: %v", err)
	}
	if found := b.Topics().ByName("plant"); found == nil || found.ID != made.ID || len(found.Partitions) != 2 {
		t.Errorf("found %+v", found)
	}
}

// yields has a node ask for a place where shards stay until they are let go of.
func yields(t *testing.T, f *kfake.Cluster, name string) *cluster.Place {
	t.Helper()
	opt := serving(f, name)
	p, err := cluster.Join(t.Context(), opt, placement.Node{Name: name}, cluster.Sharing{Shards: 8, Yields: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// TestPlacesYield: a shard that goes to another gateway is nobody else's until the one that has it has let go of it,
// also while others come and go; then all are given out.
func TestPlacesYield(t *testing.T) {
	f := fake(t)
	a := yields(t, f, "a")
	eventually(t, "one has all", func() bool { return len(a.Mine()) == 8 })
	b := yields(t, f, "b")
	eventually(t, "some are to go", func() bool { return len(a.Yielding()) == 4 })
	c := yields(t, f, "c")
	eventually(t, "the third one knows", func() bool { table := c.Table(); return len(table.Nodes) == 3 })
	if going := a.Yielding(); len(b.Mine()) > 0 || len(c.Mine()) > 0 || len(going) != 4 {
		t.Errorf("before it has let go of %v others have %v and %v", going, b.Mine(), c.Mine())
	}
	for _, shard := range append(a.Yielding(), a.Mine()...) {
		if !a.Has(t.Context(), shard) {
			t.Errorf("it has shard %d no more, and has not let go of it", shard)
		}
	}
	for _, shard := range a.Yielding()[1:] {
		a.Release(shard)
	}
	if len(a.Yielding()) != 1 || len(b.Mine())+len(c.Mine()) > 0 {
		t.Errorf("one is still to go, and others have %v and %v", b.Mine(), c.Mine())
	}
	eventually(t, "all is given out", func() bool {
		for _, p := range []*cluster.Place{a, b, c} {
			for _, shard := range p.Yielding() {
				p.Release(shard)
			}
		}
		all := slices.Concat(a.Mine(), b.Mine(), c.Mine())
		slices.Sort(all)
		return len(slices.Compact(all)) == 8 && min(len(a.Mine()), len(b.Mine()), len(c.Mine())) >= 2
	})
	if c.Has(t.Context(), a.Mine()[0]) {
		t.Error("it has the shard of another one")
	}
}

// TestPlacesOfTwoKinds: gateways that share shards one by one and those of which one serves do not go together.
func TestPlacesOfTwoKinds(t *testing.T) {
	f := fake(t)
	a := yields(t, f, "a")
	eventually(t, "it has all", func() bool { return len(a.Mine()) == 8 })
	b := joining(t, f, "b", "b:1")
	select {
	case err := <-b.Lost():
		if !fault.Is(err, fault.Exists) {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits")
	}
}

// TestOwnerKnowsTopics: who takes a shard over knows the topics that who had it knew, though it looks seldom.
func TestOwnerKnowsTopics(t *testing.T) {
	f := fake(t)
	var all []*cluster.Cluster
	for _, name := range []string{"a", "b"} {
		opt := serving(f, name)
		opt.Place, opt.Shards, opt.RefreshInterval = yields(t, f, name), "shards", time.Hour
		all = append(all, open(t, opt))
	}
	shards := create(t, all[0], "shards", 1, nil)
	if _, err := all[0].Own(t.Context(), shards.Partitions[0]); err != nil {
		t.Fatal(err)
	}
	_, err := all[1].CreateTopic(t.Context(), stream.TopicSpec{Name: "shards", Partitions: 1})
	if !fault.Is(err, fault.Exists) { // it knows the shards by that
		t.Fatal(err)
	}
	create(t, all[0], "new", 1, nil)
	if _, err := all[1].Own(t.Context(), all[1].Topics().ByName("shards").Partitions[0]); err != nil {
		t.Fatal(err)
	}
	if all[1].Topics().ByName("new") == nil {
		t.Error("it does not know where sessions of the shard may stand")
	}
}

// TestOwnerOfNoShard: where gateways share shards, a partition that is none of them is whose who has taken it last, and
// its owner of before does not take it back.
func TestOwnerOfNoShard(t *testing.T) {
	f := fake(t)
	var all []*cluster.Cluster
	for _, name := range []string{"a", "b"} {
		opt := serving(f, name)
		opt.Place, opt.Shards = yields(t, f, name), "shards"
		all = append(all, open(t, opt))
	}
	create(t, all[0], "shards", 8, nil)
	state := create(t, all[0], "state", 1, nil).Partitions[0]
	if _, err := all[1].CreateTopic(t.Context(), stream.TopicSpec{Name: "state", Partitions: 1}); !fault.Is(err,
		fault.Exists) { // it knows the topic by that
		t.Fatal(err)
	}
	own := func(by *cluster.Cluster) stream.Owner {
		t.Helper()
		o, err := by.Own(t.Context(), by.Topics().ByName("state").Partitions[0])
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	first := own(all[0])
	own(all[1])
	u := unit("stale", state)
	u.Owner = first
	if err := stream.StoreUnit(t.Context(), all[0], u); !fault.Is(err, fault.Fenced) {
		t.Errorf("the owner of before: %v", err)
	}
	if got := values(t, all[1], all[1].Topics().ByName("state").Partitions[0]); len(got) > 0 {
		t.Errorf("%q is there", got)
	}
}
