package kafka

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupConfigsTopic holds the settings of groups: key the group, value its settings as JSON; null: it has none.
const groupConfigsTopic = "__firth_group_configs"

// mostGroupConfigs is how many groups may have settings of their own.
const mostGroupConfigs = 100_000

// groupConfig is what is set for one group, over what the broker has for all. A zero duration is as the broker has it.
type groupConfig struct {
	consumerSession, consumerHeartbeat time.Duration
	shareSession, shareHeartbeat       time.Duration
	streamsSession, streamsHeartbeat   time.Duration
	streamsDelay                       time.Duration // before the first assignment
	standby                            int32         // tasks for each task with state

	lock       time.Duration // how long a member has a record
	deliveries uint16        // after so many a record is not given out any more
	locks      int           // records of a partition between its start offset and the last one that was given out
	committed  bool          // only committed records are given out
	renews     bool          // locks can be renewed
	reset      resetTo       // where a partition begins that the group is new to
	letters    string        // the dead-letter topic; "": none
	copies     bool          // a dead letter has key and value of its record
}

// resetTo is where a group begins: at the start or the end of a partition, or at what is not older than so long.
type resetTo struct {
	earliest bool
	age      time.Duration // 0: at the end, or the start
}

// groupSetting is one setting of a group, by Kafka's names.
type groupSetting struct {
	name, def string
	kind      kmsg.ConfigType
	doc       string
	set       func(c *groupConfig, value string) error
}

// defaultGroupConfig is what is in force where nothing is set.
var defaultGroupConfig = func() (c groupConfig) {
	for i := range groupSettings {
		if s := &groupSettings[i]; s.def != "" {
			_ = s.set(&c, s.def) // a test sets them all
		}
	}
	c.consumerSession, c.consumerHeartbeat, c.streamsSession, c.streamsHeartbeat = 0, 0, 0, 0
	return c
}()

var groupSettings = []groupSetting{
	{
		"consumer.heartbeat.interval.ms", "", kmsg.ConfigTypeInt,
		"how often members of the consumer protocol send heartbeats; default: group.consumer.heartbeat.interval.ms",
		millis(1, math.MaxInt32, func(c *groupConfig) *time.Duration { return &c.consumerHeartbeat }),
	},
	{
		"consumer.session.timeout.ms", "", kmsg.ConfigTypeInt,
		"the session timeout of members of the consumer protocol; default: group.consumer.session.timeout.ms",
		millis(1, math.MaxInt32, func(c *groupConfig) *time.Duration { return &c.consumerSession }),
	},
	{
		"errors.deadletterqueue.copy.record.enable", "false", kmsg.ConfigTypeBoolean,
		"whether a dead letter has the key and the value of its record",
		truth(func(c *groupConfig) *bool { return &c.copies }),
	},
	{
		"errors.deadletterqueue.topic.name", "", kmsg.ConfigTypeString,
		"the topic for records that are rejected, or delivered too often; it begins with dlq.", setLetters,
	},
	{
		"share.auto.offset.reset", "latest", kmsg.ConfigTypeString,
		"where a partition begins that the group is new to: earliest, latest, by_duration:P1DT2H", setReset,
	},
	{
		"share.delivery.count.limit", "5", kmsg.ConfigTypeInt,
		"after so many deliveries a record is not given out any more",
		whole(1, 1000, func(c *groupConfig, n int64) { c.deliveries = uint16(n) }),
	},
	{
		"share.heartbeat.interval.ms", "5000", kmsg.ConfigTypeInt, "how often members of a share group send heartbeats",
		millis(1, math.MaxInt32, func(c *groupConfig) *time.Duration { return &c.shareHeartbeat }),
	},
	{
		"share.isolation.level", "read_uncommitted", kmsg.ConfigTypeString,
		"read_committed: records of transactions that were aborted are not given out", setIsolation,
	},
	{
		"share.partition.max.record.locks", "2000", kmsg.ConfigTypeInt,
		"records of a partition that may be between its start offset and the last one that was given out",
		whole(100, 10_000, func(c *groupConfig, n int64) { c.locks = int(n) }),
	},
	{
		"share.record.lock.duration.ms", "30000", kmsg.ConfigTypeInt, "how long a member has a record for itself",
		millis(1000, 3_600_000, func(c *groupConfig) *time.Duration { return &c.lock }),
	},
	{
		"share.renew.acknowledge.enable", "true", kmsg.ConfigTypeBoolean,
		"whether members may have records longer (KIP-1222)",
		truth(func(c *groupConfig) *bool { return &c.renews }),
	},
	{
		"share.session.timeout.ms", "45000", kmsg.ConfigTypeInt, "the session timeout of members of a share group",
		millis(1, math.MaxInt32, func(c *groupConfig) *time.Duration { return &c.shareSession }),
	},
	{
		"streams.heartbeat.interval.ms", "", kmsg.ConfigTypeInt,
		"how often members of a streams group send heartbeats; default: group.consumer.heartbeat.interval.ms",
		millis(1, math.MaxInt32, func(c *groupConfig) *time.Duration { return &c.streamsHeartbeat }),
	},
	{
		"streams.initial.rebalance.delay.ms", "0", kmsg.ConfigTypeInt,
		"how long a streams group without members gathers some before it assigns",
		millis(0, math.MaxInt32, func(c *groupConfig) *time.Duration { return &c.streamsDelay }),
	},
	{
		"streams.num.standby.replicas", "0", kmsg.ConfigTypeInt, "standby tasks for each task with state",
		whole(0, 2, func(c *groupConfig, n int64) { c.standby = int32(n) }),
	},
	{
		"streams.session.timeout.ms", "", kmsg.ConfigTypeInt,
		"the session timeout of members of a streams group; default: group.consumer.session.timeout.ms",
		millis(1, math.MaxInt32, func(c *groupConfig) *time.Duration { return &c.streamsSession }),
	},
}

func whole(low, high int64, apply func(*groupConfig, int64)) func(*groupConfig, string) error {
	return func(c *groupConfig, value string) error {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < low || n > high {
			return fmt.Errorf("%q is not a whole number from %d to %d", value, low, high)
		}
		apply(c, n)
		return nil
	}
}

func millis(low, high int64, of func(*groupConfig) *time.Duration) func(*groupConfig, string) error {
	return whole(low, high, func(c *groupConfig, n int64) { *of(c) = time.Duration(n) * time.Millisecond })
}

func truth(of func(*groupConfig) *bool) func(*groupConfig, string) error {
	return func(c *groupConfig, value string) error {
		switch strings.ToLower(value) {
		case "true":
			*of(c) = true
		case "false":
			*of(c) = false
		default:
			return fmt.Errorf("%q is neither true nor false", value)
		}
		return nil
	}
}

func setIsolation(c *groupConfig, value string) error {
	switch strings.ToLower(value) {
	case "read_committed":
		c.committed = true
	case "read_uncommitted":
		c.committed = false
	default:
		return fmt.Errorf("%q is neither read_committed nor read_uncommitted", value)
	}
	return nil
}

// letterPrefix is what the name of a dead-letter topic begins with, so that nobody has the broker write to another
// (errors.deadletterqueue.topic.name.prefix of a Kafka broker).
const letterPrefix = "dlq."

func setLetters(c *groupConfig, value string) error {
	if value != "" && !strings.HasPrefix(value, letterPrefix) {
		return fmt.Errorf("%q does not begin with %s", value, letterPrefix)
	}
	c.letters = value
	return nil
}

func setReset(c *groupConfig, value string) error {
	text, is := strings.CutPrefix(value, "by_duration:")
	switch {
	case is:
		age, err := parseDuration(text)
		if err != nil {
			return err
		}
		c.reset = resetTo{age: age}
	case value == "earliest":
		c.reset = resetTo{earliest: true}
	case value == "latest":
		c.reset = resetTo{}
	default:
		return fmt.Errorf("%q is not earliest, latest or by_duration:PnDTnHnMnS", value)
	}
	return nil
}

// parseDuration reads a duration of ISO 8601 as Java does: PnDTnHnMn.nS, not negative.
func parseDuration(text string) (time.Duration, error) {
	wrong := fmt.Errorf("%q is not a duration of ISO 8601, such as P1DT2H30M", text)
	rest, is := strings.CutPrefix(strings.ToUpper(text), "P")
	if !is || rest == "" || strings.HasSuffix(rest, "T") {
		return 0, wrong
	}
	days, clock, _ := strings.Cut(rest, "T")
	total := 0.0
	for _, part := range []struct{ text, units string }{{days, "D"}, {clock, "HMS"}} {
		left, units := part.text, part.units
		for left != "" {
			i := strings.IndexAny(left, units)
			if i < 0 {
				return 0, wrong
			}
			n, err := strconv.ParseFloat(left[:i], 64)
			if err != nil || n < 0 || left[i] != 'S' && n != math.Trunc(n) {
				return 0, wrong
			}
			total += n * map[byte]float64{'D': 86400, 'H': 3600, 'M': 60, 'S': 1}[left[i]]
			units = units[strings.IndexByte(units, left[i])+1:]
			left = left[i+1:]
		}
	}
	if total > float64(math.MaxInt64/int64(time.Second)/2) {
		return 0, wrong
	}
	return max(time.Duration(total*float64(time.Second)), 1), nil
}

func findGroupSetting(name string) *groupSetting {
	for i := range groupSettings {
		if groupSettings[i].name == name {
			return &groupSettings[i]
		}
	}
	return nil
}

// groupConfigOf is what is in force with settings. Errors: all that is wrong with them.
func groupConfigOf(set map[string]string) (groupConfig, error) {
	c := defaultGroupConfig
	var faults []error
	for _, name := range sortedNames(set) {
		s := findGroupSetting(name)
		if s == nil {
			faults = append(faults, fmt.Errorf("group setting: unknown setting %q", name))
			continue
		}
		if set[name] == "" && s.def == "" {
			continue
		}
		if err := s.set(&c, set[name]); err != nil {
			faults = append(faults, fmt.Errorf("group setting %s: %w", name, err))
		}
	}
	if c.shareHeartbeat >= c.shareSession {
		faults = append(faults, fmt.Errorf("the interval of heartbeats, %v, is not below the session, %v",
			c.shareHeartbeat, c.shareSession))
	}
	return c, errors.Join(faults...)
}

// groupConfigs are the settings of groups.
type groupConfigs struct {
	namedSettings[*groupConfig]
}

// of is what is in force for a group.
func (g *groupConfigs) of(group string) *groupConfig {
	if c, is := g.inForce(group); is {
		return c
	}
	return &defaultGroupConfig
}

// openGroupConfigs reads the settings of groups.
func openGroupConfigs(ctx context.Context, opt Options, log *store.Store) (*groupConfigs, error) {
	g := &groupConfigs{}
	g.topic, g.what, g.most = groupConfigsTopic, "groups", mostGroupConfigs
	g.read = func(set map[string]string) (*groupConfig, error) {
		c, err := groupConfigOf(set)
		return &c, err
	}
	return g, g.open(ctx, log, opt.Logger)
}

// alterGroupConfig changes the settings of a group by what change makes of those that are set, all or nothing.
func (d *Door) alterGroupConfig(ctx context.Context, c *conn, id string, dry bool,
	change func(map[string]string) []error,
) error {
	switch {
	case id == "" || len(id) > maxGroupName:
		return refusal(wire.InvalidRequest, "a group has a name of 1 to %d bytes", maxGroupName)
	case !d.may(c, OpAlterConfigs, OnGroup, id):
		return refusal(wire.GroupAuthorizationFailed, "group %q cannot be altered", id)
	}
	err := d.groups.configs.alter(id, dry, change, func(r record.Record, before, after map[string]string) error {
		return d.opt.alter(ctx, c, alteration{"group.configure", groupOf(id), before, after}, func() error {
			return stream.StoreState(ctx, d.log, groupConfigsTopic, []record.Record{r})
		})
	})
	if err != nil || dry {
		return err
	}
	d.groups.configure(id)
	return nil
}

// describeGroupConfig shows the settings of a group.
func (d *Door) describeGroupConfig(
	c *conn, rr *kmsg.DescribeConfigsRequestResource, answer *kmsg.DescribeConfigsResponseResource,
) {
	switch {
	case rr.ResourceName == "":
		answer.ErrorCode, answer.ErrorMessage = wire.InvalidRequest, new("a group has a name")
		return
	case !d.may(c, OpDescribeConfigs, OnGroup, rr.ResourceName):
		answer.ErrorCode = wire.GroupAuthorizationFailed
		return
	}
	given, _ := d.groups.configs.given(rr.ResourceName)
	for i := range groupSettings {
		s := &groupSettings[i]
		if !wants(rr, s.name) {
			continue
		}
		cfg := kmsg.NewDescribeConfigsResponseResourceConfig()
		def := d.groupDefault(s)
		cfg.Name, cfg.Value, cfg.ConfigType, cfg.Documentation = s.name, &def, s.kind, new(s.doc)
		cfg.Source = kmsg.ConfigSourceDefaultConfig
		if value, is := given[s.name]; is {
			cfg.Value, cfg.Source = &value, kmsg.ConfigSourceGroupConfig
			cfg.ConfigSynonyms = append(cfg.ConfigSynonyms, synonym(s.name, value, cfg.Source))
		}
		cfg.IsDefault = cfg.Source == kmsg.ConfigSourceDefaultConfig
		cfg.ConfigSynonyms = append(cfg.ConfigSynonyms, synonym(s.name, def, kmsg.ConfigSourceDefaultConfig))
		answer.Configs = append(answer.Configs, cfg)
	}
}

// groupDefault is the value of a setting for groups that have none: some are those of the broker.
func (d *Door) groupDefault(s *groupSetting) string {
	times := d.groups.times.Load()
	switch s.name {
	case "consumer.session.timeout.ms":
		return strconv.FormatInt(times.ConsumerSession.Milliseconds(), 10)
	case "consumer.heartbeat.interval.ms":
		return strconv.FormatInt(times.ConsumerHeartbeat.Milliseconds(), 10)
	}
	return s.def
}

// incrementGroup changes the settings of a group by the operations.
func incrementGroup(
	set map[string]string, configs []kmsg.IncrementalAlterConfigsRequestResourceConfig,
) (faults []error) {
	for i := range configs {
		cfg := &configs[i]
		switch {
		case cfg.Op == kmsg.IncrementalAlterConfigOpDelete && findGroupSetting(cfg.Name) != nil:
			delete(set, cfg.Name)
		case cfg.Op == kmsg.IncrementalAlterConfigOpSet && cfg.Value != nil:
			set[cfg.Name] = *cfg.Value
		case cfg.Op == kmsg.IncrementalAlterConfigOpSet:
			faults = append(faults, fmt.Errorf("group setting %s: null is no value", cfg.Name))
		default:
			faults = append(faults, fmt.Errorf("group setting %s: it can be set or deleted, if there is one", cfg.Name))
		}
	}
	return faults
}
