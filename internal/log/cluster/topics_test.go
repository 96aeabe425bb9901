package cluster

import (
	"testing"

	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

func bare() *Cluster {
	c := &Cluster{refollow: make(chan struct{}, 1)}
	c.topics.Store(stream.NewTopics(nil))
	c.parts.Store(new(table))
	return c
}

func topic(name string, id byte, leaders ...int32) *found {
	inForce := map[string]string{"max.message.bytes": "7000"}
	return &found{name: name, id: record.UUID{id}, leaders: leaders, config: map[string]string{}, inForce: inForce}
}

// TestSnapshotOutlivesBrokersThatAreBehind takes in answers of brokers that know more and less than the last.
func TestSnapshotOutlivesBrokersThatAreBehind(t *testing.T) {
	c := bare()
	c.take([]*found{topic("a", 1, 1, 2), topic("b", 2, 1)})
	a, b := c.Topics().ByName("a"), c.Topics().ByName("b")
	if len(a.Partitions) != 2 || len(b.Partitions) != 1 || a.Settings.MaxMessageBytes != 7000 {
		t.Fatalf("%+v %+v", a, b)
	}
	c.take([]*found{topic("a", 1, 3, -1), topic("b", 2, 1)})
	if c.Topics().ByName("a") != a {
		t.Error("a topic changed because its leaders did")
	}
	if p := c.parts.Load().find(a.Partitions[0]); p.leader.Load() != 3 || p.limit.Load() != 7000 {
		t.Errorf("led by %d, takes %d", p.leader.Load(), p.limit.Load())
	}
	c.take([]*found{topic("a", 1, 1, 2, 3), topic("b", 2, 1)})
	grown := c.Topics().ByName("a")
	if len(grown.Partitions) != 3 || grown.Partitions[0] != a.Partitions[0] {
		t.Errorf("grown to %+v", grown)
	}
	c.take([]*found{topic("a", 1, 1, 2)}) // it has not heard of the third partition, and not of b
	if now := c.Topics().ByName("a"); len(now.Partitions) != 3 || c.Topics().ByName("b") != b {
		t.Errorf("a broker that is behind took %+v and %+v", now, c.Topics().ByName("b"))
	}
	c.take([]*found{topic("a", 1, 1, 2, 3), topic("b", 2, 1)})
	for range 5 {
		c.take([]*found{topic("a", 1, 1, 2, 3), {name: "b", vague: true}})
	}
	if c.Topics().ByName("b") != b {
		t.Error("a topic went because a broker could say nothing of it")
	}
	c.take([]*found{topic("a", 1, 1, 2, 3)})
	c.take([]*found{topic("a", 1, 1, 2, 3)})
	if c.Topics().ByName("b") != nil || c.parts.Load().find(b.Partitions[0]) != nil {
		t.Error("a topic that is gone is there")
	}
	c.take([]*found{topic("a", 9, 1)}) // another of the same name
	again := c.Topics().ByName("a")
	if again.ID == a.ID || again.Partitions[0] == a.Partitions[0] || c.parts.Load().find(grown.Partitions[2]) != nil {
		t.Errorf("again: %+v", again)
	}
	c.registry.dead = map[record.UUID]struct{}{{9}: {}}
	c.install(map[string]*stream.Topic{"a": nil})
	c.take([]*found{topic("a", 9, 1)})
	if c.Topics().ByName("a") != nil {
		t.Error("a topic that was deleted here came back")
	}
}

func TestSettingsThatAreNotOurs(t *testing.T) {
	f := &found{inForce: map[string]string{
		"retention.ms": "5", "remote.storage.enable": "true", "segment.bytes": "1", "cleanup.policy": "compact, delete",
	}}
	s := f.settings()
	if s.RetentionMs != 5 || s.SegmentBytes != 1<<30 || !s.Compact || !s.Delete {
		t.Errorf("%+v", s)
	}
}
