package store

import "time"

// journalSize is how large the next journal file is made. A log to which little is written takes little of the disk,
// and is opened soon: what is in its journal has to be read for that.
type journalSize struct {
	least, most int64 // bytes
	now         int64
}

const (
	// A file that was filled sooner or later than this was too small or too large: each costs a checkpoint and a roll-up.
	quickFill = 2 * time.Second
	slowFill  = 20 * time.Second
	// checkpointShare is how many times the bytes of a checkpoint a journal has at least.
	checkpointShare = 16
)

// content is what most of a journal is.
type content uint8

const (
	mixed  content = iota
	bulk           // large batches: it is kept in place
	dedupe         // of topics that are compacted: little is left of it
)

// filled learns from a file what is in it and how long it took until the next was begun. What is kept in place has
// the full size, however long that takes, so that there are few files of it. What is compacted has the least, however
// quickly it comes, for it is not compacted before the file is full, and read whole at a start.
func (z *journalSize) filled(took time.Duration, with content) {
	switch {
	case with == bulk:
		z.now = z.most
	case with == dedupe:
		z.now = z.least
	case took < quickFill:
		z.now = min(2*z.now, z.most)
	case took > slowFill:
		z.now = max(z.now/2, z.least)
	}
}

// checkpoint learns how many bytes a checkpoint takes.
func (z *journalSize) checkpoint(bytes int64) {
	z.now = min(max(z.now, checkpointShare*bytes), z.most)
}
