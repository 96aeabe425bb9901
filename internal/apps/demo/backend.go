package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/cli/format"
	"github.com/firthmq/firth/internal/kit/fault"
)

// backEnd is the Kafka side: a consumer group that reads, a producer that commands.
type backEnd struct {
	st *stats
	cl *kgo.Client

	assigned chan struct{} // closed when the group has been given its first partitions
	once     sync.Once
}

// openBackEnd connects and makes the topics, so that the group finds them when it joins.
func openBackEnd(ctx context.Context, address string, st *stats) (*backEnd, error) {
	b := &backEnd{st: st, assigned: make(chan struct{})}
	cl, err := kgo.NewClient(
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, given map[string][]int32) {
			if len(given) > 0 {
				b.once.Do(func() { close(b.assigned) })
			}
		}),
		kgo.SeedBrokers(address), kgo.ClientID("firth-demo"),
		kgo.ConsumerGroup(Group), kgo.ConsumeTopics(buildingTopic, fleetTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(250*time.Millisecond),
		kgo.ProducerLinger(0), kgo.RecordDeliveryTimeout(10*time.Second),
	)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "demo: Kafka client", err)
	}
	b.cl = cl
	setUp, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	made, err := kadm.NewClient(cl).CreateTopics(setUp, 3, 1, nil, buildingTopic, fleetTopic, commandTopic)
	for _, one := range made {
		if err == nil && one.Err != nil && !errors.Is(one.Err, kerr.TopicAlreadyExists) {
			err = one.Err
		}
	}
	if err != nil {
		cl.Close()
		return nil, fault.Wrap(fault.IO, "demo: create topics at "+address, err)
	}
	return b, nil
}

func (b *backEnd) close() { b.cl.Close() }

// awaitGroup waits until the consumer group has its partitions, for a few seconds at most.
func (b *backEnd) awaitGroup(ctx context.Context) {
	patience := time.NewTimer(5 * time.Second)
	defer patience.Stop()
	select {
	case <-b.assigned:
	case <-patience.C:
	case <-ctx.Done():
	}
}

// consume reads as the consumer group until ctx ends, and then leaves the group.
func (b *backEnd) consume(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := b.cl.PollFetches(ctx)
		fetches.EachError(func(topic string, _ int32, err error) {
			if ctx.Err() == nil {
				b.st.failed(fmt.Errorf("consume %s: %w", topic, err))
			}
		})
		fetches.EachRecord(func(r *kgo.Record) {
			at, value := describe(r.Value)
			b.st.consumed(reading{topic: r.Topic, partition: r.Partition, offset: r.Offset, key: format.Printable(string(r.Key)),
				value: value, at: time.Now()}, since(at))
		})
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = b.cl.LeaveGroupContext(leave)
}

// message is any message of the fleet.
type message struct {
	Celsius  *float64 `json:"celsius"`
	Lat, Lon float64
	Kmh      float64
	At       int64 `json:"ts_us"`
}

// describe gives the time at which a message was sent, in microseconds, and its content for people.
func describe(value []byte) (at int64, text string) {
	var m message
	if err := json.Unmarshal(value, &m); err != nil || m.At == 0 {
		return time.Now().UnixMicro(), format.Printable(string(value))
	}
	if m.Celsius != nil {
		return m.At, fmt.Sprintf("%.2f °C", *m.Celsius)
	}
	return m.At, fmt.Sprintf("%.3f %.3f %3.0f km/h", m.Lat, m.Lon, m.Kmh)
}

// command produces a command to one of the devices every two seconds.
func (b *backEnd) command(ctx context.Context, to []string) {
	if len(to) == 0 {
		return
	}
	rnd := rand.New(rand.NewPCG(7, 7))
	timer := time.NewTimer(500 * time.Millisecond)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(2 * time.Second)
		}
		value, err := json.Marshal(order{Limit: float64(50 + 10*rnd.IntN(5)), At: time.Now().UnixMicro()})
		if err != nil {
			b.st.failed(err)
			return
		}
		r := &kgo.Record{Topic: commandTopic, Key: []byte(to[rnd.IntN(len(to))]), Value: value}
		b.cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil && ctx.Err() == nil {
				b.st.failed(fmt.Errorf("produce to %s: %w", commandTopic, err))
			}
		})
	}
}
