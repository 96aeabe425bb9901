// Package migrate moves what a standalone node has into a Kafka cluster, for a gateway to go on with:
// docs/design/0016-migrate.md.
//
// Topics of clients are copied record by record to the offsets that they have (copy.go), or to ones that are lower by a
// number that is the same for the whole partition (plan.go). The node may run meanwhile: another run copies what came
// since. Once it has stopped, a last run (Options.Final) also brings the topics of Firth's own state up to date
// (state.go, with what sessions say of partitions translated in sessions.go) and commits the offsets of consumer groups
// (groups.go). All of it is compared then (verify.go).
//
// A run that was killed is begun again: how far it got, the cluster knows.
//
// Goroutines: a few copiers, each with one partition at a time.
package migrate

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Source is the log of a standalone node: that on its disk, or what its Kafka door shows.
type Source interface {
	Topics() *stream.Topics
	Bounds(p stream.PartitionID) (stream.Bounds, error)
	Scan(p stream.PartitionID, from record.Offset, o stream.ScanOptions, visit func(*record.View) bool) (
		record.Offset, error)
	ClusterID() string
}

// Options of a run. Source and Target are needed.
type Options struct {
	Source Source
	Target *cluster.Cluster
	// Final says that the node has stopped: what is not copied while it runs is moved, and then the migration is done.
	Final bool
	// MaxPadding is the most offsets before the first record of a partition that are filled, so that offsets stay.
	// Default 10,000,000; negative: none.
	MaxPadding int64
	// Progress is told of the records that were copied and are to be copied, by one goroutine at a time. Default:
	// nobody looks.
	Progress func(copied, all int64)
	// Wrote is told of each write that is done; an error ends the run. Tests end it anywhere.
	Wrote func() error
}

const defaultPadding = 10_000_000

// Report is what a run has done, or one would do.
type Report struct {
	Source   string  `json:"source"`  // cluster id of the node's log
	Target   string  `json:"cluster"` // cluster id of the target
	Finished bool    `json:"finished"`
	Topics   []Topic `json:"topics"`
	State    []State `json:"state"`
	Groups   []Group `json:"groups"`
	Left     []Left  `json:"left"` // what is not moved
}

// Topic is a topic whose records are copied one by one.
type Topic struct {
	Name       string  `json:"name"`
	Partitions int     `json:"partitions"`
	Made       bool    `json:"made"`     // in the cluster, before this run
	Copied     int64   `json:"copied"`   // records, in this run
	Offsets    int64   `json:"offsets"`  // that are still to be copied, gaps included, as the run began
	Verified   int64   `json:"verified"` // records that were compared in this run
	Lower      []int64 `json:"lower"`    // by partition: by how much offsets are lower in the cluster; 0: they are kept
}

// Kept tells whether all offsets stay as they are.
func (t *Topic) Kept() bool {
	for _, by := range t.Lower {
		if by != 0 {
			return false
		}
	}
	return true
}

// State is a topic of Firth's own state: the last record of each key is moved.
type State struct {
	Name    string `json:"name"`
	Keys    int    `json:"keys"`
	Written int    `json:"written"` // records, in this run
}

// Group is a consumer group.
type Group struct {
	Name    string `json:"name"`
	Offsets int    `json:"offsets"` // that it has committed
}

// Left is something that is not moved.
type Left struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

// mover is one run.
type mover struct {
	Options
	report Report
	state  journal
	topics []*topic
	exact  *cluster.Exact

	mu     sync.Mutex
	copied int64
	all    int64
}

// Plan says what a run would do, and does nothing. Errors: as of Run.
func Plan(ctx context.Context, o Options) (*Report, error) {
	m, err := begin(ctx, o)
	if err != nil {
		return nil, err
	}
	return m.reported(), nil
}

// Run moves what is not moved yet, and compares it. Errors: Exists: the cluster has something else under a name, or the
// migration is finished; Unsupported: it cannot take what is there; Corrupt: source and target are not the same, or
// the source is damaged; TooLarge; those of the two logs.
func Run(ctx context.Context, o Options) (*Report, error) {
	m, err := begin(ctx, o)
	if err != nil {
		return nil, err
	}
	if m.exact, err = o.Target.Exact(ctx, "migrate-"+o.Source.ClusterID(), m.state.run.Producer); err != nil {
		return nil, err
	}
	defer m.exact.Close()
	for _, step := range []func(context.Context) error{
		m.keepRun, m.makeTopics, m.copyAll, m.verifyAll, m.moveRest,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return m.reported(), nil
}

// begin looks at both sides.
func begin(ctx context.Context, o Options) (*mover, error) {
	m := &mover{Options: o}
	m.MaxPadding = cmp.Or(o.MaxPadding, defaultPadding)
	m.report = Report{Source: o.Source.ClusterID(), Target: o.Target.ClusterID()}
	if err := m.load(ctx); err != nil {
		return nil, err
	}
	if err := m.vacant(); err != nil {
		return nil, err
	}
	return m, m.plan()
}

// moveRest moves what only a node that has stopped has whole.
func (m *mover) moveRest(ctx context.Context) error {
	if !m.Final {
		return nil
	}
	m.state.run.State = true
	if err := m.keepRun(ctx); err != nil {
		return err
	}
	if err := m.syncStates(ctx); err != nil {
		return err
	}
	if err := m.commitGroups(ctx); err != nil {
		return err
	}
	m.state.run.Finished = time.Now().UnixMilli()
	m.report.Finished = true
	return m.keepRun(ctx)
}

// wrote tells that something was written.
func (m *mover) wrote() error {
	if m.Wrote == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.Wrote()
}

func (m *mover) reported() *Report {
	for _, t := range m.topics {
		m.report.Topics = append(m.report.Topics, t.report)
	}
	return &m.report
}

// advanced tells of records that were copied, and of offsets that are done with that.
func (m *mover) advanced(t *topic, records, offsets int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.report.Copied += records
	m.copied += offsets
	if m.Progress != nil {
		m.Progress(m.copied, m.all)
	}
}

// inTheWay is an error over something of the cluster that is in the way.
func inTheWay(format string, args ...any) *fault.Error {
	return fault.New(fault.Exists, "migrate", format, args...)
}
