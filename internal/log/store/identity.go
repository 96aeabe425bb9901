package store

import (
	"encoding/json"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

const (
	lockName     = "LOCK"
	identityName = "FIRTH"

	// FormatVersion is the version of the data directory as a whole: it writes 2 and reads 1 to 2. From 2 on several
	// files may have one number.
	FormatVersion = 2
)

// identity is the content of the file FIRTH.
type identity struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster"`
}

// identify reads the identity of the data directory, or makes one in an empty directory.
func (s *Store) identify() error {
	id, err := readIdentity(s.fs)
	if err == nil {
		s.identity = id
		return nil
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
	s.identity = identity{Format: FormatVersion, Cluster: newUUID().String()}
	if err := s.fs.MkdirAll(logDir); err != nil {
		return err
	}
	if err := s.fs.SyncDir("."); err != nil { // the identity says that the folder is there
		return err
	}
	return s.identity.write(s.fs)
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
	if s.identity.Format == FormatVersion {
		return nil
	}
	s.opt.Logger.Info("the data directory is made one of a newer format: older versions will not open it any more",
		"from", s.identity.Format, "to", FormatVersion)
	s.identity.Format = FormatVersion
	return s.identity.write(s.fs)
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
