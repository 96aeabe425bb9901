package node

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/backup"
	"github.com/firthmq/firth/internal/kit/fault"
)

const (
	mostPrints   = 64 << 20    // bytes of a request
	backupStalls = time.Minute // so long a write to who makes a backup may take
)

// backupAsk is what who makes a backup has already.
type backupAsk struct {
	Known []backup.Sum `json:"known"`
}

// serveBackup sends an image of the log, without the files that who asks has. It is held until the answer ends.
func (n *Node) serveBackup(ends context.Context) http.Handler {
	return n.ofThisMachine(n.administered(rule.Alter, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ends, cancel)()
		var ask backupAsk
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, mostPrints)).Decode(&ask); err != nil {
			refuse(w, fault.New(fault.Invalid, "backup", "the body does not say what is known: %w", err))
			return
		}
		out := &patientWriter{out: w, control: http.NewResponseController(w)}
		e := chain.Event{Action: "backup.create", Resource: chain.Resource{Kind: "cluster", Name: rule.ClusterName}}
		err := n.audit.Change(ctx, e, func() error { return n.sendImage(ctx, out, &ask) })
		switch {
		case err != nil && !out.begun:
			refuse(w, err)
		case err != nil:
			n.log.Warn("a backup broke off", "error", err, "hint", fault.HintOf(err))
		}
	})))
}

func (n *Node) sendImage(ctx context.Context, out io.Writer, ask *backupAsk) error {
	if n.store == nil {
		return fault.New(fault.Unsupported, "backup", "the log is in Kafka: it is backed up there")
	}
	if !n.imaging.TryLock() {
		return fault.New(fault.Exists, "backup", "another backup is being made").WithHint("wait until it has ended")
	}
	defer n.imaging.Unlock()
	im, err := n.store.Image(ctx)
	if err != nil {
		return err
	}
	defer im.Close()
	known := make(map[backup.Sum]bool, len(ask.Known))
	for _, s := range ask.Known {
		known[s] = true
	}
	return backup.Send(ctx, out, im, BuildVersion().Version, known)
}

// patientWriter writes an answer that takes long to who reads it slowly, but reads.
type patientWriter struct {
	out     http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

// Write implements io.Writer.
func (p *patientWriter) Write(b []byte) (int, error) {
	if !p.begun {
		p.begun = true
		p.out.Header().Set("Content-Type", "application/x-tar")
		p.out.Header().Set("Cache-Control", "no-store")
	}
	if err := p.control.SetWriteDeadline(time.Now().Add(backupStalls)); err != nil {
		return 0, fault.Wrap(fault.IO, "backup", err)
	}
	return p.out.Write(b)
}
