package mqtt

import (
	"cmp"
	"log/slog"
	"math"
	"time"

	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/mqtt/rewrite"
)

// Options of the device door. Log and Mapping are needed; the zero value of another field is its
// default.
type Options struct {
	// Log is where messages go to and come from.
	Log stream.Keeper
	// Mapping is the table at the start; SetMapping swaps it.
	Mapping *hinge.Table
	// Metrics gets the counters. Default: nobody looks.
	Metrics *telemetry.Set
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Clock is the wall clock: timestamps of messages, their expiry. Default: time.Now.
	Clock func() time.Time
	// Judge is the time by which a message stamped at a time (milliseconds since 1970) is judged at now: earlier than now
	// where the wall clock was set forward since (clock.Clock.For). Default: now.
	Judge func(stamp int64, now time.Time) time.Time
	// Mark is what marks messages that were here, for bridges that ask for it. Default: they are told nothing.
	Mark string
	// Version is what $SYS/broker/version tells behind "firth version". Default: nothing.
	Version string
	// SysInterval is how often those who subscribe to $SYS are told what has changed. Default 10 s; negative: nobody is.
	SysInterval time.Duration
	// Logins finds out who clients are, and Guard decides what they may do. Default: nobody is asked, and everybody may do
	// everything.
	Logins Logins
	Guard  Guard
	// Audit is told who comes, what is refused and who takes a session over. Default: nobody is told.
	Audit *audit.Trail

	// MaxPacketBytes is the largest packet taken, fixed header included. Default 1 MiB + 64 KiB, from
	// 1 KiB to 268,435,460. A message must also fit into max.message.bytes of its log topic.
	MaxPacketBytes int
	// MaxConnections is the most connections at a time. Default 100,000.
	MaxConnections int
	// Rates are how fast clients may connect and publish by each listener that has none of its own. Default: no bounds.
	Rates Rates
	// Flapping bans clients that connect and disconnect too often. Default: it bans nobody.
	Flapping Flapping
	// SharedBans has the door follow bans that other nodes change, too. Default: none does.
	SharedBans *SharedBans
	// MaxDelayed is about how many messages may wait that are published to $delayed/SECONDS/TOPIC. Default 100,000; below
	// 0 there is no such thing.
	MaxDelayed int
	// Rewrite gives topic names and filters of clients other ones.
	Rewrite []rewrite.Rule
	// AutoSubscribe is what every client is subscribed to when it connects, without a SUBSCRIBE.
	AutoSubscribe []AutoSubscription
	// MaxDeviceTopics is the number of topics in the log up to which a PUBLISH makes the log topic that
	// its topic name maps to. From there on messages for log topics that do not exist go to the
	// catch-all topic of the mapping. Default 1,000.
	MaxDeviceTopics int
	// MaxSubscriptions is the most topic filters of one client. Default 10,000.
	MaxSubscriptions int
	// MaxKeepAlive bounds the keep alive of MQTT 5 clients (whole seconds, up to 65,535 s): one that asks
	// for more, or for none, is told to use this. Default: no bound.
	MaxKeepAlive time.Duration
	// ReceiveMaximum is how many QoS 1 messages an MQTT 5 client may have unacknowledged. Default 1,024.
	ReceiveMaximum uint16
	// MaxInflight is how many QoS 1 messages are sent to a client without an acknowledgement, if its own
	// receive maximum is not smaller. Default 1,000, at most 16,000.
	MaxInflight int
	// TopicAliasMaximum is how many topic aliases a client may set. Default 32.
	TopicAliasMaximum uint16
	// TopicAliases is how many topic aliases we set for an MQTT 5 client that takes them, at most: to the topics that it
	// gets often. Default 32; below 0: none.
	TopicAliases int
	// Enrolment lets devices have certificates. Default: it does not.
	Enrolment Enrolment
	// Mechanisms are the methods of enhanced authentication by name. Default: none.
	Mechanisms map[string]Mechanism
	// ResponsePrefix is what the response information begins with that an MQTT 5 client may ask for; the client
	// identifier follows. Default: there is no response information.
	ResponsePrefix string
	// ServerReference is the server that MQTT 5 clients are told to use instead when this one shuts down (0x9C), and by
	// Redirect. Default: none.
	ServerReference string
	// Redirect refuses all clients.
	Redirect Redirect
	// Sharding has the door serve the sessions of some shards. Default: it serves all.
	Sharding *Sharding
	// OutboxBytes is how much may wait to be written to one client before QoS 0 messages are dropped and
	// QoS 1 messages wait in the log. Default 1 MiB, at least 4 KiB.
	OutboxBytes int
	// BudgetBytes is how much all connections together may make the door hold: what waits to be written, topic names,
	// filters, wills, packets that are not complete. The garbage collector has half of it. As it is used up each may
	// hold less. Default 256 MiB, at least 1 MiB.
	BudgetBytes int64
	// ConnectTimeout is how long a new connection has for its CONNECT. Default 10 s.
	ConnectTimeout time.Duration
	// CloseTimeout is how long a connection that we end has to take our last words. Default 2 s.
	CloseTimeout time.Duration
	// MaxSessions is the most sessions that outlive their connections. Default 1,000,000.
	MaxSessions int
	// SessionBytes is about how much memory sessions without a connection may take, with their filters and the wills
	// that are not due yet. Default 256 MiB.
	SessionBytes int64
	// MaxExpiry bounds how long a session lasts without a connection (whole seconds). Default: no bound.
	MaxExpiry time.Duration
	// QueueQoS0 keeps messages of QoS 0, too, for sessions without a connection.
	QueueQoS0 bool
	// SharedByKey gives messages with one key to one member of a shared subscription, so that their order is kept.
	SharedByKey bool
	// CheckpointInterval is how long after a change the places of sessions are stored. Default 1 s.
	CheckpointInterval time.Duration
	// RetainedTopics is the most topic names with a retained message. Default 1,000,000.
	RetainedTopics int
	// RetainedBytes is about how much memory retained messages may take. Default 256 MiB.
	RetainedBytes int64
	// WebSocketOrigins are the origins that browsers may connect from, as patterns of path.Match on
	// host[:port]. Default: only the host that the page itself came from.
	WebSocketOrigins []string
	// FanoutWorkers is how many goroutines deliver messages. Default: the number of CPUs, at most 16.
	FanoutWorkers int
}

// Redirect tells whether clients are sent to another server.
type Redirect uint8

// The ways to send clients to another server.
const (
	// RedirectNone takes clients.
	RedirectNone Redirect = iota
	// RedirectForNow refuses them with Use another server (0x9C).
	RedirectForNow
	// RedirectForGood refuses them with Server moved (0x9D), and ends with that.
	RedirectForGood
)

// insteadOf is the reason code to end a connection with where there is a better one: a server that shuts down and has a
// successor names it.
func (o *Options) insteadOf(reason packet.ReasonCode) packet.ReasonCode {
	switch {
	case reason != packet.ServerShuttingDown || o.ServerReference == "":
		return reason
	case o.Redirect == RedirectForGood:
		return packet.ServerMoved
	}
	return packet.UseAnotherServer
}

const (
	defaultMaxPacket = 1<<20 + 64<<10
	minMaxPacket     = 1 << 10
	minOutbox        = 4 << 10
	minBudget        = 1 << 20
	maxMaxInflight   = 16000
)

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Judge == nil {
		o.Judge = func(_ int64, now time.Time) time.Time { return now }
	}
	o.MaxPacketBytes = cmp.Or(o.MaxPacketBytes, defaultMaxPacket)
	o.MaxConnections = cmp.Or(o.MaxConnections, 100_000)
	o.MaxDeviceTopics = cmp.Or(o.MaxDeviceTopics, 1000)
	o.MaxSubscriptions = cmp.Or(o.MaxSubscriptions, 10_000)
	o.ReceiveMaximum = cmp.Or(o.ReceiveMaximum, 1024)
	o.MaxInflight = cmp.Or(o.MaxInflight, 1000)
	o.TopicAliasMaximum = cmp.Or(o.TopicAliasMaximum, 32)
	o.TopicAliases = max(cmp.Or(o.TopicAliases, 32), 0)
	o.OutboxBytes = cmp.Or(o.OutboxBytes, 1<<20)
	o.BudgetBytes = cmp.Or(o.BudgetBytes, 256<<20)
	o.ConnectTimeout = cmp.Or(o.ConnectTimeout, 10*time.Second)
	o.CloseTimeout = cmp.Or(o.CloseTimeout, 2*time.Second)
	o.SysInterval = cmp.Or(o.SysInterval, 10*time.Second)
	o.Flapping.Window = cmp.Or(o.Flapping.Window, time.Minute)
	o.Flapping.Ban = cmp.Or(o.Flapping.Ban, 5*time.Minute)
	o.RetainedTopics = cmp.Or(o.RetainedTopics, 1_000_000)
	o.RetainedBytes = cmp.Or(o.RetainedBytes, 256<<20)
	return o
}

func (o *Options) validate() error {
	const op = "mqtt.Open"
	switch {
	case o.Log == nil:
		return fault.New(fault.Invalid, op, "no log given")
	case o.Mapping == nil:
		return fault.New(fault.Invalid, op, "no mapping given")
	case o.MaxPacketBytes < minMaxPacket || o.MaxPacketBytes > packet.MaxSize:
		return fault.New(fault.Invalid, op, "MaxPacketBytes %d is not between %d and %d",
			o.MaxPacketBytes, minMaxPacket, packet.MaxSize)
	case o.MaxInflight < 1 || o.MaxInflight > maxMaxInflight:
		return fault.New(fault.Invalid, op, "MaxInflight %d is not between 1 and %d", o.MaxInflight, maxMaxInflight)
	case o.OutboxBytes < minOutbox:
		return fault.New(fault.Invalid, op, "OutboxBytes %d is less than %d", o.OutboxBytes, minOutbox)
	case o.BudgetBytes < minBudget:
		return fault.New(fault.Invalid, op, "BudgetBytes %d is less than %d", o.BudgetBytes, minBudget)
	case o.MaxKeepAlive < 0 || o.MaxKeepAlive > 0xffff*time.Second:
		return fault.New(fault.Invalid, op, "MaxKeepAlive %s is not between 0 and 65535 s", o.MaxKeepAlive)
	case o.MaxConnections < 1 || o.MaxDeviceTopics < 1 || o.MaxSubscriptions < 1 || o.RetainedTopics < 1 ||
		o.RetainedBytes < 1:
		return fault.New(fault.Invalid, op, "a bound on connections, topics or subscriptions is less than 1")
	case o.MaxSessions < 0 || o.SessionBytes < 0 || o.MaxExpiry < 0 || o.CheckpointInterval < 0:
		return fault.New(fault.Invalid, op, "a bound on sessions is negative")
	case o.TopicAliases > math.MaxUint16:
		return fault.New(fault.Invalid, op, "TopicAliases %d is more than %d", o.TopicAliases, math.MaxUint16)
	case o.Flapping.Disconnects < 0 || o.Flapping.Window < 0 || o.Flapping.Ban < 0:
		return fault.New(fault.Invalid, op, "Flapping %+v is negative", o.Flapping)
	case o.ConnectTimeout < 0 || o.CloseTimeout < 0:
		return fault.New(fault.Invalid, op, "a timeout is negative")
	}
	return nil
}
