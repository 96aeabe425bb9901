// Package atrest keeps files encrypted on the disk.
//
// Every file has a data key of its own, made by chance when the file is begun and never used for another: it lies in
// the head of the file, wrapped by a key-encryption key that the operator holds (Ring). FS is a file system whose files
// are written front to back in sealed blocks, for whoever knows nothing of it. A journal, which is written frame by
// frame and synced after each, seals its pieces itself (Key) and only its index is in blocks (Footer).
//
// A nonce is a place in the file, and no place is sealed twice with different content: a file that was found at a start
// is never written on, and one that is begun again gets another key. Whatever fails to open is fault.Corrupt: it was
// changed, or put where it does not belong. A key that is not there is fault.Denied. The format, byte for byte, is
// docs/format/encryption.md.
package atrest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"path"
	"strings"
	"sync"

	"github.com/firthmq/firth/internal/kit/fault"
)

const (
	// HeaderBytes is the head of an encrypted file: what is sealed begins behind it.
	HeaderBytes = 4096
	// TagBytes is what sealing adds to a piece.
	TagBytes = 16

	keyBytes  = 32
	saltBytes = 32
)

// Kind tells what is in a file.
type Kind uint8

const (
	// Blocks is a file that is all blocks.
	Blocks Kind = 1
	// Pieces is a journal: its writer seals what is in it piece by piece.
	Pieces Kind = 2
)

// context is what the wrapped key of a file is bound to: so a file that takes the name of another does not open. A file
// is written as .tmp; a journal keeps its number when it becomes a segment.
func (k Kind) context(name string) []byte {
	base := strings.TrimSuffix(path.Base(name), ".tmp")
	if k == Pieces {
		base, _, _ = strings.Cut(base, ".")
	}
	return append([]byte{byte(k)}, base...)
}

// Key is the data key of one file. It may be used from any goroutine.
type Key struct {
	secret [keyBytes]byte
	aead   cipher.AEAD
	kind   Kind
	slot   []byte // the key, wrapped, as the head of the file has it
	pool   sync.Pool
}

// newKey makes the key of secret.
func newKey(secret []byte, kind Kind, slot []byte) (*Key, error) {
	k := &Key{kind: kind, slot: slot}
	copy(k.secret[:], secret)
	var err error
	k.aead, err = gcm(secret)
	return k, err
}

func gcm(secret []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "atrest.Key", err)
	}
	aead, err := cipher.NewGCM(block)
	return aead, fault.Wrap(fault.Internal, "atrest.Key", err)
}

// derive makes a key for another purpose of this one.
func (k *Key) derive(salt []byte, purpose string) (cipher.AEAD, error) {
	secret, err := hkdf.Key(sha256.New, k.secret[:], salt, purpose, keyBytes)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "atrest.Key", err)
	}
	return gcm(secret)
}

// nonceBytes is the size of a nonce: a place and what lies there.
const nonceBytes = 12

func nonce(place int64, what uint32) (n [nonceBytes]byte) {
	le.PutUint64(n[:], uint64(place))
	le.PutUint32(n[8:], what)
	return n
}

// What a piece of a journal is: part of its nonce, so that one place may hold a piece of each sort.
const (
	PieceHeader = 1 // what the file says of itself
	PieceList   = 2 // what a frame holds
	PieceBody   = 3 // one of the things it holds
)

// Place is where a piece lies and whose it is: it opens nowhere else. No two pieces of a file have Pos and What in
// common.
type Place struct {
	Pos   int64 // in the file
	What  uint32
	Of    uint32 // whose it is: the partition
	First int64  // and its number there: the first offset
}

// scratch is memory for a nonce and for what is sealed along.
type scratch struct {
	nonce [nonceBytes]byte
	bound []byte
}

func (k *Key) scratch(at Place, bound []byte) *scratch {
	s, ok := k.pool.Get().(*scratch)
	if !ok {
		s = new(scratch)
	}
	s.nonce = nonce(at.Pos, at.What)
	s.bound = le.AppendUint64(le.AppendUint32(s.bound[:0], at.Of), uint64(at.First))
	s.bound = append(s.bound, bound...)
	return s
}

// Seal appends plain, sealed, to dst: TagBytes longer. bound is sealed along and not written.
func (k *Key) Seal(dst, plain []byte, at Place, bound []byte) []byte {
	s := k.scratch(at, bound)
	defer k.pool.Put(s)
	return k.aead.Seal(dst, s.nonce[:], plain, s.bound)
}

// Open opens what Seal made, in its own memory, and gives its plain bytes. Errors: Corrupt (it is not what was sealed
// there); the memory holds nothing then.
func (k *Key) Open(sealed []byte, at Place, bound []byte) ([]byte, error) {
	s := k.scratch(at, bound)
	defer k.pool.Put(s)
	plain, err := k.aead.Open(sealed[:0], s.nonce[:], sealed, s.bound)
	if err != nil {
		return nil, fault.New(fault.Corrupt, "atrest.Open", "what is sealed at byte %d was changed", at.Pos)
	}
	return plain, nil
}

// Head writes the wrapped key into the head of a file, of HeaderBytes; it leaves the first 96 bytes alone.
func (k *Key) Head(head []byte) {
	copy(head[slotA:], k.slot)
	copy(head[slotB:], k.slot)
}

// random gives n bytes that nobody can guess.
func random(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return nil, fault.Wrap(fault.Internal, "atrest.Key", err)
	}
	return b, nil
}

// ID tells data keys apart, and nothing else of them: 16 hexadecimal digits. Errors: Internal.
func (k *Key) ID() (string, error) {
	id, err := hkdf.Key(sha256.New, k.secret[:], nil, "firth data key id", 8)
	if err != nil {
		return "", fault.Wrap(fault.Internal, "atrest.Key", err)
	}
	return hex.EncodeToString(id), nil
}
