package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/journal"
)

// Image is the log as it was at a point, in files as they lie on the disk: encrypted ones stay encrypted. They stay
// until Close, whatever is appended, merged or removed meanwhile. docs/design/0020-backup.md has the whole of it.
type Image struct {
	Cluster string
	Format  int       // of the data directory
	Epoch   int32     // leader epoch of what was written last
	Point   time.Time // what was acknowledged before is in it
	Files   []ImageFile
}

// ImageFile is one file of an Image.
type ImageFile struct {
	Name string // below the data directory
	Size int64
	// Print tells files apart: no two of a log that differ have the same.
	Print Print

	file *file  // nil: what is in it is in text
	text []byte // of a checkpoint, which goes when there are two newer ones
}

// Print is a hash over the size, the head and the end of a file. Journals and segments have a number of chance in
// their head, encrypted files their key, and what is in a file behind it never changes: so two of the same Print are
// the same.
type Print [sha256.Size]byte

// printBytes is how much of the head and of the end of a file goes into its Print.
const printBytes = atrest.HeaderBytes

// Image ends the active journal and gives all that is in the files then. Appends go on meanwhile. Errors: Timeout,
// Closed, Full, ReadOnly (the journal cannot be written now), IO.
func (s *Store) Image(ctx context.Context) (*Image, error) {
	im := &Image{Cluster: s.identity.Cluster, Format: s.identity.Format, Epoch: s.epoch}
	err := s.housekeeper.inTurn(ctx, func() error { return im.take(s) })
	if err == nil {
		err = im.print(ctx)
	}
	if err != nil {
		im.Close()
		return nil, err
	}
	return im, nil
}

// take is done in a turn of the housekeeper, who alone removes files. The checkpoint comes first: what it knows of is
// in files that are sealed then.
func (im *Image) take(s *Store) error {
	k := &s.housekeeper
	im.Point = s.opt.Clock()
	if err := k.takeCheckpoint(); err != nil {
		return err
	}
	if err := k.roll(); err != nil {
		return err
	}
	if s.closing() {
		return fault.New(fault.Closed, "store.Image", "the log is closing")
	}
	name := checkpointName(k.checkpoint)
	text, err := vfs.ReadWhole(s.raw, name, math.MaxInt32)
	if err != nil {
		return err
	}
	im.Files = append(im.Files, ImageFile{Name: name, Size: int64(len(text)), text: text})
	for _, f := range k.allSealed() {
		if !f.Acquire() {
			continue // nobody needs it any more
		}
		im.Files = append(im.Files, ImageFile{Name: f.path(), Size: f.end, file: f})
	}
	return nil
}

// print finds out the sizes and the prints.
func (im *Image) print(ctx context.Context) error {
	for i := range im.Files {
		f := &im.Files[i]
		if f.file != nil && f.file.segment != nil {
			size, err := atrest.Bare(f.file.handle()).Size()
			if err != nil {
				return err
			}
			f.Size = size
		}
		h := sha256.New()
		h.Write(f.text)
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(f.Size)))
		head := min(f.Size, printBytes)
		for _, at := range []int64{0, max(head, f.Size-printBytes)} {
			if _, err := io.Copy(h, io.NewSectionReader(f, at, min(printBytes, f.Size-at))); err != nil {
				return err
			}
		}
		h.Sum(f.Print[:0])
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Timeout, "store.Image", err)
		}
	}
	return nil
}

// ReadAt reads the file as it lies on the disk, up to its Size. Errors: IO, Closed.
func (f *ImageFile) ReadAt(b []byte, off int64) (int, error) {
	if off >= f.Size {
		return 0, io.EOF
	}
	whole := len(b)
	b = b[:min(int64(whole), f.Size-off)]
	n := copy(b, f.text[min(off, int64(len(f.text))):])
	if f.file != nil {
		var err error
		if n, err = atrest.Bare(f.file.handle()).ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		if n < len(b) {
			return n, fault.New(fault.Corrupt, "store.Image", "%s ends at byte %d of %d", f.Name, off+int64(n), f.Size)
		}
	}
	if n < whole {
		return n, io.EOF
	}
	return n, nil
}

// Close lets go of the files. It is called once.
func (im *Image) Close() {
	for i := range im.Files {
		if f := im.Files[i].file; f != nil {
			f.Release()
		}
	}
	im.Files = nil
}

// ImageName tells whether an image may have a file of that name: it is a checkpoint, a journal or a segment.
func ImageName(name string) bool {
	if dir, base := path.Split(name); dir == logDir+"/" {
		_, isSegment := parseSegmentName(base)
		_, isJournal := journal.ParseName(base)
		return isSegment || isJournal
	}
	digits, found := strings.CutPrefix(name, checkpointPrefix)
	n, err := strconv.ParseUint(digits, 16, 64)
	return found && err == nil && name == checkpointName(n)
}
