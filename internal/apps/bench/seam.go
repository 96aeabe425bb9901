package bench

import (
	"context"
	"errors"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Seam publishes with MQTT and measures until a Kafka consumer has it.
type Seam struct {
	MQTT              // the publishers; Topic is also the log topic, so it has one level
	Brokers  []string // of the consumer
	LogTopic string   // what the consumer reads; empty: Topic
	// Partitions of the log topic, if it is made.
	Partitions int
	// Raw reads Fetch responses on a plain socket; without it franz-go consumes.
	Raw bool
}

// Run drives the load and measures from PUBLISH to the consumer. Errors: IO, Denied, Invalid.
func (s Seam) Run(ctx context.Context) (*Result, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	if s.LogTopic == "" {
		if s.LogTopic = s.Topic; strings.Contains(s.Topic, "/") {
			return nil, fault.New(fault.Invalid, "bench.Seam",
				"%q has more than one level: say which log topic it goes to", s.Topic)
		}
	}
	k := Kafka{
		Entry: s.Entry, Brokers: s.Brokers, Mode: Lag, Topic: s.LogTopic, Partitions: s.Partitions, RecordSize: s.PayloadSize,
		BatchSize: 1 << 20, Acks: -1, Connections: 1, InFlight: 1, Rate: 1, Duration: s.Duration, Encoded: s.Raw,
	}
	if err := k.validate(); err != nil {
		return nil, err
	}
	e, err := k.prepare(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.close()
	load := &kafkaLoad{Kafka: k, tally: &r.tally, starts: e.starts, ends: e.ends}
	if err := errors.Join(r.drive(ctx, load.consume), ctx.Err()); err != nil {
		return nil, err
	}
	return r.result(s.work("seam"), s.PayloadSize), nil
}
