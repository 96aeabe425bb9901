package store

import (
	"context"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
)

// What a log moves on by when it is restored. The log that the image is of went on after it, and its clients saw
// offsets, leader epochs and producer ids that are not in it: none of them may be given again.
const (
	// RestoreGap is how many offsets of each partition, and how many producer ids, are passed over: more than twelve days
	// at a million a second.
	RestoreGap = 1 << 40
	// restoreEpochs is by how much the leader epoch rises: how often the log was opened since then at most.
	restoreEpochs = 1 << 20
)

// Restoring is what is known of the log that is restored.
type Restoring struct {
	Cluster string // that of the image
	Format  int
	Keys    *atrest.Ring // nil: nothing is encrypted
	Now     time.Time
	Gap     int64 // offsets and producer ids to pass over; 0: RestoreGap
}

// Restored is what a restored log goes on with.
type Restored struct {
	Partitions int
	Epoch      int32     // the largest leader epoch that is not given to anything that is written
	Findings   []Finding // what is damaged
}

// Restore makes a folder with the files of an image a log, which goes on behind everything that clients of the one that
// the image is of may have seen: each partition takes a hole of Gap offsets, in a segment of its own, under a leader
// epoch far above. The file FIRTH comes last: without it nobody takes the folder for a log, and after a crash all of it
// is to be done again. Errors: Denied (a key is missing), Corrupt (no checkpoint is good), Full, IO, Timeout.
func Restore(ctx context.Context, fs vfs.FS, of Restoring) (Restored, error) {
	if of.Gap == 0 {
		of.Gap = RestoreGap
	}
	id := identity{Format: of.Format, Cluster: of.Cluster}
	if err := id.needs(of.Keys); err != nil {
		return Restored{}, err
	}
	o, err := openStill(ctx, fs, id, of.Keys)
	if err != nil {
		return Restored{}, err
	}
	defer o.recovery.close()
	r := o.recovery
	if r.cp.Place.File == 0 {
		return Restored{}, fault.New(fault.Corrupt, "store.Restore", "the image has no good checkpoint").
			WithHint("restore another backup")
	}
	done := Restored{Epoch: r.epoch + restoreEpochs, Findings: r.findings}
	if err := o.moveOn(of, &done); err != nil {
		return done, err
	}
	id.Restored = done.Epoch
	return done, id.write(fs)
}

// moveOn writes a segment with the hole of each partition, and the checkpoint that has it.
func (o *Offline) moveOn(of Restoring, done *Restored) error {
	s, r := o.store, o.recovery
	s.epoch, s.mu.maxPID = done.Epoch, r.maxPID+of.Gap
	at := fileID{number: r.plan.next}
	s.announced.set(place{File: at.number, Pos: journal.HeaderBytes})
	cp := s.snapshot()
	cp.Taken = of.Now.UnixMilli()
	w, err := segment.Create(s.fs, segmentName(at))
	if err != nil {
		return err
	}
	for i := range cp.Partitions {
		if err := cp.Partitions[i].moveOn(w, of, done.Epoch); err != nil {
			w.Abort()
			return err
		}
	}
	seg, err := w.Finish()
	if err == nil {
		err = seg.Close()
	}
	if err != nil {
		return err
	}
	done.Partitions = len(cp.Partitions)
	return saveCheckpoint(s.fs, cp.encode(), r.number+1)
}

// moveOn has the partition go on behind a hole, of which the last offset is a batch without records: so a reader is
// told where to go on, as in what was compacted.
func (p *partitionState) moveOn(w *segment.Writer, of Restoring, epoch int32) error {
	base := p.High
	last := base + record.Offset(of.Gap) - 1
	p.High = last + 1
	p.Epochs = append(p.Epochs, partition.Epoch{Epoch: epoch, Start: base})
	if err := w.Compact(p.ID, segment.Compacted{Base: base, Gaps: p.High, Clean: base}); err != nil {
		return err
	}
	return w.Append(p.ID, record.NewFiller(last, last, epoch, of.Now.UnixMilli()), nil)
}
