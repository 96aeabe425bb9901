package stream

import (
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

func TestDefaultsAreValid(t *testing.T) {
	s, err := DecodeSettings(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		RetentionMs: 7 * 24 * 3600 * 1000, RetentionBytes: -1, FloorMs: -1,
		SegmentBytes: 1 << 30, MaxMessageBytes: 16 << 20,
		Delete: true, DeleteRetentionMs: 24 * 3600 * 1000, MaxCompactionLagMs: 1<<63 - 1, MinDirtyRatio: 0.5,
		SegmentMs: 7 * 24 * 3600 * 1000, TimestampAfterMaxMs: 3600 * 1000, TimestampBeforeMaxMs: 1<<63 - 1,
	}
	if s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
}

func TestSettings(t *testing.T) {
	for _, c := range []struct {
		name, value string
		ok          bool
	}{
		{"retention.ms", "-1", true}, {"retention.ms", "-2", false}, {"retention.ms", "1h", false},
		{"retention.bytes", "0", true}, {"segment.bytes", "16384", true}, {"segment.bytes", "1", false},
		{"max.message.bytes", "1048588", true}, {"max.message.bytes", "-1", false},
		{"cleanup.policy", "compact", true}, {"cleanup.policy", "compact,delete", true}, {"cleanup.policy", "keep", false},
		{"cleanup.policy", "delete, compact", true}, {"cleanup.policy", "", false}, {"cleanup.policy", "compact,", false},
		{"firth.subject", "key", true}, {"firth.subject", "header:who", true}, {"firth.subject", "", true},
		{"firth.subject", "header:", false}, {"firth.subject", "value", false},
		{"firth.durability", "memory", true}, {"firth.durability", "", false},
		{"message.timestamp.type", "LogAppendTime", true}, {"min.cleanable.dirty.ratio", "1.1", false},
		{"min.cleanable.dirty.ratio", "0.9", true}, {"preallocate", "yes", false}, {"no.such", "1", false},
		{"compression.type", "lz4", true}, {"compression.type", "none", false}, {"compression.gzip.level", "0", false},
		{"compression.gzip.level", "9", true}, {"remote.storage.enable", "true", false},
		{"leader.replication.throttled.replicas", "*", true}, {"leader.replication.throttled.replicas", "0:1, 1:2", true},
		{"leader.replication.throttled.replicas", "0-1", false}, {"message.format.version", "2.8", false},
	} {
		_, err := DecodeSettings(nil, map[string]string{c.name: c.value})
		if (err == nil) != c.ok || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%s=%s: %v", c.name, c.value, err)
		}
	}
	s, err := DecodeSettings(map[string]string{"retention.ms": "5", "firth.durability": "memory"},
		map[string]string{"retention.ms": "6"})
	if err != nil || s.RetentionMs != 6 || !s.Memory {
		t.Errorf("overlaid: %+v %v", s, err)
	}
	s, err = DecodeSettings(nil, map[string]string{
		"cleanup.policy": "compact", "delete.retention.ms": "1", "max.compaction.lag.ms": "2", "min.compaction.lag.ms": "3",
		"min.cleanable.dirty.ratio": "0.25", "segment.ms": "4",
	})
	if err != nil || s.Delete || !s.Compact || s.DeleteRetentionMs != 1 || s.MaxCompactionLagMs != 2 ||
		s.MinCompactionLagMs != 3 || s.MinDirtyRatio != 0.25 || s.SegmentMs != 4 {
		t.Errorf("compacted: %+v %v", s, err)
	}
}

// Every setting that a topic of Kafka 4.4 has is there, obeyed or with the reason why it has no effect.
func TestSettingsAreKafkas(t *testing.T) {
	want := []string{
		"cleanup.policy", "compression.gzip.level", "compression.lz4.level", "compression.type", "compression.zstd.level",
		"delete.retention.ms", "errors.deadletterqueue.group.enable", "file.delete.delay.ms", "flush.messages", "flush.ms",
		"follower.replication.throttled.replicas", "index.interval.bytes", "leader.replication.throttled.replicas",
		"local.retention.bytes", "local.retention.ms", "max.compaction.lag.ms", "max.message.bytes",
		"message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type",
		"min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "preallocate",
		"remote.log.copy.disable", "remote.log.delete.on.disable", "remote.storage.enable", "retention.bytes",
		"retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms",
		"unclean.leader.election.enable",
	}
	var got []string
	for _, def := range TopicSettings() {
		if !strings.HasPrefix(def.Name, "firth.") {
			got = append(got, def.Name)
		}
		if def.apply == nil && !strings.Contains(def.Doc, ":") {
			t.Errorf("%s has no effect, and no reason: %q", def.Name, def.Doc)
		}
		if err := def.check(def.Default); err != nil {
			t.Errorf("%s: its default: %v", def.Name, err)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestTopicNames(t *testing.T) {
	long := make([]byte, MaxTopicName)
	for i := range long {
		long[i] = 'a'
	}
	for name, ok := range map[string]bool{
		"a": true, "a.b_c-D9": true, "...": true, string(long): true,
		"": false, ".": false, "..": false, string(long) + "a": false, "a/b": false, "a b": false, "é": false, "a\x00": false,
	} {
		if err := CheckTopicName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
