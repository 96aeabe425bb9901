package store

import (
	"context"

	"github.com/firthmq/firth/internal/log/stream"
)

// ColdReadahead is that of a reader that has just waited for the disk.
func ColdReadahead() *Readahead { return &Readahead{cold: true} }

// SealedFiles counts the full journals that wait to be made segments, or are being made so.
func (s *Store) SealedFiles() int {
	all, _ := s.housekeeper.sealedFiles()
	return all
}

// AbortsInMemory counts the aborted transactions of a partition that are kept in memory, and in checkpoints.
func (s *Store) AbortsInMemory(id stream.PartitionID) int {
	return len(s.parts.Load().find(id).Transactions().Aborts)
}

// TakeCheckpoint has the housekeeper take a checkpoint now.
func (s *Store) TakeCheckpoint() error {
	return s.housekeeper.inTurn(context.Background(), s.housekeeper.takeCheckpoint)
}
