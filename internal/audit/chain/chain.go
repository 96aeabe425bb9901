package chain

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Record is an event in the chain: CloudEvents 1.0 in JSON, with the extension attributes sequence and previoushash.
type Record struct {
	SpecVersion string    `json:"specversion"` // "1.0"
	ID          string    `json:"id"`          // the sequence
	Source      string    `json:"source"`      // /firth/ and the id of the node
	Type        string    `json:"type"`
	Subject     string    `json:"subject,omitempty"` // the kind and the name of the resource
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Sequence    Number    `json:"sequence"`     // 1 for the first of a node
	Previous    Hash      `json:"previoushash"` // of the record before; zero for the first
	Data        Event     `json:"data"`
}

// Number is a sequence number; JSON has it as text, as the sequence extension of CloudEvents does.
type Number uint64

// MarshalText implements encoding.TextMarshaler.
func (n Number) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(n), 10), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Errors: Invalid.
func (n *Number) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return fault.New(fault.Invalid, "audit", "%s is no sequence number", fault.Text(text))
	}
	*n = Number(v)
	return nil
}

// Hash is the SHA-256 of a record; JSON has it in hexadecimal.
type Hash [sha256.Size]byte

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler. Errors: Invalid.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return fault.New(fault.Invalid, "audit", "a hash of %d digits", len(text))
	}
	if _, err := hex.Decode(h[:], text); err != nil {
		return fault.Wrap(fault.Invalid, "audit", err)
	}
	return nil
}

// Link is the end of a chain: the number and the hash of its last record. The zero Link is a chain without any.
type Link struct {
	Sequence Number `json:"sequence"`
	Hash     Hash   `json:"hash"`
}

const specVersion, contentType = "1.0", "application/json"

// Parse reads a record. Errors: Invalid.
func Parse(value []byte) (*Record, error) {
	r := &Record{}
	if err := json.Unmarshal(value, r); err != nil {
		return nil, fault.New(fault.Invalid, "audit", "no record of the audit: %w", err)
	}
	if r.SpecVersion != specVersion || r.Sequence == 0 || r.ID != strconv.FormatUint(uint64(r.Sequence), 10) {
		return nil, fault.New(fault.Invalid, "audit", "no record of the audit")
	}
	r.Data.Type, r.Data.Time = r.Type, r.Time
	return r, nil
}

// LinkOf is the end of a chain whose last record this is; value are its bytes.
func LinkOf(r *Record, value []byte) Link {
	return Link{Sequence: r.Sequence, Hash: sha256.Sum256(value)}
}

// Append gives the bytes of the next record of the chain, and the end that the chain has with it. Errors: Internal, for
// a before or after that is no JSON.
func (l Link) Append(source string, e Event) ([]byte, Link, error) {
	e.bound()
	r := l.record(source, &e)
	value, err := json.Marshal(&r)
	if err != nil {
		return nil, l, fault.Wrap(fault.Internal, "audit", err)
	}
	return value, Link{Sequence: r.Sequence, Hash: sha256.Sum256(value)}, nil
}

func (l Link) record(source string, e *Event) Record {
	next := l.Sequence + 1
	r := Record{SpecVersion: specVersion, ID: strconv.FormatUint(uint64(next), 10), Source: source, Type: e.Type,
		Time: e.Time.UTC(), ContentType: contentType, Sequence: next, Previous: l.Hash, Data: *e}
	if e.Resource != (Resource{}) {
		r.Subject = e.Resource.Kind + ":" + e.Resource.Name
	}
	return r
}

// Checkpoint gives the bytes of a record that signs the chain up to it.
func (l Link) Checkpoint(source string, now time.Time, key ed25519.PrivateKey) ([]byte, Link, error) {
	public, _ := key.Public().(ed25519.PublicKey)
	e := Event{Type: TypeCheckpoint, Time: now.UTC(), Key: KeyID(public)}
	r := l.record(source, &e)
	e.Signature = ed25519.Sign(key, r.signed())
	return l.Append(source, e)
}

// signed are the bytes that the signature of a checkpoint is over.
func (r *Record) signed() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "firth audit checkpoint 1\n%s\n%d\n%x\n%s\n", r.Source, r.Sequence, r.Previous[:],
		r.Time.Format(time.RFC3339Nano))
	return b.Bytes()
}

// KeyID names a public key: the first 16 hexadecimal digits of its SHA-256.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}
