package backup

import (
	"context"
	"errors"
	"io"
	"path"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
)

// view is the files of a backup as a file system of which nothing changes.
type view struct {
	ctx   context.Context //nolint:containedctx // a file system is given none
	place Place
	m     *Manifest
}

func unchanging(op string) error {
	return fault.New(fault.Unsupported, op, "a backup does not change")
}

// Open implements vfs.FS.
func (v *view) Open(name string) (vfs.File, error) {
	for i := range v.m.Files {
		if f := &v.m.Files[i]; f.Name == name {
			return &viewed{view: v, f: f}, nil
		}
	}
	return nil, fault.New(fault.NotFound, "backup.Open", "there is no file %s in the backup", name)
}

// List implements vfs.FS.
func (v *view) List(dir string) (names []string, err error) {
	for i := range v.m.Files {
		if name := v.m.Files[i].Name; path.Dir(name) == path.Clean(dir) {
			names = append(names, path.Base(name))
		}
	}
	return names, nil
}

func (v *view) Create(string) (vfs.File, error)    { return nil, unchanging("backup.Create") }
func (v *view) OpenWrite(string) (vfs.File, error) { return nil, unchanging("backup.OpenWrite") }
func (v *view) Rename(string, string) error        { return unchanging("backup.Rename") }
func (v *view) Remove(string) error                { return unchanging("backup.Remove") }
func (v *view) MkdirAll(string) error              { return unchanging("backup.MkdirAll") }
func (v *view) SyncDir(string) error               { return unchanging("backup.SyncDir") }
func (v *view) Lock(string) (io.Closer, error)     { return nil, unchanging("backup.Lock") }

// viewed is one file, read from its pieces.
type viewed struct {
	view *view
	f    *File
}

// ReadAt implements io.ReaderAt.
func (f *viewed) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) && off < f.f.Size {
		i := int(off / PieceBytes)
		in := off - int64(i)*PieceBytes
		part := b[n:min(int64(len(b)), int64(n)+f.f.pieceSize(i)-in)]
		if err := f.view.place.ReadAt(f.view.ctx, objectName(f.f.Pieces[i]), part, in); err != nil {
			return n, err
		}
		n, off = n+len(part), off+int64(len(part))
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *viewed) Size() (int64, error)                    { return f.f.Size, nil }
func (f *viewed) ModTime() (time.Time, error)             { return f.view.m.Point, nil }
func (f *viewed) Close() error                            { return nil }
func (f *viewed) Sync() error                             { return nil }
func (f *viewed) WriteAt([]byte, int64) (int, error)      { return 0, unchanging("backup.Write") }
func (f *viewed) WriteVecAt([][]byte, int64) (int, error) { return 0, unchanging("backup.Write") }
func (f *viewed) WriteDirect([]byte, int64) error         { return unchanging("backup.Write") }
func (f *viewed) Preallocate(int64) error                 { return unchanging("backup.Preallocate") }
func (f *viewed) Truncate(int64) error                    { return unchanging("backup.Truncate") }

// imageView is the files of an image of a log as a file system of which nothing changes.
type imageView struct {
	view
	im *store.Image
}

// Open implements vfs.FS.
func (v *imageView) Open(name string) (vfs.File, error) {
	for i := range v.im.Files {
		if f := &v.im.Files[i]; f.Name == name {
			return &imaged{viewed{&v.view, &v.m.Files[i]}, f}, nil
		}
	}
	return v.view.Open(name)
}

// imaged is one file of an image.
type imaged struct {
	viewed
	from *store.ImageFile
}

// ReadAt implements io.ReaderAt.
func (f *imaged) ReadAt(b []byte, off int64) (int, error) { return f.from.ReadAt(b, off) }

// Check reads the log in an image as firth log check does. What is damaged is a Finding, not an error. Errors: Denied
// (a key is missing), IO; Timeout when ctx ends, with what was read until then.
func Check(ctx context.Context, im *store.Image, keys *atrest.Ring, report func(store.Finding)) (
	done store.Checked, err error,
) {
	m := &Manifest{Point: im.Point}
	for i := range im.Files {
		m.Files = append(m.Files, File{Name: im.Files[i].Name, Size: im.Files[i].Size})
	}
	o, err := store.OpenImage(ctx, &imageView{view{ctx: ctx, m: m}, im}, im.Cluster, im.Format, keys)
	if err != nil {
		return done, err
	}
	done, err = o.Check(ctx, report, nil)
	return done, errors.Join(err, o.Close())
}
