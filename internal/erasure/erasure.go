// Package erasure makes all records of a subject unreadable: it remembers who was asked to go until nothing of him is
// left, and writes down the proof.
//
//	e, err := erasure.Open(ctx, erasure.Options{Log: store, Audit: trail, Places: places, Clear: clear})
//	go e.Run(ctx)
//	status, err := e.Ask(ctx, []byte("alice"))
//
// A subject is kept nowhere: of each request there is a salt and the HMAC-SHA256 of the subject by it, in the topic
// __firth_erasures, and records are told by that. So a request goes on after a crash, who reads the audit learns no
// name, and who knows the name finds its request. log/store rewrites the files: docs/design/0011-encryption-at-rest.md.
package erasure

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// TopicName is the internal topic that holds the requests.
const TopicName = "__firth_erasures"

// Header is in what stands in the place of a record that was shredded. Its value is the id of the request.
const Header = hinge.HeaderShredded

// MaxSubject is the longest subject, in bytes.
const MaxSubject = 1024

const op = "shred"

// Place is a topic whose records may be about somebody.
type Place struct {
	Topic *stream.Topic
	// Of is the subject of a record. It is called by one goroutine at a time.
	Of func(v *record.View) (subject []byte, ok bool)
	// State: a record without a value stands for the end of what its key names, and is what is left of one.
	State bool
}

// Options of the room. Log, Audit and Places are needed.
type Options struct {
	Log interface {
		stream.Keeper
		CanShred() error
		Shred(ctx context.Context, job *store.Shredding) error
	}
	Audit *audit.Trail // nil: nothing can be proven, and nothing is shredded
	// Places are the topics that name subjects now.
	Places func() []Place
	// Clear ends what waits or is shown of a subject, apart from records: retained and delayed messages, wills.
	Clear func(ctx context.Context, about func(subject []byte) bool) error
	// Metrics receives the metrics. Default: nobody looks.
	Metrics *telemetry.Set
	// Logger gets the log lines. Default: none.
	Logger *slog.Logger
	// Clock is the wall clock. Default: time.Now.
	Clock func() time.Time
}

// Status is what there is to say of a request.
type Status struct {
	ID      string           `json:"id"`
	Subject string           `json:"subject"` // HMAC-SHA256 of it by the salt of the request, in hexadecimal
	Asked   time.Time        `json:"asked"`
	Ended   *time.Time       `json:"ended,omitempty"` // nothing is left
	Records map[string]int64 `json:"records"`         // that were made unreadable, by topic
	Files   int              `json:"files"`           // that were written anew for it
	Ahead   int              `json:"ahead,omitempty"` // files that are to be looked through
	Waits   string           `json:"waits,omitempty"` // for what nothing happens
	Error   string           `json:"error,omitempty"` // why the last try failed; it is tried again
	Hint    string           `json:"hint,omitempty"`
	Lost    int64            `json:"lost,omitempty"` // so many requests cannot be read: nobody knows whom they were about
}

// request is a request as the log keeps it.
type request struct {
	ID      string                     `json:"-"`
	Salt    []byte                     `json:"salt"`
	Digest  []byte                     `json:"digest"`
	Asked   time.Time                  `json:"asked"`
	Ended   *time.Time                 `json:"ended,omitempty"`
	Ends    map[string][]record.Offset `json:"ends,omitempty"` // by id of topic: the first offset that stays, by partition
	Records map[string]int64           `json:"records,omitempty"`
	Files   int                        `json:"files,omitempty"`
}

// Erasures are the requests. Make them with Open.
type Erasures struct {
	opt    Options
	wakeup chan struct{} // holds one token
	asking sync.Mutex    // held over a request, the log included: one at a time
	lost   lost

	mu struct {
		sync.Mutex
		requests map[string]*request // a request is replaced, not changed
		progress map[string]Status   // what the log does not keep
	}
}

// Open reads the requests. Errors: those of the log; Corrupt when some cannot be read.
func Open(ctx context.Context, opt Options) (*Erasures, error) {
	opt.Logger = cmp.Or(opt.Logger, slog.New(slog.DiscardHandler))
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	e := &Erasures{opt: opt, wakeup: make(chan struct{}, 1)}
	e.mu.requests, e.mu.progress = make(map[string]*request), make(map[string]Status)
	if opt.Metrics == nil {
		opt.Metrics = telemetry.New()
	}
	e.lost.gauge = opt.Metrics.Gauge("firth_shred_requests_lost", "Requests to shred a subject that cannot be read, "+
		"until firth shred accept; firth shred status tells what to do.").With()
	folded, err := stream.FoldState(ctx, opt.Log, TopicName, e.apply)
	if err != nil {
		return nil, err
	}
	e.lost.judge(&folded)
	for _, st := range e.Lost() {
		opt.Logger.Error("requests to shred a subject cannot be read", "requests", st.Lost, "error", folded.First,
			"hint", st.Hint)
	}
	return e, nil
}

// apply takes a record of the topic. Errors: those of JSON.
func (e *Erasures) apply(key string, value []byte) error {
	if key == acceptedKey {
		return json.Unmarshal(value, &e.lost.accepted)
	}
	r := &request{ID: key}
	if err := json.Unmarshal(value, r); err != nil {
		return err
	}
	e.mu.requests[r.ID] = r
	return nil
}

// Ask has a subject go: all records about it that are there now. It returns when that will happen, whatever comes;
// Run does it. A subject on its way already is not asked for again. Errors: Invalid; NotFound (no topic names a
// subject); Unsupported (nothing is encrypted, or nothing written down); Corrupt (the log is damaged); those of the
// log.
func (e *Erasures) Ask(ctx context.Context, subject []byte) (Status, error) {
	if len(subject) == 0 || len(subject) > MaxSubject {
		return Status{}, fault.New(fault.Invalid, op, "a subject has 1 to %d bytes", MaxSubject)
	}
	e.asking.Lock()
	defer e.asking.Unlock()
	for _, st := range e.Find(subject) {
		if st.Ended == nil {
			return st, nil
		}
	}
	places := e.opt.Places()
	switch {
	case e.opt.Audit == nil:
		return Status{}, fault.New(fault.Unsupported, op, "nothing is written down here, so nothing could be proven").
			WithHint("set audit.enabled")
	case len(places) == 0:
		return Status{}, fault.New(fault.NotFound, op, "no topic says whom its records are about").
			WithHint("firth topic alter TOPIC --set firth.subject=key, or header:NAME")
	}
	if err := e.opt.Log.CanShred(); err != nil {
		return Status{}, err
	}
	r := e.request(subject)
	about := chain.Event{Action: "subject.shred", Resource: chain.Resource{Kind: "subject", Name: r.ID},
		After: audit.State(map[string]any{"id": r.ID, "subject": hex.EncodeToString(r.Digest), "topics": namesOf(places)})}
	err := e.opt.Audit.Change(ctx, about, func() error {
		if err := e.opt.Clear(ctx, r.about); err != nil {
			return err
		}
		if err := e.ends(r, places); err != nil {
			return err
		}
		return e.store(ctx, r)
	})
	if err != nil {
		return Status{}, err
	}
	e.wake()
	return e.status(r), nil
}

// request makes one for a subject.
func (e *Erasures) request(subject []byte) *request {
	r := &request{Salt: make([]byte, sha256.Size), Asked: e.opt.Clock().UTC(), Ends: make(map[string][]record.Offset)}
	rand.Read(r.Salt) // never fails
	var id [8]byte
	rand.Read(id[:])
	r.ID, r.Digest = hex.EncodeToString(id[:]), digest(r.Salt, subject)
	return r
}

func digest(salt, subject []byte) []byte {
	mac := hmac.New(sha256.New, salt)
	mac.Write(subject)
	return mac.Sum(nil)
}

// about tells whether a subject is that of the request.
func (r *request) about(subject []byte) bool { return hmac.Equal(digest(r.Salt, subject), r.Digest) }

// ends notes how far the log has come: what comes behind it stays.
func (e *Erasures) ends(r *request, places []Place) error {
	for _, place := range places {
		ends := make([]record.Offset, len(place.Topic.Partitions))
		for i, p := range place.Topic.Partitions {
			b, err := e.opt.Log.Bounds(p)
			if err != nil {
				return err
			}
			ends[i] = b.High
		}
		r.Ends[place.Topic.ID.String()] = ends
	}
	return nil
}

func namesOf(places []Place) (names []string) {
	for _, p := range places {
		names = append(names, p.Topic.Name)
	}
	return names
}

// store keeps a request, and has it be the one that is known.
func (e *Erasures) store(ctx context.Context, r *request) error {
	value, err := json.Marshal(r)
	if err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	if err := e.put(ctx, r.ID, value); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.requests[r.ID] = r
	return nil
}

// put stores a row of the topic.
func (e *Erasures) put(ctx context.Context, key string, value []byte) error {
	row := record.Record{Timestamp: e.opt.Clock().UnixMilli(), Key: []byte(key), Value: value}
	return stream.StoreState(ctx, e.opt.Log, TopicName, []record.Record{row})
}

// List tells of all requests, the oldest first.
func (e *Erasures) List() []Status { return e.list(func(*request) bool { return true }) }

// Find tells of the requests about a subject, the oldest first.
func (e *Erasures) Find(subject []byte) []Status {
	return e.list(func(r *request) bool { return r.about(subject) })
}

func (e *Erasures) list(wanted func(*request) bool) []Status {
	all := []Status{}
	for _, r := range e.all() {
		if wanted(r) {
			all = append(all, e.status(r))
		}
	}
	return all
}

// all are the requests, the oldest first.
func (e *Erasures) all() (all []*request) {
	e.mu.Lock()
	all = slices.Collect(maps.Values(e.mu.requests))
	e.mu.Unlock()
	slices.SortFunc(all, func(a, b *request) int { return cmp.Or(a.Asked.Compare(b.Asked), cmp.Compare(a.ID, b.ID)) })
	return all
}

func (e *Erasures) status(r *request) Status {
	e.mu.Lock()
	st := e.mu.progress[r.ID]
	e.mu.Unlock()
	st.ID, st.Subject, st.Asked, st.Ended = r.ID, hex.EncodeToString(r.Digest), r.Asked, r.Ended
	st.Records, st.Files = r.Records, r.Files
	return st
}

func (e *Erasures) wake() {
	select {
	case e.wakeup <- struct{}{}:
	default: // it will look
	}
}
