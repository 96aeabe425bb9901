package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
)

// The settings of the cluster that our promises rest on, as Breach and Options.Accept name them.
const (
	copiesSetting    = "replication.factor"
	inSyncSetting    = "min.insync.replicas"
	uncleanSetting   = "unclean.leader.election.enable"
	policySetting    = "cleanup.policy"
	ageSetting       = "retention.ms"
	sizeSetting      = "retention.bytes"
	batchSetting     = "max.message.bytes"
	decidedCopies    = "transaction.state.log.replication.factor"
	decidedInSync    = "transaction.state.log.min.isr"
	largestSetting   = "message.max.bytes"
	enoughCopies     = 3
	enoughInSync     = 2
	transactionTopic = "__transaction_state"
)

// AcceptableSettings lists what Options.Accept may name.
func AcceptableSettings() []string {
	return []string{copiesSetting, inSyncSetting, uncleanSetting, policySetting, ageSetting, sizeSetting, batchSetting,
		decidedCopies, decidedInSync}
}

// Breach is a setting of the cluster with which a promise cannot be kept.
type Breach struct {
	Topic          string // "": of the brokers
	Setting, Value string
	Why            string // what is lost
	Mend           string // what to do, a command where there is one
}

// String is what is wrong, in a line.
func (b Breach) String() string {
	where := "the brokers have"
	if b.Topic != "" {
		where = "topic " + b.Topic + " has"
	}
	return fmt.Sprintf("%s %s=%s: %s; mend it with: %s", where, b.Setting, b.Value, b.Why, b.Mend)
}

// copies is how many replicas topics get that are created here.
func (o *Options) copies(brokers int) int {
	return cmp.Or(int(o.ReplicationFactor), min(enoughCopies, max(brokers, 1)))
}

// inSync is how many replicas have to have a record before it is acknowledged.
func (o *Options) inSync(copies int) int { return cmp.Or(o.MinInSync, min(enoughInSync, copies)) }

// asTopic is how a topic is to be created.
func (c *Cluster) asTopic(spec stream.TopicSpec) kmsg.CreateTopicsRequestTopic {
	copies := c.opt.copies(int(c.brokers.Load()))
	config := map[string]string{}
	inSync := c.opt.inSync(copies)
	if c.opt.Instance != "" && inSync > 1 {
		config[inSyncSetting] = strconv.Itoa(inSync)
	}
	if stream.IsOwn(spec.Name) {
		config[inSyncSetting] = strconv.Itoa(inSync)
		config[uncleanSetting] = "false"
		config[batchSetting] = strconv.FormatInt(c.opt.StateBytes, 10)
	} else {
		if c.room != "" {
			config[batchSetting] = c.room
		}
		maps.Copy(config, c.opt.TopicDefaults)
	}
	maps.Copy(config, spec.Config)
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.ReplicationFactor = spec.Name, int16(copies)
	t.NumPartitions = int32(cmp.Or(spec.Partitions, c.opt.DefaultPartitions, -1))
	for _, name := range slices.Sorted(maps.Keys(config)) {
		if !strings.HasPrefix(name, ownSettings) {
			set := kmsg.NewCreateTopicsRequestTopicConfig()
			set.Name, set.Value = name, new(config[name])
			t.Configs = append(t.Configs, set)
		}
	}
	return t
}

// breaches are what is wrong with a topic of our own, in a cluster of so many brokers.
func (o *Options) breaches(f *found, brokers int) (all []Breach) {
	number := func(name string) int64 { n, _ := strconv.ParseInt(f.inForce[name], 10, 64); return n }
	wrong := func(setting, want, why string) {
		all = append(all, Breach{Topic: f.name, Setting: setting, Value: f.inForce[setting], Why: why,
			Mend: alterCommand(f.name, setting, want)})
	}
	copies := o.copies(brokers)
	if f.copies < copies {
		all = append(all, Breach{Topic: f.name, Setting: copiesSetting, Value: strconv.Itoa(f.copies),
			Why: fmt.Sprintf("it is lost with %d of %d brokers, %d replicas are wanted", f.copies, brokers, copies),
			Mend: "kafka-reassign-partitions.sh --bootstrap-server BROKER --execute --reassignment-json-file PLAN, " +
				"with more replicas in PLAN"})
	}
	if want := min(o.inSync(copies), max(f.copies, 1)); number(inSyncSetting) < int64(want) {
		wrong(inSyncSetting, strconv.Itoa(want),
			"what was acknowledged may be on one broker only, and is lost with it")
	}
	if number(inSyncSetting) > int64(f.copies) {
		wrong(inSyncSetting, strconv.Itoa(max(1, min(enoughInSync, f.copies))),
			"nothing can be written: it has fewer replicas")
	}
	if f.inForce[uncleanSetting] == "true" {
		wrong(uncleanSetting, "false", "a replica that is behind may lead, and what it does not have is lost")
	}
	if n := number(batchSetting); n < o.StateBytes {
		wrong(batchSetting, strconv.FormatInt(o.StateBytes, 10), "what devices may send does not fit")
	}
	if slices.Contains(o.Histories, f.name) {
		return all
	}
	switch policy := f.inForce[policySetting]; {
	case !strings.Contains(policy, "compact"):
		wrong(policySetting, "compact", "old state is deleted by its age, and is not kept as long as it is needed")
	case !strings.Contains(policy, "delete"):
	case number(ageSetting) >= 0:
		wrong(policySetting, "compact", "state is deleted after retention.ms="+f.inForce[ageSetting])
	case number(sizeSetting) >= 0:
		wrong(policySetting, "compact", "state is deleted above retention.bytes="+f.inForce[sizeSetting])
	}
	return all
}

func alterCommand(topic, setting, value string) string {
	return fmt.Sprintf("kafka-configs.sh --bootstrap-server BROKER --alter --topic %s --add-config %s=%s", topic, setting,
		value)
}

// judgeTopics takes in what the settings of topics are, as far as they were asked for, and tells of what is new and
// wrong. It needs topicsMu.
func (c *Cluster) judgeTopics(all []*found) {
	if c.opt.Instance == "" {
		return
	}
	now := maps.Clone(*c.unsafe.Load())
	c.warnOfOthers(all)
	for _, f := range all {
		if f.vague || f.config == nil || !stream.IsOwn(f.name) {
			continue
		}
		wrong := c.opt.breaches(f, int(c.brokers.Load()))
		for _, b := range wrong {
			if !slices.Contains(now[f.name], b) {
				c.complain(b)
			}
		}
		if now[f.name] = wrong; len(wrong) == 0 {
			delete(now, f.name)
		}
	}
	c.unsafe.Store(&now)
}

// warnOfOthers tells at the start which topics are less safe than those that are created here. They are not ours to
// refuse.
func (c *Cluster) warnOfOthers(all []*found) {
	if c.opened.Load() {
		return
	}
	copies := c.opt.copies(int(c.brokers.Load()))
	var weak []string
	for _, f := range all {
		inSync, err := strconv.Atoi(f.inForce[inSyncSetting])
		if stream.Reserved(f.name) || f.config == nil || err != nil {
			continue
		}
		if f.copies < copies || inSync < c.opt.inSync(copies) || f.inForce[uncleanSetting] == "true" {
			weak = append(weak, f.name)
		}
	}
	const shown = 10
	if n := len(weak); n > 0 {
		slices.Sort(weak)
		c.log.Warn("topics are less safe than those that this node makes: what devices publish there, and is acknowledged, "+
			"may be lost with a broker", "topics", strings.Join(weak[:min(n, shown)], ","), "and more", max(n-shown, 0),
			"wanted replicas", copies, "wanted "+inSyncSetting, c.opt.inSync(copies))
	}
}

func (c *Cluster) complain(b Breach) {
	switch {
	case c.opt.accepts(b):
		c.log.Warn("THE CLUSTER DOES NOT KEEP WHAT IS PROMISED, and that was accepted", "setting", b.Setting,
			"is", b.String())
	case c.opened.Load():
		c.log.Error("a setting of the cluster was changed: promises cannot be kept any more", "is", b.String())
	}
}

func (o *Options) accepts(b Breach) bool { return slices.Contains(o.Accept, b.Setting) }

// promise refuses a cluster that cannot keep what is promised. Errors: Unsupported, IO, Denied, Timeout.
func (c *Cluster) promise(ctx context.Context) error {
	if c.opt.Instance == "" {
		return nil
	}
	wrong, err := c.decisions(ctx)
	if err != nil {
		return err
	}
	for _, b := range wrong {
		c.complain(b)
	}
	unsafe := *c.unsafe.Load()
	for _, name := range slices.Sorted(maps.Keys(unsafe)) {
		wrong = append(wrong, unsafe[name]...)
	}
	var errs []error
	for _, b := range wrong {
		if !c.opt.accepts(b) {
			errs = append(errs, errors.New(b.String()))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fault.New(fault.Unsupported, "cluster.Open", "the cluster cannot keep what is promised:\n%w",
		errors.Join(errs...)).
		WithHint("log.kafka.accept_unsafe with the names of the settings goes on all the same, and may lose what was " +
			"acknowledged")
}

// decisions looks at where the cluster keeps how transactions ended. Before there was one there is no such topic, and
// its brokers say how it will be.
func (c *Cluster) decisions(ctx context.Context) ([]Breach, error) {
	brokers := int(c.brokers.Load())
	copies := c.opt.copies(brokers)
	values, err := c.brokerSettings(ctx, decidedCopies, decidedInSync, largestSetting)
	if err != nil {
		return nil, err
	}
	c.makeRoom(values[largestSetting])
	topic, err := c.describeOne(ctx, transactionTopic)
	if err != nil {
		return nil, err
	}
	if topic != nil {
		values[decidedCopies] = strconv.Itoa(topic.copies)
		if v, ok := topic.inForce[inSyncSetting]; ok {
			values[decidedInSync] = v
		}
	}
	var all []Breach
	for _, one := range []struct {
		setting string
		want    int
	}{{decidedCopies, copies}, {decidedInSync, c.opt.inSync(copies)}} {
		value, known := values[one.setting]
		if n, err := strconv.Atoi(value); !known || err != nil || n >= one.want {
			continue
		}
		b := Breach{Setting: one.setting, Value: value,
			Why:  fmt.Sprintf("how transactions ended is lost with a broker, %d are wanted", one.want),
			Mend: fmt.Sprintf("%s=%d in server.properties of all brokers, before there are transactions", one.setting, one.want)}
		if topic != nil {
			b.Topic, b.Mend = transactionTopic, "kafka-reassign-partitions.sh and kafka-configs.sh, on that topic"
		}
		all = append(all, b)
	}
	return all, nil
}

// makeRoom has topics that are created here take what devices may send, where the brokers' own default does not.
func (c *Cluster) makeRoom(value string) {
	const around = 64 << 10 // a message: its topic name and headers
	wanted := c.opt.LargestMessage + around
	if _, said := c.opt.TopicDefaults[batchSetting]; said || c.opt.LargestMessage == 0 {
		return
	}
	if n, err := strconv.ParseInt(value, 10, 64); err != nil || n < wanted {
		c.room = strconv.FormatInt(wanted, 10)
	}
}

// describeOne looks at one topic, also of the cluster's own; nil: it is not there.
func (c *Cluster) describeOne(ctx context.Context, name string) (*found, error) {
	req := kmsg.NewPtrMetadataRequest()
	one := kmsg.NewMetadataRequestTopic()
	one.Topic = new(name)
	req.Topics = append(req.Topics, one)
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return nil, convert("cluster.Topics", err)
	}
	if len(resp.Topics) != 1 || resp.Topics[0].ErrorCode != 0 {
		return nil, nil //nolint:nilnil // it is not there
	}
	f := &found{name: name}
	for _, p := range resp.Topics[0].Partitions {
		if f.copies == 0 || len(p.Replicas) < f.copies {
			f.copies = len(p.Replicas)
		}
	}
	return f, c.describe(ctx, []*found{f})
}

// brokerSettings asks a broker for settings of its own. Those that it does not tell are not there.
func (c *Cluster) brokerSettings(ctx context.Context, names ...string) (map[string]string, error) {
	values := make(map[string]string)
	meta, err := kmsg.NewPtrMetadataRequest().RequestWith(ctx, c.client)
	if err != nil || len(meta.Brokers) == 0 {
		return values, convert("cluster.Open", err)
	}
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBroker, strconv.Itoa(int(meta.Brokers[0].NodeID))
	r.ConfigNames = names
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(ctx, c.client)
	if err != nil {
		return nil, convert("cluster.Open", err)
	}
	for i := range resp.Resources {
		r := &resp.Resources[i]
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil { // who may not look has to trust
			c.log.Warn("the settings of the brokers cannot be read: that they keep what is promised is not known", "error", err)
			return values, nil
		}
		for _, one := range r.Configs {
			if one.Value != nil {
				values[one.Name] = *one.Value
			}
		}
	}
	return values, nil
}
