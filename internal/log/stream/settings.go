package stream

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
)

// Settings are the settings of a topic in force, decoded.
type Settings struct {
	RetentionMs     int64 // age in milliseconds at which records go; -1: never
	RetentionBytes  int64 // bytes of one partition above which the oldest records go; -1: no limit
	SegmentBytes    int64 // retention trims in steps of at most this many bytes
	MaxMessageBytes int   // largest batch, compressed, in bytes
	Delete, Compact bool  // cleanup.policy: retention, or compaction, or both
	LogAppendTime   bool  // the log's clock stamps records instead of the sender's
	Recompress      bool  // batches of Kafka producers are stored compressed by Codec, whatever they came with
	Codec           record.Codec
	Memory          bool  // durability=memory: acknowledged before the disk has it
	DeadLetters     bool  // share groups may write what they give up to it (KIP-1191)
	FloorMs         int64 // age in milliseconds below which no record goes, but by who may lower it; -1: none
	Subject         Subject

	// When a compacted topic is compacted.
	DeleteRetentionMs  int64   // how long a tombstone stays, in milliseconds (KIP-534)
	MinCompactionLagMs int64   // age in milliseconds that a record has before it is compacted
	MaxCompactionLagMs int64   // age in milliseconds at which it is, whatever the share of MinDirtyRatio
	MinDirtyRatio      float64 // share of the bytes that are not compacted above which they are, 0 to 1
	SegmentMs          int64   // age in milliseconds at which records are no longer in the active file

	// How far the clock of a Kafka producer may be before and behind the log's, in milliseconds (KIP-937).
	TimestampAfterMaxMs  int64
	TimestampBeforeMaxMs int64
}

// SettingType is Kafka's type code of a setting (ConfigType in DescribeConfigs).
type SettingType int8

// The types, with Kafka's numbers.
const (
	TypeBoolean SettingType = 1
	TypeString  SettingType = 2
	TypeInt     SettingType = 3
	TypeLong    SettingType = 5
	TypeDouble  SettingType = 6
	TypeList    SettingType = 7
)

// Setting describes one setting of a topic.
type Setting struct {
	Name    string
	Type    SettingType
	Default string
	Doc     string

	check func(value string) error
	apply func(s *Settings, value string)
}

func number(low, high int64) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", v)
		}
		if n < low || n > high {
			return fmt.Errorf("%d is not between %d and %d", n, low, high)
		}
		return nil
	}
}

func oneOf(allowed ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(allowed, v) {
			return fmt.Errorf("%q is not one of %s", v, strings.Join(allowed, ", "))
		}
		return nil
	}
}

func toInt(v string) int64 {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0 // check has refused it
	}
	return n
}

const (
	maxLong = 1<<63 - 1
	maxInt  = 1<<31 - 1
)

// TopicSettings lists every setting that a topic may have, by name: the ones Firth obeys and, last,
// the others that Kafka 4 has, which have no effect on one node and are kept and shown with the reason.
func TopicSettings() []Setting { return topicSettings }

var topicSettings = []Setting{
	{Name: "cleanup.policy", Type: TypeList, Default: "delete",
		Doc:   "what happens to old records: delete, compact, or both",
		check: policies,
		apply: func(s *Settings, v string) {
			s.Delete, s.Compact = strings.Contains(v, "delete"), strings.Contains(v, "compact")
		}},
	{Name: "compression.type", Type: TypeString, Default: "producer",
		Doc: "how batches of Kafka producers are stored: as they came (producer), uncompressed, or compressed by this " +
			"codec; messages of devices are stored uncompressed",
		check: oneOf("producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"),
		apply: func(s *Settings, v string) {
			s.Codec, s.Recompress = codecs[v], v != "producer"
		}},
	{Name: "errors.deadletterqueue.group.enable", Type: TypeBoolean, Default: "false",
		Doc:   "whether share groups may write their dead letters to the topic (KIP-1191)",
		check: oneOf("true", "false"),
		apply: func(s *Settings, v string) { s.DeadLetters = v == "true" }},
	{Name: "delete.retention.ms", Type: TypeLong, Default: "86400000",
		Doc:   "how long a tombstone of a compacted topic stays, in milliseconds from when it was compacted first",
		check: number(0, maxLong),
		apply: func(s *Settings, v string) { s.DeleteRetentionMs = toInt(v) }},
	{Name: "firth.classification", Type: TypeString, Default: "",
		Doc:   "what kind of data the topic holds, for people: a text of at most 256 bytes",
		check: label},
	{Name: "firth.durability", Type: TypeString, Default: "disk",
		Doc:   "disk: acknowledged when on stable storage; memory: acknowledged before",
		check: oneOf("disk", "memory"),
		apply: func(s *Settings, v string) { s.Memory = v == "memory" }},
	{Name: "firth.owner", Type: TypeString, Default: "",
		Doc:   "whose data the topic holds, for people: a text of at most 256 bytes",
		check: label},
	{Name: "firth.retention.floor.ms", Type: TypeLong, Default: "-1",
		Doc: "age in milliseconds below which no record of the topic may go: settings that would take it are refused, and " +
			"who lowers it, or deletes younger records or the topic, needs the right to alter the cluster; -1: none",
		check: number(-1, maxLong),
		apply: func(s *Settings, v string) { s.FloorMs = toInt(v) }},
	{Name: "firth.subject", Type: TypeString, Default: "",
		Doc: "whom a record is about, so that firth shred can make all records of one unreadable: key, or header:NAME; " +
			"empty: nobody",
		check: checkSubject,
		apply: func(s *Settings, v string) { s.Subject = parseSubject(v) }},
	{Name: "max.compaction.lag.ms", Type: TypeLong, Default: "9223372036854775807",
		Doc:   "age in milliseconds at which a record of a compacted topic is compacted at the latest",
		check: number(1, maxLong),
		apply: func(s *Settings, v string) { s.MaxCompactionLagMs = toInt(v) }},
	{Name: "max.message.bytes", Type: TypeInt, Default: "16777216",
		Doc:   "largest record batch in bytes, after compression",
		check: number(0, 1<<30),
		apply: func(s *Settings, v string) { s.MaxMessageBytes = int(toInt(v)) }},
	{Name: "message.timestamp.after.max.ms", Type: TypeLong, Default: "3600000",
		Doc:   "how far in the future a Kafka producer may stamp a record, in milliseconds",
		check: number(0, maxLong),
		apply: func(s *Settings, v string) { s.TimestampAfterMaxMs = toInt(v) }},
	{Name: "message.timestamp.before.max.ms", Type: TypeLong, Default: "9223372036854775807",
		Doc:   "how far in the past a Kafka producer may stamp a record, in milliseconds",
		check: number(0, maxLong),
		apply: func(s *Settings, v string) { s.TimestampBeforeMaxMs = toInt(v) }},
	{Name: "message.timestamp.type", Type: TypeString, Default: "CreateTime",
		Doc:   "whose clock stamps a record: the sender's (CreateTime) or the log's (LogAppendTime)",
		check: oneOf("CreateTime", "LogAppendTime"),
		apply: func(s *Settings, v string) { s.LogAppendTime = v == "LogAppendTime" }},
	{Name: "min.cleanable.dirty.ratio", Type: TypeDouble, Default: "0.5",
		Doc:   "share of a compacted topic's bytes that are new above which it is compacted",
		check: ratio,
		apply: func(s *Settings, v string) { s.MinDirtyRatio = toFloat(v) }},
	{Name: "min.compaction.lag.ms", Type: TypeLong, Default: "0",
		Doc:   "age in milliseconds below which a record of a compacted topic is not compacted",
		check: number(0, maxLong),
		apply: func(s *Settings, v string) { s.MinCompactionLagMs = toInt(v) }},
	{Name: "retention.bytes", Type: TypeLong, Default: "-1",
		Doc:   "bytes of one partition above which its oldest records go; -1: no limit",
		check: number(-1, maxLong),
		apply: func(s *Settings, v string) { s.RetentionBytes = toInt(v) }},
	{Name: "retention.ms", Type: TypeLong, Default: "604800000",
		Doc:   "age in milliseconds at which records go; -1: never",
		check: number(-1, maxLong),
		apply: func(s *Settings, v string) { s.RetentionMs = toInt(v) }},
	{Name: "segment.bytes", Type: TypeInt, Default: "1073741824",
		Doc:   "retention removes records in steps of at most this many bytes",
		check: number(1<<14, maxInt),
		apply: func(s *Settings, v string) { s.SegmentBytes = toInt(v) }},
	{Name: "segment.ms", Type: TypeLong, Default: "604800000",
		Doc:   "age in milliseconds at which new records of a compacted topic may be compacted, however few they are",
		check: number(1, maxLong),
		apply: func(s *Settings, v string) { s.SegmentMs = toInt(v) }},

	{Name: "compression.gzip.level", Type: TypeInt, Default: "-1",
		Doc: "without effect: the log compresses at the codec's usual level", check: gzipLevel},
	{Name: "compression.lz4.level", Type: TypeInt, Default: "9",
		Doc: "without effect: the log compresses at the codec's usual level", check: number(1, 17)},
	{Name: "compression.zstd.level", Type: TypeInt, Default: "3",
		Doc: "without effect: the log compresses at the codec's usual level", check: number(-131072, 22)},
	{Name: "file.delete.delay.ms", Type: TypeLong, Default: "60000",
		Doc: "without effect: a file goes when its last reader has let go of it", check: number(0, maxLong)},
	{Name: "flush.messages", Type: TypeLong, Default: "1",
		Doc: "without effect: firth.durability says when records are synced", check: number(1, maxLong)},
	{Name: "flush.ms", Type: TypeLong, Default: "0",
		Doc: "without effect: firth.durability says when records are synced", check: number(0, maxLong)},
	{Name: "follower.replication.throttled.replicas", Type: TypeList, Default: "",
		Doc: "without effect: one node has no followers", check: throttledReplicas},
	{Name: "index.interval.bytes", Type: TypeInt, Default: "4096",
		Doc: "without effect: the index of a file is made with the file", check: number(0, maxInt)},
	{Name: "leader.replication.throttled.replicas", Type: TypeList, Default: "",
		Doc: "without effect: one node has no followers", check: throttledReplicas},
	{Name: "local.retention.bytes", Type: TypeLong, Default: "-2",
		Doc: "without effect: nothing is tiered, retention.bytes counts", check: number(-2, maxLong)},
	{Name: "local.retention.ms", Type: TypeLong, Default: "-2",
		Doc: "without effect: nothing is tiered, retention.ms counts", check: number(-2, maxLong)},
	{Name: "min.insync.replicas", Type: TypeInt, Default: "1",
		Doc:   "without effect: Kafka asks for no more than the replicas there are, which is one",
		check: number(1, maxInt)},
	{Name: "preallocate", Type: TypeBoolean, Default: "true",
		Doc: "without effect: the journal is always preallocated", check: oneOf("true", "false")},
	{Name: "remote.log.copy.disable", Type: TypeBoolean, Default: "false",
		Doc: "without effect: nothing is tiered", check: oneOf("true", "false")},
	{Name: "remote.log.delete.on.disable", Type: TypeBoolean, Default: "false",
		Doc: "without effect: nothing is tiered", check: oneOf("true", "false")},
	{Name: "remote.storage.enable", Type: TypeBoolean, Default: "false",
		Doc: "there is no tiered storage: false", check: oneOf("false")},
	{Name: "segment.index.bytes", Type: TypeInt, Default: "10485760",
		Doc: "without effect: the index of a file is as large as the file needs it", check: number(4, maxInt)},
	{Name: "segment.jitter.ms", Type: TypeLong, Default: "0",
		Doc: "without effect: partitions share their files", check: number(0, maxLong)},
	{Name: "unclean.leader.election.enable", Type: TypeBoolean, Default: "false",
		Doc: "without effect: one node is the leader of all", check: oneOf("true", "false")},
}

// codecs are those that compression.type names.
var codecs = map[string]record.Codec{
	"uncompressed": record.None, "gzip": record.Gzip, "snappy": record.Snappy, "lz4": record.LZ4, "zstd": record.Zstd,
}

func gzipLevel(v string) error {
	if v == "0" {
		return fmt.Errorf("0 is not -1 and not between 1 and 9")
	}
	return number(-1, 9)(v)
}

// throttledReplicas is nothing, * or a list of partition:broker.
func throttledReplicas(v string) error {
	if v == "" || v == "*" {
		return nil
	}
	for pair := range strings.SplitSeq(v, ",") {
		partition, broker, ok := strings.Cut(strings.TrimSpace(pair), ":")
		if !ok || number(0, maxInt)(partition) != nil || number(0, maxInt)(broker) != nil {
			return fmt.Errorf("%q is not *, nor a list of partition:broker", v)
		}
	}
	return nil
}

// policies is a list of delete and compact. Kafka takes spaces, too.
func policies(v string) error {
	for policy := range strings.SplitSeq(v, ",") {
		if err := oneOf("delete", "compact")(strings.TrimSpace(policy)); err != nil {
			return err
		}
	}
	return nil
}

// label is a text for people.
func label(v string) error {
	const most = 256
	if len(v) > most || !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) {
		return fmt.Errorf("it is not UTF-8 of at most %d bytes without control characters", most)
	}
	return nil
}

// CheckFloor tells which of the settings would take a record before it has the age of FloorMs. Errors: Invalid.
func (s *Settings) CheckFloor() error {
	const op, floor = "topic setting ", "firth.retention.floor.ms"
	switch {
	case s.FloorMs <= 0:
	case s.Delete && s.RetentionMs >= 0 && s.RetentionMs < s.FloorMs:
		return fault.New(fault.Invalid, op+"retention.ms", "%d is below %s, %d", s.RetentionMs, floor, s.FloorMs)
	case s.Delete && s.RetentionBytes >= 0:
		return fault.New(fault.Invalid, op+"retention.bytes", "with %s, %d, no size takes records away: -1", floor, s.FloorMs)
	case s.Compact && s.MinCompactionLagMs < s.FloorMs:
		return fault.New(fault.Invalid, op+"min.compaction.lag.ms", "%d is below %s, %d", s.MinCompactionLagMs, floor,
			s.FloorMs)
	}
	return nil
}

func toFloat(v string) float64 {
	f, err := strconv.ParseFloat(v, 64)
	if err != nil {
		return 0 // check has refused it
	}
	return f
}

func ratio(v string) error {
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || f < 0 || f > 1 {
		return fmt.Errorf("%q is not a number between 0 and 1", v)
	}
	return nil
}

// FindSetting finds a setting by name, or nil.
func FindSetting(name string) *Setting {
	for i := range topicSettings {
		if topicSettings[i].Name == name {
			return &topicSettings[i]
		}
	}
	return nil
}

// DecodeSettings overlays config on defaults (which may be nil) on the built-in defaults.
// Errors: Invalid, naming the setting and what it allows.
func DecodeSettings(defaults, config map[string]string) (Settings, error) {
	var s Settings
	for i := range topicSettings {
		def := &topicSettings[i]
		value, given := config[def.Name]
		if !given {
			if value, given = defaults[def.Name]; !given {
				value = def.Default
			}
		}
		if err := def.check(value); err != nil {
			return s, fault.New(fault.Invalid, "topic setting "+def.Name, "%w", err)
		}
		if def.apply != nil {
			def.apply(&s, value)
		}
	}
	for _, m := range []map[string]string{defaults, config} {
		for name := range m {
			if FindSetting(name) == nil {
				return s, fault.New(fault.Invalid, "topic setting", "unknown setting %q", name)
			}
		}
	}
	return s, nil
}
