package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// house is an audit on a log in memory.
type house struct {
	t   *testing.T
	log *store.Store
	*audit.Trail
	stop func()
}

func open(t *testing.T, fs vfs.FS, opt audit.Options) *house {
	t.Helper()
	h := &house{t: t}
	logger := logtest.New(t, "the end of the audit is missing", "commit failed",
		"housekeeping of the log failed")
	var err error
	h.log, err = store.Open(t.Context(), store.Options{FS: fs, Logger: logger, JournalBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	opt.Log, opt.FS, opt.Source, opt.Logger = h.log, fs, "/firth/test", logger
	if h.Trail, err = audit.Open(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.Run(ctx)
	}()
	h.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		if err := h.log.Close(); err != nil {
			t.Log(err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// records are what is in the log.
func records(t *testing.T, log *store.Store) (all []*chain.Record, values [][]byte) {
	t.Helper()
	topic := log.Topics().ByName(audit.TopicName)
	if topic == nil {
		return nil, nil
	}
	_, err := stream.Fold(t.Context(), log, topic.Partitions[0], 0, func(v *record.View) error {
		r, err := chain.Parse(v.Value)
		all, values = append(all, r), append(values, []byte(string(v.Value)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, values
}

// await waits until there are records that fit.
func (h *house) await(what string, fits func([]*chain.Record) bool) []*chain.Record {
	h.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		all, _ := records(h.t, h.log)
		if fits(all) {
			return all
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: there are %d records", what, len(all))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func verify(t *testing.T, fs vfs.FS) chain.Report {
	t.Helper()
	log, err := store.Open(t.Context(), store.Options{FS: fs, Logger: logtest.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	trail, err := audit.Open(t.Context(), audit.Options{Log: log, FS: fs, Source: "/firth/test"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := trail.Key()
	if err != nil {
		t.Fatal(err)
	}
	v := chain.Verifier{Key: key}
	if head := trail.Head(); head != nil {
		if v.Head, err = chain.Parse(head); err != nil {
			t.Fatal(err)
		}
	}
	_, values := records(t, log)
	for _, value := range values {
		v.Next(value)
	}
	return v.End()
}

func refusal(principal, address, topic string) chain.Event {
	return chain.Event{Type: chain.TypeRefused, Actor: chain.Actor{Principal: principal},
		Origin: chain.Origin{Address: address}, Action: "write", Resource: chain.Resource{Kind: "topic", Name: topic},
		Outcome: chain.Denied}
}

// TestNobodyPays wants nothing made where nothing happens: no topic, no key.
func TestNobodyPays(t *testing.T) {
	fs := vfs.NewMemory()
	open(t, fs, audit.Options{}).stop()
	names, err := fs.List(".")
	if err != nil || strings.Contains(strings.Join(names, " "), "audit") {
		t.Errorf("%v, %v", names, err)
	}
}

// TestChange wants a change on stable storage before it is made, and how it ended behind it.
func TestChange(t *testing.T) {
	fs := vfs.NewMemory()
	h := open(t, fs, audit.Options{})
	ctx := audit.As(t.Context(), audit.By{Actor: chain.Actor{Principal: "User:alice"}})
	e := chain.Event{Action: "user.set", Resource: chain.Resource{Kind: "user", Name: "bob"},
		Before: json.RawMessage(`{"roles":[]}`), After: json.RawMessage(`{"roles":["admin"]}`)}
	err := h.Change(ctx, e, func() error {
		crashed, err := store.Open(t.Context(), store.Options{FS: fs.CrashClone(rand.New(rand.NewPCG(1, 1)))})
		if err != nil {
			return err
		}
		defer crashed.Close()
		all, _ := records(t, crashed)
		if len(all) != 1 || all[0].Data.Outcome != chain.Begun || all[0].Data.Actor.Principal != "User:alice" ||
			string(all[0].Data.After) != string(e.After) {
			t.Errorf("while it is made there is %+v", all)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the disk is gone")
	if err := h.Change(ctx, e, func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	h.stop()
	log := open(t, fs, audit.Options{}).log
	all, _ := records(t, log)
	var ends []string
	for _, r := range all {
		ends = append(ends, fmt.Sprint(r.Sequence, " ", r.Data.Outcome, " ", r.Data.Of, " ", r.Data.Reason))
	}
	want := "1 begun 0 |2 success 1 |3 begun 0 |4 failure 3 the disk is gone|5  0 "
	if got := strings.Join(ends, "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestFailsClosed wants nothing changed that cannot be recorded: on a full disk, and behind the end of the node.
func TestFailsClosed(t *testing.T) {
	fs := vfs.NewMemory()
	h := open(t, fs, audit.Options{})
	if err := h.Change(t.Context(), chain.Event{Action: "a"}, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	fs.SetCapacity(1)
	made := false
	for range 10_000 { // what is reserved of the journal is used up first
		made = false
		big := chain.Event{Action: "b", After: json.RawMessage(`"` + strings.Repeat("x", 10_000) + `"`)}
		if err := h.Change(t.Context(), big, func() error { made = true; return nil }); err != nil {
			break
		}
	}
	if made {
		t.Error("a full disk did not keep a change from being made")
	}
	fs.SetCapacity(1 << 40)
	h.stop()
	made = false
	err := h.Change(t.Context(), chain.Event{Action: "c"}, func() error { made = true; return nil })
	if !fault.Is(err, fault.Closed) || made {
		t.Errorf("after the end: %v, made %v", err, made)
	}
}

// TestGathered wants a flood of refusals in few records, and all of it counted.
func TestGathered(t *testing.T) {
	h := open(t, vfs.NewMemory(), audit.Options{})
	const each = 20_000
	for i := range each {
		h.Tell(refusal("User:alice", "10.0.0.7", fmt.Sprint("t", i%20)))             // one client, many topics
		h.Tell(refusal(fmt.Sprint("User:", i), "10.0.0.8", "t"))                     // one address, many names
		h.Tell(refusal("User:bob", fmt.Sprintf("10.1.%d.%d", i>>8&255, i&255), "t")) // many addresses
	}
	total := func(all []*chain.Record) (sum int) {
		for _, r := range all {
			if r.Type == chain.TypeRefused {
				sum += max(r.Data.Count, 1)
			}
		}
		return sum
	}
	all := h.await("all of it counted", func(all []*chain.Record) bool { return total(all) == 3*each })
	seconds := int(all[len(all)-1].Time.Sub(all[0].Time).Seconds()) + 2
	if most := 300 * seconds; len(all) > most {
		t.Errorf("%d records in %d seconds", len(all), seconds)
	}
	if first := all[0]; len(first.Data.Also) == 0 || len(first.Data.Also) > 8 {
		t.Errorf("the first tells of %d other topics", len(first.Data.Also))
	}
}

// TestHandshakesLeaveRoom wants a flood of handshakes that fail in few records, all of it counted, and what is refused
// to others meanwhile told by itself.
func TestHandshakesLeaveRoom(t *testing.T) {
	h := open(t, vfs.NewMemory(), audit.Options{})
	const flood = 20_000
	for i := range flood {
		h.Tell(chain.Event{Type: chain.TypeHandshake, Action: "connect", Outcome: chain.Failure,
			Actor:  chain.Actor{CN: fmt.Sprint("device ", i)},
			Origin: chain.Origin{Address: fmt.Sprintf("10.1.%d.%d", i>>8&255, i&255), Listener: "mqtts"}})
		if i%1000 == 0 {
			h.Tell(refusal(fmt.Sprint("User:", i), fmt.Sprint("10.2.0.", i/1000), "t"))
		}
	}
	count := func(all []*chain.Record, kind string) (records, events int) {
		for _, r := range all {
			if r.Type == kind {
				records, events = records+1, events+max(r.Data.Count, 1)
			}
		}
		return records, events
	}
	all := h.await("all of it counted", func(all []*chain.Record) bool {
		_, handshakes := count(all, chain.TypeHandshake)
		_, refusals := count(all, chain.TypeRefused)
		return handshakes == flood && refusals == flood/1000
	})
	seconds := int(all[len(all)-1].Time.Sub(all[0].Time).Seconds()) + 2
	if records, _ := count(all, chain.TypeHandshake); records > 70*seconds {
		t.Errorf("%d records of handshakes in %d seconds", records, seconds)
	}
	if records, _ := count(all, chain.TypeRefused); records != flood/1000 {
		t.Errorf("%d records of refusals", records)
	}
}

// TestRestarts wants one chain over restarts, signed, and found damaged once its end was cut off.
func TestRestarts(t *testing.T) {
	fs := vfs.NewMemory()
	var before *vfs.Memory
	for i := range 4 {
		h := open(t, fs, audit.Options{})
		for j := range 300 {
			if err := h.Change(t.Context(), chain.Event{Action: fmt.Sprint(i, j)}, func() error { return nil }); err != nil {
				t.Fatal(err)
			}
			h.Tell(refusal("User:alice", "10.0.0.7", "t"))
		}
		h.stop()
		if i == 2 {
			before = fs.Clone()
		}
	}
	report := verify(t, fs.Clone())
	if report.Fault != nil || report.Signed != report.Last.Sequence || report.First != 1 || report.Records < 2400 {
		t.Errorf("%+v", report)
	}
	head := readAll(t, fs, audit.HeadFile)
	f, err := before.Create(audit.HeadFile)
	if err == nil {
		_, err = f.WriteAt(head, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if report := verify(t, before); report.Fault == nil || report.Fault.Wrong != chain.Truncated {
		t.Errorf("an older log with a newer checkpoint: %+v", report)
	}
}

func readAll(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCrashes crashes while much is told and changed: the chain verifies after each, and holds every change that was
// made.
func TestCrashes(t *testing.T) {
	fs := vfs.NewMemory()
	chance := rand.New(rand.NewPCG(3, 4))
	for round := range 12 {
		h := open(t, fs, audit.Options{})
		var mu sync.Mutex
		made := map[string]bool{}
		var all sync.WaitGroup
		for g := range 4 {
			all.Go(func() {
				for i := range 120 {
					name := fmt.Sprint(round, g, i)
					_ = h.Change(t.Context(), chain.Event{Action: name}, func() error {
						mu.Lock()
						defer mu.Unlock()
						made[name] = true
						return nil
					})
					h.Tell(refusal("User:alice", fmt.Sprint("10.0.0.", i), "t"))
				}
			})
		}
		var crashed *vfs.Memory
		var done map[string]bool
		for most := chance.IntN(300); ; {
			mu.Lock()
			if len(made) >= most {
				done = map[string]bool{}
				for name := range made {
					done[name] = true
				}
				crashed = fs.CrashClone(chance)
			}
			mu.Unlock()
			if crashed != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		all.Wait()
		h.stop()
		if report := verify(t, crashed.Clone()); report.Fault != nil {
			t.Fatalf("round %d: %v", round, report.Fault)
		}
		log, err := store.Open(t.Context(), store.Options{FS: crashed.Clone(), Logger: logtest.New(t)})
		if err != nil {
			t.Fatal(err)
		}
		there, _ := records(t, log)
		for _, r := range there {
			delete(done, r.Data.Action)
		}
		if len(done) > 0 {
			t.Fatalf("round %d: %d changes were made of which there is no record", round, len(done))
		}
		_ = log.Close()
		fs = crashed
	}
}

// TestEndsWithoutACheckpoint ends often before a checkpoint is due: who goes on signs what was left.
func TestEndsWithoutACheckpoint(t *testing.T) {
	fs := vfs.NewMemory()
	chance := rand.New(rand.NewPCG(5, 6))
	for round := range 7 {
		h := open(t, fs, audit.Options{})
		var all sync.WaitGroup
		for i := range chain.CheckpointEvery - 10 {
			all.Go(func() {
				e := chain.Event{Action: fmt.Sprint(round, i)}
				if err := h.Change(t.Context(), e, func() error { return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		fs = fs.CrashClone(chance)
		h.stop()
	}
	if report := verify(t, fs); report.Fault != nil || report.Records-int(report.Signed) > 2*chain.CheckpointEvery {
		t.Errorf("%+v", report)
	}
}

// TestWants is which topics are asked for.
func TestWants(t *testing.T) {
	h := open(t, vfs.NewMemory(), audit.Options{Data: []string{"plant", "line.*"}})
	for topic, want := range map[string]bool{"plant": true, "plant2": false, "line.1": true, "line": false,
		audit.TopicName: false} {
		if got := h.Wants(topic); got != want {
			t.Errorf("%s: %v", topic, got)
		}
	}
	var none *audit.Trail
	none.Tell(chain.Event{})
	if err := none.Change(t.Context(), chain.Event{}, func() error { return nil }); err != nil || none.Wants("plant") {
		t.Error("no audit does something")
	}
}

func BenchmarkTell(b *testing.B) {
	log, err := store.Open(b.Context(), store.Options{FS: vfs.NewMemory()})
	if err != nil {
		b.Fatal(err)
	}
	trail, err := audit.Open(b.Context(), audit.Options{Log: log, FS: vfs.NewMemory(), Source: "/firth/test"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	e := refusal("User:alice", "10.0.0.7", "t")
	for b.Loop() {
		trail.Tell(e)
	}
	_ = log.Close()
}
