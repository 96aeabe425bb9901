package spool

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// TopicName is the topic of the cluster that says up to which number it has taken what spools hold, by the id of the
// spool, and which node served last. docs/format/spool.md is its page, too.
const TopicName = "__firth_spool"

// servedKey is the key of the record that names the node that served last.
const servedKey = "served"

// positions are what the cluster says of spools. Who owns them is the only one that sends from a spool.
type positions struct {
	partition stream.PartitionID
	owner     stream.Owner
	key       []byte // the id of this spool
	taken     uint64 // at the start
	served    string // who did last, before this start
}

// findPositions takes the positions over, which ends what an earlier owner has under way, and reads them.
func (s *Spool) findPositions(ctx context.Context) error {
	t, err := stream.EnsureState(ctx, s.Keeper, TopicName)
	if err != nil {
		return err
	}
	p := &s.positions
	*p = positions{partition: t.Partitions[0], key: []byte("spool/" + s.disk.ClusterID())}
	if p.owner, err = s.Keeper.Own(ctx, p.partition); err != nil {
		return err
	}
	folded, err := stream.Fold(ctx, s.Keeper, p.partition, 0, func(v *record.View) error {
		switch {
		case string(v.Key) == servedKey:
			p.served = string(v.Value)
		case string(v.Key) == string(p.key) && len(v.Value) == 8:
			p.taken = binary.BigEndian.Uint64(v.Value)
		}
		return nil
	})
	if err == nil && !folded.Complete() {
		s.log.Error("positions of spools cannot be read: what the spool still holds may be sent a second time",
			"error", folded.First)
	}
	return err
}

// write is the write that says that all units up to a number are taken.
func (p *positions) write(number uint64) stream.Write {
	return stream.Write{Partition: p.partition, Record: &record.Record{
		Timestamp: time.Now().UnixMilli(), Key: p.key, Value: binary.BigEndian.AppendUint64(nil, number),
	}}
}

// serve notes which node serves the cluster.
func serve(ctx context.Context, log stream.Log, p stream.PartitionID, owner stream.Owner, instance string) error {
	r := record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte(servedKey), Value: []byte(instance)}
	return stream.StoreUnit(ctx, log, &stream.Unit{Owner: owner, Writes: []stream.Write{{Partition: p, Record: &r}}})
}

// Serve notes that a node without a spool serves the cluster, where there ever was one with a spool: what that still
// holds of the state of sessions is old from now on, and it sends nothing before it was started again.
// Errors: those of the log.
func Serve(ctx context.Context, log stream.Keeper, instance string) error {
	t := log.Topics().ByName(TopicName)
	if t == nil {
		return nil
	}
	owner, err := log.Own(ctx, t.Partitions[0])
	if err != nil {
		return err
	}
	return serve(ctx, log, t.Partitions[0], owner, instance)
}
