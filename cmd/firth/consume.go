package main

import (
	"bufio"
	"context"
	"errors"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/cli/format"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
)

type consumeFlags struct {
	offsets            []string
	exit               bool
	count, countKcat   int
	partitions         []int32
	group              string
	format, keyBetween string
	delimiter          string
	json, nulls        bool
	uncommitted        bool
	topics             []string // as kcat takes them
	form               output.Form

	from  position
	until *position // e@TIME
}

func newConsumeCommand() *cobra.Command {
	f := &consumeFlags{form: output.FormTable}
	cmd := &cobra.Command{
		Use:   "consume TOPIC...",
		Short: "Consume records and print them, as a Kafka client",
		Long: `Consume records and print them, as a Kafka client. The flags are those of kcat -C, and so is the
format: %t topic, %p partition, %o offset, %k key, %s value, %h headers, %T time in milliseconds,
%K and %S the lengths of key and value, \n \t \xXX. Without -f only the value is printed.

Where to start (-o): beginning, end, an offset, -N (N before the end), @TIME; e@TIME is where to stop.
TIME is milliseconds since 1970, a date such as 2026-01-31T08:00:00Z, or -1h. A group starts where it
has committed, and commits what was printed.

A terminal gets no control characters of others: they are shown as \u001b. Elsewhere the bytes are what was sent.`,
		Example: `  firth consume sensors -o beginning -e -f '%k %s\n'
  firth consume sensors -o -5 -J
  firth consume orders payments -g billing -n 100
  firth consume sensors -o @-1h -o e@-30m -e`,
	}
	k := addKafkaFlags(cmd)
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.offsets, "offset", "o", nil,
		"where to `start`: "+positionForms+"; e@TIME: where to stop (default end)")
	flags.BoolVarP(&f.exit, "exit", "e", false, "exit at the end of the topics")
	flags.IntVarP(&f.count, "num", "n", 0, "exit after `N` records")
	flags.IntVarP(&f.countKcat, "count", "c", 0, "the same, as kcat has it")
	flags.Int32SliceVarP(&f.partitions, "partition", "p", nil, "only these partitions")
	flags.StringVarP(&f.group, "group", "g", "", "consume as a member of this `group`")
	flags.StringVarP(&f.format, "format", "f", "", "how to print a record, a `format` of kcat")
	flags.StringVarP(&f.delimiter, "delimiter", "D", `\n`, "what `ends` a record in the output, without -f")
	flags.StringVarP(&f.keyBetween, "key-delimiter", "K", "", "print keys too, with this `between` key and value")
	flags.BoolVarP(&f.json, "json", "J", false, "print JSON objects as kcat does")
	flags.BoolVarP(&f.nulls, "null", "Z", false, "print a null key or value as NULL")
	flags.BoolVar(&f.uncommitted, "read-uncommitted", false, "records of open and aborted transactions as well")
	flags.StringSliceVarP(&f.topics, "topic", "t", nil, "`topic`, as kcat takes it")
	flags.Var(&f.form, "output", "json is the same as -J")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.topics = append(f.topics, args...)
		if err := f.check(); err != nil {
			return err
		}
		return consume(cmd, k, f)
	}
	return cmd
}

// check settles the flags among themselves.
func (f *consumeFlags) check() error {
	if len(f.topics) == 0 {
		return output.Usage("which topic?")
	}
	f.json = f.json || f.form == output.FormJSON
	f.count = max(f.count, f.countKcat)
	f.from = position{kind: atEnd}
	if f.group != "" || f.exit {
		f.from = position{kind: atStart}
	}
	given := false
	for _, text := range f.offsets {
		p, err := parsePosition(text, time.Now())
		if err != nil {
			return err
		}
		if p.kind == untilTime {
			f.until = &p
		} else {
			f.from, given = p, true
		}
	}
	switch {
	case f.group != "" && given && f.from.kind != atStored && f.from.kind != atStart && f.from.kind != atEnd:
		return output.WithCode(output.ExitUsage, fault.New(fault.Invalid, "command line",
			"a group starts where it has committed").
			WithHint("firth group seek %s --to ... moves it; start and end are for a group without offsets", f.group))
	case f.group != "" && len(f.partitions) > 0:
		return output.Usage("a group is given its partitions: -g and -p do not go together")
	case f.group == "" && f.from.kind == atStored:
		return output.Usage("stored needs a group: -g")
	}
	return nil
}

// printer gives the function that prints a record.
func (f *consumeFlags) printer(terminal bool) (func([]byte, *format.Record) []byte, error) {
	if f.json {
		return func(dst []byte, r *format.Record) []byte {
			return append(format.AppendRecordJSON(dst, r), '\n')
		}, nil
	}
	spec, null := f.format, ""
	if f.nulls {
		null = "NULL"
	}
	if spec == "" {
		spec = "%s" + f.delimiter
		if f.keyBetween != "" {
			spec = "%k" + strings.ReplaceAll(f.keyBetween, "%", "%%") + spec
		}
	}
	parsed, err := format.ParseKafka(spec, null)
	if err != nil {
		return nil, output.WithCode(output.ExitUsage, err)
	}
	parsed.Terminal = terminal
	return parsed.AppendTo, nil
}

func consume(cmd *cobra.Command, k *kafkaFlags, f *consumeFlags) error {
	out, terminal := unscreened(cmd.OutOrStdout())
	appendRecord, err := f.printer(terminal)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	plan, err := planConsume(ctx, k, f)
	if err != nil || plan.nothing() {
		return err
	}
	cl, err := k.connect(ctx, plan.opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	c := &consumer{cl: cl, f: f, plan: plan, appendTo: appendRecord, out: bufio.NewWriterSize(out, 1<<16)}
	err = c.run(ctx)
	if flushed := c.out.Flush(); err == nil {
		err = flushed
	}
	if f.group != "" {
		err = errors.Join(err, c.leave(k.timeout))
	}
	return err
}

// plan is where to start, and where each partition ends if there is an end.
type plan struct {
	opts    []kgo.Opt
	ends    map[string]map[int32]int64 // nil: no end
	leaders map[string]map[int32]int32
}

// nothing tells that every partition is at its end before the first record.
func (p *plan) nothing() bool { return p.ends != nil && len(p.ends) == 0 }

// reached notes that everything below next has been read, and tells whether all partitions are done.
func (p *plan) reached(topic string, partition int32, next int64) bool {
	if p.ends == nil {
		return false
	}
	if end, ok := p.ends[topic][partition]; ok && next >= end {
		delete(p.ends[topic], partition)
		if len(p.ends[topic]) == 0 {
			delete(p.ends, topic)
		}
	}
	return len(p.ends) == 0
}

// planConsume looks the topics up: they must be there, and offsets are settled before the first fetch.
func planConsume(ctx context.Context, k *kafkaFlags, f *consumeFlags) (*plan, error) {
	limited, cancel := context.WithTimeout(ctx, 2*k.timeout)
	defer cancel()
	cl, err := k.connect(limited)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	topics, err := adm.ListTopicsWithInternal(limited, f.topics...)
	if err != nil {
		return nil, kafkaError("consume", err, "")
	}
	for _, t := range topics.Sorted() {
		if t.Err != nil {
			return nil, kafkaError("topic "+t.Topic, t.Err, "")
		}
	}
	p := &plan{opts: []kgo.Opt{kgo.KeepControlRecords()}, leaders: leaders(topics)}
	if !f.uncommitted {
		p.opts = append(p.opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if f.exit || f.until != nil {
		if err := p.findEnds(limited, adm, f); err != nil {
			return nil, err
		}
	}
	if f.group != "" {
		return p, p.asMember(limited, adm, f)
	}
	return p, p.alone(limited, adm, f)
}

func leaders(topics kadm.TopicDetails) map[string]map[int32]int32 {
	all := make(map[string]map[int32]int32)
	topics.EachPartition(func(d kadm.PartitionDetail) {
		if all[d.Topic] == nil {
			all[d.Topic] = make(map[int32]int32)
		}
		all[d.Topic][d.Partition] = d.Leader
	})
	return all
}

// leader is the broker that has a partition; -1: not known.
func (p *plan) leader(topic string, partition int32) int32 {
	if id, ok := p.leaders[topic][partition]; ok {
		return id
	}
	return -1
}

// findEnds notes where each partition ends now, or at the time of e@.
func (p *plan) findEnds(ctx context.Context, adm *kadm.Client, f *consumeFlags) error {
	to := position{kind: atEnd}
	if f.until != nil {
		to = *f.until
	}
	ends, err := to.offsets(ctx, adm, f.topics...)
	if err != nil {
		return err
	}
	p.ends = ends
	return nil
}

// asMember consumes as a member of the group. With an end, it ends where each partition ended.
func (p *plan) asMember(ctx context.Context, adm *kadm.Client, f *consumeFlags) error {
	begin := kgo.NewOffset().AtStart()
	if f.from.kind == atEnd {
		begin = kgo.NewOffset().AtEnd()
	}
	p.opts = append(p.opts, kgo.ConsumerGroup(f.group), kgo.ConsumeTopics(f.topics...), kgo.ConsumeResetOffset(begin),
		kgo.AutoCommitMarks(), kgo.BlockRebalanceOnPoll())
	if p.ends == nil {
		return nil
	}
	starts, err := position{kind: atStart}.offsets(ctx, adm, f.topics...)
	if err != nil {
		return err
	}
	committed, err := adm.FetchOffsets(ctx, f.group)
	if err == nil {
		committed.Each(func(o kadm.OffsetResponse) {
			if _, ok := starts[o.Topic]; ok && o.Err == nil {
				starts[o.Topic][o.Partition] = o.At
			}
		})
	}
	p.dropFinished(starts)
	return nil
}

// alone consumes partitions without a group, each from its own offset.
func (p *plan) alone(ctx context.Context, adm *kadm.Client, f *consumeFlags) error {
	starts, err := f.from.offsets(ctx, adm, f.topics...)
	if err != nil {
		return err
	}
	if err := keepPartitions(starts, f.partitions); err != nil {
		return err
	}
	if p.ends != nil {
		for topic := range p.ends {
			for partition := range p.ends[topic] {
				if _, ok := starts[topic][partition]; !ok {
					p.reached(topic, partition, p.ends[topic][partition])
				}
			}
		}
		p.dropFinished(starts)
	}
	from := make(map[string]map[int32]kgo.Offset)
	for topic, partitions := range starts {
		from[topic] = make(map[int32]kgo.Offset)
		for partition, at := range partitions {
			from[topic][partition] = kgo.NewOffset().At(at)
		}
	}
	p.opts = append(p.opts, kgo.ConsumePartitions(from), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	return nil
}

// dropFinished forgets the ends of the partitions that start there.
func (p *plan) dropFinished(starts map[string]map[int32]int64) {
	for topic, partitions := range starts {
		for partition, at := range partitions {
			p.reached(topic, partition, at)
		}
	}
}

// keepPartitions keeps only the partitions asked for; each topic must have them.
func keepPartitions(all map[string]map[int32]int64, wanted []int32) error {
	if len(wanted) == 0 {
		return nil
	}
	for topic, partitions := range all {
		kept := make(map[int32]int64)
		for _, p := range wanted {
			at, ok := partitions[p]
			if !ok {
				return fault.New(fault.NotFound, "topic "+topic, "no partition %d, there are %d", p, len(partitions))
			}
			kept[p] = at
		}
		all[topic] = kept
	}
	return nil
}

// consumer is one run of the command.
type consumer struct {
	cl       *kgo.Client
	f        *consumeFlags
	plan     *plan
	appendTo func([]byte, *format.Record) []byte
	out      *bufio.Writer
	buf      []byte
	count    int
}

// run prints until the count, the end, or a signal.
func (c *consumer) run(ctx context.Context) error {
	for {
		fetches := c.cl.PollFetches(ctx)
		select {
		case <-ctx.Done(): // a signal is an ordinary end
			return nil
		default:
		}
		if errs := fetches.Errors(); len(errs) > 0 {
			return kafkaError("consume "+errs[0].Topic, errs[0].Err, "")
		}
		done := false
		for it := fetches.RecordIter(); !it.Done() && !done; {
			done = c.record(it.Next())
		}
		if err := c.out.Flush(); err != nil || done {
			return err
		}
		if c.f.group != "" {
			c.cl.AllowRebalance()
		}
	}
}

// record prints one record and tells whether it was the last one wanted.
func (c *consumer) record(r *kgo.Record) (done bool) {
	beyond := c.plan.ends != nil && !c.plan.wants(r)
	if !r.Attrs.IsControl() && !beyond {
		one := format.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp.UnixMilli(),
			LogTime: r.Attrs.TimestampType() == 1, Leader: c.plan.leader(r.Topic, r.Partition), Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			one.Headers = append(one.Headers, format.Header{Name: h.Key, Value: h.Value})
		}
		c.buf = c.appendTo(c.buf[:0], &one)
		_, _ = c.out.Write(c.buf)
		c.count++
	}
	if c.f.group != "" && !beyond {
		c.cl.MarkCommitRecords(r)
	}
	ended := c.plan.reached(r.Topic, r.Partition, r.Offset+1)
	return ended || c.f.count > 0 && c.count >= c.f.count
}

// wants tells whether the record lies before the end of its partition.
func (p *plan) wants(r *kgo.Record) bool {
	end, ok := p.ends[r.Topic][r.Partition]
	return ok && r.Offset < end
}

// leave commits what was printed and leaves the group.
func (c *consumer) leave(timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := c.cl.CommitMarkedOffsets(ctx)
	c.cl.AllowRebalance()
	return errors.Join(kafkaError("group "+c.f.group, err, ""), c.cl.LeaveGroupContext(ctx))
}
