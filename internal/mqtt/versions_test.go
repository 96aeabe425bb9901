package mqtt

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestVersionsAreMerged: a version that lies in the log and as a copy among the retained messages is one, also where
// several are of one millisecond, or say the same.
func TestVersionsAreMerged(t *testing.T) {
	versions := func(texts string) (all []*RetainedMessage) {
		for text := range strings.FieldsSeq(texts) { // payload, then the second in which it was published
			all = append(all, &RetainedMessage{Payload: []byte(text[:1]), RetainedLine: RetainedLine{
				Since: time.Unix(int64(text[1]-'0'), 0)}})
		}
		return all
	}
	for _, c := range []struct{ log, copies, want string }{
		{"", "", ""},
		{"a1 b2", "", "a1 b2"},
		{"", "a1 b2", "a1 b2"},
		{"a1 b2 c3", "c3", "a1 b2 c3"},
		{"a1 b1 c1", "a1 b1 c1", "a1 b1 c1"},
		{"a1 a1 b1 a1", "b1 a1", "a1 a1 b1 a1"},
		{"c2 d3", "a1 b2 d3", "a1 b2 c2 d3"},
		{"a1", "a1 a1", "a1 a1"},
		{"b2 a1", "a1", "a1 b2"}, // of two partitions
	} {
		var got []string
		for _, v := range mergeVersions(versions(c.log), versions(c.copies)) {
			got = append(got, string(v.Payload)+string(rune('0'+v.Since.Unix())))
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%q and copies %q: %q, want %q", c.log, c.copies, got, c.want)
		}
	}
}
