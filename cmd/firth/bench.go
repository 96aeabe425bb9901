package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/apps/bench"
	"github.com/firthmq/firth/internal/cli/output"
)

// newBenchCommand groups the generators of load.
func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Put a load on a broker, this one or another, and measure it",
		Long: `Put a load on a broker, this one or another, and measure it. Latencies are exact percentiles; with a rate
they count from when a message was due, so that a stall is seen in full.`,
		Example: `  # 16 publishers with 64 messages of 100 bytes in flight each
  firth bench mqtt --publishers 16 --in-flight 64 -q 1 --size 100

  # acknowledgement latency at 5,000 messages a second
  firth bench mqtt --publishers 16 --in-flight 64 -q 1 --rate 5000

  # over TLS, with a password
  firth bench mqtt -h broker.example -p 8883 --cafile ca.pem -u device -P secret`,
	}
	cmd.AddCommand(newBenchMQTTCommand(), newBenchReturnCommand(), newBenchLiveCommand(), newBenchConnectCommand(),
		newBenchKafkaCommand(), newBenchSeamCommand())
	return cmd
}

// entryFlags are the flags of how a load gets in. fill does what they say.
func entryFlags(cmd *cobra.Command, e *bench.Entry) (fill func() error) {
	var encrypted tlsFlags
	encrypted.add(cmd.Flags())
	cmd.Flags().StringVarP(&e.User, "username", "u", "", "user `name`; with Kafka by SASL PLAIN")
	cmd.Flags().StringVarP(&e.Password, "pw", "P", "", "`password`")
	return func() (err error) {
		if !encrypted.wanted() {
			return nil
		}
		if e.TLS, err = encrypted.config(""); err == nil { // what devices have, and every broker: the same work for all
			e.TLS.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
		}
		return err
	}
}

func newBenchMQTTCommand() *cobra.Command {
	m := bench.MQTT{}
	cmd := &cobra.Command{
		Use:   "mqtt",
		Short: "Publish, and measure acknowledgements and deliveries",
		Example: `  firth bench mqtt --publishers 1000 --in-flight 1 -q 1
  firth bench mqtt --publishers 1 --subscribers 100 -q 0 -p 1884`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	mqttLoadFlags(cmd, &m)
	cmd.Flags().IntVar(&m.PayloadSize, "size", 100, "bytes of payload, with subscribers at least 8")
	cmd.Flags().IntVar(&m.Subscribers, "subscribers", 0, "connections that subscribe to everything published")
	cmd.Flags().StringVar(&m.Share, "share", "", "group in which the subscribers share the messages; empty: each gets all")
	cmd.Flags().BoolVar(&m.Persistent, "persistent", false,
		"the broker keeps the sessions (clean session 0), which are removed at the end")
	cmd.Flags().Bool("help", false, "show this help")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		result, err := m.Run(cmd.Context())
		return printResult(cmd, *form, result, err)
	}
	return cmd
}

func newBenchReturnCommand() *cobra.Command {
	b := bench.Returning{}
	cmd := &cobra.Command{
		Use:   "return",
		Short: "Have sessions go away, publish for them, and measure their return",
		Long: `Have sessions subscribe (QoS 1, a topic each) and go away, publish for them, and measure how fast all come
back and take what they missed. A message that is missing, twice there or in the wrong place is an error. With
--only the two halves are run one by one, so that the broker can be restarted in between.`,
		Example: `  firth bench return --sessions 10000 --messages 100
  firth bench return --only leave && systemctl restart firth && firth bench return --only back`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	f := cmd.Flags()
	address, fill := addressFlags(cmd), entryFlags(cmd, &b.Entry)
	f.IntVar(&b.Sessions, "sessions", 1000, "how many sessions")
	f.IntVar(&b.Messages, "messages", 100, "messages for each")
	f.IntVar(&b.Together, "together", 100, "how many connect at a time; each stays until it has its messages")
	f.IntVar(&b.PayloadSize, "size", 100, "bytes of payload, at least 8")
	f.StringVarP(&b.Topic, "topic", "t", "bench", "messages go to TOPIC/<number of the session>")
	only := f.String("only", "", "the half that is run: leave or back; empty: both")
	f.Bool("help", false, "show this help")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := fill(); err != nil {
			return err
		}
		b.Address, b.Only = address(), bench.Part(*only)
		result, err := b.Run(cmd.Context())
		return printResult(cmd, *form, result, err)
	}
	return cmd
}

func newBenchLiveCommand() *cobra.Command {
	l := bench.Live{}
	cmd := &cobra.Command{
		Use:   "live",
		Short: "Publish at a rate, and measure deliveries while something else goes on",
		Long: `Publish at a rate, from one connection to another (QoS 1), and measure deliveries while something else goes on:
each line of the input begins a phase, which it names, and its end ends the last one. A message counts for the phase in
which it was due. Run it in a process of its own, as here: beside another load it would wait for that.`,
		Example: `  # live messages on a quiet broker, and while 10,000 sessions take 100 messages each that they missed
  firth bench return --sessions 10000 --only leave && {
    echo quiet; sleep 5; echo back; firth bench return --sessions 10000 --only back >&2
  } | firth bench live --rate 1000`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	f := cmd.Flags()
	address, fill := addressFlags(cmd), entryFlags(cmd, &l.Entry)
	f.Float64Var(&l.Rate, "rate", 1000, "messages a second")
	f.IntVar(&l.PayloadSize, "size", 100, "bytes of payload, at least 8")
	f.StringVarP(&l.Topic, "topic", "t", "bench-live", "where messages go")
	f.Bool("help", false, "show this help")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := fill(); err != nil {
			return err
		}
		l.Address = address()
		phases := make(chan string)
		go func() { // as long as the input lasts, or the process
			defer close(phases)
			for lines := bufio.NewScanner(cmd.InOrStdin()); lines.Scan(); {
				phases <- lines.Text()
			}
		}()
		results, err := l.Run(cmd.Context(), phases)
		if err == nil && *form == output.FormJSON {
			return output.JSON(cmd.OutOrStdout(), results)
		}
		for _, r := range results {
			if err = printResult(cmd, *form, r, err); err != nil {
				return err
			}
		}
		return err
	}
	return cmd
}

func newBenchConnectCommand() *cobra.Command {
	a, h := bench.Arriving{}, bench.HalfOpen{}
	cmd := &cobra.Command{
		Use:   "connect",
		Short: "Have devices connect, and measure how fast they are welcomed",
		Long: `Have devices connect (MQTT), and measure how many a second are welcomed: the handshake of TLS, CONNECT and
CONNACK, and DISCONNECT. With --devices so many come once and stay until all are there; %d in the user's name and the
password is the number of the device. With --half-open they begin a handshake and say no more: run it beside another
load to see whether that suffers.`,
		Example: `  firth bench connect --cafile ca.pem -p 8883
  firth bench connect --cafile ca.pem -p 8883 --resume
  firth bench connect --devices 10000 --together 200 -u device-%d -P secret-%d --sources 100
  firth bench connect --half-open 50000 --rate 5000 --sources 1000 -p 8883 --duration 30s`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	f := cmd.Flags()
	address, fill := addressFlags(cmd), entryFlags(cmd, &a.Entry)
	f.IntVar(&a.Together, "together", 16, "how many connect at a time")
	f.IntVar(&a.Devices, "devices", 0, "how many come once, and stay; 0: they come and go")
	f.BoolVar(&a.Resume, "resume", false, "who comes again takes up the session of TLS that it had")
	f.IntVar(&a.Sources, "sources", 0, "come from so many addresses of 127.0.0.0/8; 0: from the usual one")
	f.IntVar(&h.Connections, "half-open", 0, "how many begin a handshake of TLS and say no more")
	f.Float64Var(&h.Rate, "rate", 5000, "half-open: connections begun a second")
	timeFlags(cmd, &a.Duration, &a.Warmup)
	f.Bool("help", false, "show this help")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := fill(); err != nil {
			return err
		}
		a.Address = address()
		run := a.Run
		if h.Connections > 0 {
			h.Address, h.Sources, h.Duration = a.Address, a.Sources, a.Duration
			run = h.Run
		}
		result, err := run(cmd.Context())
		return printResult(cmd, *form, result, err)
	}
	return cmd
}

// addressFlags are the flags that name an MQTT broker.
func addressFlags(cmd *cobra.Command) func() string {
	host := cmd.Flags().StringP("host", "h", "127.0.0.1", "broker to connect to")
	port := cmd.Flags().IntP("port", "p", 1883, "its MQTT port")
	return func() string { return net.JoinHostPort(*host, strconv.Itoa(*port)) }
}

// mqttLoadFlags are the flags that everything that publishes has alike.
func mqttLoadFlags(cmd *cobra.Command, m *bench.MQTT) {
	f := cmd.Flags()
	address, fill := addressFlags(cmd), entryFlags(cmd, &m.Entry)
	cmd.PreRunE = func(*cobra.Command, []string) error {
		m.Address = address()
		return fill()
	}
	f.IntVar(&m.Publishers, "publishers", 16, "connections that publish")
	f.IntVar(&m.InFlight, "in-flight", 64, "QoS 1 and 2 messages each publisher sends ahead of their acknowledgements")
	f.Uint8VarP(&m.QoS, "qos", "q", 1, "quality of service: 0, 1 or 2")
	f.StringVarP(&m.Topic, "topic", "t", "bench", "messages go to TOPIC/<number of the publisher>")
	f.Float64Var(&m.Rate, "rate", 0, "messages a second of all publishers together; 0: as fast as it goes")
	timeFlags(cmd, &m.Duration, &m.Warmup)
}

func timeFlags(cmd *cobra.Command, duration, warmup *time.Duration) {
	cmd.Flags().DurationVar(duration, "duration", 10*time.Second, "how long is measured")
	cmd.Flags().DurationVar(warmup, "warmup", 2*time.Second, "how long is not measured before")
}

func newBenchKafkaCommand() *cobra.Command {
	k := bench.Kafka{}
	cmd := &cobra.Command{
		Use:   "kafka",
		Short: "Produce and consume, and measure throughput and latency",
		Long: `Produce and consume, and measure throughput and latency. The topic is made if it does not exist, without
replicas. Modes: produce measures acknowledgements, consume reads the topic from start to end over and
over, both produces and reads at the tail, transact produces in transactions, latency produces at a rate and
measures until it is consumed. copy reads the topic in a group of --connections members and writes what it reads to
TOPIC-copies in transactions that commit its offsets, too. commit commits offsets of --groups groups, of a member
each, for all partitions of the topic. rebalance has members of a group of --members leave and join, and measures
until all partitions are with one member each again. share has the --members of a share group take and accept what
is in the topic.`,
		Example: `  firth bench kafka --mode produce --partitions 8 --size 1024
  firth bench kafka --mode produce --partitions 8 --size 1024 --batches-encoded
  firth bench kafka --mode consume --batches-encoded
  firth bench kafka --mode transact --txn-records 10 --linger 0s
  firth bench kafka --mode copy --connections 4
  firth bench kafka --mode commit --groups 100 --batches-encoded
  firth bench kafka --mode rebalance --members 200 --partitions 400 --protocol consumer
  firth bench kafka --mode share --members 8
  firth bench kafka --mode latency --rate 2000 --linger 0s`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	f := cmd.Flags()
	mode := f.String("mode", string(bench.Produce),
		"produce, consume, both, transact, latency, copy, commit, rebalance or share")
	protocol := f.String("protocol", string(bench.ClassicProtocol), "of groups: classic or consumer (KIP-848)")
	acks := f.String("acks", "all", "who has to have a record before it is acknowledged: all or 1")
	f.StringSliceVarP(&k.Brokers, "brokers", "b", []string{"127.0.0.1:9092"}, "bootstrap brokers, comma separated")
	f.StringVarP(&k.Topic, "topic", "t", "bench", "log topic")
	f.IntVar(&k.Partitions, "partitions", 8, "partitions of the topic, if it is made")
	f.IntVar(&k.RecordSize, "size", 1024, "bytes of value, for latency at least 8")
	f.IntVar(&k.BatchSize, "batch-size", 128<<10, "most bytes of a batch")
	f.DurationVar(&k.Linger, "linger", 5*time.Millisecond, "how long the client waits for a batch to fill")
	f.IntVar(&k.Connections, "connections", 1, "clients, or sockets with --batches-encoded")
	f.IntVar(&k.InFlight, "in-flight", 5, "with --batches-encoded: Produce requests ahead of their responses")
	f.Float64Var(&k.Rate, "rate", 2000, "records a second, for latency")
	f.Int64Var(&k.Records, "records", 0, "produce: end after about as many; 0: when the time is over")
	f.IntVar(&k.Keys, "keys", 0, "give records so many different keys in turn; 0: none")
	f.IntVar(&k.TxnRecords, "txn-records", 0, "transact: records of a transaction; 0: those of --txn-every")
	f.DurationVar(&k.TxnEvery, "txn-every", 100*time.Millisecond, "transact, copy: how long records go into a transaction")
	f.IntVar(&k.Groups, "groups", 100, "commit: how many groups")
	f.IntVar(&k.Members, "members", 200, "rebalance, share: members of the group")
	f.BoolVar(&k.Once, "once", false, "consume: end when the topic is read")
	f.BoolVar(&k.Encoded, "batches-encoded", false,
		"send batches made beforehand, read raw Fetch responses and commit offsets on plain sockets instead of with a client")
	f.BoolVar(&k.CheckCRC, "check-crc", false, "with --batches-encoded: compute the checksum of batches read")
	timeFlags(cmd, &k.Duration, &k.Warmup)
	fill := entryFlags(cmd, &k.Entry)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := fill(); err != nil {
			return err
		}
		k.Mode, k.Protocol = bench.Mode(*mode), bench.Protocol(*protocol)
		switch *acks {
		case "all", "-1":
			k.Acks = -1
		case "1":
			k.Acks = 1
		}
		result, err := k.Run(cmd.Context())
		return printResult(cmd, *form, result, err)
	}
	return cmd
}

func newBenchSeamCommand() *cobra.Command {
	s := bench.Seam{}
	cmd := &cobra.Command{
		Use:   "seam",
		Short: "Publish with MQTT, and measure until a Kafka consumer has it",
		Example: `  firth bench seam --rate 2000
  firth bench seam --publishers 16 --in-flight 64 --raw`,
		Args: cobra.NoArgs,
	}
	form := formFlag(cmd)
	mqttLoadFlags(cmd, &s.MQTT)
	f := cmd.Flags()
	f.IntVar(&s.PayloadSize, "size", 100, "bytes of payload, at least 8")
	f.StringSliceVarP(&s.Brokers, "brokers", "b", []string{"127.0.0.1:9092"}, "bootstrap brokers, comma separated")
	f.StringVar(&s.LogTopic, "log-topic", "", "log topic that the messages go to; empty: the same as --topic")
	f.IntVar(&s.Partitions, "partitions", 1, "partitions of the log topic, if it is made")
	f.BoolVar(&s.Raw, "raw", false, "read raw Fetch responses on a plain socket instead of with a client")
	f.Bool("help", false, "show this help")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		result, err := s.Run(cmd.Context())
		return printResult(cmd, *form, result, err)
	}
	return cmd
}

func printResult(cmd *cobra.Command, form output.Form, result *bench.Result, err error) error {
	if err != nil {
		return err
	}
	if form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), result)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), result)
	return err
}
