package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// settingsTopic holds the settings of the broker that clients changed: key the name, value the value; null: not set.
const settingsTopic = "__firth_settings"

// dynamicSetting is a setting of the broker that clients may change while it runs, in milliseconds.
type dynamicSetting struct {
	name string
	low  int64
	doc  string
	of   func(*GroupTimes) *time.Duration
}

var dynamicSettings = []dynamicSetting{
	{
		"group.consumer.heartbeat.interval.ms", 1, "how often members of the consumer protocol send heartbeats",
		func(t *GroupTimes) *time.Duration { return &t.ConsumerHeartbeat },
	},
	{
		"group.consumer.session.timeout.ms", 1, "the session timeout of members of the consumer protocol",
		func(t *GroupTimes) *time.Duration { return &t.ConsumerSession },
	},
	{
		"group.initial.rebalance.delay.ms", 0, "how long an empty group gathers members before its first generation",
		func(t *GroupTimes) *time.Duration { return &t.InitialRebalanceDelay },
	},
	{
		"group.max.session.timeout.ms", 1, "the longest session timeout that a member of a group may ask for",
		func(t *GroupTimes) *time.Duration { return &t.MaxSession },
	},
	{
		"group.min.session.timeout.ms", 1, "the shortest session timeout that a member of a group may ask for",
		func(t *GroupTimes) *time.Duration { return &t.MinSession },
	},
}

func findDynamic(name string) *dynamicSetting {
	for i := range dynamicSettings {
		if dynamicSettings[i].name == name {
			return &dynamicSettings[i]
		}
	}
	return nil
}

// settings are what clients have set of the broker. What the node was configured with stands behind it.
type settings struct {
	mu    sync.Mutex // held over a change, the log included: one at a time
	given GroupTimes // by the configuration

	look    sync.RWMutex
	changed map[string]string // by clients
	force   GroupTimes        // the one overlaid with the other
}

// overlay is what is in force when clients have set so. Errors: Invalid, all of them.
func (t GroupTimes) overlay(changed map[string]string) (GroupTimes, error) {
	var faults []error
	for name, value := range changed {
		def := findDynamic(name)
		if def == nil {
			faults = append(faults, fmt.Errorf("broker setting %s: cannot be changed while the node runs", name))
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < def.low || n > math.MaxInt32 {
			faults = append(faults, fmt.Errorf("broker setting %s: %q is not a whole number from %d to %d", name, value,
				def.low, math.MaxInt32))
			continue
		}
		*def.of(&t) = time.Duration(n) * time.Millisecond
	}
	if len(faults) == 0 && t.MinSession > t.MaxSession {
		faults = append(faults, fmt.Errorf("the shortest session timeout, %v, is above the longest, %v",
			t.MinSession, t.MaxSession))
	}
	if len(faults) == 0 && t.ConsumerHeartbeat >= t.ConsumerSession {
		faults = append(faults, fmt.Errorf("the interval of consumers' heartbeats, %v, is not below their session, %v",
			t.ConsumerHeartbeat, t.ConsumerSession))
	}
	return t, errors.Join(faults...)
}

// openSettings reads what clients have set. What cannot be read, or is not understood, is as if it had not been set.
func (d *Door) openSettings(ctx context.Context) error {
	s := &d.settings
	s.given = d.opt.Groups.GroupTimes.withDefaults()
	s.changed, s.force = map[string]string{}, s.given
	if _, err := s.given.overlay(nil); err != nil {
		return fault.Wrap(fault.Invalid, "kafka.Open", err)
	}
	t := d.log.Topics().ByName(settingsTopic)
	if t == nil {
		return nil
	}
	folded, err := stream.Fold(ctx, d.log, t.Partitions[0], 0, func(v *record.View) error {
		if v.Value == nil {
			delete(s.changed, string(v.Key))
			return nil
		}
		if findDynamic(string(v.Key)) == nil {
			return fault.New(fault.Unsupported, "kafka.settings", "a setting that is not known: %q", v.Key)
		}
		s.changed[string(v.Key)] = string(v.Value)
		return nil
	})
	if err != nil {
		return err
	}
	if !folded.Complete() {
		d.opt.Logger.Warn("kafka: settings of the broker were left out", "lost", folded.Lost, "strange", folded.Strange,
			"error", folded.First)
	}
	force, err := s.given.overlay(s.changed)
	if err != nil { // the configuration has changed since
		d.opt.Logger.Warn("kafka: settings of the broker that clients made are not in force", "error", err)
		force = s.given
	}
	s.force = force
	d.groups.setTimes(force)
	return nil
}

// SetGroupTimes puts what the configuration says of groups in force, where clients have not set something else.
// Errors: Invalid.
func (d *Door) SetGroupTimes(given GroupTimes) error {
	s := &d.settings
	s.mu.Lock()
	defer s.mu.Unlock()
	given = given.withDefaults()
	force, err := given.overlay(s.changed)
	if err != nil {
		return fault.Wrap(fault.Invalid, "kafka.settings", err)
	}
	s.look.Lock()
	s.given, s.force = given, force
	s.look.Unlock()
	d.groups.setTimes(force)
	return nil
}

// alterBroker changes settings of the broker by what change makes of those that clients have set, all or nothing.
func (d *Door) alterBroker(ctx context.Context, c *conn, name string, dry bool,
	change func(map[string]string) []error,
) error {
	if name != "" && name != strconv.Itoa(int(d.opt.NodeID)) {
		return refusal(wire.InvalidRequest, "the only broker is %d", d.opt.NodeID)
	}
	if !d.may(c, OpAlterConfigs, OnCluster, ClusterResource) {
		return refusal(wire.ClusterAuthorizationFailed, "the broker cannot be altered")
	}
	s := &d.settings
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := maps.Clone(s.changed)
	faults := change(changed)
	force, err := s.given.overlay(changed)
	if err = errors.Join(append(faults, err)...); err != nil {
		return coded{err, wire.InvalidConfig}
	}
	if dry {
		return nil
	}
	a := alteration{action: "broker.configure", on: chain.Resource{Kind: "cluster", Name: ClusterResource},
		before: s.changed, after: changed}
	if err := d.opt.alter(ctx, c, a, func() error { return d.storeSettings(ctx, s.changed, changed) }); err != nil {
		return err
	}
	s.look.Lock()
	s.changed, s.force = changed, force
	s.look.Unlock()
	d.groups.setTimes(force)
	return nil
}

// storeSettings puts the difference between two sets of settings on stable storage, as one unit.
func (d *Door) storeSettings(ctx context.Context, old, changed map[string]string) error {
	var records []record.Record
	now := wallMillis()
	for i := range dynamicSettings {
		name := dynamicSettings[i].name
		was, had := old[name]
		is, has := changed[name]
		if was == is && had == has {
			continue
		}
		r := record.Record{Timestamp: now, Key: []byte(name)}
		if has {
			r.Value = []byte(is)
		}
		records = append(records, r)
	}
	return stream.StoreState(ctx, d.log, settingsTopic, records)
}

// settled is a receipt that somebody waits for; it holds one.
type settled chan error

// Appended implements stream.Receipt.
func (s settled) Appended(_ uint64, _ stream.Placed, err error) { s <- err }

// describeChanged shows the settings that clients have changed as those of all brokers, where asked for.
func (d *Door) describeChanged(
	rr *kmsg.DescribeConfigsRequestResource, answer *kmsg.DescribeConfigsResponseResource,
) {
	s := &d.settings
	s.look.RLock()
	defer s.look.RUnlock()
	for _, name := range sortedNames(s.changed) {
		if !wants(rr, name) {
			continue
		}
		cfg := kmsg.NewDescribeConfigsResponseResourceConfig()
		cfg.Name, cfg.Value, cfg.ConfigType = name, new(s.changed[name]), kmsg.ConfigTypeInt
		cfg.Source, cfg.Documentation = kmsg.ConfigSourceDynamicDefaultBrokerConfig, new(findDynamic(name).doc)
		cfg.ConfigSynonyms = append(cfg.ConfigSynonyms, synonym(name, s.changed[name], cfg.Source))
		answer.Configs = append(answer.Configs, cfg)
	}
}

// describeDynamic shows the settings that clients may change, where asked for.
func (d *Door) describeDynamic(
	rr *kmsg.DescribeConfigsRequestResource, answer *kmsg.DescribeConfigsResponseResource,
) {
	s := &d.settings
	s.look.RLock()
	defer s.look.RUnlock()
	defaults := GroupTimes{}.withDefaults()
	for i := range dynamicSettings {
		def := &dynamicSettings[i]
		if !wants(rr, def.name) {
			continue
		}
		value := func(t GroupTimes) string { return strconv.FormatInt(def.of(&t).Milliseconds(), 10) }
		cfg := kmsg.NewDescribeConfigsResponseResourceConfig()
		cfg.Name, cfg.Value, cfg.ConfigType = def.name, new(value(s.force)), kmsg.ConfigTypeInt
		cfg.Source, cfg.Documentation = kmsg.ConfigSourceDefaultConfig, new(def.doc)
		if set, is := s.changed[def.name]; is {
			cfg.Source = kmsg.ConfigSourceDynamicBrokerConfig
			cfg.ConfigSynonyms = append(cfg.ConfigSynonyms, synonym(def.name, set, cfg.Source))
		}
		if given := value(s.given); given != value(defaults) {
			if len(cfg.ConfigSynonyms) == 0 {
				cfg.Source = kmsg.ConfigSourceStaticBrokerConfig
			}
			cfg.ConfigSynonyms = append(cfg.ConfigSynonyms, synonym(def.name, given, kmsg.ConfigSourceStaticBrokerConfig))
		}
		cfg.ConfigSynonyms = append(cfg.ConfigSynonyms, synonym(def.name, value(defaults), kmsg.ConfigSourceDefaultConfig))
		cfg.IsDefault = cfg.Source == kmsg.ConfigSourceDefaultConfig
		answer.Configs = append(answer.Configs, cfg)
	}
}
