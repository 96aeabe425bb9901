package erasure

import (
	"context"
	"encoding/hex"
	"maps"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

const (
	// retryAfter is after how long a request is tried again that failed, twice as long each time up to retryMost.
	retryAfter = 10 * time.Second
	retryMost  = time.Hour
	// filesInRecord is how many files one record of the audit tells of at most.
	filesInRecord = 100
)

// Run does what was asked for, one request after the other, until ctx ends.
func (e *Erasures) Run(ctx context.Context) error {
	pause := retryAfter
	for ctx.Err() == nil {
		failed := false
		for _, r := range e.all() {
			if r.Ended == nil && ctx.Err() == nil && !e.one(ctx, r) {
				failed = true
			}
		}
		again := time.NewTimer(pause)
		if pause = min(2*pause, retryMost); !failed {
			again.Stop()
			pause = retryAfter
		}
		select {
		case <-e.wakeup:
		case <-again.C:
		case <-ctx.Done():
		}
		again.Stop()
	}
	return nil
}

// one does one request, and tells whether it is done.
func (e *Erasures) one(ctx context.Context, r *request) bool {
	err := e.do(ctx, r)
	if ctx.Err() != nil {
		return false
	}
	e.mu.Lock()
	e.mu.progress[r.ID] = Status{}
	if err != nil {
		e.mu.progress[r.ID] = Status{Error: err.Error(), Hint: fault.HintOf(err)}
	}
	e.mu.Unlock()
	if err != nil {
		e.opt.Logger.Error("a subject is not shredded yet; it is tried again", "request", r.ID, "error", err,
			"hint", fault.HintOf(err))
	}
	return err == nil
}

// noted are the files that were written anew and are not written down yet. The log tells of them where it must not
// wait, so another goroutine writes them down.
type noted struct {
	wakeup chan struct{} // holds one token
	mu     sync.Mutex
	files  []store.ShredFile
}

func (n *noted) add(f store.ShredFile) {
	n.mu.Lock()
	n.files = append(n.files, f)
	n.mu.Unlock()
	select {
	case n.wakeup <- struct{}{}:
	default:
	}
}

// take takes at most as many as one record of the audit has room for.
func (n *noted) take() (some []store.ShredFile) {
	n.mu.Lock()
	defer n.mu.Unlock()
	most := min(len(n.files), filesInRecord)
	some, n.files = n.files[:most:most], n.files[most:]
	return some
}

// do shreds, and writes down what was done as it is done. Errors: those of the log.
func (e *Erasures) do(ctx context.Context, r *request) error {
	job, names := e.job(r)
	files := &noted{wakeup: make(chan struct{}, 1)}
	job.Rewritten = files.add
	id := r.ID
	job.Progress = func(at store.ShredProgress) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.mu.progress[id] = Status{Ahead: at.Ahead, Waits: at.Waits}
	}
	ended := make(chan error, 1)
	go func() { ended <- e.opt.Log.Shred(ctx, job) }()
	var err error
	for going := true; going; {
		select {
		case <-files.wakeup:
		case err = <-ended:
			going = false
		}
		for some := files.take(); len(some) > 0; some = files.take() {
			next, told := e.rewritten(ctx, r, some, names)
			if told != nil {
				e.opt.Logger.Error("a file that was written anew is not in the audit", "error", told)
				break
			}
			r = next
		}
	}
	if err != nil {
		return err
	}
	now := e.opt.Clock().UTC()
	done := *r
	done.Ended, done.Ends = &now, nil
	what := map[string]any{"id": r.ID, "subject": hex.EncodeToString(r.Digest), "asked": r.Asked, "records": r.Records,
		"files": r.Files}
	return e.opt.Audit.Change(ctx, e.event("subject.shredded", r, what), func() error { return e.store(ctx, &done) })
}

func (e *Erasures) event(action string, r *request, what any) chain.Event {
	return chain.Event{Action: action, Resource: chain.Resource{Kind: "subject", Name: r.ID}, After: audit.State(what)}
}

// fileLine is a file that was written anew as the audit has it.
type fileLine struct {
	Old    string `json:"old"`
	OldKey string `json:"old_key,omitempty"` // id of its data key; none: it was not encrypted
	New    string `json:"new,omitempty"`     // none: nothing else was in it
	NewKey string `json:"new_key,omitempty"`
}

// rewritten writes down files that were written anew, and gives the request with what went of them.
func (e *Erasures) rewritten(
	ctx context.Context, r *request, files []store.ShredFile, names map[stream.PartitionID]string,
) (*request, error) {
	next := *r
	next.Files += len(files)
	next.Records = maps.Clone(r.Records)
	if next.Records == nil {
		next.Records = make(map[string]int64)
	}
	var lines []fileLine
	for _, f := range files {
		lines = append(lines, fileLine{Old: f.Old, OldKey: f.OldKey, New: f.New, NewKey: f.NewKey})
		for p, n := range f.Records {
			next.Records[names[p]] += n
		}
	}
	what := map[string]any{"id": r.ID, "files": lines}
	err := e.opt.Audit.Change(ctx, e.event("subject.rewrite", r, what), func() error { return e.store(ctx, &next) })
	return &next, err
}

// job is what the log has to do, and the names of the topics of partitions.
func (e *Erasures) job(r *request) (*store.Shredding, map[stream.PartitionID]string) {
	job := &store.Shredding{Parts: make(map[stream.PartitionID]store.ShredPart)}
	names := make(map[stream.PartitionID]string)
	left := stub{id: []byte(r.ID), name: []byte("shredded-" + hex.EncodeToString(r.Digest[:8]))}
	for _, place := range e.opt.Places() {
		ends := r.Ends[place.Topic.ID.String()]
		for i, p := range place.Topic.Partitions {
			if i >= len(ends) {
				break // it was added later
			}
			names[p] = place.Topic.Name
			job.Parts[p] = store.ShredPart{End: ends[i], Replace: left.replace(r, place)}
		}
	}
	return job, names
}

// stub is what stands in the place of a record.
type stub struct {
	id   []byte // of the request
	name []byte // in the place of the subject
}

// replace tells which records of a place go, and what stands there then: of headers none, of the value nothing, though
// not null where it was not null, which would be a tombstone; and a key that is the subject itself is another one.
func (s *stub) replace(r *request, place Place) func(v *record.View, into *record.Record) bool {
	return func(v *record.View, into *record.Record) bool {
		subject, ok := place.Of(v)
		if !ok || !r.about(subject) || place.State && v.Value == nil {
			return false
		}
		*into = record.Record{Key: v.Key}
		if place.State {
			return true
		}
		into.Headers = append(into.Headers[:0], record.Header{Key: Header, Value: s.id})
		if string(v.Key) == string(subject) {
			into.Key = s.name
		}
		if v.Value != nil {
			into.Value = []byte{}
		}
		return true
	}
}
