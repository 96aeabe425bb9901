package kafka

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/kafka/wire"
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

// clientSubscriptions are those that are there.
type clientSubscriptions struct {
	namedSettings[*clientSubscription]
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

// openSubscriptions reads the subscriptions.
func (d *Door) openSubscriptions(ctx context.Context) error {
	s := &d.clients.subscriptions
	s.topic, s.what, s.most = subscriptionsTopic, "subscriptions to metrics", mostSubscriptions
	s.read = clientSubscriptionOf
	return s.open(ctx, d.log, d.opt.Logger)
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
	return d.clients.subscriptions.alter(name, dry, change, func(r record.Record, before, after map[string]string) error {
		a := alteration{"client_metrics.configure", chain.Resource{Kind: "client_metrics", Name: name}, before, after}
		return d.opt.alter(ctx, c, a, func() error {
			return stream.StoreState(ctx, d.log, subscriptionsTopic, []record.Record{r})
		})
	})
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
