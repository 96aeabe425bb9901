package stream

import (
	"testing"

	"github.com/firthmq/firth/internal/kit/fault"
)

func TestDefaultsAreValid(t *testing.T) {
	s, err := DecodeSettings(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{
		RetentionMs: 7 * 24 * 3600 * 1000, RetentionBytes: -1, SegmentBytes: 1 << 30, MaxMessageBytes: 16 << 20,
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
		{"firth.durability", "memory", true}, {"firth.durability", "", false},
		{"message.timestamp.type", "LogAppendTime", true}, {"min.cleanable.dirty.ratio", "1.1", false},
		{"min.cleanable.dirty.ratio", "0.9", true}, {"preallocate", "yes", false}, {"no.such", "1", false},
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
