package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterReplicaLogDirs (34): v1-2.
//
// Behaviour
//   - There is one folder, which DescribeLogDirs names: every partition lies there and may be moved there.
//     Any other one is LOG_DIR_NOT_FOUND.
//
// Versions: 2 flexible.

// alterReplicaLogDirs answers AlterReplicaLogDirs.
func (d *Door) alterReplicaLogDirs(
	_ context.Context, c *conn, req *kmsg.AlterReplicaLogDirsRequest,
) (*kmsg.AlterReplicaLogDirsResponse, error) {
	resp := kmsg.NewPtrAlterReplicaLogDirsResponse()
	refused := wire.None
	if !d.may(c, OpAlter, OnCluster, ClusterResource) {
		refused = wire.ClusterAuthorizationFailed
	}
	topics := d.log.Topics()
	for _, dir := range req.Dirs {
		for _, rt := range dir.Topics {
			answer := kmsg.NewAlterReplicaLogDirsResponseTopic()
			answer.Topic = rt.Topic
			for _, index := range rt.Partitions {
				p := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
				p.Partition, p.ErrorCode = index, refused
				switch {
				case refused != wire.None:
				case dir.Dir != d.opt.LogDir:
					p.ErrorCode = wire.LogDirNotFound
				default:
					p.ErrorCode = existing(topics, rt.Topic, index)
				}
				answer.Partitions = append(answer.Partitions, p)
			}
			resp.Topics = append(resp.Topics, answer)
		}
	}
	return resp, nil
}
