package node

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// auditKey is what checkpoints are verified by.
type auditKey struct {
	Key    []byte          `json:"key"` // Ed25519, 32 bytes
	ID     string          `json:"id"`
	Head   json.RawMessage `json:"head,omitempty"` // the last checkpoint that the node knows to be stored
	Source string          `json:"source"`
}

func (n *Node) adminAuditKey(*http.Request) (any, error) {
	if n.audit == nil {
		return nil, errNoAudit
	}
	key, err := n.audit.Key()
	if err != nil {
		return nil, err
	}
	return auditKey{key, chain.KeyID(key), n.audit.Head(), n.audit.Source()}, nil
}

var errNoAudit = fault.New(fault.NotFound, "audit", "nothing is recorded here: audit.enabled is false")

// auditAsk is what somebody wants to see of the audit.
type auditAsk struct {
	query  chain.Query
	last   int  // of that many at the end; 0: of all
	follow bool // and what comes
}

func askOf(r *http.Request) (a auditAsk, err error) {
	q := r.URL.Query()
	for name, at := range map[string]*time.Time{"since": &a.query.Since, "until": &a.query.Until} {
		if text := q.Get(name); text != "" {
			if *at, err = time.Parse(time.RFC3339, text); err != nil {
				return a, fault.New(fault.Invalid, "admin", "%s=%s is no time as 2026-01-31T12:00:00Z", name, fault.Text(text))
			}
		}
	}
	a.query.Principal, a.query.Type, a.query.Resource = q.Get("principal"), q.Get("type"), q.Get("resource")
	a.query.Outcome, a.query.Address = chain.Outcome(q.Get("outcome")), q.Get("address")
	a.follow = q.Get("follow") == "true"
	const most = 1_000_000_000
	if q.Get("last") != "" {
		a.last, err = number(r, "last", most)
	}
	return a, err
}

// serveAudit sends records of the audit as they lie in the log, a line each, and with follow=true those that come until
// who asks goes or the node ends. What cannot be read is a line that says so.
func (n *Node) serveAudit(ends context.Context) http.Handler {
	return n.ofThisMachine(n.administered(rule.Describe, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, err := askOf(r)
		if err == nil && n.audit == nil {
			err = errNoAudit
		}
		out := http.NewResponseController(w)
		if err = cmp.Or(err, out.SetWriteDeadline(time.Time{})); err != nil {
			refuse(w, err)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ends, cancel)()
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.WriteHeader(http.StatusOK)
		if err := n.sendAudit(ctx, &a, w, out.Flush); err != nil && ctx.Err() == nil {
			n.log.Warn("the audit was not sent to its end", "error", err)
			panic(http.ErrAbortHandler) // who asks must not take it for all there is
		}
	})))
}

// news wakes who follows the audit; it holds one token.
type news chan struct{}

// Advanced implements stream.Watcher.
func (c news) Advanced(stream.PartitionID, record.Offset) {
	select {
	case c <- struct{}{}:
	default: // it will look
	}
}

// auditLooks is how often it is looked whether the topic is there, which comes with the first record.
const auditLooks = time.Second

// sendAudit sends what is asked for.
func (n *Node) sendAudit(ctx context.Context, a *auditAsk, w io.Writer, flush func() error) error {
	comes := make(news, 1)
	watch := n.keeper.Watch(comes, stream.Followed)
	defer watch.Stop()
	look := time.NewTicker(auditLooks)
	defer look.Stop()
	next := record.Offset(-1)
	for {
		t := n.keeper.Topics().ByName(audit.TopicName)
		var err error
		if t != nil && next < 0 {
			watch.Follow(t.Partitions[0])
			next, err = n.beginAudit(t.Partitions[0], a)
		}
		if t != nil && err == nil {
			next, err = n.sendFrom(ctx, t.Partitions[0], next, a, w)
		}
		if err = cmp.Or(err, flush()); err != nil || !a.follow {
			return err
		}
		select {
		case <-comes:
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// beginAudit is where what is asked for begins.
func (n *Node) beginAudit(p stream.PartitionID, a *auditAsk) (record.Offset, error) {
	bounds, err := n.keeper.Bounds(p)
	if err != nil || a.last == 0 {
		return bounds.Start, err
	}
	return max(bounds.Start, bounds.High-record.Offset(a.last)), nil
}

// sendFrom sends what there is from an offset on.
func (n *Node) sendFrom(
	ctx context.Context, p stream.PartitionID, from record.Offset, a *auditAsk, w io.Writer,
) (next record.Offset, err error) {
	for next = from; ctx.Err() == nil; {
		was := next
		var sent error
		next, err = n.keeper.Scan(p, next, stream.ScanOptions{}, func(v *record.View) bool {
			if sent = n.mayStill(ctx, rule.Describe); sent == nil {
				sent = sendRecord(a, v, w)
			}
			return sent == nil
		})
		damage, damaged := errors.AsType[*stream.Damage](err)
		switch {
		case sent != nil:
			return next, sent
		case damaged:
			text, _ := json.Marshal(map[string]string{"lost": damage.Error()}) // a string always has a JSON form
			if _, err := w.Write(append(text, '\n')); err != nil {
				return next, err
			}
			next = damage.Next
		case fault.Is(err, fault.OutOfRange): // it went by retention meanwhile
			bounds, err := n.keeper.Bounds(p)
			if err != nil || bounds.Start <= next {
				return next, err
			}
			next = bounds.Start
		case err != nil, next == was:
			return next, err
		}
	}
	return next, nil
}

// sendRecord sends a record that is asked for. What is no line of JSON is sent as a string, which is no record.
func sendRecord(a *auditAsk, v *record.View, w io.Writer) error {
	line := v.Value
	if r, err := chain.Parse(line); err == nil && !a.query.Match(r) {
		return nil
	} else if err != nil {
		line, _ = json.Marshal(base64.StdEncoding.EncodeToString(line)) // a string always has a JSON form
	}
	if _, err := w.Write(line); err != nil {
		return err
	}
	_, err := w.Write([]byte{'\n'})
	return err
}
