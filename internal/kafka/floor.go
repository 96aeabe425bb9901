package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// What may become of a topic with firth.retention.floor.ms only by who may alter the cluster: a lower floor, and that
// records go which are younger. Settings that go against the floor are refused to everybody: it is lowered first.

// checkFloor holds the settings of a topic against its floor. Errors: coded.
func (d *Door) checkFloor(config map[string]string) error {
	settings, err := stream.DecodeSettings(d.opt.TopicDefaults, config)
	if err == nil {
		err = settings.CheckFloor()
	}
	if err != nil {
		return coded{err, wire.InvalidConfig}
	}
	return nil
}

// mayLowerFloor judges settings of a topic that are to take the place of others. Errors: coded.
func (d *Door) mayLowerFloor(c *conn, t *stream.Topic, config map[string]string) error {
	if err := d.checkFloor(config); err != nil {
		return err
	}
	after, _ := stream.DecodeSettings(d.opt.TopicDefaults, config) // it is well-formed
	if after.FloorMs < t.Settings.FloorMs && !d.may(c, OpAlter, OnCluster, ClusterResource) {
		return refusal(wire.ClusterAuthorizationFailed, "who lowers firth.retention.floor.ms, which is %d, needs the right "+
			"to alter the cluster", t.Settings.FloorMs)
	}
	return nil
}

// mayTake judges whether the records of a partition below an offset may go. Errors: coded; those of the log.
func (d *Door) mayTake(ctx context.Context, c *conn, t *stream.Topic, id stream.PartitionID, end record.Offset) error {
	floor := t.Settings.FloorMs
	if floor <= 0 || d.sees(c, OpAlter, OnCluster, ClusterResource) {
		return nil
	}
	young, _, err := d.log.FirstSince(ctx, id, wallMillis()-floor)
	if err != nil || young < 0 || young >= end {
		return err
	}
	d.opt.refused(c, OpAlter, OnCluster, ClusterResource)
	return refusal(wire.ClusterAuthorizationFailed, "the record at offset %d is younger than firth.retention.floor.ms, "+
		"which is %d: who takes it away needs the right to alter the cluster", young, floor)
}

// mayTakeAll is mayTake for all that a topic has.
func (d *Door) mayTakeAll(ctx context.Context, c *conn, t *stream.Topic) error {
	for _, id := range t.Partitions {
		bounds, err := d.log.Bounds(id)
		if err == nil {
			err = d.mayTake(ctx, c, t, id, bounds.High)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
