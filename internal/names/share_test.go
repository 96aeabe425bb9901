package names_test

import (
	"testing"

	"github.com/firthmq/firth/internal/names"
)

func TestSplitShare(t *testing.T) {
	for filter, want := range map[string]struct {
		share, topics string
		ok            bool
	}{
		"$share/g/a/+/#": {"g", "a/+/#", true},
		"$share/g//a":    {"g", "/a", true},
		"$share/g/#":     {"g", "#", true},
		"$share":         {"", "$share", false},
		"$shared/g/a":    {"", "$shared/g/a", false},
		"share/g/a":      {"", "share/g/a", false},
	} {
		share, topics, ok := names.SplitShare(filter)
		if share != want.share || topics != want.topics || ok != want.ok {
			t.Errorf("%s: %q, %q, %v", filter, share, topics, ok)
		}
		if got := names.Topics(filter); got != want.topics {
			t.Errorf("the topics of %s: %s", filter, got)
		}
	}
}
