// Package backup keeps images of a log elsewhere: files in pieces that are named by what is in them, and a manifest a
// backup.
//
//	r := backup.New(backup.InFolder(disk))
//	begun, err := r.Begin(ctx)                            // begun.Known() is what is there already
//	m, stored, err := begun.Store(ctx, stream, keep, nil) // of a node, by Send
//	restored, err := r.Restore(ctx, m, empty, of, nil)
//
// What is in a place is never changed, and a manifest comes after all that it names: so whoever is killed leaves the
// backups that were there. docs/design/0020-backup.md has the reasons, docs/format/backup.md the format.
package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Place is where backups lie. Names are slash-separated. Its methods may be called from any goroutine.
type Place interface {
	// Put stores content under a name, whole or not at all, on stable storage.
	Put(ctx context.Context, name string, content []byte) error
	// Get is what is under a name. Errors: NotFound; TooLarge above so many bytes; IO.
	Get(ctx context.Context, name string, most int64) ([]byte, error)
	// ReadAt reads all of b. Errors: NotFound, IO.
	ReadAt(ctx context.Context, name string, b []byte, off int64) error
	// Names visits what is below a folder, with its size in bytes. A folder that is not there is empty.
	Names(ctx context.Context, dir string, visit func(name string, size int64)) error
	// Remove removes what is under a name. Errors: NotFound, IO.
	Remove(ctx context.Context, name string) error
	// Lock keeps others from writing until Close. Errors: Exists.
	Lock(ctx context.Context) (io.Closer, error)
}

const (
	objectsDir   = "objects"
	manifestsDir = "backups"
	// PieceBytes is the size of a piece.
	PieceBytes = 16 << 20
)

// Repository is the backups of one log in one place.
type Repository struct{ place Place }

// New is the repository of a place.
func New(place Place) *Repository { return &Repository{place: place} }

func objectName(s Sum) string {
	text := s.String()
	return objectsDir + "/" + text[:2] + "/" + text
}

// Bad is a manifest that cannot be read.
type Bad struct {
	Name string
	Err  error
}

// List reads all manifests, the oldest first, and tells which cannot be read. Errors: IO.
func (r *Repository) List(ctx context.Context) (all []*Manifest, bad []Bad, err error) {
	var names []string
	err = r.place.Names(ctx, manifestsDir, func(name string, _ int64) {
		if strings.HasSuffix(name, manifestSuffix) {
			names = append(names, name)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		text, err := r.place.Get(ctx, name, maxManifest)
		var m *Manifest
		if err == nil {
			if m, err = DecodeManifest(text); err == nil && manifestName(m.ID) != name {
				err = fault.New(fault.Corrupt, "backup.List", "it is the manifest of %s", fault.Text(m.ID))
			}
		}
		switch {
		case err == nil:
			all = append(all, m)
		case fault.Is(err, fault.IO):
			return nil, nil, err
		default:
			bad = append(bad, Bad{Name: name, Err: err})
		}
	}
	return all, bad, nil
}

// objects lists the pieces that are there, with their sizes, and what is left of pieces that were never finished.
func (r *Repository) objects(ctx context.Context) (have map[Sum]int64, torn []string, err error) {
	have = make(map[Sum]int64)
	err = r.place.Names(ctx, objectsDir, func(name string, size int64) {
		var s Sum
		switch base := path.Base(name); {
		case s.UnmarshalText([]byte(base)) == nil && objectName(s) == name:
			have[s] = size
		case strings.HasSuffix(base, tornSuffix):
			torn = append(torn, name)
		}
	})
	return have, torn, err
}

// piece reads one piece and holds it to its name. Errors: NotFound, Corrupt, IO.
func (r *Repository) piece(ctx context.Context, s Sum) ([]byte, error) {
	b, err := r.place.Get(ctx, objectName(s), PieceBytes)
	if fault.Is(err, fault.TooLarge) {
		return nil, fault.New(fault.Corrupt, "backup.Read", "%s is larger than a piece", objectName(s))
	}
	if err == nil && Sum(sha256.Sum256(b)) != s {
		err = fault.New(fault.Corrupt, "backup.Read", "%s does not hold what it was given", objectName(s))
	}
	return b, err
}

// clean removes pieces that no manifest names. Where a manifest cannot be read, nothing goes. The caller holds the
// lock.
func (r *Repository) clean(ctx context.Context) (removed int, err error) {
	all, bad, err := r.List(ctx)
	if err != nil || len(bad) > 0 {
		return 0, err
	}
	have, torn, err := r.objects(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range all {
		for i := range m.Files {
			for _, s := range m.Files[i].Pieces {
				delete(have, s)
			}
		}
	}
	names := torn
	for s := range have {
		names = append(names, objectName(s))
	}
	slices.Sort(names)
	for _, name := range names {
		if err := r.place.Remove(ctx, name); err != nil && !fault.Is(err, fault.NotFound) {
			return removed, err
		}
		removed++
	}
	return removed, nil
}

// Remove removes a backup, and the pieces that no other one needs. Errors: NotFound, Exists (somebody writes there),
// IO.
func (r *Repository) Remove(ctx context.Context, id string) (pieces int, err error) {
	lock, err := r.place.Lock(ctx)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	if !isID(id) {
		return 0, fault.New(fault.NotFound, "backup.Remove", "there is no backup %s", fault.Text(id))
	}
	if err := r.place.Remove(ctx, manifestName(id)); err != nil {
		return 0, err
	}
	return r.clean(ctx)
}

// sameCluster refuses to put backups of two logs into one place: the pieces of one would look like waste of the other.
func sameCluster(all []*Manifest, cluster string) error {
	for _, m := range all {
		if m.Cluster != cluster {
			return fault.New(fault.Invalid, "backup.Store", "backup %s there is of another log, %s", m.ID, m.Cluster).
				WithHint("give each node a folder, or a prefix, of its own")
		}
	}
	return nil
}

// withoutEnd is the first line of text, and what is behind it.
func withoutEnd(text []byte) (line, rest []byte) {
	i := bytes.IndexByte(text, '\n')
	return text[:i+1], text[i+1:]
}
