package consoles

import "github.com/twmb/franz-go/pkg/kmsg"

// groupCalls are what shows groups and moves them.
var groupCalls = []call{
	{name: "groups", ask: of(kmsg.NewPtrListGroupsRequest(), func(*house, *kmsg.ListGroupsRequest) {}),
		want: is(func(h *house, r *kmsg.ListGroupsResponse) string {
			for _, g := range r.Groups {
				if g.Group == h.group {
					return unless(g.ProtocolType == "consumer" && g.GroupState == "Stable", "%+v", g)
				}
			}
			return "the group is not there"
		})},
	{name: "coordinators", ask: of(kmsg.NewPtrFindCoordinatorRequest(), func(h *house, r *kmsg.FindCoordinatorRequest) {
		r.CoordinatorKey, r.CoordinatorKeys = h.group, []string{h.group}
	})},
	{name: "members of groups", ask: of(kmsg.NewPtrDescribeGroupsRequest(), func(h *house, r *kmsg.DescribeGroupsRequest) {
		r.Groups, r.IncludeAuthorizedOperations = []string{h.group, h.stuck}, true
	}), allowed: []int16{69}, want: is(func(h *house, r *kmsg.DescribeGroupsResponse) string { // 69: not there (v6)
		for _, g := range r.Groups {
			if g.Group == h.stuck {
				if g.State != "Dead" {
					return "a group that is not there is " + g.State
				}
				continue
			}
			if g.State != "Stable" || len(g.Members) != 1 || g.Members[0].ClientID != "biller" || g.Protocol == "" {
				return unless(false, "%+v", g)
			}
			var has kmsg.ConsumerMemberAssignment
			if err := has.ReadFrom(g.Members[0].MemberAssignment); err != nil || len(has.Topics) != 1 ||
				len(has.Topics[0].Partitions) != 3 {
				return unless(false, "assignment %+v, %v", has, err)
			}
		}
		return unless(len(r.Groups) == 2, "%+v", r.Groups)
	})},
	{name: "offsets of groups", ask: of(kmsg.NewPtrOffsetFetchRequest(), func(h *house, r *kmsg.OffsetFetchRequest) {
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = h.group
		r.Group, r.Groups = h.group, []kmsg.OffsetFetchRequestGroup{g}
	}), want: is(func(h *house, r *kmsg.OffsetFetchResponse) string {
		for _, g := range r.Groups {
			if len(g.Topics) == 1 && len(g.Topics[0].Partitions) == 1 && g.Topics[0].Partitions[0].Offset == 20 {
				return ""
			}
		}
		return unless(len(r.Topics) == 1 && r.Topics[0].Partitions[0].Offset == 20, "a lag of 10 is not shown: %+v", r)
	})},
	{name: "move a group", ask: of(kmsg.NewPtrOffsetCommitRequest(), func(h *house, r *kmsg.OffsetCommitRequest) {
		r.Group, r.Generation = h.patient, -1
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Offset, p.LeaderEpoch = 5, -1
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.TopicID, t.Partitions = h.topic, h.topicID, []kmsg.OffsetCommitRequestTopicPartition{p}
		r.Topics = []kmsg.OffsetCommitRequestTopic{t}
	})},
	{name: "forget an offset", ask: of(kmsg.NewPtrOffsetDeleteRequest(), func(h *house, r *kmsg.OffsetDeleteRequest) {
		r.Group = h.patient
		r.Topics = []kmsg.OffsetDeleteRequestTopic{
			{Topic: h.topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 0}}},
		}
	})},
	{name: "remove a group at work", ask: of(kmsg.NewPtrDeleteGroupsRequest(), func(h *house,
		r *kmsg.DeleteGroupsRequest) {
		r.Groups = []string{h.group}
	}), allowed: []int16{68}, want: is(func(_ *house, r *kmsg.DeleteGroupsResponse) string {
		return unless(r.Groups[0].ErrorCode == 68, "%+v", r.Groups[0])
	})},
	{name: "remove a group", ask: of(kmsg.NewPtrDeleteGroupsRequest(), func(h *house, r *kmsg.DeleteGroupsRequest) {
		r.Groups = []string{h.patient}
	}), allowed: []int16{69}}, // a group of offsets that were all forgotten may be gone already
}
