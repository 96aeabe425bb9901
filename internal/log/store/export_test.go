package store

// ColdReadahead is that of a reader that has just waited for the disk.
func ColdReadahead() *Readahead { return &Readahead{cold: true} }

// SealedFiles counts the full journals that wait to be made segments, or are being made so.
func (s *Store) SealedFiles() int {
	all, _ := s.housekeeper.sealedFiles()
	return all
}
