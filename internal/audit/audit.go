// Package audit writes down who did what: logins, refusals, changes, takeovers and, where asked for, who wrote and read
// which topic. The records are a hash chain in the topic __firth_audit (audit/chain).
//
//	trail, err := audit.Open(ctx, audit.Options{Log: log, FS: fs, Source: "/firth/" + cluster})
//	go trail.Run(ctx)
//	trail.Tell(chain.Event{...})                 // is written within a second; never waits
//	err = trail.Change(ctx, e, func() error {})  // is on stable storage before anything is changed
//
// A nil Trail takes everything and writes nothing.
package audit

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/stream"
)

// TopicName is the topic of the audit. Clients with a rule about it may read it; nobody writes it but the node.
const TopicName = "__firth_audit"

// Kinds of resources that are none of Kafka's: names of devices, and filters of subscriptions.
const (
	KindName   = "name"
	KindFilter = "filter"
)

// Options of a trail. Log, FS and Source are needed.
type Options struct {
	Log stream.Keeper
	FS  vfs.FS // where the key is kept, in the root
	// Source names the node in every record.
	Source string
	// Data are the topics whose reads and writes are told: names, or with * at the end what they begin with.
	Data []string
	// Retention is how long records are kept, and RetentionBytes how many bytes of them. 0: as long as there is room.
	Retention      time.Duration
	RetentionBytes int64
	// Asked tells whether somebody has asked for users or rules; before, the doors tell nothing but of Data. nil: yes.
	Asked func() bool
	// Rule finds the rule by which something was refused, by its id; "": there is none. nil: nobody knows.
	Rule func(*chain.Event) string
	// Clock is the wall clock. Default: time.Now.
	Clock func() time.Time
	// Metrics receives the metrics. Default: nobody looks.
	Metrics *telemetry.Set
	// Logger receives the log lines. Default: none.
	Logger *slog.Logger
}

// Trail writes the audit. Make one with Open.
type Trail struct {
	opt     Options
	wakeup  chan struct{} // holds one token
	written telemetry.Counters
	merged  telemetry.Counter
	failed  telemetry.Counter

	mu struct {
		sync.Mutex
		gathered gathered
		changes  []*change
		over     bool // Run has ended
	}

	writer writer // of Run
}

// change is a record that somebody waits for.
type change struct {
	event  chain.Event
	number chain.Number // of its record, once it is written
	done   chan error   // holds one
}

// Open finds the end of the chain. Errors: those of the log and of reading the key.
func Open(ctx context.Context, opt Options) (*Trail, error) {
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Metrics == nil {
		opt.Metrics = telemetry.New()
	}
	t := &Trail{opt: opt, wakeup: make(chan struct{}, 1)}
	t.written = opt.Metrics.Counter("firth_audit_records_total", "Records of the audit that were written.", "type")
	t.merged = opt.Metrics.Counter("firth_audit_merged_total",
		"Events of the audit that are counted in the record of another one of the same second.").With()
	t.failed = opt.Metrics.Counter("firth_audit_write_failures_total",
		"Writes of the audit that failed, and are tried again; changes were refused by them.").With()
	t.writer = writer{opt: &t.opt}
	if err := t.writer.open(ctx); err != nil {
		return nil, err
	}
	if t.writer.exists() { // the chain goes on, and says that it does
		t.Tell(chain.Event{Type: chain.TypeOpened, Action: "open", Outcome: chain.Success})
	}
	return t, nil
}

// Key is the public key that checkpoints are signed with, made if there is none. Errors: those of storing it.
func (t *Trail) Key() (ed25519.PublicKey, error) {
	key, err := t.writer.signer()
	if err != nil {
		return nil, err
	}
	public, _ := key.Public().(ed25519.PublicKey)
	return public, nil
}

// Source is what names the node in every record.
func (t *Trail) Source() string { return t.opt.Source }

// Head is the last checkpoint that was noted outside of the log, as its record; nil: none was, or retention may have
// taken it.
func (t *Trail) Head() []byte {
	value := t.writer.head.Load().value
	r, err := chain.Parse(value)
	if err != nil || t.opt.Retention > 0 && t.opt.Clock().Sub(r.Time) > t.opt.Retention {
		return nil
	}
	return value
}

// Tell takes an event that nobody waits for. Several of a kind by one from one address within a second are one record
// with their count.
func (t *Trail) Tell(e chain.Event) {
	if t == nil {
		return
	}
	e.Time = t.opt.Clock()
	t.mu.Lock()
	first, merged := t.mu.gathered.add(&e)
	t.mu.Unlock()
	if merged {
		t.merged.Inc()
	}
	if first {
		t.wake()
	}
}

// Refusal is the event of a decision of the guard: somebody may not do an operation to a resource.
func Refusal(by By, operation string, on chain.Resource) chain.Event {
	return chain.Event{Type: chain.TypeRefused, Actor: by.Actor, Origin: by.Origin, Action: operation, Resource: on,
		Outcome: chain.Denied}
}

// Change does something that an administrator asked for, and is back when it is done. That it was begun is on stable
// storage before; how it ended is told behind it. Errors: those of the log, and nothing is done; those of do. Who asks
// is known by As.
func (t *Trail) Change(ctx context.Context, e chain.Event, do func() error) error {
	if t == nil {
		return do()
	}
	by(ctx, &e)
	e.Type, e.Time, e.Outcome = chain.TypeChange, t.opt.Clock(), chain.Begun
	c := &change{event: e, done: make(chan error, 1)}
	if err := t.enqueue(c); err != nil {
		return err
	}
	select {
	case err := <-c.done:
		if err != nil {
			return fault.New(fault.KindOf(err), "audit", "nothing is changed that cannot be recorded: %w", err)
		}
	case <-ctx.Done():
		return fault.New(fault.Timeout, "audit", "nothing is changed that is not recorded in time: %w", ctx.Err())
	}
	err := do()
	e.Outcome, e.Of, e.Before, e.After = chain.Success, uint64(c.number), nil, nil
	if err != nil {
		e.Outcome, e.Reason = chain.Failure, err.Error()
	}
	t.Tell(e)
	return err
}

// Show tells that somebody who administers the node was shown what is in a message. Who asks is known by As.
func (t *Trail) Show(ctx context.Context, e chain.Event) {
	by(ctx, &e)
	e.Type, e.Outcome = chain.TypeFetch, chain.Success
	t.Tell(e)
}

// by notes who asks, if the event does not say.
func by(ctx context.Context, e *chain.Event) {
	if by, ok := ctx.Value(asker{}).(By); ok && e.Actor.Principal == "" {
		e.Actor, e.Origin = by.Actor, by.Origin
	}
	if e.Actor.Principal == "" {
		e.Actor.Principal = NodeItself
	}
}

// NodeItself is who does what nobody asked for.
const NodeItself = "node"

func (t *Trail) enqueue(c *change) error {
	t.mu.Lock()
	over := t.mu.over
	if !over {
		t.mu.changes = append(t.mu.changes, c)
	}
	t.mu.Unlock()
	if over {
		return fault.New(fault.Closed, "audit", "the node ends")
	}
	t.wake()
	return nil
}

// Wants tells whether reads and writes of a topic are to be told.
func (t *Trail) Wants(topic string) bool {
	if t == nil {
		return false
	}
	for _, pattern := range t.opt.Data {
		if prefix, open := strings.CutSuffix(pattern, "*"); pattern == topic || open && strings.HasPrefix(topic, prefix) {
			return topic != TopicName
		}
	}
	return false
}

// On tells whether the doors tell who comes, what is refused and what is changed.
func (t *Trail) On() bool { return t != nil && (t.opt.Asked == nil || t.opt.Asked()) }

// WantsSome tells whether there are topics at all whose reads and writes are to be told.
func (t *Trail) WantsSome() bool { return t != nil && len(t.opt.Data) > 0 }

// State is what is there before or behind a change, as the audit has it; nil: nothing is.
func State(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil || string(text) == "null" {
		return nil
	}
	return text
}

// By is who asks for a change, and from where.
type By struct {
	Actor  chain.Actor
	Origin chain.Origin
}

// asker is the key of By in a context.
type asker struct{}

// As notes who asks for what is done with a context.
func As(ctx context.Context, by By) context.Context { return context.WithValue(ctx, asker{}, by) }

func (t *Trail) wake() {
	select {
	case t.wakeup <- struct{}{}:
	default: // a token is there: it will look
	}
}
