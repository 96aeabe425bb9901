package store

import (
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

const (
	lockName     = "LOCK"
	identityName = "FIRTH"

	// FormatVersion is the version of the data directory as a whole: it writes 2, and 3 where files are encrypted, and
	// reads 1 to 3. From 2 on several files may have one number; in 3 some may be encrypted.
	FormatVersion = 3
	plainFormat   = 2
)

// format is the version of a data directory as it is written now.
func (s *Store) format() int {
	if s.sealing != nil && !s.opt.Plain {
		return FormatVersion
	}
	return plainFormat
}

// needs refuses a directory in which files may be encrypted to who has no key. Errors: Denied.
func (id identity) needs(keys *atrest.Ring) error {
	if id.Format < FormatVersion || keys != nil {
		return nil
	}
	return fault.New(fault.Denied, "store.Open", "the data directory is encrypted and no key is given").
		WithHint("set encryption.key_file or encryption.key_env to the key it was written with")
}

// identity is the content of the file FIRTH.
type identity struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster"`
	// Restored is the leader epoch of a restored log, 0 of others: what has a smaller one is of a backup.
	Restored int32 `json:"restored,omitempty"`
}

// identify reads the identity of the data directory, or makes one in an empty directory. It is on stable storage before
// anything else gets a name there: who made it may have failed to sync it.
func (s *Store) identify() error {
	id, err := readIdentity(s.raw)
	if err == nil {
		s.identity = id
		if err := id.needs(s.opt.Keys); err != nil {
			return err
		}
		return s.fs.SyncDir(".")
	}
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	names, err := s.fs.List(".")
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != lockName && name != identityName+".tmp" && name != logDir {
			return fault.New(fault.Invalid, "store.Open", "the data directory holds %q and no file %s", name, identityName).
				WithHint("give an empty directory, or the one of a Firth log")
		}
	}
	s.identity = identity{Format: s.format(), Cluster: newUUID().String()}
	if err := s.fs.MkdirAll(logDir); err != nil {
		return err
	}
	if err := s.fs.SyncDir("."); err != nil { // the identity says that the folder is there
		return err
	}
	return s.identity.write(s.raw)
}

func (id identity) write(fs vfs.FS) error {
	b, err := json.Marshal(id)
	if err != nil {
		return fault.Wrap(fault.Internal, "store.Open", err)
	}
	return writeFile(fs, identityName, append(b, '\n'))
}

// upgrade makes an older data directory one of this format, so that an older firth refuses it, before anything is
// written that it would not understand.
func (s *Store) upgrade() error {
	if s.identity.Format > s.format() {
		return s.downgrade()
	}
	if s.identity.Format == s.format() {
		return nil
	}
	s.opt.Logger.Info("the data directory is made one of a newer format: older versions will not open it any more",
		"from", s.identity.Format, "to", s.format())
	s.identity.Format = s.format()
	return s.identity.write(s.raw)
}

// downgrade makes a directory in which nothing is encrypted any more one of the format before: it opens without a key.
func (s *Store) downgrade() error {
	e, err := s.Encryption()
	if err != nil || e.Plain < e.Bytes {
		return err
	}
	s.identity.Format = s.format()
	return s.identity.write(s.raw)
}

func readIdentity(fs vfs.FS) (identity, error) {
	var id identity
	b, err := readFile(fs, identityName)
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(b, &id); err != nil {
		return id, fault.New(fault.Corrupt, "store.Open", "%s cannot be read: %w", identityName, err).
			WithHint("it holds {\"format\":%d,\"cluster\":\"<any UUID>\"} and may be written again by hand", FormatVersion)
	}
	if id.Format < 1 || id.Format > FormatVersion {
		return id, fault.New(fault.Unsupported, "store.Open", "data directory of format %d, this firth reads 1 to %d",
			id.Format, FormatVersion).WithHint("open it with the firth that wrote it, or a newer one")
	}
	return id, nil
}

// Check tells whether this version could open a data directory, as far as that can be known while another process uses
// it: its format and its keys. One that is empty, or not there, is good. Errors: Unsupported, Denied, Corrupt, IO.
func Check(fs vfs.FS, keys *atrest.Ring) error {
	id, err := readIdentity(fs)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return id.needs(keys)
}

// Vacant takes the lock of a folder that holds no log, for who keeps other files there. It is held until Close. Errors:
// Exists (another process uses the folder), Invalid (there is a log in it), IO.
func Vacant(fs vfs.FS) (io.Closer, error) {
	lock, err := fs.Lock(lockName)
	if err != nil {
		return nil, err
	}
	names, err := fs.List(".")
	if err == nil && slices.Contains(names, identityName) {
		err = fault.New(fault.Invalid, "store.Vacant", "the folder holds a log, which would lie idle")
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}
