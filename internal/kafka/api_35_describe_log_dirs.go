package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeLogDirs (35): v1-5.
//
// Behaviour
//   - One folder with the bytes of each partition. Null topics ask for all. Partitions that do not exist
//     are left out, as in Kafka. What is free on the disk is what an ordinary user may still write; -1 if the
//     system does not say.
//
// Versions: 2 flexible, 3 error of the whole, 4 size of the volume (KIP-827), 5 whether the folder takes no new
// partitions: it always does.

// describeLogDirs answers DescribeLogDirs.
func (d *Door) describeLogDirs(
	_ context.Context, c *conn, req *kmsg.DescribeLogDirsRequest,
) (*kmsg.DescribeLogDirsResponse, error) {
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	if !d.may(c, OpDescribe, OnCluster, ClusterResource) {
		resp.ErrorCode = wire.ClusterAuthorizationFailed
		return resp, nil
	}
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = d.opt.LogDir
	if free, total, err := d.log.Space(); err != nil {
		dir.TotalBytes, dir.UsableBytes = -1, -1
	} else {
		dir.TotalBytes, dir.UsableBytes = total, free
	}
	topics := d.log.Topics()
	if req.Topics == nil {
		for _, t := range topics.All() {
			every := make([]int32, len(t.Partitions))
			for i := range every {
				every[i] = int32(i)
			}
			d.measureTopic(&dir, t, every)
		}
	}
	for _, rt := range req.Topics {
		if t := topics.ByName(rt.Topic); t != nil {
			d.measureTopic(&dir, t, rt.Partitions)
		}
	}
	resp.Dirs = append(resp.Dirs, dir)
	return resp, nil
}

// measureTopic adds the partitions of a topic to a folder.
func (d *Door) measureTopic(dir *kmsg.DescribeLogDirsResponseDir, t *stream.Topic, indexes []int32) {
	answer := kmsg.NewDescribeLogDirsResponseDirTopic()
	answer.Topic = t.Name
	for _, index := range indexes {
		id, code := partition(t, wire.None, index)
		if code != wire.None {
			continue
		}
		size, err := d.log.PartitionBytes(id)
		if err != nil {
			continue // deleted meanwhile
		}
		p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		p.Partition, p.Size = index, size
		answer.Partitions = append(answer.Partitions, p)
	}
	if len(answer.Partitions) > 0 {
		dir.Topics = append(dir.Topics, answer)
	}
}
