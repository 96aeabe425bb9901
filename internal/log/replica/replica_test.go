package replica_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/replica"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

const topic = "__firth_state"

// node is a replica and what it holds.
type node struct {
	*replica.Replica
	passed atomic.Int64

	mu    sync.Mutex
	state map[string]string
	taken []int // how many records came at once
}

// begin opens a replica on a keeper.
func begin(t *testing.T, log stream.Keeper, opt replica.Options) *node {
	t.Helper()
	n := &node{}
	n.passed.Store(int64(time.Hour))
	opt.Log, opt.Topic, opt.Take, opt.Passed = log, topic, n.take, func() time.Duration {
		return time.Duration(n.passed.Load())
	}
	if opt.Logger == nil {
		opt.Logger = logtest.New(t)
	}
	var err error
	if n.Replica, _, err = replica.Open(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) take(anew bool, feed func(func(string, []byte) error)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if anew {
		n.state = map[string]string{}
	}
	count := 0
	feed(func(key string, value []byte) error {
		count++
		switch {
		case key == "strange":
			return errors.New("not understood")
		case key == "poison":
			panic("poison")
		case value == nil:
			delete(n.state, key)
		default:
			n.state[key] = string(value)
		}
		return nil
	})
	n.taken = append(n.taken, count)
}

func (n *node) holds() map[string]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.state)
}

// sets gives the records that set keys to a value; "": they go.
func sets(value string, keys ...string) []record.Record {
	var all []record.Record
	for _, key := range keys {
		r := record.Record{Timestamp: 1, Key: []byte(key)}
		if value != "" {
			r.Value = []byte(value)
		}
		all = append(all, r)
	}
	return all
}

func (n *node) set(ctx context.Context, value string, keys ...string) error {
	return n.Edit(ctx, func() ([]record.Record, error) { return sets(value, keys...), nil })
}

// follow has a node follow until the test ends.
func (n *node) follow(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := n.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(2 * time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
	}
}

// several are replicas of nodes before one cluster.
func several(t *testing.T, count int) (all []*node) {
	t.Helper()
	f, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	for range count {
		c, err := cluster.Open(t.Context(), cluster.Options{Seeds: f.ListenAddrs(), Logger: logtest.New(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		all = append(all, begin(t, c, replica.Options{}))
	}
	return all
}

// TestEveryEditCounts: nodes that all add to one number, each by what it sees, lose no edit of each other, and each
// sees its own at once.
func TestEveryEditCounts(t *testing.T) {
	all := several(t, 3)
	const each = 10
	var editing sync.WaitGroup
	for _, n := range all {
		n.follow(t)
		editing.Go(func() {
			for range each {
				was := 0
				err := n.Edit(t.Context(), func() ([]record.Record, error) {
					was, _ = strconv.Atoi(n.holds()["sum"]) // nothing: it is the first
					return sets(fmt.Sprint(was+1), "sum", "copy"), nil
				})
				if err != nil {
					t.Error(err)
				}
				if now, _ := strconv.Atoi(n.holds()["sum"]); now <= was {
					t.Errorf("it made %d, and sees %d", was+1, now)
				}
			}
		})
	}
	editing.Wait()
	for i, n := range all {
		eventually(t, "all is known", func() bool { return n.holds()["sum"] == fmt.Sprint(len(all)*each) })
		if holds := n.holds(); holds["copy"] != holds["sum"] {
			t.Errorf("%d: %v", i, holds)
		}
		n.mu.Lock()
		if slices.ContainsFunc(n.taken, func(count int) bool { return count%2 != 0 }) {
			t.Errorf("%d: a part of an edit was in force: %v", i, n.taken)
		}
		n.mu.Unlock()
	}
}

// TestOneEditWins: of edits that may be made once only, at the same time on all nodes, one is made, and all know which.
func TestOneEditWins(t *testing.T) {
	all := several(t, 3)
	for round := range 5 {
		key := fmt.Sprint("round", round)
		errs := make([]error, len(all))
		var editing sync.WaitGroup
		for i, n := range all {
			editing.Go(func() {
				errs[i] = n.Edit(t.Context(), func() ([]record.Record, error) {
					if by := n.holds()[key]; by != "" {
						return nil, fault.New(fault.Exists, "test", "made by %s", by)
					}
					return sets(fmt.Sprint(i), key), nil
				})
			})
		}
		editing.Wait()
		won := slices.Index(errs, nil)
		for i, err := range errs {
			if i != won && (!fault.Is(err, fault.Exists) || err.Error() != fmt.Sprintf("test: made by %d", won)) {
				t.Errorf("round %d, won by %d: %d was told %v", round, won, i, err)
			}
		}
	}
}

// alone is a log on a disk that can be kept from who reads it: for ever, or once.
type alone struct {
	stream.Keeper
	err, once atomic.Pointer[error]
	appends   func() error // why a unit is refused; nil: none is
}

func onDisk(t *testing.T) *alone {
	t.Helper()
	log, err := store.Open(t.Context(), store.Options{FS: vfs.NewMemory(), Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	return &alone{Keeper: log}
}

// Scan implements stream.Log.
func (a *alone) Scan(
	p stream.PartitionID, from record.Offset, o stream.ScanOptions, visit func(*record.View) bool,
) (record.Offset, error) {
	if err := a.once.Swap(nil); err != nil {
		return from, *err
	}
	if err := a.err.Load(); err != nil {
		return from, *err
	}
	return a.Keeper.Scan(p, from, o, visit)
}

func (a *alone) fails(err error) { a.err.Store(&err) }

// TestUnsure: who does not see the end for too long says so, edits nothing meanwhile, and is sure again by itself.
func TestUnsure(t *testing.T) {
	log := onDisk(t)
	n, other := begin(t, log, replica.Options{}), begin(t, log.Keeper, replica.Options{})
	log.fails(fault.New(fault.Timeout, "test", "cut off"))
	n.passed.Add(int64(replica.Patience))
	if err := n.Unsure(); err != nil {
		t.Errorf("before its time: %v", err)
	}
	n.passed.Add(1)
	if err := n.Unsure(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("cut off: %v", err)
	}
	if err := n.set(t.Context(), "by it", "k"); !fault.Is(err, fault.Timeout) {
		t.Errorf("it edits: %v", err)
	}
	if err := other.set(t.Context(), "by the other", "k"); err != nil {
		t.Fatal(err)
	}
	log.err.Store(nil)
	n.follow(t)
	eventually(t, "it is sure again", func() bool { return n.Unsure() == nil && n.holds()["k"] == "by the other" })
}

// TestReadAnew: who was without the log for so long that what was removed may be forgotten there, or whose log has lost
// its end, begins anew.
func TestReadAnew(t *testing.T) {
	for name, happens := range map[string]func(*node, *alone){
		"long away": func(n *node, _ *alone) { n.passed.Add(int64(2 * time.Hour)) },
		"a lost end": func(_ *node, log *alone) {
			var err error = fault.New(fault.OutOfRange, "test", "past the end")
			log.once.Store(&err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := onDisk(t)
			n := begin(t, log, replica.Options{})
			if err := n.set(t.Context(), "v", "k"); err != nil {
				t.Fatal(err)
			}
			n.mu.Lock()
			n.state["gone"] = "v" // what removed it was compacted away
			n.mu.Unlock()
			happens(n, log)
			n.follow(t)
			eventually(t, "it has what is there", func() bool { return maps.Equal(n.holds(), map[string]string{"k": "v"}) })
		})
	}
}

// TestNotUnderstood: a record that is not understood, or that is poison, is passed over; unless that was accepted, the
// node is not sure from then on.
func TestNotUnderstood(t *testing.T) {
	for _, key := range []string{"strange", "poison"} {
		for _, accept := range []bool{false, true} {
			log := onDisk(t)
			n := begin(t, log, replica.Options{AcceptDamage: accept, Logger: logtest.New(t, "what another node")})
			if err := n.set(t.Context(), "v", "before", key, "behind"); err != nil {
				t.Fatal(err)
			}
			if holds := n.holds(); len(holds) != 2 {
				t.Errorf("%s: it holds %v", key, holds)
			}
			if err := n.Unsure(); fault.Is(err, fault.Corrupt) == accept {
				t.Errorf("%s, accepted %t: %v", key, accept, err)
			}
		}
	}
}

// Append implements stream.Log.
func (a *alone) Append(u *stream.Unit, to stream.Receipt, ticket uint64) error {
	if f := a.appends; f != nil {
		if err := f(); err != nil {
			return err
		}
	}
	return a.Keeper.Append(u, to, ticket)
}

// TestEditsEnd: what decide refuses is told as it is, nothing is stored without records, and who is asked to stop, or
// is always second, ends.
func TestEditsEnd(t *testing.T) {
	log := onDisk(t)
	n := begin(t, log, replica.Options{})
	for _, no := range []error{errors.New("no"), fault.New(fault.Fenced, "test", "it is not what it was")} {
		if err := n.Edit(t.Context(), func() ([]record.Record, error) { return nil, no }); !errors.Is(err, no) {
			t.Errorf("refused: %v", err)
		}
	}
	if err := n.Edit(t.Context(), func() ([]record.Record, error) { return nil, nil }); err != nil {
		t.Errorf("nothing: %v", err)
	}
	second := fault.New(fault.Fenced, "test", "another was first")
	ctx, cancel := context.WithCancel(t.Context())
	log.appends = func() error { cancel(); return second }
	if err := n.set(ctx, "v", "k"); !fault.Is(err, fault.Timeout) {
		t.Errorf("stopped: %v", err)
	}
	log.appends = func() error { n.passed.Add(int64(time.Minute)); return second }
	if err := n.set(t.Context(), "v", "k"); !fault.Is(err, fault.Unavailable) || len(n.holds()) > 0 {
		t.Errorf("always second: %v", err)
	}
	log.appends = nil
	if err := n.set(t.Context(), "v", "k"); err != nil || n.holds()["k"] != "v" {
		t.Errorf("first at last: %v", err)
	}
}
