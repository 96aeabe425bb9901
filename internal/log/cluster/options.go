package cluster

import (
	"cmp"
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
)

// Options of a keeper on a cluster. The zero value of a field is its default; only Seeds is needed.
type Options struct {
	// Seeds are brokers to begin with, as host:port.
	Seeds []string
	// TLS is how to reach them; nil: in the clear.
	TLS *tls.Config
	// Login is how to say who we are; nil: not at all.
	Login *Login
	// Client is how else to reach them: a dialer of tests.
	Client []kgo.Opt
	// ClientID is what the cluster's logs and quotas call this node. Default "firth".
	ClientID string
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Metrics gets the counters of the keeper. Default: nobody looks.
	Metrics *telemetry.Set

	// QueueBytes is how many bytes of units may wait or be under way: above it Append gives ErrCrowded. Default 32 MiB.
	QueueBytes int64
	// GroupBytes is about how many bytes go to the cluster at once. Default 8 MiB.
	GroupBytes int64
	// ReplicationFactor of topics that are created here. Default: 3, or as many as there are brokers.
	ReplicationFactor int16
	// MinInSync is min.insync.replicas of topics that are created here. Default: 2, or 1 where there is one replica.
	MinInSync int
	// DefaultPartitions of topics that are created here and ask for no number. Default: the cluster's own.
	DefaultPartitions int
	// TopicDefaults are settings of topics that are created here, but for those that hold our own state.
	TopicDefaults map[string]string
	// StateBytes is max.message.bytes of topics that hold our own state, at least. Default 16 MiB.
	StateBytes int64
	// LargestMessage is the largest one that devices may send, in bytes: topics that are created here take it. Default:
	// what the cluster takes by its own.
	LargestMessage int64
	// Histories are topics of our own that retention may trim; all others are compacted.
	Histories []string
	// Accept names settings of our own topics, as Breach does, with which a promise cannot be kept, and which are taken
	// all the same.
	Accept []string
	// Instance is the name of this node, by which it is the only one that serves the cluster; the same after a restart.
	// Default: none, and others are not looked for.
	Instance string
	// Place is the place of Instance among other gateways, which the caller looks after. Default: it is the only one.
	Place *Place
	// Shards is the topic whose partitions are the shards that gateways give each other, if they are more than one.
	Shards string
	// Takeover is after what time without a sign of life another node may take the place of this one. Default 6 s.
	Takeover time.Duration
	// TransactionTimeout is when the cluster aborts what a node that died has left open, and until then nobody reads
	// past it. Default 10 s.
	TransactionTimeout time.Duration
	// OwnerTimeout is TransactionTimeout of the owner of a shard: the next owner does not wait for it, but after a time
	// without the cluster that is longer this one has lost the shard. Default: as TransactionTimeout.
	OwnerTimeout time.Duration
	// RefreshInterval is how often topics made elsewhere are looked for, and every sixth time the settings of all.
	// Default 10 s.
	RefreshInterval time.Duration
	// Patience is how long a request is tried while the cluster has no answer to it. Default 15 s.
	Patience time.Duration
	// Hold is how long a unit is tried. Default: as Patience.
	Hold time.Duration
	// FollowWait is how long a request for news waits at a broker, and so at most how long it takes until a partition
	// that is followed anew is listened to. Default 250 ms.
	FollowWait time.Duration
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.ClientID = cmp.Or(o.ClientID, "firth")
	o.QueueBytes = cmp.Or(o.QueueBytes, 32<<20)
	o.GroupBytes = cmp.Or(o.GroupBytes, 8<<20)
	o.StateBytes = cmp.Or(o.StateBytes, 16<<20)
	o.Takeover = cmp.Or(o.Takeover, 6*time.Second)
	o.TransactionTimeout = cmp.Or(o.TransactionTimeout, 10*time.Second)
	o.RefreshInterval = cmp.Or(o.RefreshInterval, 10*time.Second)
	o.OwnerTimeout = cmp.Or(o.OwnerTimeout, o.TransactionTimeout)
	o.Patience = cmp.Or(o.Patience, 15*time.Second)
	o.Hold = cmp.Or(o.Hold, o.Patience)
	o.FollowWait = cmp.Or(o.FollowWait, 250*time.Millisecond)
	return o
}

func (o Options) validate() error {
	if len(o.Seeds) == 0 {
		return fault.New(fault.Invalid, "cluster.Open", "no broker given")
	}
	if l := o.Login; l != nil && mechanisms[l.Mechanism] == nil {
		return fault.New(fault.Invalid, "cluster.Open", "no SASL mechanism %q", l.Mechanism)
	}
	return nil
}

// client makes a client of the cluster.
func (o *Options) client(more ...kgo.Opt) (*kgo.Client, error) {
	const (
		newsOfLeaders = 100 * time.Millisecond
		connect       = 5 * time.Second
	)
	opts := []kgo.Opt{
		kgo.SeedBrokers(o.Seeds...),
		kgo.ClientID(o.ClientID),
		kgo.MetadataMinAge(newsOfLeaders),
		kgo.DialTimeout(connect),
		kgo.AlwaysRetryEOF(), // a broker that is killed ends connections at their first answer, too
		kgo.RetryTimeout(o.Patience),
		kgo.RequestTimeoutOverhead(o.answerWait(false)),
		kgo.DisableClientMetrics(),
	}
	if o.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(o.TLS))
	}
	if o.Login != nil {
		opts = append(opts, kgo.SASL(o.Login.mechanism()))
	}
	opts = append(append(opts, o.Client...), more...)
	return kgo.NewClient(opts...)
}

// answerWait is how long an answer is waited for, beyond what its request lets the broker wait, before the same is sent
// on another connection: so that there is time for a second try. A lane waits half as long, for its requests let the
// broker wait for its followers just as long.
func (o *Options) answerWait(lane bool) time.Duration {
	const least, most = 100 * time.Millisecond, 15 * time.Minute // of franz-go
	wait := o.Patience / 2
	if lane {
		wait /= 2
	}
	return min(max(wait, least), most)
}

// producer makes a client that appends. It tries nothing twice: its lane does, which has to know.
func (o *Options) producer(secondKind bool) (*kgo.Client, error) {
	opts := []kgo.Opt{kgo.RequestRetries(0), kgo.RequestTimeoutOverhead(o.answerWait(true))}
	if !secondKind {
		// By these versions a cluster tells the kinds of transactions apart (KIP-890).
		const produce, endTxn = 11, 4
		known := kversion.Stable()
		known.SetMaxKeyVersion(int16(kmsg.Produce), produce)
		known.SetMaxKeyVersion(int16(kmsg.EndTxn), endTxn)
		opts = append(opts, kgo.MaxVersions(known))
	}
	return o.client(opts...)
}
