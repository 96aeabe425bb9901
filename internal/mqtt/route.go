package mqtt

import (
	"context"

	"github.com/firthmq/firth/internal/hinge"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/stream"
)

// route is where the messages of one topic name go, as long as neither the mapping nor the set of
// topics changes.
type route struct {
	name   string
	target hinge.Target
	kept   *hinge.Target // for the retained message; made when there is one
	// certificate is for that of a birth of Sparkplug; nil: it is none.
	certificate *hinge.Target
	table       *hinge.Table
	topics      *stream.Topics
	partition   stream.PartitionID
	audited     bool         // the audit is told of what is published there
	told        *stream.Name // to the log
}

// routes are the topic names that a connection publishes to. Most devices have one or a few.
type routes struct {
	last   *route
	byName map[string]*route
	held   int // bytes
}

// Bounds of what a connection remembers; beyond one of them it begins anew.
const (
	maxRoutes     = 256
	maxRouteBytes = 256 << 10
)

// routeBytes is about how many bytes a route makes us hold: itself and, in it, its name, in four places at the most.
func routeBytes(name []byte) int { return 550 + 4*len(name) }

func (rs *routes) find(name []byte) *route {
	if rs.last != nil && rs.last.name == string(name) {
		return rs.last
	}
	r := rs.byName[string(name)]
	if r != nil {
		rs.last = r
	}
	return r
}

// certificateBytes is how many more it is with a certificate.
func certificateBytes(name []byte) int { return 350 + len(name) }

// add makes a route of so many bytes, and forgets all others when they would be too many or make us hold more than most
// bytes.
func (rs *routes) add(name []byte, bytes int, most int64) *route {
	r := &route{name: string(name)}
	if rs.last != nil && rs.byName == nil {
		rs.byName = map[string]*route{rs.last.name: rs.last}
	}
	if len(rs.byName) >= maxRoutes || int64(rs.held+bytes) > min(most, maxRouteBytes) {
		rs.byName, rs.held = nil, 0
	}
	if rs.byName != nil {
		rs.byName[r.name] = r
	}
	rs.held += bytes
	rs.last = r
	return r
}

// errDollar refuses a topic name.
var errDollar = fault.New(fault.Denied, "mqtt.Publish", "clients do not publish to topics that begin with $")

// route finds where a topic name leads and makes the log topic if need be. Errors: Denied for a name
// that begins with $, Invalid for a bad name, those of CreateTopic.
func (l *link) route(t *turn, name []byte, routes *routes) (*route, error) {
	d := l.door
	table, topics := d.mapping.Load(), d.opt.Log.Topics()
	r := routes.find(name)
	if r != nil && r.table == table && r.topics == topics {
		return r, nil
	}
	if err := l.flush(t); err != nil { // gathered records may point into the route
		return nil, err
	}
	if r == nil {
		if isDollar(name) {
			return nil, errDollar
		}
		bytes := routeBytes(name)
		if table.Certificate(name) != nil {
			bytes += certificateBytes(name)
		}
		before := routes.held
		r = routes.add(name, bytes, l.door.budget.Share())
		l.account.Add(int64(routes.held - before))
	}
	r.topics, r.kept = nil, nil
	if err := d.resolve(table, name, r, t.inPoller); err != nil {
		return nil, err
	}
	r.table, r.topics = table, d.opt.Log.Topics()
	r.certificate = table.Certificate(name)
	if r.told == nil || r.told.Mapping != table.Fingerprint() {
		r.told = &stream.Name{Mapping: table.Fingerprint(), Topic: []byte(r.name)}
	}
	return r, nil
}

// resolve fills in where a name goes. In a poller it makes no log topic: errBlocks.
func (d *Door) resolve(table *hinge.Table, name []byte, r *route, inPoller bool) error {
	if err := table.Target(name, &r.target); err != nil {
		return err
	}
	topic := d.opt.Log.Topics().ByName(r.target.Topic)
	if topic == nil {
		if inPoller {
			return errBlocks
		}
		var err error
		topic, err = d.createTopic(r.target.Topic, r.target.Partitions, table.CatchAll())
		if fault.Is(err, fault.Limited) || fault.Is(err, fault.Invalid) {
			table.CatchAllTarget(name, &r.target)
			topic, err = d.createTopic(r.target.Topic, 0, table.CatchAll())
		}
		if err != nil {
			return err
		}
	}
	r.audited = d.opt.Audit.Wants(topic.Name)
	r.partition = topic.Partitions[hinge.Partition(r.target.Key, len(topic.Partitions))]
	return nil
}

// createTopic makes a log topic for devices, unless there are too many. One at a time, so that the
// bound holds. Errors: Limited, those of Log.CreateTopic.
func (d *Door) createTopic(name string, partitions int, catchAll string) (*stream.Topic, error) {
	d.creating <- struct{}{}
	defer func() { <-d.creating }()
	topics := d.opt.Log.Topics()
	if t := topics.ByName(name); t != nil {
		return t, nil
	}
	if name != catchAll && !d.roomForTopic(topics) {
		return nil, fault.New(fault.Limited, "mqtt.Publish", "%d topics, MaxDeviceTopics is %d",
			topics.Len(), d.opt.MaxDeviceTopics).
			WithHint("messages go to the topic %s; make the topic %s by hand or raise the bound", catchAll, name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d.opt.ConnectTimeout)
	defer cancel()
	t, err := d.makeTopic(ctx, stream.TopicSpec{Name: name, Partitions: partitions})
	if fault.Is(err, fault.Exists) { // by the other door
		if t = d.opt.Log.Topics().ByName(name); t != nil {
			return t, nil
		}
	}
	return t, err
}

func (d *Door) roomForTopic(topics *stream.Topics) bool {
	if topics.Len() < d.opt.MaxDeviceTopics {
		return true
	}
	count := 0
	for _, t := range topics.All() {
		if !t.Internal() {
			count++
		}
	}
	return count < d.opt.MaxDeviceTopics
}

// retainedTarget is how the record of a retained message looks: the key is the topic name.
func (r *route) retainedTarget(name []byte) *hinge.Target {
	if r.kept == nil {
		r.kept = new(hinge.Target)
		r.table.CatchAllTarget(name, r.kept)
	}
	return r.kept
}
