package backup

import (
	"archive/tar"
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/store"
)

// What a stream has besides files.
const (
	imageEntry = "image.json"
	endEntry   = "end"
)

// sendBytes is how much of a file is read at a time.
const sendBytes = 256 << 10

// Send writes an image as a stream: all files but those of known prints. Errors: those of the image, IO, Timeout.
func Send(ctx context.Context, w io.Writer, im *store.Image, version string, known map[Sum]bool) error {
	m := &Manifest{
		Format: FormatVersion, ID: idOf(im.Point), Point: im.Point.UTC(), Cluster: im.Cluster, Layout: im.Format,
		Version: version, Files: make([]File, 0, len(im.Files)),
	}
	for i := range im.Files {
		f := &im.Files[i]
		s := Sum(f.Print)
		m.Files = append(m.Files, File{Name: f.Name, Size: f.Size, Print: s, Known: known[s]})
	}
	text, err := json.Marshal(m)
	if err != nil {
		return fault.Wrap(fault.Internal, "backup.Send", err)
	}
	out := tar.NewWriter(w)
	if err := begin(out, imageEntry, int64(len(text)), im.Point); err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return fault.Wrap(fault.IO, "backup.Send", err)
	}
	buf := make([]byte, sendBytes)
	for i := range im.Files {
		if !m.Files[i].Known {
			if err := sendFile(ctx, out, &im.Files[i], im.Point, buf); err != nil {
				return err
			}
		}
	}
	if err := begin(out, endEntry, 0, im.Point); err != nil {
		return err
	}
	return fault.Wrap(fault.IO, "backup.Send", out.Close())
}

func begin(out *tar.Writer, name string, size int64, at time.Time) error {
	h := &tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: at, Format: tar.FormatPAX}
	return fault.Wrap(fault.IO, "backup.Send", out.WriteHeader(h))
}

func sendFile(ctx context.Context, out *tar.Writer, f *store.ImageFile, at time.Time, buf []byte) error {
	if err := begin(out, f.Name, f.Size, at); err != nil {
		return err
	}
	for off := int64(0); off < f.Size; {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Timeout, "backup.Send", err)
		}
		part := buf[:min(int64(len(buf)), f.Size-off)]
		if _, err := f.ReadAt(part, off); err != nil {
			return err
		}
		if _, err := out.Write(part); err != nil {
			return fault.Wrap(fault.IO, "backup.Send", err)
		}
		off += int64(len(part))
	}
	return nil
}

// incoming reads a stream.
type incoming struct {
	in    *tar.Reader
	image *Manifest
}

// receive reads the head of a stream. Errors: Corrupt, Unsupported, IO.
func receive(r io.Reader) (*incoming, error) {
	s := &incoming{in: tar.NewReader(r), image: &Manifest{}}
	h, err := s.next(imageEntry)
	if err != nil {
		return nil, err
	}
	if h.Size > maxManifest {
		return nil, fault.New(fault.TooLarge, "backup.Receive", "a list of %d bytes", h.Size)
	}
	if err := json.NewDecoder(s.in).Decode(s.image); err != nil {
		return nil, brokeOff(err)
	}
	if s.image.Format != FormatVersion {
		return nil, fault.New(fault.Unsupported, "backup.Receive", "the broker gives format %d, this firth reads %d",
			s.image.Format, FormatVersion).WithHint("use the firth of the broker")
	}
	s.image.ID = idOf(s.image.Point)
	for i := range s.image.Files {
		if err := s.image.Files[i].check(); err != nil {
			return nil, err
		}
	}
	return s, s.image.checkNames()
}

// next goes to the entry that has to come.
func (s *incoming) next(name string) (*tar.Header, error) {
	h, err := s.in.Next()
	if err != nil {
		return nil, brokeOff(err)
	}
	if h.Name != name {
		return nil, fault.New(fault.Corrupt, "backup.Receive", "the stream has %s where %s is due", fault.Text(h.Name), name)
	}
	return h, nil
}

// brokeOff is the error of a stream that ended before it was whole.
func brokeOff(err error) error {
	return fault.New(fault.IO, "backup.Receive", "the stream of the broker broke off: %w", err).
		WithHint("look at the log of the broker, and run the command again: what was stored is not stored again")
}
