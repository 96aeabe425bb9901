package store

import (
	"errors"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/journal"
	"github.com/firthmq/firth/internal/log/partition"
	"github.com/firthmq/firth/internal/log/stream"
)

// adopt makes what was found the state of the store, and begins a new journal file: what the last one may
// hold behind its end is void from now on.
func (s *Store) adopt(r *recovery) error {
	if err := s.upgrade(); err != nil {
		return err
	}
	for _, f := range r.unsynced {
		if err := f.journal.Sync(); err != nil { // what is served must not go with the next power cut
			return err
		}
	}
	s.epoch = r.epoch + 1
	s.registry = r.registry
	s.mu.nextPID, s.mu.maxPID = r.maxPID, r.maxPID
	s.adoptPartitions(r)
	for _, p := range *s.parts.Load() {
		if p != nil {
			s.mu.producers.adopt(p, p.Transactions().Opened, r.opened)
		}
	}
	// A file may be one too many because of another whose name nobody has synced: a process that was killed had just
	// given it.
	if err := s.fs.SyncDir(logDir); err != nil {
		return err
	}
	if err := s.removeExtras(r.plan.extras); err != nil {
		return err
	}
	s.housekeeper.adopt(r)
	h := journal.Header{Number: r.plan.next}
	for _, f := range r.files {
		if f.journal != nil {
			h.Previous, h.PrevEnd = f.number, f.end
		}
	}
	return s.begin(h, r.nextSeq)
}

// removeExtras removes files that are one too many. A crash may have ended a Shred that was about to remove them.
func (s *Store) removeExtras(names []string) (err error) {
	if s.sealing != nil {
		_, err = atrest.Remove(s.raw, logDir, names, false)
		return err
	}
	_, err = s.remove(names, false)
	return err
}

// adopt takes over the files. Where something is damaged they stay as they are.
func (k *housekeeper) adopt(r *recovery) {
	k.checkpoint, k.files, k.newest = r.number, make(map[fileID]*file), r.plan.newest
	for _, f := range r.files {
		if f.journal != nil {
			k.mu.sealed = append(k.mu.sealed, f)
			k.mu.waiting++
		} else {
			k.files[f.fileID] = f
		}
	}
	if r.damaged {
		k.frozen = r.plan.next - 1
	}
}

// adoptPartitions gives the table the partitions that belong to topics, and to the topics topic. Others are
// what deleted topics left; while something is damaged they are kept, for their topic may be what is lost.
func (s *Store) adoptPartitions(r *recovery) {
	parts := make(table, max(int(r.registry.nextID), 1))
	for id, p := range r.parts {
		parts[id] = p
	}
	if parts[topicsPartition] == nil {
		parts[topicsPartition] = partition.New(topicsPartition, stream.Settings{})
	}
	s.parts.Store(&parts)
	s.install()
	parts[topicsPartition].SetSettings(s.Topics().ByName(TopicsTopic).Settings)
}

// begin starts the journal file of this life of the log, and takes a checkpoint.
func (s *Store) begin(h journal.Header, seq uint64) error {
	sp, err := s.newSpare(0, s.opt.FirstJournalBytes, false)
	if fault.Is(err, fault.Full) { // a full log has to open: to be read, and to be made smaller
		sp, err = s.newSpare(0, leastJournal, true)
	}
	if err != nil {
		return err
	}
	w, err := s.startJournal(sp, h, seq)
	if err != nil {
		return errors.Join(err, sp.handle.Close())
	}
	s.writer = w
	if err = w.Sync(); err == nil {
		s.announced.set(place{File: w.Number(), Pos: w.End()})
		cp := s.snapshot()
		err = s.housekeeper.save(&cp)
	}
	if err != nil {
		return errors.Join(err, sp.handle.Close())
	}
	return nil
}
