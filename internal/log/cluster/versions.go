package cluster

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/fault"
)

// needed is the oldest version of each request that nothing else can stand in for, and what it brings.
var needed = []struct {
	key     kmsg.Key
	version int16
	what    string
}{
	{kmsg.Metadata, 10, "topic ids (KIP-516)"},
	{kmsg.InitProducerID, 3, "producers that go on after an error (KIP-360)"},
	{kmsg.IncrementalAlterConfigs, 0, "changes of single settings (KIP-339)"},
}

// versions looks whether the cluster is new enough, and of which kind its transactions are (KIP-890). Errors:
// Unsupported; those of a connection.
func (c *Cluster) versions(ctx context.Context) error {
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, c.client)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return err
	}
	newest := make(map[int16]int16, len(resp.ApiKeys))
	for _, k := range resp.ApiKeys {
		newest[k.ApiKey] = k.MaxVersion
	}
	for _, n := range needed {
		if v, ok := newest[n.key.Int16()]; !ok || v < n.version {
			return fault.New(fault.Unsupported, "cluster.Open", "the cluster is too old: it has no %s", n.what).
				WithHint("Apache Kafka 2.8 is the oldest that will do")
		}
	}
	for i := range resp.FinalizedFeatures {
		if f := &resp.FinalizedFeatures[i]; f.Name == "transaction.version" {
			c.secondKind = f.MaxVersionLevel >= 2
		}
	}
	return nil
}

// learn takes in what an answer to Metadata says of the cluster as a whole.
func (c *Cluster) learn(resp *kmsg.MetadataResponse) {
	c.brokers.Store(int32(len(resp.Brokers)))
	if resp.ClusterID != nil && *resp.ClusterID != *c.id.Load() {
		c.id.Store(resp.ClusterID)
	}
}

// ClusterID names the cluster: the same for its whole life.
func (c *Cluster) ClusterID() string { return *c.id.Load() }
