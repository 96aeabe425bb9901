// Package record holds the currency of the log: records and Kafka record batches v2, byte for byte.
//
// A Batch is the bytes of one batch as they lie in the journal, in the cache, in segments and on the
// wire. A Builder makes one from records, an Iter walks one without allocating, Validate judges one
// that came from outside. Only the base offset and the leader epoch are ever written into a batch
// that came from outside: both lie outside its checksum. The package is pure.
package record

import (
	"encoding/hex"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Offset is the place of a record in its partition, from 0.
type Offset int64

// UUID is a topic id. The zero UUID means none.
type UUID [16]byte

// String is the id in the usual hexadecimal groups.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// ParseUUID reads what String writes. Errors: Invalid.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
		if _, err := hex.Decode(u[:], []byte(digits)); err == nil {
			return u, nil
		}
	}
	return UUID{}, fault.New(fault.Invalid, "record.ParseUUID", "%q is not an id of the form 8-4-4-4-12 in hexadecimal", s)
}

// Header is one record header. A nil Value is null.
type Header struct {
	Key   string
	Value []byte
}

// Record is a record about to be appended. Its slices are read, never kept.
type Record struct {
	Timestamp int64  // milliseconds since 1970, the sender's clock
	Key       []byte // nil: null
	Value     []byte // nil: null (a tombstone)
	Headers   []Header
}
