package kafka

import (
	"context"
	"net"
	"strconv"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster (60): v0-2.
//
// Behaviour
//   - One broker, which is the controller, at the address that this client reached or that is advertised.
//   - This is an endpoint of brokers: asking for controllers is MISMATCHED_ENDPOINT_TYPE, for anything
//     else UNSUPPORTED_ENDPOINT_TYPE (KIP-919).
//
// Versions: 1 endpoint type, 2 fenced brokers, of which there are none (KIP-1073).

// describeCluster answers DescribeCluster.
func (d *Door) describeCluster(
	_ context.Context, c *conn, req *kmsg.DescribeClusterRequest,
) (*kmsg.DescribeClusterResponse, error) {
	const brokers, controllers = 1, 2
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.EndpointType = brokers
	resp.ClusterAuthorizedOperations = wire.NoOperations
	if req.Version >= 1 && req.EndpointType != brokers {
		resp.ErrorCode = wire.UnsupportedEndpointType
		if req.EndpointType == controllers {
			resp.ErrorCode = wire.MismatchedEndpointType
		}
		resp.ErrorMessage = new("this is an endpoint of brokers")
		return resp, nil
	}
	resp.ClusterID, resp.ControllerID = d.opt.ClusterID, d.opt.NodeID
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = d.operations(c, clusterOperations, OnCluster, ClusterResource)
	}
	broker := kmsg.NewDescribeClusterResponseBroker()
	broker.NodeID, broker.Host, broker.Port = d.opt.NodeID, c.told.host, c.told.port
	resp.Brokers = append(resp.Brokers, broker)
	return resp, nil
}

func joinHostPort(a address) string { return net.JoinHostPort(a.host, strconv.Itoa(int(a.port))) }
