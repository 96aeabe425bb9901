package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/stream"
)

// kinds are clusters by what their transactions are like: of the first kind a partition has to be named before it gets
// a batch, of the second the end of one gives the epoch of the next (KIP-890).
var kinds = map[string][]kfake.Opt{
	"transactions of the first kind":  {kfake.MaxVersions(kversion.V3_6_0())},
	"transactions of the second kind": nil,
}

// weak are connections that break when they are told to, before a request has gone out or when its answer is due.
type weak struct {
	breaks atomic.Bool
	broken atomic.Int64
	deafen atomic.Int64 // so many connections hear nothing any more, and do not end
}

type weakConn struct {
	net.Conn
	*weak
	deaf bool
}

var errBroken = errors.New("the connection breaks")

// Dial makes such a connection.
func (w *weak) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	return &weakConn{Conn: conn, weak: w}, err
}

// breaksNow breaks one in some.
func (c *weakConn) breaksNow(some int) bool {
	if !c.breaks.Load() || rand.IntN(some) > 0 {
		return false
	}
	c.broken.Add(1)
	c.Close()
	return true
}

// Read implements net.Conn. What it waited for has come when it fails.
func (c *weakConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.deafen.Add(-1) >= 0 {
		c.deaf = true
	}
	for c.deaf && err == nil {
		n, err = c.Conn.Read(b)
	}
	if c.breaksNow(12) {
		return 0, errBroken
	}
	return n, err
}

// Write implements net.Conn.
func (c *weakConn) Write(b []byte) (int, error) {
	if c.breaksNow(24) {
		return 0, errBroken
	}
	return c.Conn.Write(b)
}

// breaking breaks connections under units of all kinds, so that requests do not arrive, and answers do not when the
// request was granted: every unit gets there, once and in order.
func breaking(t *testing.T, seeds []string) {
	net := new(weak)
	c := open(t, cluster.Options{Seeds: seeds, Client: []kgo.Opt{kgo.Dialer(net.Dial)}, Patience: time.Minute})
	topic := create(t, c, "breaking", 2, nil)
	const units, breaks = 200, 30
	net.breaks.Store(true)
	told, wait := load(t, c, topic, func(i uint64) bool { return i < units || net.broken.Load() < breaks })
	wait()
	net.breaks.Store(false)
	checkTold(t, c, topic, told)
	for w, f := range told {
		if len(f.at) < units || len(f.errs) > 0 {
			t.Errorf("writer %d: %d units were acknowledged, %d lost", w, len(f.at), len(f.errs))
		}
	}
}

// TestAnswerNeverComes lets answers get lost on connections that seem to be well: the unit is sent again in time.
func TestAnswerNeverComes(t *testing.T) {
	t.Parallel() // it waits
	net := new(weak)
	c := open(t, cluster.Options{
		Seeds: fake(t).ListenAddrs(), Client: []kgo.Opt{kgo.Dialer(net.Dial)}, Patience: 10 * time.Second,
		RefreshInterval: time.Hour,
	})
	topic := create(t, c, "a", 2, nil)
	told := newFates()
	for i := range uint64(4) {
		u := unit(fmt.Sprintf("0 %d", i), topic.Partitions[:1+i%2]...)
		if i >= 2 { // the connections are made
			net.deafen.Store(1)
		}
		if err := c.Append(u, told, i); err != nil {
			t.Fatal(err)
		}
		told.wait(t, 1)
	}
	net.deafen.Store(0)
	if len(told.errs) > 0 {
		t.Errorf("lost: %v", told.errs)
	}
	all := map[string]int{}
	for _, v := range values(t, c, topic.Partitions[0]) {
		all[v]++
	}
	if len(all) != 4 || all["0 3"] != 1 {
		t.Errorf("there: %v", all)
	}
}

// TestAnswersToProduce has a broker give one answer to a batch that it does not take in, to units of each kind.
func TestAnswersToProduce(t *testing.T) {
	const none = fault.Internal // it is not lost
	f := fake(t)
	c := open(t, cluster.Options{Seeds: f.ListenAddrs()})
	topic := create(t, c, "a", 2, nil)
	sent, lost := 0, 0
	for _, answer := range []struct {
		code                 *kerr.Error
		plain, shared, owned fault.Kind // why the unit is lost
	}{
		{kerr.NotLeaderForPartition, none, none, none},
		{kerr.NotEnoughReplicas, none, none, none},
		{kerr.RequestTimedOut, none, none, none},
		{kerr.UnknownServerError, none, none, none},
		{kerr.OutOfOrderSequenceNumber, none, none, none},
		{kerr.UnknownProducerID, none, none, none},
		{kerr.InvalidTxnState, none, none, none},
		{kerr.TransactionAbortable, none, none, none},
		{kerr.InvalidProducerEpoch, none, none, fault.Fenced},
		{kerr.DuplicateSequenceNumber, fault.Timeout, none, none}, // it was there before, and nobody knows where
		{kerr.MessageTooLarge, fault.TooLarge, fault.TooLarge, fault.TooLarge},
		{kerr.TopicAuthorizationFailed, fault.Denied, fault.Denied, fault.Denied},
	} {
		owner, err := c.Own(context.Background(), topic.Partitions[0])
		if err != nil {
			t.Fatal(err)
		}
		shared, owned := unit("x", topic.Partitions...), unit("x", topic.Partitions[0])
		owned.Owner = owner
		for i, one := range []struct {
			u    *stream.Unit
			want fault.Kind
		}{{unit("x", topic.Partitions[0]), answer.plain}, {shared, answer.shared}, {owned, answer.owned}} {
			f.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				return refuse(req, answer.code.Code), nil, true
			})
			told := newFates()
			if err := c.Append(one.u, told, 0); err != nil {
				t.Fatal(err)
			}
			told.wait(t, 1)
			if err := told.errs[0]; one.want == none && err != nil || one.want != none && !fault.Is(err, one.want) {
				t.Errorf("%v to a unit of kind %d: %v", answer.code.Message, i, err)
			}
			sent++
			lost += len(told.errs)
		}
	}
	if all := values(t, c, topic.Partitions[0]); len(all) != sent-lost {
		t.Errorf("%d units, %d of %d were lost", len(all), lost, sent)
	}
}

// refuse answers a Produce with an error for each of its partitions.
func refuse(req kmsg.Request, code int16) kmsg.Response {
	produce, _ := req.(*kmsg.ProduceRequest)
	resp, _ := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, asked := range produce.Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = asked.Topic, asked.TopicID
		for _, p := range asked.Partitions {
			one := kmsg.NewProduceResponseTopicPartition()
			one.Partition, one.ErrorCode, one.BaseOffset = p.Partition, code, -1
			topic.Partitions = append(topic.Partitions, one)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return resp
}

// TestCommitWithoutAnswer gives no answer to a commit until patience ends, before and after the cluster has taken it
// in: the receipt tells what became of the unit.
func TestCommitWithoutAnswer(t *testing.T) {
	t.Parallel() // it waits
	for kind, opts := range kinds {
		for _, takenIn := range []bool{false, true} {
			for _, owned := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/taken in %v/owned %v", kind, takenIn, owned), func(t *testing.T) {
					t.Parallel() // each of them waits
					patience := 5 * time.Second
					for !unanswered(t, fake(t, opts...), patience, takenIn, owned) {
						if patience *= 4; patience > 2*time.Minute {
							t.Fatal("it is not tried twice, or nobody knows what became of it")
						}
					}
				})
			}
		}
	}
}

// unanswered gives no answer to one commit. False: patience was over before the second try or its answer, as it may
// be on a busy machine.
func unanswered(t *testing.T, f *kfake.Cluster, patience time.Duration, takenIn, owned bool) (inTime bool) {
	net := new(weak)
	c := open(t, cluster.Options{
		Seeds: f.ListenAddrs(), Client: []kgo.Opt{kgo.Dialer(net.Dial)}, Patience: patience, RefreshInterval: time.Hour,
	})
	topic := create(t, c, "a", 2, nil)
	told, u := newFates(), unit("first", topic.Partitions...)
	if owned {
		var err error
		if u.Owner, err = c.Own(context.Background(), topic.Partitions[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Append(u, told, 0); err != nil { // the connections are made
		t.Fatal(err)
	}
	told.wait(t, 1)
	var commits atomic.Int64
	f.ControlKey(int16(kmsg.EndTxn), func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		switch end, _ := req.(*kmsg.EndTxnRequest); {
		case !end.Commit:
			return nil, nil, false
		case takenIn:
			net.deafen.Store(1)
		}
		commits.Add(1)
		return nil, errBroken, !takenIn
	})
	u.Writes = unit("second", topic.Partitions...).Writes
	if err := c.Append(u, told, 1); err != nil {
		t.Fatal(err)
	}
	told.wait(t, 1)
	net.deafen.Store(0)
	there := len(values(t, c, topic.Partitions[0])) == 2
	err := told.errs[1]
	if commits.Load() < 2 || fault.Is(err, fault.Timeout) {
		t.Logf("with a patience of %v there: %v, after %d commits, told %v", patience, there, commits.Load(), err)
		return false
	}
	if there != takenIn || there != (err == nil) {
		t.Errorf("there: %v, after %d commits, told %v", there, commits.Load(), err)
	}
	return true
}

// TestTopicGoesUnderUnits deletes a topic elsewhere while units for it wait, among others: it costs these units only,
// and no transaction for each.
func TestTopicGoesUnderUnits(t *testing.T) {
	f := fake(t)
	opt := cluster.Options{Seeds: f.ListenAddrs(), RefreshInterval: time.Hour}
	c, other := open(t, opt), open(t, opt)
	stays, goes := create(t, c, "stays", 2, nil), create(t, c, "goes", 1, nil)
	if err := other.DeleteTopic(context.Background(), "goes"); err != nil {
		t.Fatal(err)
	}
	var aborts atomic.Int64
	f.ControlKey(int16(kmsg.InitProducerID), func(kmsg.Request) (kmsg.Response, error, bool) {
		f.KeepControl()
		aborts.Add(1)
		return nil, nil, false
	})
	const units = 200
	told := newFates()
	bad := func(i uint64) bool { return i == 0 || i%2 == 0 && i > 10 } // the first alone, in a batch of its own
	for i := range uint64(units) {
		u := unit(fmt.Sprintf("0 %d", i), stays.Partitions[:1+min(i/10, 1)]...)
		if bad(i) {
			u.Writes[len(u.Writes)-1].Partition = goes.Partitions[0]
		}
		if err := c.Append(u, told, i); err != nil && !fault.Is(err, fault.NotFound) { // it has been noticed
			t.Fatal(err)
		} else if err != nil {
			told.Appended(i, nil, err)
		}
	}
	told.wait(t, units)
	want := 0
	for i := range uint64(units) {
		if !bad(i) {
			want++
		}
		if err := told.errs[i]; bad(i) && !fault.Is(err, fault.NotFound) || !bad(i) && err != nil {
			t.Errorf("unit %d: %v", i, err)
		}
	}
	if n := aborts.Load(); n > 50 {
		t.Errorf("%d transactions were aborted", n)
	}
	if all := values(t, c, stays.Partitions[0]); len(all) != want {
		t.Errorf("%d units of %d", len(all), want)
	}
}

// TestCloseWhileClusterIsAway closes a keeper that has no units while it looks for its cluster in vain: it does not
// wait for that.
func TestCloseWhileClusterIsAway(t *testing.T) {
	f := fake(t)
	var dials atomic.Int64
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	c, err := cluster.Open(context.Background(), cluster.Options{
		Seeds: f.ListenAddrs(), Client: []kgo.Opt{kgo.Dialer(dial)}, Patience: time.Minute,
		RefreshInterval: 10 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	before := dials.Load()
	until(t, "a request that is tried in vain", func() bool { return dials.Load() > before+3 })
	began := time.Now()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the close has taken %v", took)
	}
}

// rivals takes a shard over while its owner appends without a pause: the owner is told at once, of every unit, and its
// node closes in no time.
func rivals(t *testing.T, seeds []string) {
	rival := open(t, cluster.Options{Seeds: seeds, RefreshInterval: 10 * time.Millisecond})
	c, err := cluster.Open(context.Background(), cluster.Options{Seeds: seeds, Patience: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	topic := create(t, c, "rivals", 2, nil)
	until(t, "the topic", func() bool { return rival.Topics().ByName("rivals") != nil })
	owner, err := c.Own(context.Background(), topic.Partitions[0])
	if err != nil {
		t.Fatal(err)
	}
	f := newFates()
	n, underWay := uint64(0), uint64(64)
	for ; err == nil && n < 10_000; n++ {
		if n >= underWay {
			f.wait(t, 1)
		}
		if n == 200 {
			if _, err := rival.Own(context.Background(), rival.Topics().ByName("rivals").Partitions[0]); err != nil {
				t.Fatal(err)
			}
		}
		u := unit(fmt.Sprintf("0 %d", n), topic.Partitions...)
		u.Owner = owner
		err = c.Append(u, f, n)
	}
	if n--; !fault.Is(err, fault.Fenced) {
		t.Error(err)
	}
	began := time.Now()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the close has taken %v", took)
	}
	if len(f.order) != int(n) {
		t.Errorf("%d receipts of %d", len(f.order), n)
	}
	for ticket, err := range f.errs {
		if !fault.Is(err, fault.Fenced) {
			t.Errorf("unit %d: %v", ticket, err)
		}
	}
	checkTold(t, rival, rival.Topics().ByName("rivals"), []*fates{f})
}

// TestRivalAtEachRequest has a rival take a shard over when a request of its owner's transaction has arrived and nobody
// has looked at it: whatever the cluster says to it, the owner is told that he is fenced, and nothing of it is there.
// The rival is another node, or the same one that has the lease.
func TestRivalAtEachRequest(t *testing.T) {
	for kind, opts := range kinds {
		for _, key := range []kmsg.Key{kmsg.AddPartitionsToTxn, kmsg.Produce, kmsg.EndTxn} {
			if key == kmsg.AddPartitionsToTxn && opts == nil {
				continue // there is none
			}
			for _, itself := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/by itself %v", kind, key.Name(), itself), func(t *testing.T) {
					rivalAt(t, fake(t, opts...), key, itself)
				})
			}
		}
	}
}

func rivalAt(t *testing.T, f *kfake.Cluster, key kmsg.Key, itself bool) {
	opt := cluster.Options{Seeds: f.ListenAddrs(), Patience: time.Minute}
	if itself {
		opt = serving(f, "a")
	}
	c := open(t, opt)
	topic, rival := create(t, c, "a", 2, nil), c
	if !itself {
		rival = open(t, opt)
	}
	own := func(k *cluster.Cluster) stream.Owner {
		owner, err := k.Own(context.Background(), k.Topics().ByName("a").Partitions[0])
		if err != nil {
			t.Error(err)
		}
		return owner
	}
	told, u := newFates(), unit("old", topic.Partitions...)
	u.Owner = own(c)
	var next stream.Owner
	before(f, key, func() { next = own(rival) })
	if err := c.Append(u, told, 0); err != nil {
		t.Fatal(err)
	}
	told.wait(t, 1)
	if !fault.Is(told.errs[0], fault.Fenced) {
		t.Errorf("the owner of before: %v", told.errs[0])
	}
	told, u = newFates(), unit("new", rival.Topics().ByName("a").Partitions...)
	u.Owner = next
	if err := rival.Append(u, told, 0); err != nil {
		t.Fatal(err)
	}
	told.wait(t, 1)
	if got := values(t, rival, u.Writes[1].Partition); told.errs[0] != nil || len(got) != 1 || got[0] != "new" {
		t.Errorf("the rival: %v, and %q is there", told.errs[0], got)
	}
}

// before does something when the next request of a kind has arrived, before it is looked at.
func before(f *kfake.Cluster, key kmsg.Key, do func()) {
	var met atomic.Bool
	f.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		if met.CompareAndSwap(false, true) {
			f.SleepControl(do)
		}
		return nil, nil, false
	})
}
