package txn_test

import (
	"math"
	"reflect"
	"testing"

	"github.com/firthmq/firth/internal/kafka/txn"
	"github.com/firthmq/firth/internal/kafka/wire"
)

// had is a value with a producer, for the tables.
func had(id int64, epoch, last int16, state txn.State) txn.Txn {
	return txn.Txn{
		ProducerID: id, Epoch: epoch, LastEpoch: last, LastID: txn.NoProducer, TimeoutMillis: 1000, State: state,
	}
}

func rotated(id int64, lastID int64, state txn.State) txn.Txn {
	t := had(id, 0, txn.NoEpoch, state)
	t.LastID = lastID
	return t
}

var nobody = txn.Who{ProducerID: txn.NoProducer, Epoch: txn.NoEpoch}

const fresh = 500

// TestInit walks through who may have a transactional id, as Kafka decides it.
func TestInit(t *testing.T) {
	exhausted := had(7, math.MaxInt16-1, txn.NoEpoch, txn.Committed)
	for _, c := range []struct {
		name     string
		at       txn.Txn
		who      txn.Who
		id       int64
		epoch    int16
		last     int16
		repeated bool
		code     wire.Code
	}{
		{"the first", txn.New(), nobody, fresh, 0, -1, false, wire.None},
		{"one that nobody knows comes back", txn.New(), txn.Who{ProducerID: 3, Epoch: 4}, fresh, 0, -1, false, wire.None},
		{"another instance", had(7, 3, 2, txn.Committed), nobody, 7, 4, -1, false, wire.None},
		{"it comes back", had(7, 3, 2, txn.Empty), txn.Who{ProducerID: 7, Epoch: 3}, 7, 4, 3, false, wire.None},
		{"it asks once more", had(7, 3, 2, txn.Empty), txn.Who{ProducerID: 7, Epoch: 2}, 7, 3, 2, true, wire.None},
		{"it was fenced", had(7, 3, -1, txn.Empty), txn.Who{ProducerID: 7, Epoch: 2}, 7, 3, -1, false, wire.ProducerFenced},
		{"another id", had(7, 3, 2, txn.Empty), txn.Who{ProducerID: 8, Epoch: 3}, 7, 3, 2, false, wire.ProducerFenced},
		{"no epoch left", exhausted, nobody, fresh, 0, -1, false, wire.None},
		{"no epoch left, it comes back", exhausted, txn.Who{ProducerID: 7, Epoch: math.MaxInt16 - 1}, fresh, 0, -1, false,
			wire.None},
		{"it asks once more for another id", rotated(9, 7, txn.Empty), txn.Who{ProducerID: 7, Epoch: math.MaxInt16 - 1}, 9, 0,
			-1, true, wire.None},
	} {
		next, repeated, code := c.at.Init(c.who, 2000, fresh, 99)
		if next.ProducerID != c.id || next.Epoch != c.epoch || next.LastEpoch != c.last || repeated != c.repeated ||
			code != c.code {
			t.Errorf("%s: %+v, repeated %v, code %d", c.name, next, repeated, code)
		}
		if code == wire.None && !repeated && (next.TimeoutMillis != 2000 || next.Updated != 99 || next.State != txn.Empty) {
			t.Errorf("%s: is %+v", c.name, next)
		}
	}
}

// TestEnd walks through the ends of transactions, of clients from before KIP-890 and since.
func TestEnd(t *testing.T) {
	me := txn.Who{ProducerID: 7, Epoch: 3}
	before := txn.Who{ProducerID: 7, Epoch: 2}
	commit, abort := txn.End{Commit: true}, txn.End{}
	bump := func(e txn.End) txn.End { e.Bump, e.Fresh = true, fresh; return e }
	open := func(e txn.End) txn.End { e.Open = true; return e }
	for _, c := range []struct {
		name     string
		at       txn.Txn
		who      txn.Who
		end      txn.End
		epoch    int16
		state    txn.State
		repeated bool
		code     wire.Code
	}{
		{"commit", had(7, 3, 2, txn.Empty), me, open(commit), 3, txn.Committed, false, wire.None},
		{"abort", had(7, 3, 2, txn.Committed), me, open(abort), 3, txn.Aborted, false, wire.None},
		{"commit once more", had(7, 3, 2, txn.Committed), me, commit, 3, txn.Committed, true, wire.None},
		{"abort what was committed", had(7, 3, 2, txn.Committed), me, abort, 3, txn.Committed, false, wire.InvalidTxnState},
		{"commit nothing", had(7, 3, 2, txn.Empty), me, commit, 3, txn.Empty, false, wire.InvalidTxnState},
		{"of an old epoch", had(7, 3, 2, txn.Empty), before, open(commit), 3, txn.Empty, false, wire.ProducerFenced},
		{"of another id", had(8, 3, 2, txn.Empty), me, open(commit), 3, txn.Empty, false, wire.InvalidProducerIDMapping},
		{"of nobody", txn.New(), me, open(commit), -1, txn.Empty, false, wire.InvalidProducerIDMapping},
		{"v2 commit", had(7, 3, 2, txn.Empty), me, open(bump(commit)), 4, txn.Committed, false, wire.None},
		{"v2 commit once more", had(7, 3, 2, txn.Committed), before, bump(commit), 3, txn.Committed, true, wire.None},
		{"v2 commit once more, the next is under way", had(7, 3, 2, txn.Committed), before, open(bump(commit)), 3,
			txn.Committed, false, wire.ProducerFenced},
		{"v2 abort what was committed", had(7, 3, 2, txn.Committed), before, bump(abort), 3, txn.Committed, false,
			wire.InvalidTxnState},
		{"v2 abort nothing", had(7, 3, 2, txn.Committed), me, bump(abort), 4, txn.Aborted, false, wire.None},
		{"v2 commit nothing", had(7, 3, 2, txn.Committed), me, bump(commit), 3, txn.Committed, false, wire.InvalidTxnState},
		{"v2 no epoch left", had(7, math.MaxInt16-1, 2, txn.Empty), txn.Who{ProducerID: 7, Epoch: math.MaxInt16 - 1},
			open(bump(commit)), 0, txn.Committed, false, wire.None},
		{"v2 no epoch left, once more", rotated(fresh, 7, txn.Committed), txn.Who{ProducerID: 7, Epoch: math.MaxInt16 - 1},
			bump(commit), 0, txn.Committed, true, wire.None},
	} {
		next, repeated, code := c.at.End(c.who, c.end)
		if next.Epoch != c.epoch || next.State != c.state || repeated != c.repeated || code != c.code {
			t.Errorf("%s: %+v, repeated %v, code %d", c.name, next, repeated, code)
		}
	}
}

// TestAnnounce adds partitions, groups and offsets.
func TestAnnounce(t *testing.T) {
	me, old := txn.Who{ProducerID: 7, Epoch: 3}, txn.Who{ProducerID: 7, Epoch: 2}
	at := had(7, 3, 2, txn.Empty)
	a := txn.Partition{Topic: "a", Index: 1}
	if _, _, code := at.AddPartitions(old, []txn.Partition{a}, 1); code != wire.ProducerFenced {
		t.Errorf("an old epoch: code %d", code)
	}
	next, changed, code := at.AddPartitions(me, []txn.Partition{a, a}, 1)
	if !changed || code != wire.None || !next.Has(a) || len(next.Announced.Partitions) != 1 || at.Has(a) {
		t.Errorf("added: %+v, %v, code %d; before: %+v", next, changed, code, at)
	}
	if _, changed, _ := next.AddPartitions(me, []txn.Partition{a}, 1); changed {
		t.Error("adding once more changes something")
	}
	o := txn.Offset{Group: "g", Topic: "a", Index: 1, At: 5}
	if _, code := next.CommitOffsets(me, false, []txn.Offset{o}, 1); code != wire.InvalidTxnState {
		t.Errorf("offsets of a group that was not added: code %d", code)
	}
	next, changed, code = next.AddOffsets(me, "g", 1)
	if !changed || code != wire.None {
		t.Errorf("group: %v, code %d", changed, code)
	}
	if next, code = next.CommitOffsets(me, false, []txn.Offset{o}, 1); code != wire.None {
		t.Errorf("offsets: code %d", code)
	}
	o.At = 6
	if next, code = next.CommitOffsets(me, true, []txn.Offset{o}, 1); code != wire.None ||
		len(next.Announced.Offsets) != 1 || next.Announced.Offsets[0].At != 6 {
		t.Errorf("the later offset: %+v, code %d", next, code)
	}
	if !next.Underway(false) {
		t.Error("with offsets it is not under way")
	}
	gone := next.Expire(fresh, 9)
	if gone.Epoch != 4 || gone.LastEpoch != txn.NoEpoch || gone.Underway(false) || gone.State != txn.Aborted {
		t.Errorf("expired: %+v", gone)
	}
	back, err := txn.Decode(next.Encode())
	if err != nil || !reflect.DeepEqual(back, next) {
		t.Errorf("decoded: %+v, %v; want %+v", back, err, next)
	}
}

func FuzzDecode(f *testing.F) {
	at := had(7, 3, 2, txn.Committed)
	at, _, _ = at.AddPartitions(txn.Who{ProducerID: 7, Epoch: 3}, []txn.Partition{{Topic: "a", Index: 1}}, 1)
	at, _, _ = at.AddOffsets(txn.Who{ProducerID: 7, Epoch: 3}, "g", 2)
	at, _ = at.CommitOffsets(txn.Who{ProducerID: 7, Epoch: 3}, true, []txn.Offset{{Group: "g", Topic: "t", At: 5}}, 3)
	f.Add(at.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := txn.Decode(b)
		if err != nil {
			return
		}
		again, err := txn.Decode(got.Encode())
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%+v comes back as %+v, %v", got, again, err)
		}
	})
}
