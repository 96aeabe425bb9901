package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/firthmq/firth/internal/access/authority"
	"github.com/firthmq/firth/internal/apps/migrate"
	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/store"
)

// Migration says what firth migrate is asked for.
type Migration struct {
	From *Config // of the node that moves
	To   *Config // of the gateway: log.kafka.*
	// Live is where the Kafka door of the running node is, host:port with commas, and who may read all of it: then topics
	// are copied ahead. nil: the node has stopped, and all that it has moves.
	Live *Brokers
	Dry  bool // only say what would be done

	MaxPadding int64                   // see migrate.Options
	Progress   func(copied, all int64) // the same
	Log        *slog.Logger
}

// Migrate moves a standalone node into a Kafka cluster. Errors: those of opening both logs, and of migrate.Run.
func Migrate(ctx context.Context, m Migration) (r *migrate.Report, err error) {
	source, closeSource, err := m.source(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeSource()) }()
	target, err := m.target(ctx, source.ClusterID())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	o := migrate.Options{
		Source: source, Target: target, Final: m.Live == nil, MaxPadding: m.MaxPadding, Progress: m.Progress,
	}
	if m.Dry {
		return migrate.Plan(ctx, o)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // the lease; it ends with the run
		select {
		case err := <-target.Lost():
			cancel(err)
		case <-ctx.Done():
		}
	}()
	return migrate.Run(ctx, o)
}

// source opens the log of the node.
func (m *Migration) source(ctx context.Context) (migrate.Source, func() error, error) {
	if m.Live != nil {
		o, err := m.Live.options()
		if err != nil {
			return nil, nil, err
		}
		o.Logger = m.Log
		log, err := cluster.Open(ctx, o)
		if err != nil {
			return nil, nil, fault.New(fault.KindOf(err), "migrate", "the node at %s: %w", m.Live.Addresses, err).
				WithHint("%s", fault.HintOf(err))
		}
		return log, log.Close, nil
	}
	fs, err := vfs.OpenDisk(m.From.Data)
	if err != nil {
		return nil, nil, err
	}
	keys, err := m.From.Encryption.Keys()
	if err != nil {
		return nil, nil, fmt.Errorf("encryption: %w", err)
	}
	log, err := store.Open(ctx, store.Options{
		FS: fs, Logger: m.Log, JournalBytes: m.From.Limits.JournalFile, CacheBytes: m.From.Limits.CacheBytes,
		TopicDefaults: m.From.Topics.Defaults.settings(), DefaultPartitions: m.From.Topics.Defaults.Partitions,
		MaxPartitions: m.From.Limits.Partitions, Keys: keys, Plain: !m.From.Encryption.NewFiles,
	})
	if fault.Is(err, fault.Exists) {
		return nil, nil, fault.New(fault.Exists, "migrate", "the node runs: %w", err).
			WithHint("--from its listen.kafka copies topics while it runs; stop it for the rest")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("data: %w", err)
	}
	return log, log.Close, nil
}

// target opens the cluster as the gateway will, and serves it meanwhile, so that no gateway does.
func (m *Migration) target(ctx context.Context, source string) (*cluster.Cluster, error) {
	n := &Node{cfg: m.To, log: m.Log}
	o, err := n.clusterSettings()
	if err != nil {
		return nil, err
	}
	o.Instance, o.Hold = "migrate-"+source, 0
	log, err := cluster.Open(ctx, o)
	if err != nil {
		return nil, fault.New(fault.KindOf(err), "migrate", "%s: %w", m.To.Log.Kafka.Addresses, err).
			WithHint("%s", fault.HintOf(err))
	}
	return log, nil
}

// options are how to reach the brokers.
func (k *Brokers) options() (o cluster.Options, err error) {
	o.Seeds, o.ClientID = splitList(k.Addresses), k.ClientID
	if o.TLS, err = k.TLS.client(); err != nil {
		return o, err
	}
	o.Login, err = k.SASL.login()
	return o, err
}

// KeyFiles are the files in the data folder of a node that a gateway needs besides what is in the log, as far as they
// are there: those of its certificate authority and of the audit.
func KeyFiles(data string) []string {
	fs, err := vfs.OpenDisk(data)
	if err != nil {
		return nil
	}
	var there []string
	for _, name := range []string{
		authority.CertificateFile, authority.KeyFile, authority.ServerFile, authority.ServerKeyFile, audit.KeyFile,
		audit.HeadFile,
	} {
		if f, err := fs.Open(name); err == nil {
			_ = f.Close()
			there = append(there, name)
		}
	}
	return there
}

// ServeLine is the command that starts the gateway of a configuration; file is what it was read from, "" for none.
func (c *Config) ServeLine(file string) string {
	line := []string{"firth serve --data ./gateway"}
	if file != "" {
		line = append(line, "-c "+file)
	}
	for _, o := range gatewayOptions() {
		if origin := c.Origin(o.Key); origin.Source == "flag" {
			line = append(line, "--set "+o.Key+"="+o.show(c))
		}
	}
	return strings.Join(line, " ")
}
