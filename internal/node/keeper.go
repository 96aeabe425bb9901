package node

import (
	"context"
	"fmt"
	"time"

	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// keeper is the log of a node, on this machine's disk or in a Kafka cluster. Beyond the contract the node asks for what
// it tells people.
type keeper interface {
	stream.Keeper
	ClusterID() string // names the log: the same for its whole life
	Refused() error    // why it takes nothing now; nil: it does
	Close() error
}

// noticer is a keeper that takes what is appended and has something to tell all the same; "": it has not.
type noticer interface{ Notice() string }

func (n *Node) openLog(ctx context.Context) error {
	table, err := n.cfg.hinge(n.cfg.Mapping)
	if err != nil {
		return err
	}
	n.mapping.Store(table)
	if n.cfg.isGateway() {
		return n.openCluster(ctx)
	}
	return n.openStore(ctx)
}

// openStore opens the log on the disk.
func (n *Node) openStore(ctx context.Context) (err error) {
	if n.keys, err = n.cfg.Encryption.Keys(); err != nil {
		return fmt.Errorf("encryption: %w", err)
	}
	begin := time.Now()
	n.store, err = store.Open(ctx, store.Options{
		FS: n.fs, Logger: n.log, Metrics: n.metrics,
		JournalBytes: n.cfg.Limits.JournalFile, CacheBytes: n.cfg.Limits.CacheBytes, GroupBytes: n.cfg.Limits.CommitBytes,
		TopicDefaults: n.cfg.Topics.Defaults.settings(), DefaultPartitions: n.cfg.Topics.Defaults.Partitions,
		MaxPartitions: n.cfg.Limits.Partitions, Naming: n.naming,
		Keys: n.keys, Plain: !n.cfg.Encryption.NewFiles,
	})
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	n.keeper = n.store
	n.opened("log", func(context.Context) error { return n.store.Close() })
	n.log.Info("opened the log", "folder", n.folder, "topics", n.store.Topics().Len(), "epoch", n.store.Epoch(),
		"took", since(begin))
	return nil
}
