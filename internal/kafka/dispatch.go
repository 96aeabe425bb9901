package kafka

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// handler answers one decoded request. It may block its connection, and only that; ctx ends when the
// connection or the door does. The byte slices in req belong to it for good. An error costs the
// connection: what a client can understand goes into the response.
type handler func(ctx context.Context, c *conn, req kmsg.Request) (kmsg.Response, error)

// handle makes a handler of a typed one. The response gets the version of the request.
func handle[Req kmsg.Request, Resp kmsg.Response](f func(context.Context, *conn, Req) (Resp, error)) handler {
	return func(ctx context.Context, c *conn, req kmsg.Request) (kmsg.Response, error) {
		typed, ok := req.(Req)
		if !ok {
			return nil, fault.New(fault.Internal, "kafka.dispatch", "a %T came to the handler of %T", req, typed)
		}
		resp, err := f(ctx, c, typed)
		if err != nil {
			return nil, err
		}
		resp.SetVersion(req.GetVersion())
		return resp, nil
	}
}

// rawHandler answers a request that has a codec by hand: it appends the framed response to dst. body is
// the connection's and is used again.
type rawHandler func(ctx context.Context, c *conn, h wire.Header, body, dst []byte) ([]byte, error)

// laterHandler begins to answer a decoded request and calls done with the response exactly once, at once or later and
// from any goroutine. The connection reads on meanwhile, so it does not block, but where an administrator has to wait
// for the audit; answers keep the order of the requests. ctx ends when the connection or the door does.
type laterHandler func(ctx context.Context, c *conn, req kmsg.Request, done func(kmsg.Response))

// later makes a laterHandler of a typed one. The response gets the version of the request.
func later[Req kmsg.Request, Resp kmsg.Response](
	f func(ctx context.Context, c *conn, req Req, done func(Resp)),
) laterHandler {
	return func(ctx context.Context, c *conn, req kmsg.Request, done func(kmsg.Response)) {
		typed, ok := req.(Req)
		if !ok {
			panic(fmt.Sprintf("a %T came to the handler of %T", req, typed)) // the table is wrong
		}
		f(ctx, c, typed, func(resp Resp) {
			resp.SetVersion(req.GetVersion())
			done(resp)
		})
	}
}

// served is one API that this door answers. Produce and Fetch have no handler: the connection serves them itself.
type served struct {
	*wire.API
	handle  handler
	raw     rawHandler
	later   laterHandler
	prompt  bool // heard at once, whatever waits to be answered before it: it keeps a session alive, or ends one
	seconds stopwatch
}

// table is the APIs of this door by key. Only what is in it is advertised.
type table map[int16]*served

// add puts an API into the table. The key must be in wire's table of versions.
func (t table) add(key int16, h handler) { t[key] = &served{API: wire.Find(key), handle: h} }

// addLater is add for an API that is answered later. A prompt one is heard at once.
func (t table) addLater(key int16, h laterHandler, prompt bool) {
	t[key] = &served{API: wire.Find(key), later: h, prompt: prompt}
}

// addRaw is add for an API with a codec by hand.
func (t table) addRaw(key int16, h rawHandler) { t[key] = &served{API: wire.Find(key), raw: h} }

// stopwatch observes how long requests took.
type stopwatch struct{ seconds telemetry.Histogram }

func (w stopwatch) observe(start time.Time) { w.seconds.Observe(time.Since(start).Seconds()) }

// register puts everything this file's neighbours serve into the table.
func (d *Door) register(t table) {
	t.addRaw(wire.Produce, nil)
	t.addRaw(wire.Fetch, nil)
	t.addRaw(wire.ApiVersions, d.apiVersions)
	t.addRaw(wire.Metadata, d.metadata)
	t.add(wire.ListOffsets, handle(d.listOffsets))
	t.add(wire.SaslHandshake, handle(d.saslHandshake))
	t.add(wire.SaslAuthenticate, handle(d.saslAuthenticate))
	t.add(wire.CreateTopics, handle(d.createTopics))
	t.add(wire.DeleteTopics, handle(d.deleteTopics))
	t.add(wire.DeleteRecords, handle(d.deleteRecords))
	t.add(wire.InitProducerID, handle(d.initProducerID))
	t.add(wire.OffsetForLeaderEpoch, handle(d.offsetForLeaderEpoch))
	t.add(wire.DescribeAcls, handle(d.describeACLs))
	t.add(wire.CreateAcls, handle(d.createACLs))
	t.add(wire.DeleteAcls, handle(d.deleteACLs))
	t.add(wire.DescribeConfigs, handle(d.describeConfigs))
	t.add(wire.AlterConfigs, handle(d.alterConfigs))
	t.add(wire.DescribeLogDirs, handle(d.describeLogDirs))
	t.add(wire.AlterReplicaLogDirs, handle(d.alterReplicaLogDirs))
	t.add(wire.ElectLeaders, handle(d.electLeaders))
	t.add(wire.AlterPartitionReassignments, handle(d.alterPartitionReassignments))
	t.add(wire.ListPartitionReassignments, handle(d.listPartitionReassignments))
	t.add(wire.DescribeClientQuotas, handle(d.describeClientQuotas))
	t.add(wire.AlterClientQuotas, handle(d.alterClientQuotas))
	t.add(wire.DescribeUserScramCreds, handle(d.describeUserScramCreds))
	t.add(wire.AlterUserScramCreds, handle(d.alterUserScramCreds))
	t.add(wire.CreateDelegationToken, handle(d.createDelegationToken))
	t.add(wire.RenewDelegationToken, handle(d.renewDelegationToken))
	t.add(wire.ExpireDelegationToken, handle(d.expireDelegationToken))
	t.add(wire.DescribeDelegationToken, handle(d.describeDelegationToken))
	t.add(wire.DescribeQuorum, handle(d.describeQuorum))
	t.add(wire.CreatePartitions, handle(d.createPartitions))
	t.add(wire.IncrementalAlterConfigs, handle(d.incrementalAlterConfigs))
	t.add(wire.UpdateFeatures, handle(d.updateFeatures))
	t.add(wire.GetTelemetrySubscriptions, handle(d.getTelemetrySubscriptions))
	t.add(wire.PushTelemetry, handle(d.pushTelemetry))
	t.add(wire.DescribeCluster, handle(d.describeCluster))
	t.add(wire.ListConfigResources, handle(d.listConfigResources))
	t.add(wire.DescribeTopicPartitions, handle(d.describeTopicPartitions))
}

// versions is what ApiVersions announces of a table, by key.
func (t table) versions() []wire.API {
	var all []wire.API
	for _, key := range slices.Sorted(maps.Keys(t)) {
		all = append(all, *t[key].API)
	}
	return all
}
