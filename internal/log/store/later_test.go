package store_test

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/telemetry"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
)

// TestStuckJournalHoldsNoOthersUp has one journal that the disk cannot read: those behind it become segments all the
// same, it is told once, and when it can be read again it becomes one, too.
func TestStuckJournalHoldsNoOthersUp(t *testing.T) {
	disk, m := vfs.NewMemory(), newModel()
	faulty := vfs.NewFaulty(disk)
	seen, told, set := watchOps(faulty), &lines{}, telemetry.New()
	opt := small(faulty)
	opt.CacheBytes, opt.RetentionInterval, opt.SealedFiles, opt.Metrics = 1, 5*time.Millisecond, 3, set
	opt.Logger = slog.New(slog.NewTextHandler(told, nil))
	s := open(t, opt)
	l := &load{t: t, s: s, m: m, round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	// The first journal was made under the name spare.0.
	faulty.Inject(vfs.Fault{On: vfs.OpRead, Name: "log/spare.0", Times: -1, Kind: fault.IO})
	l.fillSmall(800, p)
	eventually(t, "journals behind it are segments", func() bool { return files(t, disk, ".segment") >= 8 })
	eventually(t, "it was tried again", func() bool { return seen.count(vfs.OpRead, "log/spare.0") >= 3 })
	w := httptest.NewRecorder()
	set.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if !strings.Contains(w.Body.String(), "firth_log_stuck_files 1\n") {
		t.Errorf("not one file is said to be stuck:\n%s", w.Body)
	}
	text := told.String()
	if n := strings.Count(text, "a full journal stays as it is"); n != 1 || strings.Count(text, "level=ERROR") != 1 {
		t.Errorf("it was told %d times:\n%s", n, text)
	}
	clean(t, disk.CrashClone(nil), m.clone())
	faulty.Heal()
	eventually(t, "it is a segment, too", func() bool { return strings.Contains(told.String(), "waits no longer") })
	verify(t, s, m)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	clean(t, disk, m)
}

// TestUnreadableSegmentHoldsNoMergesUp has the first segment fail whenever it is read: others are merged.
func TestUnreadableSegmentHoldsNoMergesUp(t *testing.T) {
	disk, m := vfs.NewMemory(), newModel()
	faulty := vfs.NewFaulty(disk)
	opt := with(t, merging(faulty), "merging files failed")
	opt.RetentionInterval = time.Second
	s := open(t, opt)
	l := &load{t: t, s: s, m: m, round: 1}
	p := l.create("t", 1, nil).Partitions[0]
	l.fillSmall(80, p)
	eventually(t, "there is a segment", func() bool { return files(t, disk, "0000000000000001.segment") == 1 })
	faulty.Inject(vfs.Fault{On: vfs.OpRead, Name: "0000000000000001.segment", Times: -1, Kind: fault.IO})
	l.fillSmall(2<<10, p)
	eventually(t, "the others are merged", func() bool { return files(t, disk, ".segment") <= 12 })
	if files(t, disk, "0000000000000001.segment") != 1 {
		t.Error("the first segment was merged")
	}
	faulty.Heal()
	verify(t, s, m)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	clean(t, disk, m)
}

// TestUnreadablePartitionHoldsNoCompactionUp has the first segment, with records of one compacted topic, fail whenever
// it is read: the other topic is compacted.
func TestUnreadablePartitionHoldsNoCompactionUp(t *testing.T) {
	disk := vfs.NewMemory()
	faulty := vfs.NewFaulty(disk)
	s := open(t, with(t, compacting(faulty), ofFailure...))
	defer s.Close()
	rng := rand.New(rand.NewPCG(3, 4))
	one := createCompacted(t, s, 2).Partitions
	bad, good, ofBad, ofGood := one[0], one[1], newKeyed(), newKeyed()
	faulty.OnOp(func(op vfs.Op) {
		if op.Kind == vfs.OpRename && strings.HasSuffix(op.Name, "0000000000000001.segment.tmp") {
			faulty.Inject(vfs.Fault{On: vfs.OpRead, Name: "0000000000000001.segment", Times: -1, Kind: fault.IO})
		}
	})
	for files(t, disk, "0000000000000001.segment") == 0 {
		ofBad.write(s, bad, rng, 10, 60)
	}
	for range 60 {
		ofGood.write(s, good, rng, 10, 1000) // few of a key in a journal: a roll-up alone leaves three of four
	}
	// About 850 values stay; what the dirty ratio leaves for later and the open journal hold up to 1,000 more, of 6,300.
	eventually(t, "the topic that can be read is compacted", func() bool {
		left, err := keyedLeft(s, good, (*store.Store).Read)
		return err == nil && len(left) < len(ofGood.acked)/2
	})
	ofGood.verify(t, s, good)
	faulty.OnOp(nil)
	faulty.Heal()
	ofBad.verify(t, s, bad)
}
