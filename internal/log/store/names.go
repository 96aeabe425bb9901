package store

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/firthmq/firth/internal/log/journal"
)

// Folder is that of journals and segments, below the data directory.
const Folder = "log"

const logDir = Folder

// fileID names a file of the log folder: the number of the newest journal whose records are in it, and how many files
// of that number came before it. A journal has generation 0. Files stand in this order: what a later one says of the
// offsets of a partition goes before what an earlier one does.
type fileID struct {
	number     uint64
	generation uint32
}

func (id fileID) compare(other fileID) int {
	return cmp.Or(cmp.Compare(id.number, other.number), cmp.Compare(id.generation, other.generation))
}

// byID orders files.
func byID(a, b *file) int { return a.compare(b.fileID) }

const segmentSuffix = ".segment"

// segmentName is the path of a segment: log/<number>.segment, or log/<number>.<generation>.segment.
func segmentName(id fileID) string {
	if id.generation == 0 {
		return fmt.Sprintf("%s/%016x%s", logDir, id.number, segmentSuffix)
	}
	return fmt.Sprintf("%s/%016x.%08x%s", logDir, id.number, id.generation, segmentSuffix)
}

// parseSegmentName reads the name of a segment in the log folder.
func parseSegmentName(name string) (id fileID, ok bool) {
	digits, found := strings.CutSuffix(name, segmentSuffix)
	digits, last, more := strings.Cut(digits, ".")
	if !found || len(digits) != 16 || more && len(last) != 8 {
		return fileID{}, false
	}
	number, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		return fileID{}, false
	}
	id.number = number
	if more {
		generation, err := strconv.ParseUint(last, 16, 32)
		if err != nil || generation == 0 {
			return fileID{}, false
		}
		id.generation = uint32(generation)
	}
	return id, true
}

func journalName(number uint64) string { return logDir + "/" + journal.Name(number) }

func spareName(n uint64) string { return fmt.Sprintf("spare.%d", n) }
