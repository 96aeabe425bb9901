package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Mode is what a load on a Kafka broker does.
type Mode string

// The modes.
const (
	Produce Mode = "produce" // measure acknowledgements
	Consume Mode = "consume" // read the topic from its start to its end, over and over
	Both    Mode = "both"    // produce, and read at the tail what arrives
	Lag     Mode = "latency" // produce at a rate, and measure until it is consumed

	Transact Mode = "transact" // produce in transactions, one behind the other
	Copy     Mode = "copy"     // consume, produce and commit offsets in one transaction, until the topic is copied

	Commit    Mode = "commit"    // commit offsets of many groups
	Rebalance Mode = "rebalance" // members of a group come and go: measure until it is stable
	Share     Mode = "share"     // members of a share group (KIP-932) take and accept what the topic has
)

// Protocol is how members of a group are assigned partitions.
type Protocol string

// The protocols.
const (
	ClassicProtocol  Protocol = "classic"  // by one of them, cooperatively
	ConsumerProtocol Protocol = "consumer" // by the broker (KIP-848)
)

// Kafka is a load on a Kafka broker: through the franz-go client, or encoded beforehand on plain sockets.
type Kafka struct {
	Entry
	Brokers     []string
	Mode        Mode
	Topic       string        // made if it does not exist
	Partitions  int           // of the topic, if it is made
	RecordSize  int           // bytes of value; for Lag at least 8, which hold the time
	BatchSize   int           // most bytes of a batch
	Linger      time.Duration // of the client: how long it waits for a batch to fill
	Acks        int           // -1 for all, 1 for the leader
	Connections int           // clients, or sockets
	InFlight    int           // Produce requests a socket sends ahead of their responses
	Rate        float64       // records a second, for Lag
	Records     int64         // Produce ends after about as many, if that is before the time is over; 0: no limit
	Keys        int           // a client's records have so many different keys in turn; 0: none
	TxnRecords  int           // Transact: records of a transaction; 0: TxnEvery
	TxnEvery    time.Duration // Transact and Copy: how long records go into a transaction
	Groups      int           // Commit: how many, of a member each
	Members     int           // Rebalance and Share: how many the group has
	Protocol    Protocol      // of groups; empty: classic
	Once        bool          // Consume ends when the topic is read, if that is before the time is over
	Duration    time.Duration // how long is measured
	Warmup      time.Duration // how long is not measured before

	// Encoded makes all batches before the time begins, sends them on plain sockets and reads Fetch responses
	// without a client; offsets are committed on plain sockets, too. The first broker has to lead every partition and
	// to coordinate every group. Without it, clients of franz-go do all that.
	Encoded bool
	// CheckCRC computes the checksum of every batch that is read on a plain socket.
	CheckCRC bool
}

// Run drives the load and measures it. Errors: IO, Invalid, Corrupt, NotFound and what the broker says.
func (k Kafka) Run(ctx context.Context) (*Result, error) {
	if err := k.validate(); err != nil {
		return nil, err
	}
	ends, err := k.prepare(ctx)
	if err != nil {
		return nil, err
	}
	t := &tally{}
	load := &kafkaLoad{Kafka: k, tally: t, starts: ends.starts, ends: ends.ends}
	defer load.close()
	if err := load.setUp(ctx); err != nil {
		return nil, err
	}
	start := time.Now()
	t.begin = start.Add(k.Warmup)
	t.end = t.begin.Add(k.Duration)
	if err := errors.Join(load.drive(ctx), ctx.Err()); err != nil {
		return nil, err
	}
	now := time.Now()
	if (k.Once || k.Records > 0 || k.Mode == Copy || k.Mode == Share) && now.Before(t.end) {
		t.end = now
	}
	result := t.result(k.work(), k.RecordSize)
	result.Whole = now.Sub(start)
	return result, nil
}

func (k Kafka) validate() error {
	switch {
	case len(k.Brokers) == 0 || k.Topic == "" || k.Partitions < 1 || k.Connections < 1:
		return fault.New(fault.Invalid, "bench.Kafka", "a broker, a topic, a partition and a connection are needed")
	case k.RecordSize < 0 || k.BatchSize < max(2*k.RecordSize, 1):
		return fault.New(fault.Invalid, "bench.Kafka", "two records of %d bytes do not fit into a batch of %d",
			k.RecordSize, k.BatchSize)
	case k.Mode == Lag && k.RecordSize < stampBytes:
		return fault.New(fault.Invalid, "bench.Kafka",
			"latency needs values of at least %d bytes, which say when a record was due", stampBytes)
	case k.Acks != -1 && k.Acks != 1:
		return fault.New(fault.Invalid, "bench.Kafka", "acks %d: -1 (all) and 1 are measured", k.Acks)
	case k.InFlight < 1 || k.Duration <= 0:
		return fault.New(fault.Invalid, "bench.Kafka", "one request in flight and a duration are needed")
	case !slices.Contains(modes(), k.Mode):
		return fault.New(fault.Invalid, "bench.Kafka", "mode %q: known are %q", k.Mode, modes())
	case k.Mode == Transact && (k.Encoded || k.Acks != -1 || k.TxnRecords < 0 || k.TxnRecords == 0 && k.TxnEvery <= 0):
		return fault.New(fault.Invalid, "bench.Kafka",
			"transactions need a client, acks of all, and a number of records or a time")
	case k.Keys < 0 || k.Keys > 0 && k.Encoded || k.Records < 0:
		return fault.New(fault.Invalid, "bench.Kafka", "keys are for clients, and neither they nor records are negative")
	case k.Mode == Lag && k.Rate <= 0:
		return fault.New(fault.Invalid, "bench.Kafka", "latency is measured at a rate")
	}
	return k.validateGroups()
}

// validateGroups is validate for the modes that have groups.
func (k Kafka) validateGroups() error {
	switch {
	case k.Mode == Copy && (k.Encoded || k.Acks != -1 || k.TxnEvery <= 0):
		return fault.New(fault.Invalid, "bench.Kafka", "copies need a client, acks of all, and a time for a transaction")
	case k.Mode == Commit && k.Groups < 1:
		return fault.New(fault.Invalid, "bench.Kafka", "a group is needed")
	case k.Mode == Share && k.Members < 1:
		return fault.New(fault.Invalid, "bench.Kafka", "a member is needed")
	case k.Mode == Rebalance && k.Members < 2:
		return fault.New(fault.Invalid, "bench.Kafka", "two members are needed")
	case k.Mode == Rebalance && k.Partitions < k.Members:
		return fault.New(fault.Invalid, "bench.Kafka", "%d partitions are too few for %d members", k.Partitions, k.Members)
	case k.Protocol != "" && k.Protocol != ClassicProtocol && k.Protocol != ConsumerProtocol:
		return fault.New(fault.Invalid, "bench.Kafka", "protocol %q: classic and consumer are known", k.Protocol)
	}
	return nil
}

func modes() []Mode {
	return []Mode{Produce, Consume, Both, Lag, Transact, Copy, Commit, Rebalance, Share}
}

// work names the load.
func (k Kafka) work() string {
	by := "kgo"
	if k.Encoded {
		by = "encoded"
	}
	work := fmt.Sprintf("kafka %s %s %d p, %d B", k.Mode, by, k.Partitions, k.RecordSize)
	switch {
	case k.Mode == Transact && k.TxnRecords > 0:
		work += fmt.Sprintf(", %d each", k.TxnRecords)
	case k.Mode == Transact || k.Mode == Copy:
		work += fmt.Sprintf(", one in %s", k.TxnEvery)
	case k.Mode == Commit:
		work += fmt.Sprintf(", %d groups", k.Groups)
	case k.Mode == Rebalance || k.Mode == Share:
		work += fmt.Sprintf(", %d members", k.Members)
	}
	if k.Mode == Lag {
		work += fmt.Sprintf(" at %.0f/s", k.Rate)
	}
	return work
}

// extent is where the partitions of a topic begin and end.
type extent struct{ starts, ends []int64 }

// prepare makes the topic if need be, and looks at what is in it.
func (k Kafka) prepare(ctx context.Context) (*extent, error) {
	cl, err := kgo.NewClient(append(k.Entry.options(), kgo.SeedBrokers(k.Brokers...), kgo.ClientID("firth-bench"))...)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, "bench.Kafka", err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	_, err = adm.CreateTopic(ctx, int32(k.Partitions), 1, nil, k.Topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return nil, fault.Wrap(fault.IO, "bench.CreateTopic", err)
	}
	for { // a topic may take a moment until its partitions have a leader
		e, err := measure(ctx, adm, k.Topic)
		if err == nil || ctx.Err() != nil || !kerr.IsRetriable(err) {
			return e, err
		}
		sleepUntil(time.Now().Add(20 * time.Millisecond))
	}
}

func measure(ctx context.Context, adm *kadm.Client, topic string) (*extent, error) {
	e := &extent{}
	for _, list := range []struct {
		ask func(context.Context, ...string) (kadm.ListedOffsets, error)
		to  *[]int64
	}{{adm.ListStartOffsets, &e.starts}, {adm.ListEndOffsets, &e.ends}} {
		listed, err := list.ask(ctx, topic)
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			return nil, fault.Wrap(fault.IO, "bench.ListOffsets", err)
		}
		for p := range int32(len(listed[topic])) {
			o, ok := listed.Lookup(topic, p)
			if !ok {
				return nil, fault.New(fault.Internal, "bench.ListOffsets", "no partition %d", p)
			}
			*list.to = append(*list.to, o.Offset)
		}
	}
	if len(e.ends) == 0 || len(e.starts) != len(e.ends) {
		return nil, fault.Wrap(fault.NotFound, "bench.ListOffsets", kerr.UnknownTopicOrPartition)
	}
	return e, nil
}

// kafkaLoad is the state of one run.
type kafkaLoad struct {
	Kafka
	*tally
	starts, ends []int64 // by partition, when the run began
	claimed      atomic.Int64

	closers  []func()
	sessions []*kgo.GroupTransactSession // Copy
	left     atomic.Int64                // Copy, Share: records that are still to be taken
	done     context.CancelFunc          // Copy, Share: when none is left
	members  []*kgo.Client               // Commit, Rebalance, Share
	group    string                      // Rebalance
	held     *holders                    // Rebalance
}

// setUp does what is not measured: the members of groups join. close undoes it, also behind an error.
func (l *kafkaLoad) setUp(ctx context.Context) error {
	switch l.Mode {
	case Copy:
		to := l.Kafka
		to.Topic = copiesOf(l.Topic)
		if _, err := to.prepare(ctx); err != nil {
			return err
		}
		return l.copySessions(ctx)
	case Commit:
		return l.committers(ctx)
	case Rebalance:
		return l.rebalancers(ctx)
	case Share:
		return l.sharers(ctx)
	default:
		return nil
	}
}

func (l *kafkaLoad) close() {
	var closing sync.WaitGroup
	for _, c := range l.closers {
		closing.Go(c)
	}
	closing.Wait()
}

// claim tells whether n more records are to be produced.
func (l *kafkaLoad) claim(n int64) bool {
	return l.Records == 0 || l.claimed.Add(n)-n < l.Records
}

// drive runs producers and consumers until the time is over.
func (l *kafkaLoad) drive(ctx context.Context) error {
	all := newCrew(ctx)
	readers, enough := context.WithCancel(all.ctx)
	defer enough()
	if l.Mode == Consume || l.Mode == Both || l.Mode == Lag {
		all.run(func(context.Context) error { return l.consume(readers) })
	}
	producers := newCrew(all.ctx)
	l.done = func() { producers.cancel(errDone) }
	switch {
	case l.Mode == Lag:
		producers.run(l.producePaced)
	case l.Mode == Consume:
	case l.Mode == Transact:
		for i := range l.Connections {
			producers.run(func(ctx context.Context) error { return l.transact(ctx, i) })
		}
	case l.Mode == Copy:
		for _, s := range l.sessions {
			producers.run(func(ctx context.Context) error { return l.copy(ctx, s) })
		}
	case l.Mode == Commit:
		commit := l.commit
		if l.Encoded {
			commit = l.commitEncoded
		}
		for _, c := range l.members {
			producers.run(func(ctx context.Context) error { return commit(ctx, c) })
		}
	case l.Mode == Rebalance:
		producers.run(l.rebalance)
	case l.Mode == Share:
		for _, c := range l.members {
			producers.run(func(ctx context.Context) error { return l.share(ctx, c) })
		}
	case l.Encoded:
		l.startEncoded(producers)
	default:
		for range l.Connections {
			producers.run(l.produceClient)
		}
	}
	if err := producers.wait(); err != nil {
		all.cancel(err)
	}
	wait := l.end
	if l.Mode != Consume {
		wait = wait.Add(settle)
	}
	timer := time.AfterFunc(time.Until(wait), enough)
	defer timer.Stop()
	if l.Mode != Consume && l.Mode != Both && l.Mode != Lag {
		enough()
	}
	return all.wait()
}

// consume reads with every connection: a share of the partitions each.
func (l *kafkaLoad) consume(ctx context.Context) error {
	crew := newCrew(ctx)
	workers := min(l.Connections, len(l.ends))
	for i := range workers {
		var mine []int32
		for p := i; p < len(l.ends); p += workers {
			mine = append(mine, int32(p))
		}
		s := &sink{tally: l.tally, timed: l.Mode == Lag, counted: l.Mode == Consume}
		crew.run(func(ctx context.Context) error {
			defer s.settle()
			if l.Encoded {
				return l.fetchRaw(ctx, mine, s)
			}
			return l.fetchClient(ctx, mine, s)
		})
	}
	return crew.wait()
}

// sink takes what one consumer reads.
type sink struct {
	*tally
	timed   bool // the records carry the time they were due
	counted bool // reading is the work, so a record read is a message
	taken   samples
}

// took counts n records that were read then.
func (s *sink) took(n int64, now time.Time) {
	if s.counted {
		s.total.Add(n)
	}
	if !s.within(now) {
		return
	}
	if s.counted {
		s.messages.Add(n)
		return
	}
	s.delivered.Add(n)
}

// value takes the time out of a record.
func (s *sink) value(v []byte, now time.Time) {
	if s.timed && len(v) >= stampBytes && s.within(now) {
		s.taken.add(age(v, now))
	}
}

func (s *sink) settle() { s.arrived(s.taken) }
