package backup

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
)

// At is the newest of some backups whose point is not behind a time. Errors: NotFound.
func At(all []*Manifest, at time.Time) (*Manifest, error) {
	for _, m := range slices.Backward(all) {
		if !m.Point.After(at) {
			return m, nil
		}
	}
	return nil, fault.New(fault.NotFound, "backup", "there is no backup of a point before %s",
		at.UTC().Format(time.RFC3339))
}

// Restore puts the files of a backup into an empty folder and makes them a log, which goes on behind all that clients
// of the other one may have seen (store.Restore). progress may be nil. Errors: Invalid (the folder is not empty),
// NotFound and Corrupt (a piece), and those of store.Restore.
func (r *Repository) Restore(
	ctx context.Context, m *Manifest, into vfs.FS, of store.Restoring, progress func(Progress),
) (done store.Restored, err error) {
	if err := vacant(into); err != nil {
		return done, err
	}
	lock, err := into.Lock(lockName)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	at := Progress{Files: len(m.Files), Bytes: m.Bytes()}
	went := func(n int64) {
		if at.BytesDone += n; progress != nil {
			progress(at)
		}
	}
	// The checkpoint comes first: without it a folder of journals could be taken for a new one.
	for _, journals := range []bool{false, true} {
		for i := range m.Files {
			f := &m.Files[i]
			if strings.Contains(f.Name, "/") != journals {
				continue
			}
			if err := r.restoreFile(ctx, f, into, went); err != nil {
				return done, err
			}
			at.FilesDone++
		}
		if err := syncFolders(into, journals); err != nil {
			return done, err
		}
	}
	of.Cluster, of.Format = m.Cluster, m.Layout
	return store.Restore(ctx, into, of)
}

// syncFolders syncs the names of the checkpoint, and makes the folder of the log; or syncs the names that are in that.
func syncFolders(into vfs.FS, journals bool) error {
	if journals {
		return into.SyncDir(store.Folder)
	}
	if err := into.SyncDir("."); err != nil {
		return err
	}
	if err := into.MkdirAll(store.Folder); err != nil {
		return err
	}
	return into.SyncDir(".")
}

// vacant refuses a folder with something in it.
func vacant(into vfs.FS) error {
	names, err := into.List(".")
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return fault.New(fault.Invalid, "backup.Restore", "the folder is not empty: it holds %s", fault.Text(names[0])).
			WithHint("restore into another folder; one that a restore has left unfinished may be emptied")
	}
	return nil
}

func (r *Repository) restoreFile(ctx context.Context, f *File, into vfs.FS, went func(int64)) (err error) {
	file, err := into.Create(f.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	for i, s := range f.Pieces {
		b, err := r.piece(ctx, s)
		if err != nil {
			return fault.New(fault.KindOf(err), "backup.Restore", "%s: %w", f.Name, err)
		}
		if int64(len(b)) != f.pieceSize(i) {
			return fault.New(fault.Corrupt, "backup.Restore", "%s: piece %d has %d bytes", f.Name, i, len(b))
		}
		if _, err := file.WriteAt(b, int64(i)*PieceBytes); err != nil {
			return err
		}
		went(int64(len(b)))
	}
	return file.Sync()
}

// Verified is what was found in a backup.
type Verified struct {
	Pieces   int
	Bytes    int64 // of them
	Checked  store.Checked
	Sealed   bool            // nothing was read of the log: it is encrypted, and there is no key
	Findings []store.Finding // what is damaged
}

// Verify reads all pieces of a backup and holds them to their names, and then the log in it as firth log check does.
// progress may be nil. Errors: IO, Timeout.
func (r *Repository) Verify(ctx context.Context, m *Manifest, keys *atrest.Ring, progress func(Progress)) (
	Verified, error,
) {
	var v Verified
	seen := make(map[Sum]bool)
	at := Progress{Files: len(m.Files), Bytes: m.Bytes()}
	for i := range m.Files {
		f := &m.Files[i]
		for n, s := range f.Pieces {
			if at.BytesDone += f.pieceSize(n); seen[s] {
				continue
			}
			seen[s] = true
			b, err := r.piece(ctx, s)
			if err == nil && int64(len(b)) != f.pieceSize(n) {
				err = fault.New(fault.Corrupt, "backup.Verify", "piece %d has %d bytes", n, len(b))
			}
			if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) {
				v.Findings = append(v.Findings, store.Finding{File: f.Name, What: err.Error()})
			} else if err != nil {
				return v, err
			}
			v.Pieces++
			v.Bytes += int64(len(b))
			if progress != nil {
				progress(at)
			}
		}
		at.FilesDone++
	}
	if len(v.Findings) > 0 {
		return v, nil
	}
	return v, r.checkLog(ctx, m, keys, &v)
}

// checkLog checks the log in a backup whose pieces are good.
func (r *Repository) checkLog(ctx context.Context, m *Manifest, keys *atrest.Ring, v *Verified) error {
	o, err := store.OpenImage(ctx, &view{ctx: ctx, place: r.place, m: m}, m.Cluster, m.Layout, keys)
	if fault.Is(err, fault.Denied) && keys == nil {
		v.Sealed = true
		return nil
	}
	if err != nil {
		return err
	}
	v.Checked, err = o.Check(ctx, func(f store.Finding) { v.Findings = append(v.Findings, f) }, nil)
	return errors.Join(err, o.Close())
}
