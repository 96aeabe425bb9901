package node

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The calls of Kafka and of the administrative interface that are judged by whether they are refused.

// call is one call, about a resource of a kind, and the right that it needs. None of them changes anything.
type call struct {
	name    string
	version int16
	kind    string
	right   []string // any of them
	build   func(m *matrix, name string) kmsg.Request
}

// topicCalls are about one topic.
func topicCalls() []call {
	return []call{
		{"Metadata", 12, "topic", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrMetadataRequest()
			req.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
			return req
		}},
		{"ListOffsets", 7, "topic", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrListOffsetsRequest()
			req.ReplicaID = -1
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Timestamp, p.CurrentLeaderEpoch = -1, -1
			req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: name,
				Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
			return req
		}},
		{"OffsetForLeaderEpoch", 4, "topic", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrOffsetForLeaderEpochRequest()
			p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			req.ReplicaID, p.CurrentLeaderEpoch = -1, -1
			req.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: name,
				Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{p}}}
			return req
		}},
		{"DescribeTopicPartitions", 0, "topic", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrDescribeTopicPartitionsRequest()
			req.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: name}}
			return req
		}},
		{"DescribeProducers", 0, "topic", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrDescribeProducersRequest()
			req.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: name, Partitions: []int32{0}}}
			return req
		}},
		{"DeleteRecords", 2, "topic", []string{"delete"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrDeleteRecordsRequest()
			req.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: name,
				Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 0, Offset: 0}}}}
			return req
		}},
		{"CreatePartitions", 3, "topic", []string{"alter"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrCreatePartitionsRequest()
			req.ValidateOnly, req.TimeoutMillis = true, 1000
			t := kmsg.NewCreatePartitionsRequestTopic()
			t.Topic, t.Count = name, 2
			req.Topics = append(req.Topics, t)
			return req
		}},
		{"DescribeConfigs", 4, "topic", []string{"describe_configs"}, func(_ *matrix, name string) kmsg.Request {
			return configsOf(kmsg.ConfigResourceTypeTopic, name)
		}},
		{"IncrementalAlterConfigs", 1, "topic", []string{"alter_configs"}, func(_ *matrix, name string) kmsg.Request {
			return alterConfigsOf(kmsg.ConfigResourceTypeTopic, name, "retention.ms", "-1")
		}},
	}
}

func configsOf(kind kmsg.ConfigResourceType, name string) kmsg.Request {
	req := kmsg.NewPtrDescribeConfigsRequest()
	req.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: name}}
	return req
}

func alterConfigsOf(kind kmsg.ConfigResourceType, name, key, value string) kmsg.Request {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = true
	req.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name,
		Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: key, Value: &value}}}}
	return req
}

// groupCalls are about one group.
func groupCalls() []call {
	return []call{
		{"FindCoordinator", 3, "group", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.CoordinatorKey = name
			return req
		}},
		{"OffsetFetch", 7, "group", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Group, req.Topics = name, nil
			return req
		}},
		{"DescribeGroups", 5, "group", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrDescribeGroupsRequest()
			req.Groups = []string{name}
			return req
		}},
		{"JoinGroup", 9, "group", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Group, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis, req.ProtocolType = name, 10_000, 10_000, "consumer"
			req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
			return req
		}},
		{"Heartbeat", 4, "group", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrHeartbeatRequest()
			req.Group, req.MemberID = name, "nobody"
			return req
		}},
		{"SyncGroup", 5, "group", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrSyncGroupRequest()
			req.Group, req.MemberID = name, "nobody"
			return req
		}},
		{"LeaveGroup", 5, "group", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrLeaveGroupRequest()
			req.Group = name
			req.Members = []kmsg.LeaveGroupRequestMember{{MemberID: "nobody"}}
			return req
		}},
	}
}

// newerGroupCalls are about one group of a kind that has heartbeats.
func newerGroupCalls() []call {
	return []call{
		{"ConsumerGroupHeartbeat", 1, "group", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
			req.Group, req.MemberID, req.MemberEpoch = name, "nobody", 7
			return req
		}},
		{"ConsumerGroupDescribe", 1, "group", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrConsumerGroupDescribeRequest()
			req.Groups = []string{name}
			return req
		}},
		{"ShareGroupHeartbeat", 1, "group", []string{"read"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrShareGroupHeartbeatRequest()
			req.GroupID, req.MemberID, req.MemberEpoch = name, "nobody", 7
			return req
		}},
		{"ShareGroupDescribe", 1, "group", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrShareGroupDescribeRequest()
			req.GroupIDs = []string{name}
			return req
		}},
		{"DeleteGroups", 2, "group", []string{"delete"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrDeleteGroupsRequest()
			req.Groups = []string{name}
			return req
		}},
		{"DescribeConfigs", 4, "group", []string{"describe_configs"}, func(_ *matrix, name string) kmsg.Request {
			return configsOf(kmsg.ConfigResourceTypeGroupConfig, name)
		}},
		{"IncrementalAlterConfigs", 1, "group", []string{"alter_configs"}, func(_ *matrix, name string) kmsg.Request {
			return alterConfigsOf(kmsg.ConfigResourceTypeGroupConfig, name, "consumer.session.timeout.ms", "50000")
		}},
	}
}

// otherCalls are about one transactional id, or the cluster.
func otherCalls() []call {
	const cluster = "cluster"
	return []call{
		{"InitProducerId", 4, "transactional_id", []string{"write"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.TransactionalID, req.TransactionTimeoutMillis = new(name), 60_000
			return req
		}},
		{"EndTxn", 3, "transactional_id", []string{"write"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrEndTxnRequest()
			req.TransactionalID, req.ProducerID = name, 1
			return req
		}},
		{"FindCoordinator", 3, "transactional_id", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.CoordinatorKey, req.CoordinatorType = name, 1
			return req
		}},
		{"DescribeTransactions", 0, "transactional_id", []string{"describe"}, func(_ *matrix, name string) kmsg.Request {
			req := kmsg.NewPtrDescribeTransactionsRequest()
			req.TransactionalIDs = []string{name}
			return req
		}},
		{"DescribeAcls", 3, cluster, []string{"describe"}, func(*matrix, string) kmsg.Request {
			req := kmsg.NewPtrDescribeACLsRequest()
			req.ResourceType, req.ResourcePatternType, req.Operation, req.PermissionType = 1, 1, 1, 1
			return req
		}},
		{"DeleteAcls", 3, cluster, []string{"alter"}, func(*matrix, string) kmsg.Request {
			req := kmsg.NewPtrDeleteACLsRequest()
			f := kmsg.NewDeleteACLsRequestFilter()
			f.ResourceType, f.ResourcePatternType, f.Operation, f.PermissionType = 2, 3, 3, 3
			f.ResourceName, f.Principal = new("there is none"), new("User:nobody")
			req.Filters = append(req.Filters, f)
			return req
		}},
		{"DescribeClientQuotas", 1, cluster, []string{"describe_configs"}, func(*matrix, string) kmsg.Request {
			return kmsg.NewPtrDescribeClientQuotasRequest()
		}},
		{"DescribeUserScramCredentials", 0, cluster, []string{"describe"}, func(*matrix, string) kmsg.Request {
			return kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
		}},
		{"AlterUserScramCredentials", 0, cluster, []string{"alter"}, func(*matrix, string) kmsg.Request {
			req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
			req.Deletions = []kmsg.AlterUserSCRAMCredentialsRequestDeletion{{Name: "nobody", Mechanism: 1}}
			return req
		}},
		{"DescribeConfigs", 4, cluster, []string{"describe_configs"}, func(*matrix, string) kmsg.Request {
			return configsOf(kmsg.ConfigResourceTypeBroker, "0")
		}},
		{"ListConfigResources", 1, cluster, []string{"describe_configs"}, func(*matrix, string) kmsg.Request {
			return kmsg.NewPtrListConfigResourcesRequest()
		}},
		{"ListPartitionReassignments", 0, cluster, []string{"describe"}, func(*matrix, string) kmsg.Request {
			return kmsg.NewPtrListPartitionReassignmentsRequest()
		}},
		{"AlterPartitionAssignments", 0, cluster, []string{"alter"}, func(*matrix, string) kmsg.Request {
			return kmsg.NewPtrAlterPartitionAssignmentsRequest()
		}},
	}
}

// resources are the names that calls of a kind are tried on.
func (m *matrix) resources(kind string) []string {
	switch kind {
	case "topic":
		return append(roots(m.rows), "__firth_access", "__firth_sessions", "__firth_retained")
	case "group":
		return []string{"mxg-lit", "mxg-pre-a", "mxg-pre-no", "mxg-rev", "mxg-new", "mxg-look", "mxg-client", "mxg-none",
			"mxg-li", "MXG-LIT", "mxg-pre"}
	case "transactional_id":
		return []string{"mxt-lit", "mxt-pre-a", "mxt-pre-no", "mxt-rev", "mxt-look", "mxt-none"}
	}
	return []string{"kafka-cluster"}
}

// calls makes every call about every resource.
func (m *matrix) calls(all []*backEnd) {
	m.prepare()
	for _, of := range [][]call{topicCalls(), groupCalls(), newerGroupCalls(), otherCalls(), offsetCalls(),
		transactionCalls(), changingCalls(), shareCalls(), idCalls(), clusterCalls()} {
		for _, c := range of {
			for _, b := range all {
				if b == nil {
					continue
				}
				for _, name := range m.resources(c.kind) {
					if c.name == "StreamsGroupHeartbeat" && strings.HasPrefix(name, "__firth_") {
						continue // is in no topology, whoever asks
					}
					resp, raw := b.must(c.build(m, name), c.version)
					m.judge(c.name, b.who, c.kind+" "+name, m.mayResource(b.who, c.right[0], c.kind, name), !isRefused(resp))
					m.restore(c.name, name)
					if c.kind != "cluster" { // whose rights are to see what there is
						b.hides(c.name, raw, name)
					}
				}
			}
		}
	}
}

func (m *matrix) mayResource(who *person, operation, kind, name string) bool {
	if kind == "topic" {
		return m.oracle.topic(who, operation, name)
	}
	return m.oracle.resource(who, operation, kind, name)
}

// pages makes every request of the administrative interface that changes nothing, as everybody.
func (m *matrix) pages() {
	m.logIn()
	for _, who := range m.people {
		as := asBackEnd(who)
		as.listener = "http"
		m.readsByAPI(as)
		for i, page := range []struct{ method, path, right string }{
			{"GET", "/sessions", "describe"}, {"GET", "/session?client=c1", "describe"},
			{"GET", "/events?client=c1", "describe"},
			{"GET", "/retained", "describe"}, {"GET", "/slow", "describe"}, {"GET", "/shares", "describe"},
			{"GET", "/bans", "describe"}, {"GET", "/users", "describe"}, {"GET", "/rules", "describe"},
			{"GET", "/roles", "describe"}, {"GET", "/explain?operation=read&name=x", "describe"},
			{"GET", "/message?topic=" + mxRoot + "/retained/exact/x", "alter"}, {"DELETE", "/session?client=nobody", "alter"},
			{"DELETE", "/message?topic=none", "alter"}, {"POST", "/message", "alter"}, {"DELETE", "/ban?client=nobody", "alter"},
			{"POST", "/ban", "alter"}, {"POST", "/user", "alter"}, {"DELETE", "/user?name=nobody", "alter"},
			{"POST", "/rules", "alter"}, {"DELETE", "/rules?id=0123456789abcdef", "alter"}, {"POST", "/import", "alter"},
		} {
			may := m.oracle.resource(as, page.right, "cluster", "kafka-cluster")
			for _, login := range []struct {
				password string
				right    bool
			}{{mxPassword, true}, {"wrong", false}} {
				if !login.right && (m.phase > 0 || i > 0) { // each makes the next one wait
					continue
				}
				if strings.Contains(as.user, ":") {
					continue // HTTP cannot say such a name
				}
				basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(as.user+":"+login.password))
				status, said := m.http(page.method, page.path, basic, 0)
				m.judge("HTTP", as, page.method+" "+page.path, may && login.right, !refusing(status))
				m.unveiled(as, page.path, said)
				if payloads.Match(said) {
					m.judge("HTTP payload", as, page.path, m.oracle.resource(as, "alter", "cluster", "kafka-cluster"), true)
				}
			}
			m.byCookies(as, page.method, adminPath+page.path, may)
			status, _ := m.http(page.method, page.path, "", 0)
			m.judge("HTTP", &person{}, page.method+" "+page.path, false, status != http.StatusUnauthorized)
			status, _ = m.http(page.method, page.path, "Bearer "+strings.ToLower(m.node.token)+"x", 0)
			m.judge("HTTP", &person{}, "wrong token "+page.path, false, status != http.StatusUnauthorized)
		}
	}
}
