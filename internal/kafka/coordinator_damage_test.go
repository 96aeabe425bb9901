package kafka

import (
	"context"
	"testing"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/kit/vfs/vfstest"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A damaged record of __consumer_offsets takes the groups out of service, and nothing else: the door opens,
// nobody is told a wrong offset, and clients are told to come again.
func TestDamagedOffsetsTakeOnlyTheGroupsAway(t *testing.T) {
	fs := vfs.NewMemory()
	r := openRoom(t, fs, Options{}, nil)
	r.topic("t", 1)
	m := &member{r: r, group: "a-group-to-find", level: 9, generation: -1}
	must(t, "commit", m.commit(5, "m"), wire.None)
	r.close()
	vfstest.Flip(t, fs, "log", []byte("a-group-to-find"), 0)

	m.r = openRoom(t, fs, Options{Logger: logtest.New(t, "damaged records cannot be read", "the log is damaged",
		"consumer groups are not served")}, nil)
	defer m.r.close()
	must(t, "find coordinator", findCode(m, groupCoordinator), wire.CoordinatorNotAvailable)
	_, err := tryAsk[*kmsg.OffsetFetchResponse](context.Background(), m.r, 5, kmsg.NewPtrOffsetFetchRequest())
	if err == nil {
		t.Error("an offset was told")
	}
}
