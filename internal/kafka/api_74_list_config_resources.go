package kafka

import (
	"context"
	"slices"
	"strconv"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListConfigResources (74): v0-1.
//
// Behaviour
//   - Names what DescribeConfigs can describe: topics, the broker, groups that have settings and
//     subscriptions to metrics of clients (KIP-1142). No types ask for all. Version 0 asks for the
//     subscriptions (KIP-1000).
//
// Versions: 1 types.

// listConfigResources answers ListConfigResources.
func (d *Door) listConfigResources(
	_ context.Context, c *conn, req *kmsg.ListConfigResourcesRequest,
) (*kmsg.ListConfigResourcesResponse, error) {
	resp := kmsg.NewPtrListConfigResourcesResponse()
	if !d.may(c, OpDescribeConfigs, OnCluster, ClusterResource) {
		resp.ErrorCode = wire.ClusterAuthorizationFailed
		return resp, nil
	}
	known := []int8{
		int8(kmsg.ConfigResourceTypeTopic), int8(kmsg.ConfigResourceTypeBroker), int8(kmsg.ConfigResourceTypeBrokerLogger),
		int8(kmsg.ConfigResourceTypeClientMetrics), int8(kmsg.ConfigResourceTypeGroupConfig),
	}
	wanted := req.ResourceTypes
	switch {
	case req.Version == 0:
		wanted = []int8{int8(kmsg.ConfigResourceTypeClientMetrics)}
	case len(wanted) == 0:
		wanted = known
	}
	for _, kind := range wanted {
		if !slices.Contains(known, kind) {
			resp.ErrorCode = wire.UnsupportedVersion
			resp.ConfigResources = nil
			return resp, nil
		}
		for _, name := range d.configResources(kmsg.ConfigResourceType(kind)) {
			r := kmsg.NewListConfigResourcesResponseConfigResource()
			r.Name, r.Type = name, kind
			resp.ConfigResources = append(resp.ConfigResources, r)
		}
	}
	return resp, nil
}

// configResources names the resources of a kind.
func (d *Door) configResources(kind kmsg.ConfigResourceType) []string {
	var names []string
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		for _, t := range d.log.Topics().All() {
			names = append(names, t.Name)
		}
	case kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeBrokerLogger:
		names = append(names, strconv.Itoa(int(d.opt.NodeID)))
	case kmsg.ConfigResourceTypeGroupConfig:
		names = d.groups.configs.names()
	case kmsg.ConfigResourceTypeClientMetrics:
		names = d.clients.subscriptions.names()
	}
	return names
}
