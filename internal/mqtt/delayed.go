package mqtt

import (
	"context"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/delay"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/names"
)

// delay gathers a PUBLISH to $delayed/SECONDS/TOPIC: it is acknowledged when it is stored, and published to TOPIC when
// its time has come. Errors: errDollar, Denied, Limited; errBlocks in a poller, while there is no log topic for it yet;
// those of the log.
func (l *link) delay(t *turn, p *packet.Publish, name []byte) error {
	d := l.door
	if d.delayed == nil {
		return errDollar
	}
	seconds, topic, ok := delay.Parse(name)
	if !ok || isDollar(topic) || names.CheckName(topic) != nil {
		return errDollar
	}
	if err := l.admit(p, topic); err != nil {
		return err
	}
	if d.delayed.Full() {
		return fault.New(fault.Limited, "mqtt.Publish", "as many messages are delayed as may be")
	}
	partition, err := d.delayedPartition(t.inPoller)
	if err != nil {
		return err
	}
	m := delay.Message{Client: l.principal.ClientID, User: l.principal.UserName, From: l.principal.from(), Publish: *p}
	m.Publish.Topic = topic
	s := t.next()
	fill(&s.message, p, topic)
	d.delayed.Record(&s.record, &m, t.unixMs+1000*int64(seconds))
	s.writes, s.id, s.qos, s.partition, s.kind = 1, p.PacketID, p.QoS, partition, ackOf(p.QoS)
	t.exact = t.exact || p.QoS == 2
	t.unit.Writes = append(t.unit.Writes, stream.Write{Partition: partition, Record: &s.record})
	if p.QoS > 0 {
		t.acks++
	}
	t.size += len(p.Payload)
	return nil
}

// openDelayed reads the messages that wait. Those of a door that delays nothing stay where they are.
func (d *Door) openDelayed(ctx context.Context) (err error) {
	if d.opt.MaxDelayed < 0 {
		return nil
	}
	d.delayed, err = delay.Open(ctx, delay.Options{
		Log: d.opt.Log, Publish: d.publishDelayed, Clock: d.opt.Clock, Metrics: d.opt.Metrics, Logger: d.opt.Logger,
		Max: d.opt.MaxDelayed,
	})
	return err
}

// delayedPartition is where delayed messages go.
func (d *Door) delayedPartition(inPoller bool) (stream.PartitionID, error) {
	p, ok := d.delayed.Partition()
	if ok || inPoller {
		if !ok {
			return 0, errBlocks
		}
		return p, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.opt.ConnectTimeout)
	defer cancel()
	if err := d.delayed.Make(ctx); err != nil {
		return 0, err
	}
	p, _ = d.delayed.Partition()
	return p, nil
}

// publishDelayed publishes a message whose time has come.
func (d *Door) publishDelayed(ctx context.Context, m *delay.Message, with *stream.Unit, to stream.Receipt) error {
	return d.publishFor(ctx, "delayed message", m, with, to)
}
