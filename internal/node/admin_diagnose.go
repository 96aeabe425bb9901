package node

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/backup"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
)

// What a node tells of itself for who looks for a fault: firth diagnose. No part has payloads or secrets in it.

const (
	longestProfile = time.Minute
	longestCheck   = 10 * time.Minute
	mostFindings   = 100
	mostListed     = 100_000 // files
)

// errorSuffix is behind the name of a part that could not be had: what is in it is why.
const errorSuffix = ".error"

// diagnosis is what somebody asks for.
type diagnosis struct {
	n              *Node
	profile, check time.Duration
}

// part is one file of a diagnosis.
type part struct {
	name string
	make func(ctx context.Context, w io.Writer) error
}

// parts are all of them; what takes long comes last.
func (d *diagnosis) parts() []part {
	n := d.n
	return []part{
		{"version.json", n.tellVersion},
		{"health.txt", n.tellHealth},
		{"config.yaml", func(_ context.Context, w io.Writer) error { return n.config().WriteYAML(w, true) }},
		{"metrics.txt", n.tellMetrics},
		{"hour.json", func(_ context.Context, w io.Writer) error { return json.NewEncoder(w).Encode(n.lastHour()) }},
		{"log.txt", n.tellLines},
		{"files.txt", n.tellFiles},
		{"goroutines.txt", profileOf("goroutine", 1)},
		{"heap.pprof", profileOf("heap", 0)},
		{"cpu.pprof", d.profileCPU},
		{"check.json", d.checkLog},
	}
}

// serveDiagnosis sends the parts of a diagnosis as a tar, each when it is there.
func (n *Node) serveDiagnosis(ends context.Context) http.Handler {
	return n.ofThisMachine(n.administered(rule.Alter, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ends, cancel)()
		d := &diagnosis{n: n}
		var err error
		if d.profile, err = upTo(r, "profile", longestProfile); err == nil {
			d.check, err = upTo(r, "check", longestCheck)
		}
		if err != nil {
			refuse(w, err)
			return
		}
		if !n.diagnosing.TryLock() {
			refuse(w, fault.New(fault.Exists, "diagnose", "somebody else is at it").WithHint("wait until it has ended"))
			return
		}
		defer n.diagnosing.Unlock()
		out := &patientWriter{out: w, control: http.NewResponseController(w)}
		e := chain.Event{Action: "node.diagnose", Resource: chain.Resource{Kind: "cluster", Name: rule.ClusterName}}
		err = n.audit.Change(ctx, e, func() error { return d.send(ctx, out) })
		if err != nil && !out.begun {
			refuse(w, err)
		}
	})))
}

// upTo reads a time of a query, from 0 to a bound.
func upTo(r *http.Request, name string, most time.Duration) (time.Duration, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > most {
		return 0, fault.New(fault.Invalid, "diagnose", "%s %s is not from 0s to %v", name, fault.Text(text), most)
	}
	return d, nil
}

// send writes each part, and why there is none in place of one that cannot be had.
func (d *diagnosis) send(ctx context.Context, w *patientWriter) error {
	out := tar.NewWriter(w)
	for _, p := range d.parts() {
		var text bytes.Buffer
		name, err := p.name, p.make(ctx, &text)
		if err != nil {
			text.Reset()
			name += errorSuffix
			text.WriteString(err.Error() + "\n")
		}
		if ctx.Err() != nil {
			return fault.Wrap(fault.Closed, "diagnose", ctx.Err())
		}
		h := &tar.Header{Name: name, Size: int64(text.Len()), Mode: 0o600, ModTime: time.Now().Truncate(time.Second)}
		if err := out.WriteHeader(h); err != nil {
			return fault.Wrap(fault.IO, "diagnose", err)
		}
		if _, err := out.Write(text.Bytes()); err != nil {
			return fault.Wrap(fault.IO, "diagnose", err)
		}
		if err := errors.Join(out.Flush(), w.control.Flush()); err != nil {
			return fault.Wrap(fault.IO, "diagnose", err)
		}
	}
	return fault.Wrap(fault.IO, "diagnose", out.Close())
}

func (n *Node) tellVersion(_ context.Context, w io.Writer) error {
	return json.NewEncoder(w).Encode(struct {
		Version
		PID        int       `json:"pid"`
		Began      time.Time `json:"began"`
		Now        time.Time `json:"now"`
		CPUs       int       `json:"cpus"`
		Procs      int       `json:"gomaxprocs"`
		Goroutines int       `json:"goroutines"`
	}{BuildVersion(), os.Getpid(), n.began, time.Now(), runtime.NumCPU(), runtime.GOMAXPROCS(0), runtime.NumGoroutine()})
}

func (n *Node) tellHealth(_ context.Context, w io.Writer) error {
	for _, c := range n.checks() {
		word := "ok"
		if c.err != nil {
			word = c.err.Error()
		} else if c.note != "" {
			word += ": " + c.note
		}
		if _, err := fmt.Fprintf(w, "%s: %s\n", c.name, word); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) tellMetrics(ctx context.Context, w io.Writer) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return err
	}
	n.metrics.Handler().ServeHTTP(&bodyOnly{Writer: w, header: http.Header{}}, r)
	return nil
}

// bodyOnly takes the body of an answer.
type bodyOnly struct {
	io.Writer
	header http.Header
}

func (b *bodyOnly) Header() http.Header { return b.header }
func (b *bodyOnly) WriteHeader(int)     {}

func (n *Node) tellLines(_ context.Context, w io.Writer) error {
	if n.lines == nil {
		return fault.New(fault.Unsupported, "diagnose", "no log lines are kept")
	}
	_, err := w.Write(n.lines.text())
	return err
}

func (n *Node) tellFiles(ctx context.Context, w io.Writer) error { return ListFiles(ctx, n.fs, w) }

// ListFiles writes the names of all files of a folder with their sizes in bytes, a line each, and nothing of what is in
// them. Errors: IO, Timeout.
func ListFiles(ctx context.Context, fs vfs.FS, w io.Writer) error {
	left := mostListed
	var list func(dir string) error
	list = func(dir string) error {
		names, err := fs.List(dir)
		if err != nil {
			return err
		}
		for _, base := range names {
			name := strings.TrimPrefix(dir+"/"+base, "./")
			if left--; left < 0 || ctx.Err() != nil {
				return fault.New(fault.Timeout, "diagnose", "there are more files than can be listed: %w", ctx.Err())
			}
			if list(name) == nil {
				continue // it is a folder
			}
			size := "?" // it went, or cannot be opened
			if f, err := fs.Open(name); err == nil {
				if n, err := f.Size(); err == nil {
					size = fmt.Sprint(n)
				}
				_ = f.Close() // nothing was written
			}
			if _, err := fmt.Fprintf(w, "%12s %q\n", size, name); err != nil {
				return err
			}
		}
		return nil
	}
	return list(".")
}

// profileOf is a profile of the runtime; 0: as go tool pprof reads it.
func profileOf(name string, debug int) func(context.Context, io.Writer) error {
	return func(_ context.Context, w io.Writer) error { return pprof.Lookup(name).WriteTo(w, debug) }
}

func (d *diagnosis) profileCPU(ctx context.Context, w io.Writer) error {
	if d.profile == 0 {
		return fault.New(fault.Invalid, "diagnose", "nobody asked for a profile")
	}
	if err := pprof.StartCPUProfile(w); err != nil {
		return fault.New(fault.Exists, "diagnose", "another profile is under way: %w", err)
	}
	defer pprof.StopCPUProfile()
	return wait(ctx, d.profile)
}

func wait(ctx context.Context, long time.Duration) error {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// CheckedLog is what was found in a log.
type CheckedLog struct {
	Done           bool           `json:"done"` // all of it was read in time
	Partitions     int            `json:"partitions"`
	PartitionsDone int            `json:"partitions_done"`
	Records        int64          `json:"records"`
	Bytes          int64          `json:"bytes"`
	Findings       int            `json:"findings"`
	First          []CheckFinding `json:"first_findings"`
}

// CheckFinding is something that is damaged.
type CheckFinding struct {
	File string `json:"file"`
	What string `json:"what"`
}

// checkLog reads the log as firth log check does, for as long as it may: what a node has written since is not in it.
func (d *diagnosis) checkLog(ctx context.Context, w io.Writer) error {
	switch {
	case d.n.store == nil:
		return fault.New(fault.Unsupported, "diagnose", "the log is in Kafka")
	case d.check == 0:
		return fault.New(fault.Invalid, "diagnose", "nobody asked for a check of the log")
	case !d.n.imaging.TryLock():
		return fault.New(fault.Exists, "diagnose", "a backup is being made")
	}
	defer d.n.imaging.Unlock()
	im, err := d.n.store.Image(ctx)
	if err != nil {
		return err
	}
	defer im.Close()
	within, cancel := context.WithTimeout(ctx, d.check)
	defer cancel()
	said, err := CheckLog(func(report func(store.Finding)) (store.Checked, error) {
		return backup.Check(within, im, d.n.keys, report)
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(said)
}

// CheckLog is what a check of a log finds, as far as it comes in its time. Errors: those of check but Timeout.
func CheckLog(check func(report func(store.Finding)) (store.Checked, error)) (*CheckedLog, error) {
	said := &CheckedLog{First: []CheckFinding{}}
	done, err := check(func(f store.Finding) {
		if said.Findings++; said.Findings <= mostFindings {
			said.First = append(said.First, CheckFinding{f.File, f.What})
		}
	})
	if said.Done = err == nil; err != nil && !fault.Is(err, fault.Timeout) {
		return nil, err
	}
	said.Partitions, said.PartitionsDone = done.Partitions, done.PartitionsDone
	said.Records, said.Bytes = done.Records, done.Bytes
	return said, nil
}
