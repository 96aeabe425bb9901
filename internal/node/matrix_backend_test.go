package node

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"reflect"
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/firthmq/firth/internal/log/record"
)

// The paths of the access matrix through the door of back ends.

// backEnd is a client of Kafka's protocol.
type backEnd struct {
	m    *matrix
	who  *person
	nc   net.Conn
	next int32
}

// asBackEnd is somebody as it comes by the door of back ends: with a password.
func asBackEnd(who *person) *person {
	p := *who
	p.client, p.cn, p.listener, p.tls = "", "", "kafka", false
	return &p
}

// backEnd connects somebody.
func (m *matrix) backEnd(who *person) (*backEnd, error) {
	return m.backEndBy(who, plain.Auth{User: who.user, Pass: mxPassword}.AsMechanism())
}

func (m *matrix) backEndBy(who *person, by sasl.Mechanism) (*backEnd, error) {
	nc, err := net.Dial("tcp", m.node.Addresses().Kafka)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = nc.Close() })
	b := &backEnd{m: m, who: who, nc: nc}
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.Mechanism = by.Name()
	if _, _, err := b.ask(hello, 1); err != nil {
		return nil, err
	}
	session, say, err := by.Authenticate(m.t.Context(), "localhost")
	for done := false; err == nil && !done; {
		login := kmsg.NewPtrSASLAuthenticateRequest()
		login.SASLAuthBytes = say
		var said kmsg.Response
		if said, _, err = b.ask(login, 2); err != nil {
			break
		}
		resp := said.(*kmsg.SASLAuthenticateResponse)
		if resp.ErrorCode != 0 {
			return nil, fmt.Errorf("error %d", resp.ErrorCode)
		}
		done, say, err = session.Challenge(resp.SASLAuthBytes)
	}
	return b, err
}

// connect connects who may come and is not there, and looks whether those are gone who may not.
func (m *matrix) connect(all []*backEnd) {
	for i, who := range m.people {
		as := asBackEnd(who)
		if all[i] != nil && !m.oracle.out[who.user] {
			continue
		} else if all[i] != nil {
			_, _, err := all[i].ask(kmsg.NewPtrMetadataRequest(), 12)
			m.judge("connection", as, "of a back end", false, err == nil)
			all[i] = nil
		}
		b, err := m.backEnd(as)
		if m.judge("connect", as, "SASL", !m.oracle.out[who.user], err == nil); err == nil {
			all[i] = b
		}
	}
}

// ask sends a request and gives its answer, decoded and as it came.
func (b *backEnd) ask(req kmsg.Request, version int16) (kmsg.Response, []byte, error) {
	b.send(req, version)
	return b.answer(req)
}

func (b *backEnd) send(req kmsg.Request, version int16) {
	b.next++
	req.SetVersion(version)
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("mx")).AppendRequest(nil, req, b.next)
	if _, err := b.nc.Write(frame); err != nil {
		b.m.t.Logf("%T: %v", req, err)
	}
}

func (b *backEnd) answer(req kmsg.Request) (kmsg.Response, []byte, error) {
	if err := b.nc.SetReadDeadline(time.Now().Add(2 * patience)); err != nil {
		return nil, nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(b.nc, size[:]); err != nil {
		return nil, nil, err
	}
	raw := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(b.nc, raw); err != nil {
		return nil, nil, err
	}
	body := raw[4:]
	if req.IsFlexible() {
		body = body[1:]
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	return resp, raw, resp.ReadFrom(body)
}

// must asks on a connection that is there.
func (b *backEnd) must(req kmsg.Request, version int16) (kmsg.Response, []byte) {
	b.m.t.Helper()
	resp, raw, err := b.ask(req, version)
	if err != nil {
		b.m.t.Fatalf("phase %d: %q: %T: %v", b.m.phase, b.who.user, req, err)
	}
	return resp, raw
}

// codes are the error codes in an answer, wherever they are.
func codes(v reflect.Value, into []int16) []int16 {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			into = codes(v.Elem(), into)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				into = codes(v.Index(i), into)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name == "ErrorCode" {
				into = append(into, int16(v.Field(i).Int()))
			} else if v.Type().Field(i).IsExported() {
				into = codes(v.Field(i), into)
			}
		}
	}
	return into
}

// isRefused tells whether an answer says that something may not be done, or hides what is there.
func isRefused(resp kmsg.Response) bool {
	return slices.ContainsFunc(codes(reflect.ValueOf(resp), nil), func(code int16) bool {
		return slices.Contains([]int16{3, 29, 30, 31, 53}, code)
	})
}

var (
	payloads   = regexp.MustCompile(`<\d\.[a-z0-9]+\.\d+>`)
	topicNames = regexp.MustCompile(`\bmx[a-z0-9-]*`)
)

// hides looks for names of topics in an answer that the client may not see and has not asked for itself.
func (b *backEnd) hides(path string, raw []byte, asked string) {
	for _, found := range slices.Compact(slices.Sorted(slices.Values(topicNames.FindAllString(string(raw), -1)))) {
		if found != asked && slices.Contains(roots(b.m.rows), found) {
			b.m.judge(path+" names", b.who, found, b.m.oracle.topic(b.who, "describe", found), true)
		}
	}
}

// fetches judges the messages in an answer: none of a topic that may not be read, and all of those that may, of those
// that were sent so far on the topics.
func (b *backEnd) fetches(path string, raw []byte, topics ...string) {
	got := map[string]bool{}
	for _, payload := range payloads.FindAllString(string(raw), -1) {
		got[payload] = true
	}
	some, all := map[string]bool{}, map[string]bool{}
	for _, topic := range topics {
		all[topic] = true
	}
	b.unveils(path, raw, got, topics)
	for _, topic := range topics {
		for _, payload := range b.m.sentTo[topic] {
			some[topic] = some[topic] || got[payload]
			all[topic] = all[topic] && got[payload]
		}
		may := b.m.oracle.topic(b.who, "read", topic)
		b.m.judge(path, b.who, topic, may, some[topic] && (all[topic] || !may))
	}
}

// small are the topics of which everything fits into one answer.
func (m *matrix) small() []string {
	return slices.DeleteFunc(roots(m.rows), func(topic string) bool { return topic == mxRoot })
}

// fetchOf is a Fetch of topics from their beginning.
func (m *matrix) fetchOf(from int64, wait int32, topics ...string) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = wait, 1, 50<<20, -1
	for _, name := range topics {
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID = name, m.node.store.Topics().ByName(name).ID
		p := kmsg.NewFetchRequestTopicPartition()
		p.FetchOffset, p.PartitionMaxBytes, p.CurrentLeaderEpoch = from, 20<<20, -1
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	return req
}

// batchWith is a batch of one record.
func batchWith(name, payload string) []byte {
	var b record.Builder
	b.Reset(nil, 1000)
	b.Append(&record.Record{Timestamp: 1000, Key: []byte(name), Value: []byte(payload)})
	return b.Seal(0, 0)
}

// consumers judges what back ends read and write of topics, by all ways.
func (m *matrix) consumers(all []*backEnd, sessions map[string]*kmsg.FetchRequest) {
	var tried []attempt
	for _, b := range all {
		if b == nil {
			continue
		}
		for _, topic := range m.small() {
			for _, version := range []int16{12, 17} { // by name, and by id
				_, raw := b.must(m.fetchOf(0, 0, topic), version)
				b.fetches("Fetch", raw, topic)
			}
		}
		b.session(sessions)
		b.lists()
		for _, topic := range m.small() {
			name := topic + "/kafka"
			if topic == zoneTopic {
				name = zoneLevel + "/a/kafka"
			}
			one := attempt{"Produce", name, m.next("produce"), b.who, m.oracle.topic(b.who, "write", topic)}
			req := kmsg.NewPtrProduceRequest()
			req.Acks, req.TimeoutMillis = 1, 1000
			t := kmsg.NewProduceRequestTopic()
			p := kmsg.NewProduceRequestTopicPartition()
			t.Topic, p.Records = topic, batchWith(name, one.payload)
			t.Partitions = append(t.Partitions, p)
			req.Topics = append(req.Topics, t)
			resp, _ := b.must(req, 9)
			m.judge("Produce answered", b.who, topic, one.may, !isRefused(resp))
			tried = append(tried, one)
		}
	}
	m.stored(tried)
}

// session asks for more in a Fetch session that was opened in the first phase with every topic.
func (b *backEnd) session(sessions map[string]*kmsg.FetchRequest) {
	topics := b.m.small()
	req := sessions[b.who.user]
	if req == nil {
		req = b.m.fetchOf(0, 0, topics...)
		req.SessionEpoch = 0
	}
	resp, raw := b.must(req, 12)
	b.fetches("Fetch session", raw, topics...)
	next := kmsg.NewPtrFetchRequest()
	next.MinBytes, next.MaxBytes = 1, 50<<20
	next.SessionID, next.SessionEpoch = resp.(*kmsg.FetchResponse).SessionID, req.SessionEpoch+1
	sessions[b.who.user] = next
}

// lists asks for everything there is, where only what may be seen may come.
func (b *backEnd) lists() {
	m := b.m
	all := kmsg.NewPtrMetadataRequest()
	all.Topics = nil
	resp, raw := b.must(all, 12)
	b.hides("Metadata", raw, "")
	seen := map[string]bool{}
	for _, t := range resp.(*kmsg.MetadataResponse).Topics {
		seen[*t.Topic] = true
	}
	for _, topic := range roots(m.rows) {
		m.judge("Metadata", b.who, topic, m.oracle.topic(b.who, "describe", topic), seen[topic])
	}
	_, raw = b.must(kmsg.NewPtrDescribeTopicPartitionsRequest(), 0)
	b.hides("DescribeTopicPartitions", raw, "")
	_, raw = b.must(kmsg.NewPtrDescribeLogDirsRequest(), 4)
	if !m.oracle.resource(b.who, "describe", "cluster", "kafka-cluster") {
		b.hides("DescribeLogDirs", raw, "")
	}
	resp, _ = b.must(kmsg.NewPtrListGroupsRequest(), 4)
	cluster := m.oracle.resource(b.who, "describe", "cluster", "kafka-cluster")
	for _, g := range resp.(*kmsg.ListGroupsResponse).Groups {
		may := cluster || m.oracle.resource(b.who, "describe", "group", g.Group)
		m.judge("ListGroups", b.who, g.Group, may, true)
	}
	resp, _ = b.must(kmsg.NewPtrListTransactionsRequest(), 0)
	for _, x := range resp.(*kmsg.ListTransactionsResponse).TransactionStates {
		may := m.oracle.resource(b.who, "describe", "transactional_id", x.TransactionalID)
		m.judge("ListTransactions", b.who, x.TransactionalID, may, true)
	}
}

// waiting is a Fetch that waits for the next message of a topic.
type waiting struct {
	b     *backEnd
	topic string
	may   bool // when it was sent
	req   *kmsg.FetchRequest
}

// wait has everybody wait for what comes to topics whose rules change.
func (m *matrix) wait(all []*backEnd) (waits []waiting) {
	for _, topic := range []string{"mxrev", "mxnew", "mxden", "mxlit", "mxveil"} {
		id := m.node.store.Topics().ByName(topic).Partitions[0]
		offsets, err := m.node.store.Bounds(id)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, b := range all {
			if b == nil {
				continue
			}
			own, err := m.backEnd(b.who)
			if err != nil {
				m.t.Fatal(err)
			}
			w := waiting{own, topic, m.oracle.topic(b.who, "read", topic), m.fetchOf(int64(offsets.High), 600_000, topic)}
			own.send(w.req, 12)
			waits = append(waits, w)
		}
	}
	return waits
}

// come judges what those got who waited.
func (m *matrix) come(waits []waiting) {
	for _, w := range waits {
		_, raw, err := w.b.answer(w.req)
		if m.oracle.out[w.b.who.user] {
			m.judge("waiting Fetch", w.b.who, w.topic+", ended", false, err == nil && payloads.Match(raw))
			continue
		}
		now := m.oracle.topic(w.b.who, "read", w.topic)
		bare := !m.oracle.maskedTopic(w.b.who, w.topic) // what comes first may have no secret, and be no JSON to be masked
		m.judge("waiting Fetch", w.b.who, w.topic, now, payloads.Match(raw) || now && (!w.may || !bare))
		m.judge("waiting Fetch masked", w.b.who, w.topic, bare, bare || secrets.Match(raw))
	}
}

// open is a transaction that has begun.
type open struct {
	id    string
	pid   int64
	epoch int16
	may   bool
}

// transact has everybody begin a transaction on a topic whose rules change.
func (m *matrix) transact(all []*backEnd) map[*backEnd]open {
	begun := map[*backEnd]open{}
	for i, b := range all {
		if b == nil {
			continue
		}
		begun[b] = m.begin(b, fmt.Sprintf("mxt-pre-%d", i), "mxrev")
	}
	return begun
}

// begin begins a transaction on a topic.
func (m *matrix) begin(b *backEnd, id, topic string) open {
	x := open{id: id}
	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.TransactionTimeoutMillis = new(x.id), 60_000
	resp, _ := b.must(init, 4)
	given := resp.(*kmsg.InitProducerIDResponse)
	x.pid, x.epoch = given.ProducerID, given.ProducerEpoch
	m.judge("transaction begun", b.who, x.id,
		m.oracle.resource(b.who, "write", "transactional_id", x.id), given.ErrorCode == 0)
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = x.id, x.pid, x.epoch
	add.Topics = append(add.Topics, kmsg.AddPartitionsToTxnRequestTopic{Topic: topic, Partitions: []int32{0}})
	resp, _ = b.must(add, 3)
	x.may = m.oracle.topic(b.who, "write", topic)
	m.judge("transaction enters", b.who, x.id, x.may, !isRefused(resp))
	return x
}

// produceIn is a Produce of one record in a transaction.
func produceIn(x open, topic, payload string) kmsg.Request {
	var batch record.Builder
	batch.Reset(nil, 1000)
	batch.Append(&record.Record{Timestamp: 1000, Key: []byte(topic + "/txn"), Value: []byte(payload)})
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.TransactionID = -1, 1000, new(x.id)
	t := kmsg.NewProduceRequestTopic()
	p := kmsg.NewProduceRequestTopicPartition()
	t.Topic, p.Records = topic, transactional(batch.Seal(0, 0), x)
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return req
}

// goOn has those write in their transactions who began them under other rules, and ends them.
func (m *matrix) goOn(all []*backEnd, begun map[*backEnd]open) {
	var tried []attempt
	for _, b := range all {
		x, is := begun[b]
		if !is || !x.may { // it has nothing to go on with
			continue
		}
		one := attempt{"transaction", "mxrev/txn", m.next("txn"), b.who, m.oracle.topic(b.who, "write", "mxrev")}
		resp, _ := b.must(produceIn(x, "mxrev", one.payload), 9)
		m.judge("transaction answered", b.who, "mxrev", one.may, !slices.ContainsFunc(codes(reflect.ValueOf(resp), nil),
			func(code int16) bool { return code != 0 }))
		end := kmsg.NewPtrEndTxnRequest()
		end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = x.id, x.pid, x.epoch, true
		b.must(end, 3)
		tried = append(tried, one)
	}
	m.stored(tried)
}

// transactional makes a batch one of a transaction: the producer, its epoch, sequence 0.
func transactional(batch []byte, x open) []byte {
	const attributes, producer, checked = 21, 43, 21
	binary.BigEndian.PutUint16(batch[attributes:], binary.BigEndian.Uint16(batch[attributes:])|1<<4)
	binary.BigEndian.PutUint64(batch[producer:], uint64(x.pid))
	binary.BigEndian.PutUint16(batch[producer+8:], uint16(x.epoch))
	binary.BigEndian.PutUint32(batch[producer+10:], 0)
	binary.BigEndian.PutUint32(batch[checked-4:], crc32.Checksum(batch[checked:], crc32.MakeTable(crc32.Castagnoli)))
	return batch
}

// sharing is the one member of a group that shares topics, with a session that goes on through all phases.
type sharing struct {
	group      string
	req        *kmsg.ShareFetchRequest
	subscribed []string
	secrets    map[string]bool // that were in what it got
}

// shared are the topics that are shared out.
var shared = []string{"mxlit", "mxrev", "mxnew", "mxden", "mxcov", "mxno", "mxlit2", "mxread", "mxwrite", "mxveil"}

// shareOut has a group of one member for each back end share topics, and judges what it gets.
func (m *matrix) shareOut(all []*backEnd, members map[*backEnd]*sharing) {
	for i, b := range all {
		if b != nil && members[b] == nil {
			members[b] = &sharing{group: fmt.Sprintf("mxg-pre-s%d", i), secrets: map[string]bool{}}
			members[b].join(b)
		}
	}
	sent := map[string]string{}
	for _, topic := range shared {
		sent[topic] = m.next("share")
		m.root.publish(secretly(topic+"/share", sent[topic]), 0)
	}
	m.root.drain()
	for _, b := range all {
		if b == nil {
			continue
		}
		of := members[b]
		of.acknowledge(b)
		got := of.take(b, sent)
		for topic, payload := range sent {
			may := m.oracle.topic(b.who, "read", topic)
			m.judge("ShareFetch", b.who, topic, may, got[payload] || may && !slices.Contains(of.subscribed, topic))
			if got[payload] {
				m.judge("ShareFetch masked", b.who, topic, !m.oracle.maskedTopic(b.who, topic), of.secrets[secretOf(payload)])
			}
		}
	}
}

// take fetches until all has come that may. A member that was taken for gone, because a phase took long, joins again.
func (s *sharing) take(b *backEnd, sent map[string]string) map[string]bool {
	got := map[string]bool{}
	for deadline := time.Now().Add(patience); ; {
		resp, raw := b.must(s.req, 1)
		if s.req.ShareSessionEpoch++; resp.(*kmsg.ShareFetchResponse).ErrorCode != 0 {
			raw = s.join(b)
		}
		for _, payload := range payloads.FindAllString(string(raw), -1) {
			got[payload] = true
		}
		for _, secret := range secrets.FindAllString(string(raw), -1) {
			s.secrets[secret] = true
		}
		missing := false
		for topic, payload := range sent {
			missing = missing || !got[payload] && slices.Contains(s.subscribed, topic) &&
				b.m.oracle.topic(b.who, "read", topic)
		}
		if !missing || time.Now().After(deadline) {
			return got
		}
	}
}

// join joins a group with the topics that may be seen, opens a session with all of them, and gives what comes at once.
func (s *sharing) join(b *backEnd) (first []byte) {
	const member = "AAAAAAAAAAAAAAAAAAAAAA"
	m := b.m
	s.subscribed = nil
	for _, topic := range shared {
		if m.oracle.topic(b.who, "describe", topic) {
			s.subscribed = append(s.subscribed, topic)
		}
	}
	beat := kmsg.NewPtrShareGroupHeartbeatRequest()
	beat.GroupID, beat.MemberID, beat.SubscribedTopicNames = s.group, member, s.subscribed
	_, raw := b.must(beat, 1)
	for _, topic := range s.subscribed {
		raw = bytes.ReplaceAll(raw, []byte(topic), nil)
	}
	b.hides("ShareGroupHeartbeat", raw, "")
	s.req = kmsg.NewPtrShareFetchRequest()
	s.req.GroupID, s.req.MemberID = &s.group, new(member)
	s.req.MaxWaitMillis, s.req.MinBytes, s.req.MaxBytes = 100, 1, 1<<20
	s.req.MaxRecords, s.req.BatchSize = 1000, 1000
	for _, name := range shared {
		t := kmsg.NewShareFetchRequestTopic()
		t.TopicID = m.node.store.Topics().ByName(name).ID
		t.Partitions = append(t.Partitions, kmsg.NewShareFetchRequestTopicPartition())
		s.req.Topics = append(s.req.Topics, t)
	}
	_, first = b.must(s.req, 1) // a new group stands at what is news from now on
	s.req.ShareSessionEpoch, s.req.Topics = 1, nil
	return first
}
