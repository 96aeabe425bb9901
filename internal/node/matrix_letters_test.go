package node

import (
	"bytes"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kafka"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Dead letters in the access matrix: copies of records in a topic that others may read than those who may read what
// they were copied from.

const (
	letterTopic = "dlq.letters"
	letterGroup = "mxg-letters"
)

// letterSources are topics whose records become dead letters.
var letterSources = []string{"mxlit", "mxveil", "mxveiln", "mxhole"}

// sorter is who rejects records.
type sorter struct {
	b       *backEnd
	req     *kmsg.ShareFetchRequest
	letters int // that there are
}

// newSorter joins the group that has a topic for dead letters, which get what is in their records.
func (m *matrix) newSorter() *sorter {
	m.t.Helper()
	b, err := m.backEnd(&person{user: "root"})
	if err != nil {
		m.t.Fatal(err)
	}
	set := func(kind kmsg.ConfigResourceType, name string, pairs ...string) {
		req := alterConfigsOf(kind, name, pairs[0], pairs[1]).(*kmsg.IncrementalAlterConfigsRequest)
		req.ValidateOnly = false
		for i := 2; i < len(pairs); i += 2 {
			req.Resources[0].Configs = append(req.Resources[0].Configs,
				kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: pairs[i], Value: &pairs[i+1]})
		}
		if resp, _ := b.must(req, 1); resp.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode != 0 {
			m.t.Fatalf("%s: %s", name, *resp.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorMessage)
		}
	}
	set(kmsg.ConfigResourceTypeTopic, letterTopic, "errors.deadletterqueue.group.enable", "true")
	set(kmsg.ConfigResourceTypeGroupConfig, letterGroup, "errors.deadletterqueue.topic.name", letterTopic,
		"errors.deadletterqueue.copy.record.enable", "true", "share.auto.offset.reset", "latest")
	s := &sorter{b: b}
	s.join()
	return s
}

// join joins the group and opens a session with all sources.
func (s *sorter) join() {
	const member = "BBBBBBBBBBBBBBBBBBBBBB"
	m, b := s.b.m, s.b
	beat := kmsg.NewPtrShareGroupHeartbeatRequest()
	beat.GroupID, beat.MemberID, beat.SubscribedTopicNames = letterGroup, member, letterSources
	b.must(beat, 1)
	s.req = kmsg.NewPtrShareFetchRequest()
	s.req.GroupID, s.req.MemberID = new(letterGroup), new(member)
	s.req.MaxWaitMillis, s.req.MinBytes, s.req.MaxBytes, s.req.MaxRecords, s.req.BatchSize = 100, 1, 1<<20, 1000, 1000
	for _, name := range letterSources {
		t := kmsg.NewShareFetchRequestTopic()
		t.TopicID = m.topicID(name)
		t.Partitions = append(t.Partitions, kmsg.NewShareFetchRequestTopicPartition())
		s.req.Topics = append(s.req.Topics, t)
	}
	b.must(s.req, 1)
	s.req.ShareSessionEpoch, s.req.Topics = 1, nil
}

// reject fetches until there is a record of each source, and rejects all.
func (s *sorter) reject(want map[string]string) {
	m, left := s.b.m, map[string]bool{}
	for id := range want {
		left[id] = true
	}
	for deadline := time.Now().Add(patience); len(left) > 0 && time.Now().Before(deadline); {
		resp, raw := s.b.must(s.req, 1)
		if s.req.ShareSessionEpoch++; resp.(*kmsg.ShareFetchResponse).ErrorCode != 0 {
			s.join() // it was taken for gone, because a phase took long
			continue
		}
		for _, id := range payloads.FindAllString(string(raw), -1) {
			delete(left, id)
		}
		req := kmsg.NewPtrShareAcknowledgeRequest()
		req.GroupID, req.MemberID, req.ShareSessionEpoch = s.req.GroupID, s.req.MemberID, s.req.ShareSessionEpoch
		for _, t := range resp.(*kmsg.ShareFetchResponse).Topics {
			of := kmsg.NewShareAcknowledgeRequestTopic()
			of.TopicID = t.TopicID
			for _, p := range t.Partitions {
				part := kmsg.NewShareAcknowledgeRequestTopicPartition()
				part.Partition = p.Partition
				for _, run := range p.AcquiredRecords {
					part.AcknowledgementBatches = append(part.AcknowledgementBatches,
						kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch{FirstOffset: run.FirstOffset,
							LastOffset: run.LastOffset, AcknowledgeTypes: []int8{3}})
					s.letters += int(run.LastOffset - run.FirstOffset + 1)
				}
				of.Partitions = append(of.Partitions, part)
			}
			req.Topics = append(req.Topics, of)
		}
		if len(req.Topics) > 0 {
			s.b.must(req, 1)
			s.req.ShareSessionEpoch++
		}
	}
	if len(left) > 0 {
		m.t.Fatalf("phase %d: the sorter was given no %v", m.phase, left)
	}
}

// letters has records rejected, and judges who sees that there are letters, and what was in their records: somebody may
// always see one masked, for nobody knows what the service says of its users before they come.
func (m *matrix) letters(s *sorter, backEnds []*backEnd, devices []*visitor) {
	sent := map[string]string{}
	for _, topic := range letterSources {
		id := m.next("letter")
		sent[id] = topic
		m.root.publish(secretly(topic+"/letter", id), 0)
	}
	m.root.drain()
	before := m.end(letterTopic)
	s.reject(sent)
	for deadline := time.Now().Add(patience); m.end(letterTopic) < before+record.Offset(len(sent)); {
		if time.Now().After(deadline) {
			m.t.Fatalf("phase %d: there are %d letters of %d", m.phase, m.end(letterTopic)-before, len(sent))
		}
	}
	for _, b := range backEnds {
		if b == nil {
			continue
		}
		_, raw := b.must(m.fetchOf(int64(before), 0, letterTopic), 12)
		m.judge("letters", b.who, "that there are some", m.oracle.topic(b.who, "read", letterTopic),
			bytes.Contains(raw, []byte(kafka.LetterTopic)))
		for id, topic := range sent {
			m.judge("letters", b.who, "of "+topic, false, bytes.Contains(raw, []byte(id)) ||
				bytes.Contains(raw, []byte(secretOf(id))))
		}
	}
	for _, d := range devices {
		if d == nil {
			continue
		}
		d.subscribe(packet.Properties{}, 1, letterTopic+"/#")
		for id, topic := range sent {
			m.after("letters", d.who, "of "+topic, func() bool { return d.has(id) })
		}
	}
}

// end is the offset behind the last record of a topic.
func (m *matrix) end(topic string) record.Offset {
	bounds, err := m.node.store.Bounds(m.node.store.Topics().ByName(topic).Partitions[0])
	if err != nil {
		m.t.Fatal(err)
	}
	return bounds.High
}
