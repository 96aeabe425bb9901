package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/apps/migrate"
	"github.com/firthmq/firth/internal/kafka/group"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/share"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/session"
)

func fake(t *testing.T) *kfake.Cluster {
	t.Helper()
	f, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func target(t *testing.T, f *kfake.Cluster) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Open(t.Context(), cluster.Options{
		Seeds: f.ListenAddrs(), Instance: "migrate", Takeover: time.Minute, Patience: time.Minute,
		Logger: logtest.New(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// node is the log of a standalone node. Some records of it were never committed: those at offsets that hidden names.
type node struct {
	*store.Store
	hidden func(record.Offset) bool
}

// Scan implements migrate.Source.
func (n *node) Scan(
	p stream.PartitionID, from record.Offset, o stream.ScanOptions, visit func(*record.View) bool,
) (record.Offset, error) {
	at := n.Topics().Place(p)
	return n.Store.Scan(p, from, o, func(v *record.View) bool {
		return n.hidden != nil && !at.Topic.Internal() && n.hidden(v.Offset) || visit(v)
	})
}

func open(t *testing.T) *node {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{FS: vfs.NewMemory(), DefaultPartitions: 1, Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &node{Store: s}
}

func create(t *testing.T, log stream.Keeper, name string, partitions int, config map[string]string) *stream.Topic {
	t.Helper()
	topic, err := log.CreateTopic(t.Context(), stream.TopicSpec{Name: name, Partitions: partitions, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

func put(t *testing.T, log stream.Log, p stream.PartitionID, all ...record.Record) {
	t.Helper()
	for i := range all {
		u := &stream.Unit{Writes: []stream.Write{{Partition: p, Record: &all[i]}}}
		if err := stream.StoreUnit(t.Context(), log, u); err != nil {
			t.Fatal(err)
		}
	}
}

// numbered are records that differ in all that a record has.
func numbered(from, n int) (all []record.Record) {
	for i := from; i < from+n; i++ {
		r := record.Record{
			Timestamp: 1_700_000_000_000 + int64(i), Key: fmt.Appendf(nil, "key %d", i%5),
			Value:   fmt.Appendf(nil, "value %d", i),
			Headers: []record.Header{{Key: "a", Value: []byte{byte(i)}}, {Key: "null"}, {Key: "empty", Value: []byte{}}},
		}
		if i%7 == 3 {
			r.Key, r.Headers = nil, nil
		}
		all = append(all, r)
	}
	return all
}

// shown is a record as a test compares it.
type shown struct {
	At      record.Offset
	Stamp   int64
	Key     string
	Value   string
	Headers string
}

func all(t *testing.T, log migrate.Source, p stream.PartitionID) (records []shown) {
	t.Helper()
	b, err := log.Bounds(p)
	if err != nil {
		t.Fatal(err)
	}
	for next := b.Start; next < b.Stable; {
		next, err = log.Scan(p, next, stream.ScanOptions{}, func(v *record.View) bool {
			s := shown{At: v.Offset, Stamp: v.Timestamp, Value: string(v.Value)}
			s.Key = fmt.Sprintf("%q %t", v.Key, v.Key == nil)
			for key, value := range v.Headers {
				s.Headers += fmt.Sprintf("%s=%q %t;", key, value, value == nil)
			}
			records = append(records, s)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return records
}

func difference(want, got any) string {
	if reflect.DeepEqual(want, got) {
		return ""
	}
	return fmt.Sprintf("want %v\ngot  %v", want, got)
}

// state appends records to a topic of Firth's own.
func state(t *testing.T, n *node, topic string, all ...record.Record) {
	t.Helper()
	for i := range all {
		if err := stream.StoreState(t.Context(), n.Store, topic, all[i:i+1]); err != nil {
			t.Fatal(err)
		}
	}
}

func keyed(key session.Key, value []byte) record.Record {
	return record.Record{Timestamp: 1_700_000_000_000, Key: key.AppendTo(nil), Value: value}
}

// commit has a group commit an offset.
func commit(t *testing.T, n *node, name string, topic *stream.Topic, at int64) {
	t.Helper()
	offsets := n.Topics().ByName("__consumer_offsets")
	if offsets == nil {
		offsets = create(t, n.Store, "__consumer_offsets", 1, map[string]string{"cleanup.policy": "compact"})
	}
	key, err := (&group.Key{Kind: group.KindOffset, Group: name, Topic: topic.Name}).AppendOffset(nil)
	if err != nil {
		t.Fatal(err)
	}
	value, err := (&group.Offset{At: at, LeaderEpoch: -1, Metadata: "m", Expires: group.NoExpiry}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	put(t, n.Store, offsets.Partitions[0], record.Record{Key: key, Value: value,
		Headers: []record.Header{{Key: "topic-id", Value: topic.ID[:]}}})
}

// house is a node with something of all that moves.
func house(t *testing.T) *node {
	t.Helper()
	n := open(t)
	n.hidden = func(at record.Offset) bool { return at%10 == 6 || at >= 20 && at < 25 || at == 39 }
	plain := create(t, n.Store, "plain", 2, nil)
	put(t, n.Store, plain.Partitions[0], numbered(0, 40)...)
	put(t, n.Store, plain.Partitions[1], numbered(100, 9)...)
	late := create(t, n.Store, "late", 1, nil)
	put(t, n.Store, late.Partitions[0], numbered(0, 30)...)
	if _, err := n.TrimTo(t.Context(), late.Partitions[0], 13); err != nil {
		t.Fatal(err)
	}
	create(t, n.Store, "empty", 3, nil)
	commit(t, n, "readers", plain, 17)
	commit(t, n, "readers", late, 21)
	state(t, n, "__firth_retained",
		record.Record{Timestamp: 1, Key: []byte("old"), Value: []byte("0")},
		record.Record{Timestamp: 2, Key: []byte("a/b"), Value: []byte("1"), Headers: []record.Header{{Key: "q"}}},
		record.Record{Timestamp: 3, Key: []byte("old")},
		record.Record{Timestamp: 4, Key: []byte("c"), Value: []byte("2")})
	state(t, n, "__firth_access", record.Record{Timestamp: 5, Key: []byte("user/anna"), Value: []byte("hash")})
	sessions(t, n, plain, late)
	return n
}

// sessions stores one that stands somewhere in every topic, with messages in flight.
func sessions(t *testing.T, n *node, plain, late *stream.Topic) {
	t.Helper()
	retained := n.Topics().ByName("__firth_retained")
	s := session.SessionRecord{Version: packet.V5, Expiry: 3600, Mark: 2}
	f := session.FilterRecord{QoS: 1, Since: 1}
	flights := func(next int64, at ...int64) []byte {
		r := session.PlaceRecord{Next: next}
		for i, o := range at {
			r.Flights = append(r.Flights, session.Flight{Position: uint64(i + 1), QoS: 1, From: session.Place{Offset: o}})
		}
		return r.AppendTo(nil)
	}
	place := func(topic *stream.Topic, index int32) session.Key {
		return session.Key{Kind: session.KindPlace, Client: "device", Topic: topic.ID, Index: index}
	}
	var group share.Partition
	group.Begin(20)
	state(t, n, "__firth_sessions",
		keyed(session.Key{Kind: session.KindShared, Client: "workers", Filter: "f", Topic: late.ID}, group.AppendTo(nil)),
		keyed(session.Key{Kind: session.KindReplay, Client: "device", Filter: "f", Topic: late.ID},
			(&session.ReplayRecord{Since: 1, Next: 19}).AppendTo(nil)),
		keyed(session.Key{Kind: session.KindSession, Client: "device"}, s.AppendTo(nil)),
		keyed(session.Key{Kind: session.KindFilter, Client: "device", Filter: "#"}, f.AppendTo(nil)),
		keyed(place(plain, 0), flights(12, 3, 7)),
		keyed(place(late, 0), flights(22, 14, 20)),
		keyed(place(retained, 0), flights(0, 0, 3)),
		keyed(session.Key{Kind: session.KindPlace, Client: "device", Topic: [16]byte{9}}, flights(1)),
		keyed(session.Key{Kind: session.KindMark, Topic: late.ID},
			session.MarkRecord{{Mark: 1, Offset: 5}, {Mark: 2, Offset: 18}}.AppendTo(nil)),
		keyed(session.Key{Kind: session.KindMark}, session.MarkRecord{{Mark: 2}}.AppendTo(nil)))
}

// compareTopics compares records, whose offsets are lower by a number in the cluster.
func compareTopics(t *testing.T, n *node, to *cluster.Cluster, lower map[string]record.Offset) {
	t.Helper()
	for _, topic := range n.Topics().All() {
		if topic.Internal() {
			continue
		}
		there := to.Topics().ByName(topic.Name)
		if there == nil || len(there.Partitions) != len(topic.Partitions) {
			t.Fatalf("topic %s is %+v in the cluster", topic.Name, there)
		}
		for i, p := range topic.Partitions {
			want := all(t, n, p)
			for j := range want {
				want[j].At -= lower[topic.Name]
			}
			if diff := difference(want, all(t, to, there.Partitions[i])); diff != "" {
				t.Errorf("%s[%d]:\n%s", topic.Name, i, diff)
			}
			here, err := n.Bounds(p)
			if err != nil {
				t.Fatal(err)
			}
			b, err := to.Bounds(there.Partitions[i])
			if err != nil {
				t.Fatal(err)
			}
			if b.High != here.High-lower[topic.Name] || b.Start != here.Start-lower[topic.Name] {
				t.Errorf("%s[%d] is %+v, and %+v in the cluster", topic.Name, i, here, b)
			}
		}
	}
}

// compareRest compares groups, retained messages, users and the session.
func compareRest(t *testing.T, to *cluster.Cluster, lower int64) {
	t.Helper()
	offsets, err := to.Committed(t.Context(), "readers")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, o := range offsets {
		got[o.Topic] = o.At
	}
	if diff := difference(map[string]int64{"plain": 17, "late": 21 - lower}, got); diff != "" {
		t.Errorf("the group:\n%s", diff)
	}
	want := map[string]string{"a/b": "1", "c": "2"}
	if diff := difference(want, values(t, to, "__firth_retained")); diff != "" {
		t.Errorf("retained messages:\n%s", diff)
	}
	if diff := difference(map[string]string{"user/anna": "hash"}, values(t, to, "__firth_access")); diff != "" {
		t.Errorf("users:\n%s", diff)
	}
	var places []string
	for key, value := range values(t, to, "__firth_sessions") {
		k, err := session.ParseKey([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		if k.Kind == session.KindReplay {
			if r, err := session.ParseReplay([]byte(value)); err != nil || r.Next != 19-lower {
				t.Errorf("the replay goes on at %+v, %v", r, err)
			}
		}
		if k.Kind == session.KindShared {
			if p, err := share.Parse([]byte(value)); err != nil || p.Next() != 20-lower {
				t.Errorf("the group goes on at %+v, %v", p, err)
			}
		}
		if k.Kind != session.KindPlace {
			continue
		}
		name := to.Topics().ByID(k.Topic).Name
		r, err := session.ParsePlace([]byte(value))
		if err != nil {
			t.Fatal(err)
		}
		if name == "__firth_retained" { // where the message lies in the cluster
			if len(r.Flights) != 1 || offsetOf(t, to, name, "c") != record.Offset(r.Flights[0].From.Offset) {
				t.Errorf("retained messages in flight: %+v", r)
			}
			continue
		}
		at := []int64{}
		for _, f := range r.Flights {
			at = append(at, f.From.Offset)
		}
		places = append(places, fmt.Sprint(name, r.Next, at))
	}
	wantPlaces := map[string]bool{
		fmt.Sprint("plain", 12, []int64{3, 7}): true, fmt.Sprint("late", 22-lower, []int64{14 - lower, 20 - lower}): true,
	}
	if len(places) != len(wantPlaces) || !wantPlaces[places[0]] || !wantPlaces[places[1]] {
		t.Errorf("the session stands at %q", places)
	}
}

func values(t *testing.T, log migrate.Source, topic string) map[string]string {
	t.Helper()
	got := map[string]string{}
	p := log.Topics().ByName(topic).Partitions[0]
	_, err := stream.Fold(t.Context(), log, p, 0, func(v *record.View) error {
		if got[string(v.Key)] = string(v.Value); v.Value == nil {
			delete(got, string(v.Key))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func offsetOf(t *testing.T, log migrate.Source, topic, key string) (at record.Offset) {
	t.Helper()
	_, err := stream.Fold(t.Context(), log, log.Topics().ByName(topic).Partitions[0], 0, func(v *record.View) error {
		if string(v.Key) == key {
			at = v.Offset
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestMove: all of a node is in the cluster afterwards, at its offsets.
func TestMove(t *testing.T) {
	n, f := house(t), fake(t)
	to := target(t, f)
	r, err := migrate.Run(t.Context(), migrate.Options{Source: n, Target: to, Final: true})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Finished {
		t.Errorf("it is not finished: %+v", r)
	}
	compareTopics(t, n, to, nil)
	compareRest(t, to, 0)
	_, err = migrate.Run(t.Context(), migrate.Options{Source: n, Target: to, Final: true})
	if !fault.Is(err, fault.Exists) {
		t.Errorf("once more: %v", err)
	}
}

// TestMoveWithoutPadding: what begins too far from 0 has lower offsets, and so has what is said of it.
func TestMoveWithoutPadding(t *testing.T) {
	n, f := house(t), fake(t)
	to := target(t, f)
	r, err := migrate.Run(t.Context(), migrate.Options{Source: n, Target: to, Final: true, MaxPadding: -1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Topics {
		if name := r.Topics[i].Name; r.Topics[i].Kept() == (name == "late") {
			t.Errorf("offsets of %s are lower by %v", name, r.Topics[i].Lower)
		}
	}
	compareTopics(t, n, to, map[string]record.Offset{"late": 13})
	compareRest(t, to, 13)
}

var errKilled = errors.New("killed")

// TestKilledAnywhere: runs that end after some of their writes, and others that are begun, come to what one run comes
// to.
func TestKilledAnywhere(t *testing.T) {
	for writes := range 4 {
		t.Run(fmt.Sprint(writes), func(t *testing.T) {
			n, f := house(t), fake(t)
			for runs := 0; !killed(t, n, target(t, f), writes); runs++ {
				if runs > 500 {
					t.Fatal("it gets nowhere")
				}
			}
			to := target(t, f)
			compareTopics(t, n, to, nil)
			compareRest(t, to, 0)
		})
	}
}

// killed is a run that ends behind a number of writes, of the last of which it does not know that it was done.
func killed(t *testing.T, n *node, to *cluster.Cluster, writes int) (finished bool) {
	t.Helper()
	defer func() { _ = to.Close() }()
	_, err := migrate.Run(t.Context(), migrate.Options{Source: n, Target: to, Final: true, Wrote: func() error {
		if writes--; writes < 0 {
			return errKilled
		}
		return nil
	}})
	if err != nil && !errors.Is(err, errKilled) && !fault.Is(err, fault.Exists) {
		t.Fatal(err)
	}
	return !errors.Is(err, errKilled)
}

// TestFollow: while the node runs, each run copies what came since; nothing else moves.
func TestFollow(t *testing.T) {
	n, f := house(t), fake(t)
	to := target(t, f)
	plain := n.Topics().ByName("plain")
	for i := range 3 {
		r, err := migrate.Run(t.Context(), migrate.Options{Source: n, Target: to})
		if err != nil {
			t.Fatal(err)
		}
		if r.Finished || len(r.State)+len(r.Groups) > 0 {
			t.Errorf("beside topics: %+v", r)
		}
		compareTopics(t, n, to, nil)
		put(t, n.Store, plain.Partitions[i%2], numbered(1000*i, 25)...)
	}
	if _, err := migrate.Run(t.Context(), migrate.Options{Source: n, Target: to, Final: true}); err != nil {
		t.Fatal(err)
	}
	compareTopics(t, n, to, nil)
	compareRest(t, to, 0)
}

// TestLostAnswer: a batch that was taken in, and whose answer was lost, is not there twice.
func TestLostAnswer(t *testing.T) {
	n, f := house(t), fake(t)
	to := target(t, f)
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.EndTxn, kmsg.AddPartitionsToTxn} {
		broken := 0
		f.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
			if f.KeepControl(); broken < 3 {
				broken++
				return nil, errors.New("the connection breaks"), true
			}
			return nil, nil, false
		})
	}
	if _, err := migrate.Run(t.Context(), migrate.Options{Source: n, Target: to, Final: true}); err != nil {
		t.Fatal(err)
	}
	compareTopics(t, n, to, nil)
	compareRest(t, to, 0)
}

// TestRefusals: what is in the way in the cluster is named.
func TestRefusals(t *testing.T) {
	tests := map[string]struct {
		prepare func(t *testing.T, to *cluster.Cluster)
		kind    fault.Kind
	}{
		"records of others": {func(t *testing.T, to *cluster.Cluster) {
			topic := create(t, to, "plain", 2, map[string]string{"max.message.bytes": "50000000"})
			put(t, to, topic.Partitions[0], numbered(0, 1)...)
		}, fault.Exists},
		"state of a gateway": {func(t *testing.T, to *cluster.Cluster) {
			one := []record.Record{{Key: []byte("k"), Value: []byte("v")}}
			if err := stream.StoreState(t.Context(), to, "__firth_bans", one); err != nil {
				t.Fatal(err)
			}
		}, fault.Exists},
		"other partitions": {func(t *testing.T, to *cluster.Cluster) { create(t, to, "plain", 3, nil) }, fault.Unsupported},
		"small messages": {func(t *testing.T, to *cluster.Cluster) {
			create(t, to, "plain", 2, map[string]string{"max.message.bytes": "1000"})
		}, fault.Unsupported},
		"compaction": {func(t *testing.T, to *cluster.Cluster) {
			create(t, to, "plain", 2, map[string]string{"max.message.bytes": "50000000", "cleanup.policy": "compact"})
		}, fault.Unsupported},
		"times": {func(t *testing.T, to *cluster.Cluster) {
			create(t, to, "plain", 2, map[string]string{
				"max.message.bytes": "50000000", "message.timestamp.type": "LogAppendTime",
			})
		}, fault.Unsupported},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n, to := house(t), target(t, fake(t))
			test.prepare(t, to)
			_, err := migrate.Plan(context.Background(), migrate.Options{Source: n, Target: to, Final: true})
			if !fault.Is(err, test.kind) || fault.HintOf(err) == "" {
				t.Errorf("%v, hint %q", err, fault.HintOf(err))
			}
		})
	}
}

// TestPlanDoesNothing: a plan says what would move.
func TestPlanDoesNothing(t *testing.T) {
	n, to := house(t), target(t, fake(t))
	r, err := migrate.Plan(t.Context(), migrate.Options{Source: n, Target: to, Final: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Topics) != 3 || len(r.State) != 3 || to.Topics().Len() > 0 {
		t.Errorf("%+v, and in the cluster are %d topics", r, to.Topics().Len())
	}
}

// TestOtherNode: one node moves into a cluster.
func TestOtherNode(t *testing.T) {
	f := fake(t)
	to := target(t, f)
	if _, err := migrate.Run(t.Context(), migrate.Options{Source: house(t), Target: to}); err != nil {
		t.Fatal(err)
	}
	_, err := migrate.Run(t.Context(), migrate.Options{Source: house(t), Target: to})
	if !fault.Is(err, fault.Exists) {
		t.Error(err)
	}
}
