package node

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kafka"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/mqtt"
	"github.com/firthmq/firth/internal/mqtt/rewrite"
)

// Config is the tree of options of one node. Default makes one, Load reads one; the table in options.go
// has the sentence, the default and the bounds of each.
type Config struct {
	Data                   string // data directory
	Listen                 Listen
	Listeners              []Listener // besides those of Listen
	Advertise              string     // "auto" or host:port
	AdvertiseTLS           string     // the same for those that came by TLS
	AllowRemoteWithoutAuth bool
	TLS                    TLS
	Access                 Access
	HTTP                   HTTP
	Audit                  Audit
	Profiles               bool
	WSOrigins              string // patterns of host[:port], with commas
	Mapping                []hinge.Rule
	Rewrite                []rewrite.Rule
	AutoSubscribe          []mqtt.AutoSubscription
	Bridges                []Bridge
	Webhooks               []Webhook
	Topics                 Topics
	Limits                 Limits
	MQTT                   MQTT
	Sessions               Sessions
	Flapping               Flapping
	Groups                 Groups
	Transactions           Transactions
	Encryption             Encryption
	Log                    Log
	Shutdown               Shutdown

	// Logger gets the log lines of a node; nil: none. It is no option: Run makes it from Log.
	Logger *slog.Logger
	// StandsBy is called when a node that starts stands by, beside another gateway that serves, and listens already; nil:
	// nobody is told. It is no option.
	StandsBy func(*Node)
	// FS holds the log in place of the folder Data; nil: the folder. It is no option: tests bring a disk that fails.
	FS vfs.FS

	lines   *lastLines        // that Logger wrote; nil: they are not kept
	adopted *adopted          // the listening sockets that the process has already; nil: none
	origins map[string]Origin // by key; a key that is missing has its default
}

// Listen holds the addresses of the doors: host:port, several with commas, or "" for a door that stays shut. Those of
// MQTT and WS may be Unix sockets (unix:/path). Those with an S speak TLS.
type Listen struct{ MQTT, WS, Kafka, HTTP, MQTTS, WSS, Kafkas, HTTPS string }

// Topics says what a topic gets that asks for nothing, and who may make one by using it.
type Topics struct {
	Defaults       TopicDefaults
	AutoCreate     bool // Kafka clients make a topic by asking for it
	CatchAll       string
	MaxFromDevices int // how many topics devices may make by publishing
}

// TopicDefaults are the settings in force where a topic has none of its own.
type TopicDefaults struct {
	Partitions     int
	Retention      time.Duration // forever: keep by age without end
	RetentionBytes int64         // of one partition; unlimited: no bound
	Durability     string        // "disk" or "memory"
	MaxMessage     int64         // bytes of a batch after compression
	Segment        int64         // bytes
	Timestamp      string        // "CreateTime" or "LogAppendTime"
}

// Limits are the bounds that keep one client, or all of them, from using up the machine.
type Limits struct {
	Packet           int64 // bytes of an MQTT packet
	Connections      int   // MQTT, WebSocket included
	Inflight         int   // unacknowledged messages to one device
	ReceiveMaximum   int   // unacknowledged messages from one device
	Subscriptions    int   // topic filters of one device
	Sessions         int   // that outlive their connections
	SessionBytes     int64 // memory of those without a connection
	Retained         int   // topic names with a retained message
	Delayed          int   // messages that wait to be published
	RetainedBytes    int64 // memory of retained messages
	OutboxBytes      int64 // waiting to be written to one device
	MQTTBytes        int64 // that all MQTT connections together make us hold
	ConnectTimeout   time.Duration
	Request          int64 // bytes of a Kafka request
	KafkaConnections int
	TLSHandshakes    int   // under way
	KafkaBytes       int64 // that Kafka requests and answers hold together
	Partitions       int   // of all topics together
	CacheBytes       int64 // newest batches kept in memory
	CommitBytes      int64 // waiting for one commit
	JournalFile      int64 // bytes of a journal file
	Memory           int64 // bytes the process aims to stay within
	Rates            Rates // of listeners that have none of their own
}

// MQTT says what devices are told.
type MQTT struct {
	TopicAliases    int // that we set for one device
	ResponsePrefix  string
	ServerReference string
	Redirect        string // "none", "for_now" or "for_good"
	SysInterval     time.Duration
	Sparkplug       bool // births leave certificates
}

// hinge makes the mapping of some rules.
func (c *Config) hinge(rules []hinge.Rule) (*hinge.Table, error) {
	return hinge.New(rules, hinge.Options{CatchAll: c.Topics.CatchAll, Sparkplug: c.MQTT.Sparkplug})
}

func (m *MQTT) redirect() mqtt.Redirect {
	switch m.Redirect {
	case "for_now":
		return mqtt.RedirectForNow
	case "for_good":
		return mqtt.RedirectForGood
	}
	return mqtt.RedirectNone
}

// Sessions say what a device finds that was away.
type Sessions struct {
	MaxExpiry time.Duration // forever: no bound
	QueueQoS0 bool
	// SharedOrder is what of shared subscriptions stays in order: none, or key.
	SharedOrder string
}

// Flapping says which devices connect and disconnect too often, and for how long they are kept out.
type Flapping struct {
	Disconnects int // unlimited: nobody does
	Window      time.Duration
	Ban         time.Duration
}

// Groups say what members of consumer groups may ask for.
type Groups struct {
	MinSessionTimeout     time.Duration
	MaxSessionTimeout     time.Duration
	InitialRebalanceDelay time.Duration

	ConsumerSessionTimeout    time.Duration
	ConsumerHeartbeatInterval time.Duration
}

// Transactions bound those of Kafka producers.
type Transactions struct {
	MaxTimeout time.Duration
	IDExpiry   time.Duration
}

// Log says what is logged and how.
type Log struct {
	Level  string // "debug", "info", "warn" or "error"
	Format string // "text" or "json"

	// Kafka is the other log: that of messages.
	Kafka Brokers
}

// Shutdown says how a node ends.
type Shutdown struct{ Timeout time.Duration }

// The values that stand for no bound.
const (
	forever   = time.Duration(-1)
	unlimited = -1
)

// Origin says where the value of a key came from.
type Origin struct {
	Source string // "default", "file", "env" or "flag"
	Place  string // "firth.yaml:3:9", "FIRTH_LISTEN_MQTT" or "--set"; empty for a default
}

// String is the place, or "default".
func (o Origin) String() string {
	if o.Place == "" {
		return "default"
	}
	return o.Place
}

// Default is the configuration of an empty file.
func Default() *Config {
	c := &Config{origins: map[string]Origin{}}
	for _, o := range Options() {
		if o.parse == nil {
			continue // a list of objects: empty by default
		}
		if err := o.parse(c, o.Default); err != nil {
			panic("default of " + o.Key + ": " + err.Error()) // a fault of the table; TestDefaults walks it
		}
	}
	return c
}

// Origin tells where the value of a key came from.
func (c *Config) Origin(key string) Origin {
	if o, ok := c.origins[key]; ok {
		return o
	}
	return Origin{Source: "default"}
}

// times are what the Kafka door asks of them.
func (g Groups) times() kafka.GroupTimes {
	return kafka.GroupTimes{
		MinSession: g.MinSessionTimeout, MaxSession: g.MaxSessionTimeout, InitialRebalanceDelay: g.InitialRebalanceDelay,
		ConsumerSession: g.ConsumerSessionTimeout, ConsumerHeartbeat: g.ConsumerHeartbeatInterval,
	}
}

// settings are the topic defaults under Kafka's names, as log/store takes them.
func (d TopicDefaults) settings() map[string]string {
	ms := int64(unlimited)
	if d.Retention != forever {
		ms = d.Retention.Milliseconds()
	}
	return map[string]string{
		"retention.ms":           strconv.FormatInt(ms, 10),
		"retention.bytes":        strconv.FormatInt(d.RetentionBytes, 10),
		"firth.durability":       d.Durability,
		"max.message.bytes":      strconv.FormatInt(d.MaxMessage, 10),
		"segment.bytes":          strconv.FormatInt(d.Segment, 10),
		"message.timestamp.type": d.Timestamp,
	}
}

// DefaultFile is the configuration file that is read if nobody names one and it is there.
const DefaultFile = "firth.yaml"

// Loader reads the configuration of a process, as often as it is asked to.
type Loader struct {
	File  string // empty: DefaultFile, if there is one
	Env   []string
	Flags []Assignment
}

// Load reads all sources. Errors: NotFound for a file that is not there, Problems for what is in it.
func (l Loader) Load() (*Config, error) {
	src, err := l.sources()
	if err != nil {
		return nil, err
	}
	return Load(src)
}

func (l Loader) sources() (Sources, error) {
	src := Sources{File: l.File, Env: l.Env, Flags: l.Flags}
	name := l.File
	if name == "" {
		name = DefaultFile
	}
	text, err := os.ReadFile(name)
	switch {
	case err == nil:
		src.File, src.Text = name, text
	case errors.Is(err, fs.ErrNotExist) && l.File != "":
		return src, fault.New(fault.NotFound, "configuration", "there is no file %q", name).
			WithHint("without -c, %s in the current folder is read if it is there, else the defaults hold", DefaultFile)
	case errors.Is(err, fs.ErrNotExist):
	default:
		return src, fault.Wrap(fault.IO, "configuration", err)
	}
	return src, nil
}
