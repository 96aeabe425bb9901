package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/cli/format"
	"github.com/firthmq/firth/internal/cli/output"
)

type produceFlags struct {
	key, keyDelimiter, delimiter, format string
	headers                              []string
	partition                            int32
	codec, acks                          string
	count                                int
	nulls, tee, verbose                  bool
	topic                                string // as kcat takes it
}

func newProduceCommand() *cobra.Command {
	var f produceFlags
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Produce records from standard input, as a Kafka client",
		Long: `Produce records from standard input, one a line, as a Kafka client. The flags are those of kcat -P;
as there, an empty line is skipped. The format -f is that of rpk topic produce:
%k key, %v value, %h headers, %p partition, %t topic, with the text that separates them.`,
		Example: `  echo 21.5 | firth produce sensors -k sensors/room1/temp
  printf 'a:1\nb:2\n' | firth produce orders -K : -z zstd -v
  printf 'a;h1=x,h2=y;1\n' | firth produce orders -f '%k;%h;%v\n'`,
		Args: cobra.MaximumNArgs(1),
	}
	k := addKafkaFlags(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&f.key, "key", "k", "", "`key` of every record; with -K of those that bring none")
	flags.StringVarP(&f.keyDelimiter, "key-delimiter", "K", "", "what `separates` key and value in a line")
	flags.StringVarP(&f.delimiter, "delimiter", "D", `\n`, "what `ends` a record in the input")
	flags.StringVarP(&f.format, "format", "f", "", "input `format` of rpk, for instance '%k %v\\n'")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "header `name=value`, may be repeated")
	flags.Int32VarP(&f.partition, "partition", "p", -1, "partition; -1: by key as Kafka's own clients do")
	flags.StringVarP(&f.codec, "compression", "z", "none", "none, gzip, snappy, lz4 or `zstd`")
	flags.StringVar(&f.acks, "acks", "all", "wait for: 0 nobody, 1 the leader, `all`")
	flags.IntVarP(&f.count, "count", "c", 0, "stop after `N` records")
	flags.BoolVarP(&f.nulls, "null", "Z", false, "with -K and -f, an empty key or value is null")
	flags.BoolVarP(&f.tee, "tee", "T", false, "copy what is sent to standard output")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "say where each record went")
	flags.StringVarP(&f.topic, "topic", "t", "", "the `topic`, as kcat takes it")
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			f.topic = args[0]
		}
		return produce(cmd, k, &f, *form)
	}
	return cmd
}

// produceOptions turns flags into options of the client.
func (f *produceFlags) options() ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.DefaultProduceTopic(f.topic), kgo.AllowAutoTopicCreation()}
	switch f.codec {
	case "none", "":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.NoCompression()))
	case "gzip":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.GzipCompression()))
	case "snappy":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.SnappyCompression()))
	case "lz4":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	case "zstd":
		opts = append(opts, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	default:
		return nil, output.Usage("unknown compression %q: use none, gzip, snappy, lz4 or zstd", f.codec)
	}
	switch f.acks {
	case "all", "-1":
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, output.Usage("unknown acks %q: use 0, 1 or all", f.acks)
	}
	if f.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return opts, nil
}

// reader gives the function that reads the next record from the input.
func (f *produceFlags) reader(in *bufio.Reader) (func(*format.Record) error, error) {
	spec := f.format
	if spec == "" {
		spec = "%v" + f.delimiter
	}
	parsed, err := format.ParseInput(spec)
	if err != nil {
		return nil, output.WithCode(output.ExitUsage, err)
	}
	between, err := format.Unescape(f.keyDelimiter)
	if err != nil {
		return nil, output.WithCode(output.ExitUsage, err)
	}
	return func(r *format.Record) error {
		r.Value = nil
		for len(r.Value) == 0 { // kcat skips empty lines
			if err := parsed.Read(in, r); err != nil {
				return err
			}
			if f.format != "" {
				break
			}
		}
		if len(between) > 0 && f.format == "" {
			if key, value, ok := bytes.Cut(r.Value, between); ok {
				r.Key, r.Value = key, value
			}
		}
		return nil
	}, nil
}

// record makes what is sent out of what was read.
func (f *produceFlags) record(r *format.Record) *kgo.Record {
	out := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	if f.nulls && len(out.Key) == 0 {
		out.Key = nil
	}
	if f.nulls && len(out.Value) == 0 {
		out.Value = nil
	}
	return out
}

type produced struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Timestamp int64  `json:"timestamp"`
}

// producer sends and reports; promises are called one at a time.
type producer struct {
	cmd   *cobra.Command
	f     *produceFlags
	form  output.Form
	cl    *kgo.Client
	mu    sync.Mutex
	first error
}

func produce(cmd *cobra.Command, k *kafkaFlags, f *produceFlags, form output.Form) error {
	if f.topic == "" && f.format == "" {
		return output.Usage("which topic?")
	}
	opts, err := f.options()
	if err != nil {
		return err
	}
	next, err := f.reader(bufio.NewReaderSize(cmd.InOrStdin(), 1<<16))
	if err != nil {
		return err
	}
	defaults, err := f.defaults()
	if err != nil {
		return err
	}
	cl, err := k.connect(cmd.Context(), opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	p := &producer{cmd: cmd, f: f, form: form, cl: cl}
	for n := 0; f.count == 0 || n < f.count; n++ {
		r := defaults
		if err = next(&r); err != nil || p.failed() != nil {
			break
		}
		if f.tee {
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", r.Value)
		}
		cl.Produce(cmd.Context(), f.record(&r), p.promise)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	flushed := cl.Flush(cmd.Context())
	return errors.Join(p.failed(), err, flushed)
}

// defaults is the record that each line overwrites.
func (f *produceFlags) defaults() (format.Record, error) {
	r := format.Record{Topic: f.topic, Partition: max(f.partition, 0)}
	if f.key != "" {
		r.Key = []byte(f.key)
	}
	for _, h := range f.headers {
		one, err := format.ParseHeader(h)
		if err != nil {
			return r, output.WithCode(output.ExitUsage, err)
		}
		r.Headers = append(r.Headers, one)
	}
	return r, nil
}

func (p *producer) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first
}

// promise is told the fate of each record.
func (p *producer) promise(r *kgo.Record, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil:
		if p.first == nil && !errors.Is(err, context.Canceled) {
			p.first = kafkaError("produce to "+r.Topic, err, "")
		}
	case p.form == output.FormJSON:
		_ = output.JSON(p.cmd.OutOrStdout(), produced{r.Topic, r.Partition, r.Offset, r.Timestamp.UnixMilli()})
	case p.f.verbose:
		_, _ = fmt.Fprintf(p.cmd.ErrOrStderr(), "%s[%d] offset %d\n", r.Topic, r.Partition, r.Offset)
	}
}
