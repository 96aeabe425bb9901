package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/store"
)

// FormatVersion is the version of a manifest: writes 1, reads 1.
const FormatVersion = 1

const (
	manifestSuffix = ".json"
	maxManifest    = 1 << 30
	idLayout       = "20060102T150405.000Z"
)

// Sum is a SHA-256.
type Sum [sha256.Size]byte

// String gives 64 hexadecimal digits.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// MarshalText implements encoding.TextMarshaler.
func (s Sum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Errors: Corrupt.
func (s *Sum) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(s) || strings.ToLower(string(text)) != string(text) {
		return fault.New(fault.Corrupt, "backup.Sum", "%s is no SHA-256", fault.Text(string(text)))
	}
	copy(s[:], b)
	return nil
}

// Manifest says what is in a backup.
type Manifest struct {
	Format  int       `json:"format"`
	ID      string    `json:"id"`
	Point   time.Time `json:"point"` // what was acknowledged before is in it
	Cluster string    `json:"cluster"`
	Layout  int       `json:"layout"` // of the data directory
	Version string    `json:"version"`
	Files   []File    `json:"files"`
}

// File is one file of a log.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Print  Sum    `json:"print"`
	Pieces []Sum  `json:"pieces,omitempty"`
	Known  bool   `json:"known,omitempty"` // of a stream: it is not sent
}

// Bytes is the size of all files.
func (m *Manifest) Bytes() (n int64) {
	for i := range m.Files {
		n += m.Files[i].Size
	}
	return n
}

// pieceSize is how long the piece i of a file is.
func (f *File) pieceSize(i int) int64 { return min(PieceBytes, f.Size-int64(i)*PieceBytes) }

// idOf is the name of the backup of a point.
func idOf(point time.Time) string { return point.UTC().Format(idLayout) }

func isID(id string) bool {
	at, err := time.Parse(idLayout, id)
	return err == nil && idOf(at) == id
}

func manifestName(id string) string { return manifestsDir + "/" + id + manifestSuffix }

// encode gives the manifest as it is stored.
func (m *Manifest) encode() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "backup.Store", err)
	}
	text = append(text, '\n')
	sum := Sum(sha256.Sum256(text))
	return append(text, checksumWord+sum.String()+"\n"...), nil
}

const checksumWord = "sha256 "

// DecodeManifest reads a manifest. Errors: Corrupt, Unsupported (a newer format).
func DecodeManifest(text []byte) (*Manifest, error) {
	const op = "backup.Manifest"
	line, rest := withoutEnd(text)
	sum := Sum(sha256.Sum256(line))
	if string(rest) != checksumWord+sum.String()+"\n" {
		return nil, fault.New(fault.Corrupt, op, "the manifest fails its checksum")
	}
	m := &Manifest{}
	if err := json.Unmarshal(line, m); err != nil {
		return nil, fault.New(fault.Corrupt, op, "the manifest cannot be read: %w", err)
	}
	if m.Format != FormatVersion {
		return nil, fault.New(fault.Unsupported, op, "a backup of format %d, this firth reads %d", m.Format, FormatVersion).
			WithHint("read it with the firth that made it, or a newer one")
	}
	if !isID(m.ID) {
		return nil, fault.New(fault.Corrupt, op, "%s is no id of a backup", fault.Text(m.ID))
	}
	for i := range m.Files {
		f := &m.Files[i]
		if err := f.check(); err != nil {
			return nil, err
		}
		if want := (f.Size + PieceBytes - 1) / PieceBytes; int64(len(f.Pieces)) != want {
			return nil, fault.New(fault.Corrupt, op, "%s has %d pieces, %d are needed", f.Name, len(f.Pieces), want)
		}
	}
	return m, m.checkNames()
}

// check refuses a file that is none of a log.
func (f *File) check() error {
	if !store.ImageName(f.Name) || f.Size < 0 || f.Size > math.MaxInt64/2 {
		return fault.New(fault.Corrupt, "backup.Manifest", "%s of %d bytes is no file of a log", fault.Text(f.Name), f.Size)
	}
	return nil
}

// checkNames refuses a manifest with a file twice.
func (m *Manifest) checkNames() error {
	seen := make(map[string]bool, len(m.Files))
	for i := range m.Files {
		name := m.Files[i].Name
		if seen[name] {
			return fault.New(fault.Corrupt, "backup.Manifest", "%s is there twice", name)
		}
		seen[name] = true
	}
	return nil
}
