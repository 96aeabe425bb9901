package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/term"

	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
)

// kafkaFlags are the flags of every command that speaks Kafka.
type kafkaFlags struct {
	brokers []string
	timeout time.Duration
	tls     tlsFlags
}

func addKafkaFlags(cmd *cobra.Command) *kafkaFlags {
	k := &kafkaFlags{}
	cmd.PersistentFlags().StringSliceVarP(&k.brokers, "brokers", "b", []string{"127.0.0.1:9092"},
		"broker addresses `host:port,...`")
	cmd.PersistentFlags().DurationVar(&k.timeout, "timeout", 10*time.Second, "how long to wait for an answer")
	k.tls.add(cmd.PersistentFlags())
	return k
}

// connect makes a client and sees that somebody answers. The caller closes it.
func (k *kafkaFlags) connect(ctx context.Context, more ...kgo.Opt) (*kgo.Client, error) {
	opts := append([]kgo.Opt{
		kgo.SeedBrokers(k.brokers...), kgo.ClientID("firth"), kgo.RetryTimeout(k.timeout),
		kgo.DialTimeout(min(k.timeout, 5*time.Second)),
	}, more...)
	if k.tls.wanted() {
		c, err := k.tls.config("")
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.DialTLSConfig(c))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, output.Usage("%w", err)
	}
	ping, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	if err := cl.Ping(ping); err != nil {
		cl.Close()
		return nil, connectError("Kafka", strings.Join(k.brokers, ","), err)
	}
	return cl, nil
}

// admin runs do with an administrative client and within the timeout.
func (k *kafkaFlags) admin(cmd *cobra.Command, do func(context.Context, *kadm.Client) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*k.timeout)
	defer cancel()
	cl, err := k.connect(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	adm.SetTimeoutMillis(int32(min(k.timeout, time.Hour).Milliseconds()))
	return do(ctx, adm)
}

// connectError is the error of an address at which nobody answers as hoped.
func connectError(what, address string, err error) error {
	f := fault.New(fault.IO, "connect to "+what, "%s: %w", address, lastCause(err))
	if what == "Kafka" {
		f = f.WithHint("is Firth running? Start it with: firth serve; another address is given with -b host:port")
	} else {
		f = f.WithHint("is Firth running? Start it with: firth serve; another address is given with -h host -p port")
	}
	return output.WithCode(output.ExitConnect, f)
}

// lastCause shortens the chain of a failed dial to what happened to the socket.
func lastCause(err error) error {
	if dial, ok := errors.AsType[*net.OpError](err); ok {
		return dial.Err
	}
	return err
}

// kafkaError gives an error of the Kafka protocol its kind, so that it has its exit code and hint.
func kafkaError(what string, err error, detail string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if detail != "" {
		text = detail
	}
	ke, ok := errors.AsType[*kerr.Error](err)
	if !ok {
		return fault.New(fault.KindOf(err), what, "%w", err)
	}
	switch ke {
	case kerr.UnknownTopicOrPartition, kerr.UnknownTopicID:
		return fault.New(fault.NotFound, what, "no such topic").WithHint("firth topic list shows what there is")
	case kerr.GroupIDNotFound:
		return fault.New(fault.NotFound, what, "no such group").WithHint("firth group list shows what there is")
	case kerr.TopicAlreadyExists:
		return fault.New(fault.Exists, what, "the topic exists already").WithHint("--if-not-exists makes that no error")
	case kerr.NonEmptyGroup:
		return fault.New(fault.Invalid, what, "the group has members").WithHint("stop its consumers first")
	case kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
		kerr.SaslAuthenticationFailed:
		return fault.New(fault.Denied, what, "%s", text)
	}
	return fault.New(fault.Invalid, what, "%s", text)
}

// confirm asks before something is destroyed. Without a terminal --yes is needed.
func confirm(cmd *cobra.Command, yes bool, question string) error {
	if yes {
		return nil
	}
	in, isFile := cmd.InOrStdin().(*os.File)
	if !isFile || !term.IsTerminal(int(in.Fd())) {
		return output.WithCode(output.ExitUsage, fault.New(fault.Invalid, "command line",
			"%s needs a confirmation", cmd.CommandPath()).
			WithHint("--yes confirms, --dry-run shows what would be done"))
	}
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return fault.New(fault.Invalid, cmd.CommandPath(), "not confirmed, nothing was done")
	}
	return nil
}

// settings parses key=value pairs.
func settings(pairs []string) (map[string]*string, error) {
	all := make(map[string]*string, len(pairs))
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, output.Usage("%q is not of the form name=value", pair)
		}
		all[name] = &value
	}
	return all, nil
}

// position is a place in a partition as it is written on the command line.
type position struct {
	kind   positionKind
	number int64 // an offset, a distance from the end, or milliseconds since 1970
}

type positionKind int

const (
	atStart positionKind = iota
	atEnd
	atStored
	atOffset
	beforeEnd
	atTime
	untilTime
)

const positionForms = "start, end, an offset, -N (N before the end), @TIME"

// parsePosition parses start|beginning, end, stored, N, -N and the times of kcat and rpk: @T and s@T
// (from), e@T (until). T is milliseconds since 1970, a date and time of RFC 3339, a date, or a duration
// before now such as -1h. Errors: usage.
func parsePosition(s string, now time.Time) (position, error) {
	switch s {
	case "start", "beginning", "earliest":
		return position{kind: atStart}, nil
	case "end", "latest":
		return position{kind: atEnd}, nil
	case "stored":
		return position{kind: atStored}, nil
	}
	if mark, at, ok := strings.Cut(s, "@"); ok && (mark == "" || mark == "s" || mark == "e") {
		ms, err := parseTime(at, now)
		if err != nil {
			return position{}, err
		}
		if mark == "e" {
			return position{kind: untilTime, number: ms}, nil
		}
		return position{kind: atTime, number: ms}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return position{}, output.Usage("%q is no position: use %s", s, positionForms)
	}
	if n < 0 {
		return position{kind: beforeEnd, number: -n}, nil
	}
	return position{kind: atOffset, number: n}, nil
}

func parseTime(s string, now time.Time) (int64, error) {
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil && ms >= 0 {
		return ms, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if at, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return at.UnixMilli(), nil
		}
	}
	if ago, err := time.ParseDuration(strings.TrimPrefix(s, "-")); err == nil {
		return now.Add(-ago).UnixMilli(), nil
	}
	return 0, output.Usage("%q is no time: use milliseconds since 1970, a date such as 2026-01-31T08:00:00Z, or -1h", s)
}

// offsets finds the offset of p in every partition of the topics.
func (p position) offsets(ctx context.Context, adm *kadm.Client, topics ...string) (map[string]map[int32]int64, error) {
	start, err := adm.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = start.Error()
	}
	if err != nil {
		return nil, kafkaError(strings.Join(topics, ", "), err, "")
	}
	end, err := adm.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = end.Error()
	}
	if err != nil {
		return nil, kafkaError(strings.Join(topics, ", "), err, "")
	}
	found := end
	if p.kind == atTime || p.kind == untilTime {
		if found, err = adm.ListOffsetsAfterMilli(ctx, p.number, topics...); err != nil {
			return nil, kafkaError(strings.Join(topics, ", "), err, "")
		}
	}
	all := make(map[string]map[int32]int64)
	found.Each(func(o kadm.ListedOffset) {
		low, _ := start.Lookup(o.Topic, o.Partition)
		high, _ := end.Lookup(o.Topic, o.Partition)
		if all[o.Topic] == nil {
			all[o.Topic] = make(map[int32]int64)
		}
		all[o.Topic][o.Partition] = p.within(low.Offset, high.Offset, o.Offset)
	})
	return all, nil
}

// within is the offset of p in a partition that holds [low, high); byTime is what a look-up by time gave.
func (p position) within(low, high, byTime int64) int64 {
	switch p.kind {
	case atStart:
		return low
	case atOffset:
		return min(max(p.number, low), high)
	case beforeEnd:
		return max(high-p.number, low)
	case atTime, untilTime:
		if byTime >= 0 {
			return byTime
		}
	}
	return high
}

// sortedKeys are the keys of m in order.
func sortedKeys[K int32 | string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func itoa[N int | int16 | int32 | int64](n N) string { return strconv.FormatInt(int64(n), 10) }
