package node

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// strict starts a node on which the user dev may read and write the topic, the group and the transactional id called
// "own", and nothing else. What is called "other" is there.
func strict(t *testing.T) (n *Node, other [16]byte) {
	t.Helper()
	n = start(t, local(t))
	addUser(t, n, "root", "admin")
	addUser(t, n, "dev")
	addUser(t, n, "mute")
	var rules []rule.Rule
	for kind, set := range map[rule.Kind]rule.Operations{rule.Topic: rule.Of(rule.Read, rule.Write),
		rule.Group: rule.Of(rule.Read), rule.TransactionalID: rule.Of(rule.Write)} {
		rules = append(rules, rule.Rule{Effect: rule.Allow, Principal: "User:dev", Operations: set,
			Resource: rule.Resource{Kind: kind, Pattern: rule.Literal, Name: "own"}})
	}
	if err := n.access.Apply(t.Context(), &access.Change{Rules: rules}); err != nil {
		t.Fatal(err)
	}
	create := kmsg.NewPtrCreateTopicsRequest()
	for _, name := range []string{"own", "other"} {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = name, 1, 1
		create.Topics = append(create.Topics, topic)
	}
	said, _ := loggedIn(t, n, "root").must(create, 7)
	made, _ := said.(*kmsg.CreateTopicsResponse)
	if found := strings.Join(refusals(reflect.ValueOf(made), ""), ", "); found != "" {
		t.Fatal(found)
	}
	return n, made.Topics[1].TopicID
}

// loggedIn is a client of Kafka's protocol as a user.
func loggedIn(t *testing.T, n *Node, user string) *backEnd {
	t.Helper()
	nc, err := net.Dial("tcp", n.Addresses().Kafka)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	b := &backEnd{m: &matrix{t: t}, who: &person{user: user}, nc: nc}
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Mechanism = "PLAIN"
	b.must(hello, 1)
	login := kmsg.NewPtrSASLAuthenticateRequest()
	login.SASLAuthBytes = []byte("\x00" + user + "\x00" + mxPassword)
	if said, _ := b.must(login, 2); said.(*kmsg.SASLAuthenticateResponse).ErrorCode != 0 {
		t.Fatalf("%+v", said)
	}
	return b
}

// refusals are the error codes in an answer that are not 0, each with the field that it is in.
func refusals(v reflect.Value, path string) (found []string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			found = refusals(v.Elem(), path)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				found = append(found, refusals(v.Index(i), path)...)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch {
			case f.Name == "ErrorCode" && v.Field(i).Int() != 0:
				found = append(found, fmt.Sprintf("%sErrorCode %d", path, v.Field(i).Int()))
			case f.IsExported():
				found = append(found, refusals(v.Field(i), path+f.Name+".")...)
			}
		}
	}
	return found
}

// The error codes of Kafka that say which right is missing.
const (
	noTopic         = 29
	noGroup         = 30
	noCluster       = 31
	noTransactional = 53
)

// fieldOf is the field of an answer that says what is refused, where it is not the ErrorCode of all of it.
var fieldOf = map[string]string{
	"Metadata": "Topics.", "DescribeTopicPartitions": "Topics.", "CreatePartitions": "Topics.",
	"ListOffsets": "Topics.Partitions.", "OffsetForLeaderEpoch": "Topics.Partitions.",
	"DescribeProducers": "Topics.Partitions.", "DeleteRecords": "Topics.Partitions.",
	"DescribeConfigs": "Resources.", "IncrementalAlterConfigs": "Resources.",
	"DescribeGroups": "Groups.", "ConsumerGroupDescribe": "Groups.", "ShareGroupDescribe": "Groups.",
	"DeleteGroups":         "Groups.",
	"DescribeTransactions": "TransactionStates.", "DeleteAcls": "Results.", "AlterUserScramCredentials": "Results.",
}

// TestRefusalsOfKafka: a right that is missing is told at once, by Kafka's own code in Kafka's own field, to the one
// request that was sent.
func TestRefusalsOfKafka(t *testing.T) {
	n, other := strict(t)
	b := loggedIn(t, n, "dev")
	code := map[string]int{"topic": noTopic, "group": noGroup, "cluster": noCluster, "transactional_id": noTransactional}
	told := func(name string, req kmsg.Request, version int16, want ...string) {
		t.Helper()
		said, _ := b.must(req, version)
		if found := refusals(reflect.ValueOf(said), ""); !slices.Equal(found, want) {
			t.Errorf("%s: %q, want %q", name, found, want)
		}
	}
	for _, of := range [][]call{topicCalls(), groupCalls(), newerGroupCalls(), otherCalls()} {
		for _, c := range of {
			want := fmt.Sprintf("%sErrorCode %d", fieldOf[c.name], code[c.kind])
			told(c.name+" of a "+c.kind, c.build(nil, "other"), c.version, want)
		}
	}
	const topic, group, partition = "ErrorCode 29", "ErrorCode 30", "Topics.Partitions.ErrorCode 29"
	for _, c := range []struct {
		name    string
		req     kmsg.Request
		version int16
		want    []string
	}{
		{"Produce", producing(nil, "other", "own"), 9, []string{"Topics.Partitions.ErrorCode 29"}},
		{"Produce in a transaction", producing(new("other"), "own", "own"), 9,
			[]string{"Topics.Partitions.ErrorCode 53", "Topics.Partitions.ErrorCode 53"}},
		{"Fetch by name", fetching(kmsg.FetchRequestTopic{Topic: "other"}), 12, []string{partition}},
		{"Fetch by id", fetching(kmsg.FetchRequestTopic{TopicID: other}), 16, []string{partition}},
		{"ShareFetch of a group", shareFetching("other", other), 1, []string{group}},
		{"OffsetCommit of a group", committing("other", "own"), 9, []string{"Topics.Partitions.ErrorCode 30"}},
		{"OffsetCommit of a topic", committing("own", "other"), 9, []string{partition}},
		{"OffsetFetch of a topic", offsetsOf("own", "other"), 8, []string{"Groups.Topics.Partitions.ErrorCode 29"}},
		{"OffsetFetch of a group", offsetsOf("other", "own"), 8, []string{"Groups.ErrorCode 30"}},
		{"TxnOffsetCommit of an id", committingIn("other", "own", "own"), 3, []string{"Topics.Partitions.ErrorCode 53"}},
		{"TxnOffsetCommit of a group", committingIn("own", "other", "own"), 3, []string{"Topics.Partitions.ErrorCode 30"}},
		{"TxnOffsetCommit of a topic", committingIn("own", "own", "other"), 3, []string{partition}},
		{"AddPartitionsToTxn of an id", adding("other", "own"), 3, []string{"Topics.Partitions.ErrorCode 53"}},
		{"AddPartitionsToTxn of a topic", adding("own", "other", "own"), 3,
			[]string{"Topics.Partitions.ErrorCode 29", "Topics.Partitions.ErrorCode 55"}},
		{"AddOffsetsToTxn of an id", addingOffsets("other", "own"), 3, []string{"ErrorCode 53"}},
		{"AddOffsetsToTxn of a group", addingOffsets("own", "other"), 3, []string{group}},
		{"ConsumerGroupHeartbeat of a topic", joining("own", "own", "other"), 1, []string{topic}},
		{"CreateTopics", creating("new"), 7, []string{"Topics.ErrorCode 29"}},
		{"DeleteTopics", deleting("other"), 5, []string{"Topics.ErrorCode 29"}},
		{"CreateAcls", ruling(), 3, []string{"Results.ErrorCode 31"}},
		{"Metadata by id", &kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{{TopicID: other}}}, 12,
			[]string{"Topics.ErrorCode 29"}},
		{"Metadata of a topic to make", &kmsg.MetadataRequest{AllowAutoTopicCreation: true,
			Topics: []kmsg.MetadataRequestTopic{{Topic: new("new")}}}, 12, []string{"Topics.ErrorCode 29"}},
		{"DeleteTopics by id", &kmsg.DeleteTopicsRequest{Topics: []kmsg.DeleteTopicsRequestTopic{{TopicID: other}}}, 6,
			[]string{"Topics.ErrorCode 29"}},
		{"OffsetCommit by id", identified(committing("own", ""), other), 10, []string{partition}},
		{"OffsetFetch by id", identified(offsetsOf("own", ""), other), 10,
			[]string{"Groups.Topics.Partitions.ErrorCode 29"}},
		{"Produce by id", identified(producing(nil, ""), other), 13, []string{partition}},
		{"FindCoordinator of several", &kmsg.FindCoordinatorRequest{CoordinatorKeys: []string{"other", "own"}}, 4,
			[]string{"Coordinators.ErrorCode 30"}},
		{"OffsetDelete", &kmsg.OffsetDeleteRequest{Group: "own"}, 0, []string{group}},
		{"ShareGroupHeartbeat of a topic", &kmsg.ShareGroupHeartbeatRequest{GroupID: "own",
			MemberID: "AAAAAAAAAAAAAAAAAAAAAg", SubscribedTopicNames: []string{"own", "other"}}, 1, []string{topic}},
		{"StreamsGroupHeartbeat", &kmsg.StreamsGroupHeartbeatRequest{Group: "other"}, 0, []string{group}},
		{"DescribeLogDirs", &kmsg.DescribeLogDirsRequest{}, 4, []string{"ErrorCode 31"}},
		{"UpdateFeatures", &kmsg.UpdateFeaturesRequest{}, 1, []string{"ErrorCode 31"}},
	} {
		told(c.name, c.req, c.version, c.want...)
	}
	b = loggedIn(t, n, "mute")
	told("InitProducerId of who may write nothing", kmsg.NewPtrInitProducerIDRequest(), 4, "ErrorCode 31")
}

// producing writes a record to each topic, in a transaction or in none.
func producing(id *string, topics ...string) kmsg.Request {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.TransactionID = -1, 600_000, id
	for _, name := range topics {
		req.Topics = append(req.Topics, kmsg.ProduceRequestTopic{Topic: name,
			Partitions: []kmsg.ProduceRequestTopicPartition{{Records: batchWith(name, "x")}}})
	}
	return req
}

// fetching reads a topic to which nothing is written, for longer than a test may take.
func fetching(topic kmsg.FetchRequestTopic) kmsg.Request {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.SessionEpoch = 600_000, 1<<20, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.PartitionMaxBytes = 1 << 20
	topic.Partitions = append(topic.Partitions, p)
	req.Topics = append(req.Topics, topic)
	return req
}

func shareFetching(group string, topic [16]byte) kmsg.Request {
	req := kmsg.NewPtrShareFetchRequest()
	req.GroupID, req.MemberID, req.MaxWaitMillis, req.MinBytes = &group, new("AAAAAAAAAAAAAAAAAAAAAQ"), 600_000, 1
	req.MaxBytes, req.MaxRecords = 1<<20, 1
	req.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: topic,
		Partitions: []kmsg.ShareFetchRequestTopicPartition{kmsg.NewShareFetchRequestTopicPartition()}}}
	return req
}

func committing(group, topic string) kmsg.Request {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	req.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic,
		Partitions: []kmsg.OffsetCommitRequestTopicPartition{kmsg.NewOffsetCommitRequestTopicPartition()}}}
	return req
}

func offsetsOf(group, topic string) kmsg.Request {
	req := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	g.Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, Partitions: []int32{0}}}
	req.Groups = append(req.Groups, g)
	return req
}

func committingIn(id, group, topic string) kmsg.Request {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.Generation = id, group, 1, -1
	req.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: topic,
		Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{kmsg.NewTxnOffsetCommitRequestTopicPartition()}}}
	return req
}

func adding(id string, topics ...string) kmsg.Request {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID = id, 1
	for _, name := range topics {
		req.Topics = append(req.Topics, kmsg.AddPartitionsToTxnRequestTopic{Topic: name, Partitions: []int32{0}})
	}
	return req
}

func addingOffsets(id, group string) kmsg.Request {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.Group, req.ProducerID = id, group, 1
	return req
}

func joining(group string, topics ...string) kmsg.Request {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.RebalanceTimeoutMillis = group, "AAAAAAAAAAAAAAAAAAAAAg", 60_000
	req.SubscribedTopicNames, req.Topics = topics, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	return req
}

func creating(topic string) kmsg.Request {
	req := kmsg.NewPtrCreateTopicsRequest()
	one := kmsg.NewCreateTopicsRequestTopic()
	one.Topic, one.NumPartitions, one.ReplicationFactor = topic, 1, 1
	req.Topics = append(req.Topics, one)
	return req
}

func deleting(topic string) kmsg.Request {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TopicNames = []string{topic}
	return req
}

// ruling allows everybody everything.
func ruling() kmsg.Request {
	req := kmsg.NewPtrCreateACLsRequest()
	one := kmsg.NewCreateACLsRequestCreation()
	one.ResourceType, one.ResourceName = kmsg.ACLResourceTypeTopic, "*"
	one.ResourcePatternType = kmsg.ACLResourcePatternTypeLiteral
	one.Principal, one.Host, one.Operation = "User:*", "*", kmsg.ACLOperationAll
	one.PermissionType = kmsg.ACLPermissionTypeAllow
	req.Creations = append(req.Creations, one)
	return req
}

// identified names the one topic of a request by its id.
func identified(req kmsg.Request, id [16]byte) kmsg.Request {
	switch r := req.(type) {
	case *kmsg.OffsetCommitRequest:
		r.Topics[0].TopicID = id
	case *kmsg.OffsetFetchRequest:
		r.Groups[0].Topics[0].TopicID = id
	case *kmsg.ProduceRequest:
		r.Topics[0].TopicID = id
	}
	return req
}

// speaker speaks MQTT packet by packet.
type speaker struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
	v    packet.Version
}

// speak opens a connection to the door of devices.
func speak(t *testing.T, n *Node, v packet.Version) *speaker {
	t.Helper()
	conn, err := net.Dial("tcp", n.Addresses().MQTT)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &speaker{t, conn, bufio.NewReader(conn), v}
}

// ask sends a packet, and gives the one that answers it, decoded and as it came.
func (s *speaker) ask(p packet.Packet) (packet.Packet, []byte) {
	s.t.Helper()
	if err := s.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.conn.Write(p.AppendTo(nil, s.v)); err != nil {
		s.t.Fatal(err)
	}
	first, err := s.in.ReadByte()
	if err != nil {
		s.t.Fatalf("no answer to a %s: %v", p.Type(), err)
	}
	length, err := binary.ReadUvarint(s.in) // as section 1.5.5 encodes it, too
	if err != nil {
		s.t.Fatal(err)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(s.in, body); err != nil {
		s.t.Fatal(err)
	}
	frame := slices.Concat([]byte{first}, binary.AppendUvarint(nil, length), body)
	answer, err := (&packet.Decoder{Version: s.v, Client: true}).Decode(frame)
	if err != nil {
		s.t.Fatalf("%x: %v", frame, err)
	}
	return answer, frame
}

// helloOf is the CONNECT of a user; without one it says no name.
func helloOf(v packet.Version, user, password string) *packet.Connect {
	return &packet.Connect{Version: v, CleanStart: true, ClientID: []byte("refused"), HasUserName: user != "",
		UserName: []byte(user), HasPassword: password != "", Password: []byte(password)}
}

// TestRefusedConnects: MQTT 3 gets its return code, MQTT 5 its reason code and the reason in words.
func TestRefusedConnects(t *testing.T) {
	n, _ := strict(t)
	will := func(v packet.Version) *packet.Connect {
		hello := helloOf(v, "dev", mxPassword)
		hello.Will = &packet.Will{Topic: []byte("other/x")}
		return hello
	}
	for _, c := range []struct {
		name  string
		hello func(v packet.Version) *packet.Connect
		code  byte // of MQTT 3
		want  packet.ReasonCode
		words string
	}{
		{"a wrong password", func(v packet.Version) *packet.Connect { return helloOf(v, "dev", "wrong") }, 4,
			packet.BadUserNameOrPassword, "bad user name or password"},
		{"nobody's name", func(v packet.Version) *packet.Connect { return helloOf(v, "nobody", "wrong") }, 4,
			packet.BadUserNameOrPassword, "bad user name or password"},
		{"no name", func(v packet.Version) *packet.Connect { return helloOf(v, "", "") }, 5, packet.NotAuthorized,
			"who does not say who it is"},
		{"a will that is not allowed", will, 5, packet.NotAuthorized, "may not publish its will"},
	} {
		if _, frame := speak(t, n, packet.V311).ask(c.hello(packet.V311)); !slices.Equal(frame, []byte{0x20, 2, 0, c.code}) {
			t.Errorf("%s, MQTT 3.1.1: %x, want return code %d", c.name, frame, c.code)
		}
		said, _ := speak(t, n, packet.V5).ask(c.hello(packet.V5))
		ack, is := said.(*packet.Connack)
		if !is || ack.Reason != c.want || !strings.Contains(string(ack.Props.ReasonString), c.words) {
			t.Errorf("%s, MQTT 5: %+v, want %s and %q", c.name, said, c.want, c.words)
		}
	}
}

// TestRefusedPackets: what a device may not do is told in the acknowledgement, and its connection goes on.
func TestRefusedPackets(t *testing.T) {
	n, _ := strict(t)
	publish := func(topic string, qos byte) packet.Packet {
		return &packet.Publish{Topic: []byte(topic), QoS: qos, PacketID: 1, Payload: []byte("x")}
	}
	subscribe := func(topic string) packet.Packet {
		return &packet.Subscribe{PacketID: 1, Subscriptions: []packet.Subscription{{Filter: []byte(topic), QoS: 1}}}
	}
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		s := speak(t, n, v)
		hello := helloOf(v, "dev", mxPassword)
		hello.Props.SetRequestProblemInfo(1)
		if said, _ := s.ask(hello); said.(*packet.Connack).Reason != packet.Success {
			t.Fatalf("%+v", said)
		}
		want := packet.NotAuthorized
		if v == packet.V311 {
			want = packet.Success // there is no word for it [MQTT-3.3.5-2 of 3.1.1]
		}
		said, _ := s.ask(publish("other/x", 1))
		if ack, is := said.(*packet.Puback); !is || ack.Reason != want {
			t.Errorf("%s, QoS 1: %+v", v, said)
		}
		said, _ = s.ask(publish("other/x", 2))
		if ack, is := said.(*packet.Pubrec); !is || ack.Reason != want {
			t.Errorf("%s, QoS 2: %+v", v, said)
		}
		said, frame := s.ask(subscribe("other/#"))
		if ack, is := said.(*packet.Suback); !is || v == packet.V5 && ack.Reasons[0] != packet.NotAuthorized ||
			v == packet.V311 && frame[len(frame)-1] != 0x80 {
			t.Errorf("%s, SUBSCRIBE: %x", v, frame)
		}
		said, _ = s.ask(subscribe("own/#"))
		if ack, is := said.(*packet.Suback); !is || ack.Reasons[0] != packet.GrantedQoS1 {
			t.Errorf("%s, then: %+v", v, said)
		}
	}
}
