package store

import (
	"cmp"
	"slices"

	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
)

// What a journal leaves that broke: its sync failed, and it must never be synced again. It ends where it was last
// synced. Behind that lie frames of groups that were refused, and frames of memory topics that were acknowledged: the
// latter are lost, and batches without records take their offsets in the next file, so that there is no hole.

// after is the header of the journal that follows. One that broke before anything in it was synced is replaced by a
// file of its own number: nobody can tell after a crash that it was ever there, and the file behind it always has a
// header on stable storage, which tells where the one before that ended.
func (w *writer) after() journal.Header {
	if w.broken && w.Synced() <= journal.HeaderBytes {
		return w.Header()
	}
	return journal.Header{Number: w.Number() + 1, Previous: w.Number(), PrevEnd: w.Synced()}
}

// loosen notes what is acknowledged before it is synced.
func (w *writer) loosen(g *group) {
	for i := range g.slots[:g.used] {
		s := &g.slots[i]
		if len(s.batches) == 0 {
			continue
		}
		if _, ok := w.loose[s.p]; ok {
			continue
		}
		if w.loose == nil {
			w.loose = make(map[*partition.Partition]record.Offset)
		}
		w.loose[s.p] = s.batches[0].bytes.BaseOffset()
	}
}

// filler is a batch that takes the offsets of records that were lost.
type filler struct {
	p     *partition.Partition
	batch record.Batch
	file  *file // where it is; nil: it could not be written, and the next file gets another
	at    segment.Extent
}

// fillers are batches for the offsets that a broken file lost.
func (w *writer) fillers(epoch int32, unixMillis int64) []filler {
	if !w.broken {
		return nil
	}
	fs := make([]filler, 0, len(w.loose))
	for p, from := range w.loose {
		fs = append(fs, filler{p: p, batch: record.NewFiller(from, p.Next-1, epoch, unixMillis)})
	}
	slices.SortFunc(fs, func(a, b filler) int { return cmp.Compare(a.p.ID, b.p.ID) })
	return fs
}

// frameOf lays fillers out.
func frameOf(fs []filler) *journal.Frame {
	f := new(journal.Frame)
	for i := range fs {
		f.AddBatch(uint32(fs[i].p.ID), fs[i].batch)
	}
	return f
}

// fill writes fillers as the first frame of a new file. As long as that is not synced, it may lose them as well.
func (w *writer) fill(fs []filler, frame *journal.Frame) error {
	if len(fs) == 0 {
		return nil
	}
	if err := w.Write(frame); err != nil {
		w.broken = true
		return err
	}
	for i := range fs {
		fs[i].file, fs[i].at = w.file, segment.Of(fs[i].batch, frame.Entries[i].Pos)
	}
	return nil
}

// endFile takes a journal out of use: what it lost goes out of sight, and fillers take its place. Only the announcer
// calls it, behind all groups of the file.
func (s *Store) endFile(f *file, fs []filler) {
	if f.broken {
		s.announced.broke(place{File: f.number, Pos: f.end})
	}
	lost := int64(0)
	for i := range fs {
		fl := &fs[i]
		fl.p.CutOff(f, f.end)
		lost += int64(fl.batch.LastOffset() - fl.batch.BaseOffset() + 1)
		if fl.file != nil {
			fl.p.Commit(fl.batch, fl.file, fl.at)
			s.cache.add(fl.p, len(fl.batch))
		}
	}
	if lost > 0 {
		s.opt.Logger.Error("records of memory topics are lost: the disk failed before they were on it",
			"records", lost, "partitions", len(fs), "hint", "durability disk keeps what is acknowledged")
	}
	s.housekeeper.seal(f)
}
