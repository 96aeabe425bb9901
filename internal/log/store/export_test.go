package store

// ColdReadahead is that of a reader that has just waited for the disk.
func ColdReadahead() *Readahead { return &Readahead{cold: true} }
