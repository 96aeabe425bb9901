package store_test

import (
	"context"
	"testing"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/log/stream"
)

// TestStateIsOnTheDisk: a topic of the node's own state is as durable as a promise needs it, also where topics are in
// memory by default, and also if an earlier release made it so.
func TestStateIsOnTheDisk(t *testing.T) {
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{FS: vfs.NewMemory(), Logger: logtest.New(t),
		TopicDefaults: map[string]string{"firth.durability": "memory"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := s.CreateTopic(ctx, stream.TopicSpec{Name: "__firth_old", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"__firth_old", "__firth_new", "__firth_new"} {
		topic, err := stream.EnsureState(ctx, s, name)
		if err != nil {
			t.Fatal(err)
		}
		if now := s.Topics().ByName(name); topic != now || now.Settings.Memory {
			t.Errorf("%s is in memory, or not the topic that was given", name)
		}
	}
}
