package migrate

import (
	"context"
	"encoding/json"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// TopicName is the internal topic, in the cluster, that says what was moved, and where to.
const TopicName = "__firth_migration"

// journal is what the cluster has kept of the runs before.
type journal struct {
	run    runState
	topics map[string]topicState
	kept   map[string]string // the records, by key
}

// runState is the record of the migration itself.
type runState struct {
	Source   string `json:"source"`             // cluster id
	Producer int64  `json:"producer"`           // id of who copies records
	State    bool   `json:"state,omitempty"`    // what the cluster has of Firth's own state is ours
	Finished int64  `json:"finished,omitempty"` // Unix milliseconds
}

// topicState is the record of a topic: which it is on both sides, and by partition how much lower offsets are in the
// cluster and below which offset of the node both are known to be the same.
type topicState struct {
	Source   string  `json:"source"`
	Target   string  `json:"target"`
	Lower    []int64 `json:"lower"`
	Verified []int64 `json:"verified"`
}

const (
	runKey   = "run"
	topicKey = "topic/"
)

// load reads what the runs before have kept. Errors: Exists: another node's migration, or one that is finished.
func (m *mover) load(ctx context.Context) error {
	m.state = journal{run: runState{Source: m.Source.ClusterID(), Producer: -1}, topics: map[string]topicState{},
		kept: map[string]string{}}
	t := m.Target.Topics().ByName(TopicName)
	if t == nil {
		return nil
	}
	folded, err := stream.Fold(ctx, m.Target, t.Partitions[0], 0, m.state.apply)
	switch {
	case err != nil:
		return err
	case !folded.Complete():
		return fault.New(fault.Corrupt, "migrate", "%s cannot be read: %w", TopicName, folded.First)
	case m.state.run.Source != m.Source.ClusterID():
		return inTheWay("the cluster holds what another node has had (%s)", m.state.run.Source).
			WithHint("one node moves into a cluster: give this one a cluster of its own")
	case m.state.run.Finished > 0:
		return inTheWay("this node was moved to the cluster on %s",
			time.UnixMilli(m.state.run.Finished).UTC().Format(time.DateTime)).
			WithHint("start the gateway; what was written to the node since does not move")
	}
	return nil
}

func (j *journal) apply(v *record.View) error {
	j.kept[string(v.Key)] = string(v.Value)
	name, is := strings.CutPrefix(string(v.Key), topicKey)
	if !is {
		return json.Unmarshal(v.Value, &j.run)
	}
	var t topicState
	if err := json.Unmarshal(v.Value, &t); err != nil {
		return err
	}
	j.topics[name] = t
	return nil
}

func (m *mover) keepRun(ctx context.Context) error {
	m.state.run.Producer = m.exact.ID()
	return m.keep(ctx, runKey, m.state.run)
}

// keep has a record say something, if it does not yet.
func (m *mover) keep(ctx context.Context, key string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fault.Wrap(fault.Internal, "migrate", err)
	}
	if m.state.kept[key] == string(text) {
		return nil
	}
	one := record.Record{Timestamp: time.Now().UnixMilli(), Key: []byte(key), Value: text}
	if err := stream.StoreState(ctx, m.Target, TopicName, []record.Record{one}); err != nil {
		return err
	}
	m.state.kept[key] = string(text)
	return m.wrote()
}

// vacant refuses a cluster that has state of a gateway: it would be taken away.
func (m *mover) vacant() error {
	if !m.Final || m.state.run.State {
		return nil
	}
	for _, t := range m.Target.Topics().All() {
		if _, ours := m.state.topics[t.Name]; ours || !stream.IsOwn(t.Name) || t.Name == TopicName {
			continue
		}
		for _, p := range t.Partitions {
			b, err := m.Target.Bounds(p)
			if err != nil {
				return err
			}
			if b.High > 0 {
				return inTheWay("a gateway has served the cluster: %s has records", t.Name).
					WithHint("its sessions, users and rules would go; delete its topics __firth_* if nobody needs them")
			}
		}
	}
	return nil
}

// topic is one whose records are copied.
type topic struct {
	from, to *stream.Topic // to is nil until it is made
	state    topicState
	bounds   []stream.Bounds // of the source, as the run began
	report   Topic
}

// plan decides about each topic of the node.
func (m *mover) plan() error {
	for _, t := range m.Source.Topics().All() {
		switch why, stays := left[t.Name]; {
		case stays:
			m.report.Left = append(m.report.Left, Left{t.Name, why})
		case t.Internal() && !stream.IsOwn(t.Name), t.Name == TopicName:
		case t.Internal() && !m.Final:
		case t.Internal() && t.Settings.Compact:
			m.report.State = append(m.report.State, State{Name: t.Name})
		default:
			if err := m.planTopic(t); err != nil {
				return err
			}
		}
	}
	return nil
}

// left are topics of Firth's own that do not move.
var left = map[string]string{
	"__firth_topics":         "topics are made anew in the cluster",
	"__firth_transactions":   "the cluster has its own",
	"__firth_settings":       "of the Kafka door, which a gateway has not",
	"__firth_quotas":         "of the Kafka door: the cluster has its own (kafka-configs.sh)",
	"__firth_group_configs":  "of the Kafka door: the cluster has its own (kafka-configs.sh)",
	"__firth_client_metrics": "of the Kafka door: the cluster has its own (kafka-client-metrics.sh)",
	"__firth_erasures":       "a gateway does not shred",
}

func (m *mover) planTopic(from *stream.Topic) error {
	t := &topic{from: from, to: m.Target.Topics().ByName(from.Name)}
	t.report = Topic{Name: from.Name, Partitions: len(from.Partitions), Made: t.to != nil}
	t.bounds = make([]stream.Bounds, len(from.Partitions))
	ends := make([]stream.Bounds, len(from.Partitions))
	for i, p := range from.Partitions {
		var err error
		if t.bounds[i], err = m.Source.Bounds(p); err != nil {
			return err
		}
		if b := t.bounds[i]; m.Final && b.Stable < b.High {
			return fault.New(fault.Limited, "migrate", "%s[%d] has a transaction that is open since offset %d",
				from.Name, i, b.Stable).WithHint("start the node, wait until it has ended or timed out, and stop it again")
		}
		if t.to != nil && i < len(t.to.Partitions) {
			if ends[i], err = m.Target.Bounds(t.to.Partitions[i]); err != nil {
				return err
			}
		}
	}
	if err := m.decide(t, ends); err != nil {
		return err
	}
	for i, b := range t.bounds {
		done := max(int64(ends[i].High)+t.state.Lower[i], int64(b.Start))
		t.report.Offsets += max(int64(b.Stable)-done, 0)
	}
	m.all += t.report.Offsets
	t.report.Lower = t.state.Lower
	m.topics = append(m.topics, t)
	return nil
}

// decide says where the records of a topic go, by what was said before or anew.
func (m *mover) decide(t *topic, ends []stream.Bounds) error {
	name := t.from.Name
	known, begun := m.state.topics[name]
	switch {
	case begun && known.Source != t.from.ID.String():
		return inTheWay("topic %s was deleted and made again on the node since it was copied", name).
			WithHint("delete it in the cluster, and begin again")
	case begun && t.to != nil && known.Target == t.to.ID.String():
		t.state = known
		if more := len(t.from.Partitions) - len(known.Lower); more > 0 {
			return inTheWay("topic %s has got %d more partitions on the node since it was copied", name, more).
				WithHint("delete it in the cluster, and begin again")
		}
		return fits(t, true)
	case t.to != nil:
		if err := fits(t, false); err != nil {
			return err
		}
		for i := range ends {
			if ends[i].High > 0 {
				return inTheWay("topic %s has records in the cluster that are not of this node", name).
					WithHint("delete it there if nobody needs them, or give the node another cluster")
			}
		}
	}
	t.state = topicState{Source: t.from.ID.String(), Verified: make([]int64, len(t.from.Partitions))}
	for _, b := range t.bounds {
		lower := int64(0)
		if int64(b.Start) > max(m.MaxPadding, 0) {
			lower = int64(b.Start)
		}
		t.state.Lower = append(t.state.Lower, lower)
	}
	return nil
}

// fits tells what of a topic that is there would not let the records of another in as they are.
func fits(t *topic, begun bool) error {
	from, to := &t.from.Settings, &t.to.Settings
	refuse := func(format string, args ...any) *fault.Error {
		return fault.New(fault.Unsupported, "migrate", "topic "+t.from.Name+" of the cluster "+format, args...)
	}
	const alter = "kafka-configs.sh --bootstrap-server BROKER --alter --topic %s --add-config %s"
	switch {
	case len(t.from.Partitions) != len(t.to.Partitions):
		return refuse("has %d partitions, and %d on the node: keys would not stay in theirs", len(t.to.Partitions),
			len(t.from.Partitions)).WithHint("delete it, so that it is made with as many as there are")
	case to.MaxMessageBytes < from.MaxMessageBytes:
		return refuse("takes %d bytes (max.message.bytes), and %d on the node", to.MaxMessageBytes, from.MaxMessageBytes).
			WithHint(alter, t.from.Name, "max.message.bytes="+strconv.Itoa(from.MaxMessageBytes))
	case to.Compact && !from.Compact:
		return refuse("is compacted, and on the node it is not: records would go").
			WithHint(alter, t.from.Name, "cleanup.policy=delete")
	case to.LogAppendTime && (!begun || !from.LogAppendTime):
		return refuse("gives records the time at which they come (message.timestamp.type)").
			WithHint(alter+", and set it back afterwards", t.from.Name, "message.timestamp.type=CreateTime")
	}
	return nil
}

const stampSetting = "message.timestamp.type"

// makeTopics makes those that the cluster has not.
func (m *mover) makeTopics(ctx context.Context) error {
	for _, t := range m.topics {
		if t.to == nil {
			config := maps.Clone(t.from.Config)
			if config == nil {
				config = map[string]string{}
			}
			config["max.message.bytes"] = strconv.Itoa(t.from.Settings.MaxMessageBytes)
			config[stampSetting] = "CreateTime"
			to, err := m.Target.CreateTopic(ctx, stream.TopicSpec{
				Name: t.from.Name, Partitions: len(t.from.Partitions), Config: config,
			})
			if err != nil {
				return err
			}
			t.to = to
			if err := m.wrote(); err != nil {
				return err
			}
		}
		if id := t.to.ID.String(); t.state.Target != id {
			t.state.Target = id
			if err := m.keep(ctx, topicKey+t.from.Name, t.state); err != nil {
				return err
			}
		}
	}
	return nil
}
