package kafka

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// subscriptionsTopic holds the subscriptions to metrics of clients: key the name, value its settings as JSON; null:
// it has none.
const subscriptionsTopic = "__firth_client_metrics"

const (
	mostSubscriptions   = 1000
	subscribedInterval  = 5 * time.Minute // where a subscription does not say
	shortestInterval    = 100 * time.Millisecond
	longestInterval     = time.Hour
	everyMetric         = "org.apache.kafka." // what the names of KIP-714 begin with
	defaultSubscription = 71072001
)

// pusher is a client that pushes metrics, as far as a subscription can choose by it.
type pusher struct {
	instance              record.UUID
	id, software, release string
	address, port         string
}

// clientTraits are the names of KIP-714 for that.
var clientTraits = map[string]func(*pusher) string{
	"client_instance_id":      func(c *pusher) string { return base64.RawURLEncoding.EncodeToString(c.instance[:]) },
	"client_id":               func(c *pusher) string { return c.id },
	"client_software_name":    func(c *pusher) string { return c.software },
	"client_software_version": func(c *pusher) string { return c.release },
	"client_source_address":   func(c *pusher) string { return c.address },
	"client_source_port":      func(c *pusher) string { return c.port },
}

// demand is what a client is asked for.
type demand struct {
	id       int32    // changes with the rest
	metrics  []string // what the names begin with; empty: none
	interval time.Duration
}

// usualDemand is made where no subscription is there.
var usualDemand = demand{defaultSubscription, pushedMetrics, pushInterval}

// clientSubscription asks clients for metrics (KIP-714).
type clientSubscription struct {
	metrics  []string
	interval time.Duration
	match    []traitMatch // all of them; none: every client
}

type traitMatch struct {
	of    func(*pusher) string
	value *regexp.Regexp
}

// subscriptionSettings are the settings of one, with their defaults.
var subscriptionSettings = []struct {
	name, def string
	kind      kmsg.ConfigType
	doc       string
}{
	{
		"interval.ms", strconv.FormatInt(subscribedInterval.Milliseconds(), 10), kmsg.ConfigTypeInt,
		"how often clients push, 100 to 3600000",
	},
	{
		"match", "", kmsg.ConfigTypeList,
		"which clients: client_id=EXPRESSION and others of KIP-714, all of which a client has to match; empty: all clients",
	},
	{
		"metrics", "", kmsg.ConfigTypeList,
		"which metrics, by what their names begin with; *: all; empty: none; /metrics shows those of the default",
	},
}

// listItems are the items of a list, without empty ones.
func listItems(value string) []string {
	return slices.DeleteFunc(strings.Split(value, ","), func(item string) bool { return strings.TrimSpace(item) == "" })
}

// clientSubscriptionOf reads settings. Errors: all that is wrong with them.
func clientSubscriptionOf(set map[string]string) (*clientSubscription, error) {
	s := &clientSubscription{interval: subscribedInterval}
	var faults []error
	for _, name := range sortedNames(set) {
		value := set[name]
		switch name {
		case "interval.ms":
			n, err := strconv.ParseInt(value, 10, 32)
			s.interval = time.Duration(n) * time.Millisecond
			if err != nil || s.interval < shortestInterval || s.interval > longestInterval {
				faults = append(faults, fmt.Errorf("interval.ms: %q is not a whole number from %d to %d", value,
					shortestInterval.Milliseconds(), longestInterval.Milliseconds()))
			}
		case "metrics":
			for _, prefix := range listItems(value) {
				if prefix = strings.TrimSpace(prefix); prefix == "*" {
					prefix = everyMetric
				}
				s.metrics = append(s.metrics, prefix)
			}
		case "match":
			for _, item := range listItems(value) {
				m, err := matchOf(item)
				faults = append(faults, err)
				s.match = append(s.match, m)
			}
		default:
			faults = append(faults, fmt.Errorf("client metrics: unknown setting %q", name))
		}
	}
	return s, errors.Join(faults...)
}

func matchOf(item string) (m traitMatch, err error) {
	name, pattern, is := strings.Cut(item, "=")
	m.of = clientTraits[strings.TrimSpace(name)]
	if !is || m.of == nil {
		return m, fmt.Errorf("match: %q is not NAME=EXPRESSION with a name of %s", item,
			strings.Join(sortedNames(clientTraits), ", "))
	}
	if m.value, err = regexp.Compile("^(?:" + strings.TrimSpace(pattern) + ")$"); err != nil {
		return m, fmt.Errorf("match: %w", err)
	}
	return m, nil
}

func (s *clientSubscription) matches(c *pusher) bool {
	for _, m := range s.match {
		if !m.value.MatchString(m.of(c)) {
			return false
		}
	}
	return true
}

// clientSubscriptions are those that are there, a fold of __firth_client_metrics. Who changes them holds changing over
// that, the log included.
type clientSubscriptions struct {
	changing sync.Mutex

	look  sync.RWMutex
	set   map[string]map[string]string
	force map[string]*clientSubscription
}

// demand is what a client is asked for: all that those ask for that it matches, as often as the most often one.
func (s *clientSubscriptions) demand(c *pusher) demand {
	s.look.RLock()
	defer s.look.RUnlock()
	if len(s.force) == 0 {
		return usualDemand
	}
	d := demand{interval: longestInterval}
	none := true
	for _, one := range s.force {
		if one.matches(c) {
			d.metrics, d.interval = append(d.metrics, one.metrics...), min(d.interval, one.interval)
			none = false
		}
	}
	if none {
		d.interval = subscribedInterval
	}
	slices.Sort(d.metrics)
	d.metrics = slices.Compact(d.metrics)
	sum := fnv.New32a()
	_, _ = fmt.Fprint(sum, d.interval, d.metrics) // it does not fail
	d.id = int32(sum.Sum32())
	return d
}

// given is what is set for one, which must not be changed; false: there is none of the name.
func (s *clientSubscriptions) given(name string) (map[string]string, bool) {
	s.look.RLock()
	defer s.look.RUnlock()
	set, is := s.set[name]
	return set, is
}

// names lists them, in order.
func (s *clientSubscriptions) names() []string {
	s.look.RLock()
	defer s.look.RUnlock()
	return sortedNames(s.set)
}

// put has one in force; without settings there is none.
func (s *clientSubscriptions) put(name string, set map[string]string, force *clientSubscription) {
	s.look.Lock()
	defer s.look.Unlock()
	if len(set) == 0 {
		delete(s.set, name)
		delete(s.force, name)
		return
	}
	s.set[name], s.force[name] = set, force
}

// openSubscriptions reads the subscriptions. What is not understood is left out.
func (d *Door) openSubscriptions(ctx context.Context) error {
	s := &d.clients.subscriptions
	s.set, s.force = map[string]map[string]string{}, map[string]*clientSubscription{}
	t := d.log.Topics().ByName(subscriptionsTopic)
	if t == nil {
		return nil
	}
	folded, err := stream.Fold(ctx, d.log, t.Partitions[0], 0, func(v *record.View) error {
		var set map[string]string
		if v.Value != nil {
			if err := json.Unmarshal(v.Value, &set); err != nil {
				return fault.Wrap(fault.Corrupt, "kafka.clientMetrics", err)
			}
		}
		force, err := clientSubscriptionOf(set)
		if err != nil {
			return fault.Wrap(fault.Unsupported, "kafka.clientMetrics", err)
		}
		s.put(string(v.Key), set, force)
		return nil
	})
	if err != nil {
		return err
	}
	if !folded.Complete() {
		d.opt.Logger.Warn("kafka: subscriptions to metrics of clients were left out", "lost", folded.Lost,
			"strange", folded.Strange, "error", folded.First)
	}
	return nil
}

// alterSubscription changes one by what change makes of its settings, all or nothing.
func (d *Door) alterSubscription(ctx context.Context, c *conn, name string, dry bool,
	change func(map[string]string) []error,
) error {
	switch {
	case name == "" || len(name) > maxGroupName:
		return refusal(wire.InvalidRequest, "a subscription has a name of 1 to %d bytes", maxGroupName)
	case !d.may(c, OpAlterConfigs, OnCluster, ClusterResource):
		return refusal(wire.ClusterAuthorizationFailed, "metrics of clients cannot be asked for")
	}
	s := &d.clients.subscriptions
	s.changing.Lock()
	defer s.changing.Unlock()
	old, is := s.given(name)
	set := map[string]string{}
	maps.Copy(set, old)
	faults := change(set)
	force, err := clientSubscriptionOf(set)
	if err = errors.Join(append(faults, err)...); err != nil {
		return coded{err, wire.InvalidConfig}
	}
	switch {
	case dry || maps.Equal(set, old):
		return nil
	case !is && len(s.names()) >= mostSubscriptions:
		return refusal(wire.PolicyViolation, "there are %d subscriptions", mostSubscriptions)
	}
	r := record.Record{Timestamp: wallMillis(), Key: []byte(name)}
	if len(set) > 0 {
		r.Value, _ = json.Marshal(set) // strings can always be encoded
	}
	if err := stream.StoreState(ctx, d.log, subscriptionsTopic, []record.Record{r}); err != nil {
		return err
	}
	s.put(name, set, force)
	return nil
}

// incrementSubscription changes settings by the operations.
func incrementSubscription(
	set map[string]string, configs []kmsg.IncrementalAlterConfigsRequestResourceConfig,
) (faults []error) {
	for i := range configs {
		cfg := &configs[i]
		add := cfg.Op == kmsg.IncrementalAlterConfigOpAppend
		switch {
		case cfg.Op == kmsg.IncrementalAlterConfigOpDelete:
			delete(set, cfg.Name)
		case cfg.Value == nil:
			faults = append(faults, fmt.Errorf("%s: null is no value", cfg.Name))
		case cfg.Op == kmsg.IncrementalAlterConfigOpSet:
			set[cfg.Name] = *cfg.Value
		case add || cfg.Op == kmsg.IncrementalAlterConfigOpSubtract:
			if cfg.Name == "interval.ms" {
				faults = append(faults, fmt.Errorf("%s: is no list", cfg.Name))
			}
			set[cfg.Name] = strings.Join(listItems(changeList(set[cfg.Name], *cfg.Value, add)), ",")
		default:
			faults = append(faults, fmt.Errorf("%s: unknown operation %d", cfg.Name, cfg.Op))
		}
	}
	return faults
}

// describeSubscription shows one; there is nothing to see of one that is not there.
func (d *Door) describeSubscription(
	c *conn, rr *kmsg.DescribeConfigsRequestResource, answer *kmsg.DescribeConfigsResponseResource,
) {
	if !d.may(c, OpDescribeConfigs, OnCluster, ClusterResource) {
		answer.ErrorCode = wire.ClusterAuthorizationFailed
		return
	}
	given, is := d.clients.subscriptions.given(rr.ResourceName)
	if !is {
		return
	}
	for i := range subscriptionSettings {
		s := &subscriptionSettings[i]
		if !wants(rr, s.name) {
			continue
		}
		cfg := kmsg.NewDescribeConfigsResponseResourceConfig()
		cfg.Name, cfg.Value, cfg.ConfigType, cfg.Documentation = s.name, &s.def, s.kind, &s.doc
		cfg.Source = kmsg.ConfigSourceDefaultConfig
		if value, is := given[s.name]; is {
			cfg.Value, cfg.Source = &value, kmsg.ConfigSourceClientMetricsConfig
			cfg.ConfigSynonyms = append(cfg.ConfigSynonyms, synonym(s.name, value, cfg.Source))
		}
		cfg.IsDefault = cfg.Source == kmsg.ConfigSourceDefaultConfig
		cfg.ConfigSynonyms = append(cfg.ConfigSynonyms, synonym(s.name, s.def, kmsg.ConfigSourceDefaultConfig))
		answer.Configs = append(answer.Configs, cfg)
	}
}
