package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Metadata (3): v0-13.
//
// Behaviour
//   - One broker, which is the controller and leads every partition, at the address that this client
//     reached, or at Options.Advertise.
//   - Null topics (an empty list in v0) asks for all that the client may describe; internal ones are
//     marked. By id from v10 on: one that is not zero decides, whatever the name is (clients send "" beside it).
//   - A named topic that does not exist is created if the client allows it and the door is not told
//     otherwise; the new topic is in the answer. At most 1,000 at once: the client asks again for more.
//
// Versions: 1 rack, controller, internal; 2 cluster id; 4 auto-creation by the client's leave; 5 offline
// replicas; 7 leader epoch; 8 authorized operations (KIP-430), of the cluster only up to 10; 9 flexible;
// 10 topic ids; 12 null names; 13 error of the whole (KIP-1102).

// maxAutoCreate is how many topics one request may create.
const maxAutoCreate = 1000

// metadata answers Metadata.
func (d *Door) metadata(ctx context.Context, c *conn, h wire.Header, body, dst []byte) ([]byte, error) {
	var req wire.MetadataRequest
	if err := req.Parse(h.Version, body); err != nil {
		return nil, err
	}
	topics := d.metadataTopics(ctx, c, &req)
	cluster := wire.Cluster{
		ID: d.opt.ClusterID, NodeID: d.opt.NodeID, Host: c.told.host, Port: c.told.port, Operations: wire.NoOperations,
	}
	if req.ClusterOperations {
		cluster.Operations = d.operations(c, clusterOperations, OnCluster, ClusterResource)
	}
	var resp wire.MetadataResponse
	dst = resp.Begin(dst, h, &cluster, len(topics))
	for i := range topics {
		if req.TopicOperations && topics[i].Code == wire.None {
			topics[i].Operations = d.operations(c, topicOperations, OnTopic, topics[i].Name)
		}
		dst = resp.Topic(dst, &topics[i])
	}
	return resp.Done(dst), nil
}

// metadataTopics finds what the request asks for.
func (d *Door) metadataTopics(ctx context.Context, c *conn, req *wire.MetadataRequest) []wire.MetadataTopic {
	if req.All {
		var all []wire.MetadataTopic
		for _, t := range d.log.Topics().All() {
			if d.sees(c, OpDescribe, OnTopic, t.Name) {
				all = append(all, d.metadataTopic(t))
			}
		}
		return all
	}
	named := make([]wire.MetadataTopic, 0, req.Topics)
	created := 0
	req.Each(func(n wire.MetadataName) {
		switch {
		case n.Name == nil || n.ID != wire.UUID{}:
			named = append(named, d.metadataByID(c, n.ID))
		case d.log.Topics().ByName(string(n.Name)) == nil && req.AutoCreate && !d.opt.DisableAutoCreate:
			created++
			named = append(named, d.metadataCreate(ctx, c, string(n.Name), created))
		default:
			named = append(named, d.metadataByName(c, string(n.Name)))
		}
	})
	return named
}

func (d *Door) metadataTopic(t *stream.Topic) wire.MetadataTopic {
	return wire.MetadataTopic{
		Name: t.Name, HasName: true, ID: wire.UUID(t.ID), Internal: t.Internal(),
		Partitions: len(t.Partitions), Epoch: d.log.Epoch(), Operations: wire.NoOperations,
	}
}

func (d *Door) metadataByName(c *conn, name string) wire.MetadataTopic {
	t, code := d.topic(c, d.log.Topics(), name, OpDescribe)
	if code == wire.UnknownTopicOrPartition && stream.CheckTopicName(name) != nil {
		code = wire.InvalidTopic
	}
	if code != wire.None {
		return wire.MetadataTopic{Code: code, Name: name, HasName: true, Operations: wire.NoOperations}
	}
	return d.metadataTopic(t)
}

// metadataByID does not tell the name of a topic that may not be described. Its id is no secret, as with Kafka: clients
// ask again about one that is not known, and not about one that they may not see.
func (d *Door) metadataByID(c *conn, id wire.UUID) wire.MetadataTopic {
	t, code := d.described(c, id)
	if code != wire.None {
		return wire.MetadataTopic{Code: code, ID: id, Operations: wire.NoOperations}
	}
	return d.metadataTopic(t)
}

// described is the topic of an id, if the client may describe it.
func (d *Door) described(c *conn, id [16]byte) (*stream.Topic, wire.Code) {
	t := d.log.Topics().ByID(record.UUID(id))
	switch {
	case t == nil:
		return nil, wire.UnknownTopicID
	case !d.may(c, OpDescribe, OnTopic, t.Name):
		return nil, wire.TopicAuthorizationFailed
	}
	return t, wire.None
}

// metadataCreate creates a topic that was only asked about, the n-th of its request.
func (d *Door) metadataCreate(ctx context.Context, c *conn, name string, n int) wire.MetadataTopic {
	answer := wire.MetadataTopic{Name: name, HasName: true, Operations: wire.NoOperations}
	switch {
	case checkNewName(name) != nil:
		answer.Code = wire.InvalidTopic
	case !d.may(c, OpCreate, OnTopic, name):
		answer.Code = wire.TopicAuthorizationFailed
	case n > maxAutoCreate:
		answer.Code = wire.LeaderNotAvailable
	default:
		t, err := d.makeTopic(ctx, c, stream.TopicSpec{Name: name})
		if fault.Is(err, fault.Exists) { // another client was faster
			return d.metadataByName(c, name)
		}
		if answer.Code = createCode(newTopicError(err)); err == nil {
			answer = d.metadataTopic(t)
		}
	}
	return answer
}
