package kafka

import (
	"bytes"
	"context"
	"testing"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/kit/vfs"
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
	flipIn(t, fs, "a-group-to-find")

	m.r = openRoom(t, fs, Options{Logger: logtest.New(t, "damaged records cannot be read", "the log is damaged",
		"consumer groups are not served")}, nil)
	defer m.r.close()
	must(t, "find coordinator", findCode(m, groupCoordinator), wire.CoordinatorNotAvailable)
	_, err := tryAsk[*kmsg.OffsetFetchResponse](context.Background(), m.r, 5, kmsg.NewPtrOffsetFetchRequest())
	if err == nil {
		t.Error("an offset was told")
	}
}

// flipIn turns a bit of every place in the log's files that holds some text.
func flipIn(t *testing.T, fs *vfs.Memory, text string) {
	t.Helper()
	names, err := fs.List("log")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range names {
		f, err := fs.Open("log/" + name)
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, size)
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		for at := 0; ; at++ {
			i := bytes.Index(b[at:], []byte(text))
			if i < 0 {
				break
			}
			at += i
			if err := fs.Flip("log/"+name, int64(at)*8); err != nil {
				t.Fatal(err)
			}
			found++
		}
	}
	if found == 0 {
		t.Fatalf("%q is in no file", text)
	}
}
