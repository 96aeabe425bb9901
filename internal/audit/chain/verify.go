package chain

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/firthmq/firth/internal/kit/fault"
)

// CheckpointEvery is after how many records the chain is signed at the latest. A unit of changes may add some.
const CheckpointEvery = 256

// mostUnsigned is how many records without a checkpoint are suspicious: who has not the key may rewrite as many.
const mostUnsigned = 4 * CheckpointEvery

// Wrong says what was done to a chain.
type Wrong string

// What can be wrong.
const (
	Removed   Wrong = "removed"   // records are missing
	Altered   Wrong = "altered"   // a record is not what it was
	Reordered Wrong = "reordered" // a record stands in another place, or twice
	Forged    Wrong = "forged"    // a checkpoint is not signed by the key, or there is none where one must be
	Truncated Wrong = "truncated" // the end is missing
)

// Fault is the first thing that is wrong with a chain.
type Fault struct {
	Wrong    Wrong  `json:"wrong"`
	Sequence Number `json:"sequence"` // of the record
	Detail   string `json:"detail"`
}

// Error implements error.
func (f *Fault) Error() string {
	return fmt.Sprintf("record %d was %s: %s", f.Sequence, f.Wrong, f.Detail)
}

// Verifier holds the records of a chain, one after the other, against each other and the key. It names the first that
// is wrong. The zero Verifier with a Key is ready.
type Verifier struct {
	Key ed25519.PublicKey
	// Head is the last checkpoint that the node knows to be stored, as Parse gives it; nil: it is not known.
	Head *Record

	first    Number
	last     *Record
	want     Number // what its number should be
	mended   Hash   // of it, if it had the right hash of the record before
	lastHash Hash
	records  int
	signed   Number // of the last checkpoint
	unsigned int    // records since
	headSeen bool
	doubt    *Fault // what is wrong, as long as the next record may tell what exactly
	found    *Fault
}

// Report is what a chain is that was looked at.
type Report struct {
	Records int    `json:"records"`
	First   Number `json:"first"` // what is before it went by retention, or was never there
	Last    Link   `json:"last"`
	Signed  Number `json:"signed"` // the last checkpoint; what follows it is linked, and not signed yet
	Fault   *Fault `json:"fault,omitempty"`
}

// Next takes the next record. It is false when there is nothing more to find out: something is wrong.
func (v *Verifier) Next(value []byte) bool {
	if v.found != nil {
		return false
	}
	r, err := Parse(value)
	hash := Hash(sha256.Sum256(value))
	if v.doubt != nil {
		v.settle(r, hash)
		return false
	}
	if err != nil {
		at := v.lastSequence() + 1
		v.found = &Fault{Altered, at, "it is no record of the audit"}
		return false
	}
	want := v.lastSequence() + 1
	v.hold(r, want)
	if v.found != nil {
		return false
	}
	if v.doubt != nil {
		own, right := hex.AppendEncode(nil, r.Previous[:]), hex.AppendEncode(nil, v.lastHash[:])
		v.mended = sha256.Sum256(bytes.Replace(value, own, right, 1))
	}
	v.last, v.lastHash, v.want = r, hash, want
	if v.doubt != nil {
		return true // the next record says what exactly
	}
	v.records++
	v.unsigned++
	if v.first == 0 {
		v.first = r.Sequence
	}
	v.checkSigned(r, hash)
	return v.found == nil
}

// Lost says that records cannot be read.
func (v *Verifier) Lost(detail string) {
	if v.found == nil {
		v.found = &Fault{Altered, v.lastSequence() + 1, detail}
	}
}

func (v *Verifier) lastSequence() Number {
	if v.last == nil {
		return 0
	}
	return v.last.Sequence
}

// hold holds a record against the one before.
func (v *Verifier) hold(r *Record, want Number) {
	switch {
	case v.last == nil && r.Sequence == 1 && r.Previous != Hash{}:
		v.found = &Fault{Altered, 1, "the first record says that there is one before it"}
	case v.last == nil:
	case r.Source != v.last.Source:
		v.found = &Fault{Altered, r.Sequence, fmt.Sprintf("it is of %s, the one before of %s", fault.Text(r.Source),
			fault.Text(v.last.Source))}
	case r.Sequence < want:
		v.doubt = &Fault{Reordered, r.Sequence, fmt.Sprintf("it stands behind record %d", v.last.Sequence)}
	case r.Sequence > want:
		v.doubt = &Fault{Removed, want, fmt.Sprintf("record %d stands in its place", r.Sequence)}
	case r.Previous != v.lastHash:
		v.doubt = &Fault{Altered, v.last.Sequence, fmt.Sprintf("its hash is not the one that record %d has of it", want)}
	}
}

// settle finds out by one record more what exactly is wrong.
func (v *Verifier) settle(r *Record, hash Hash) {
	v.found, v.doubt = v.doubt, nil
	switch {
	case r == nil:
	case v.found.Wrong != Altered && r.Sequence == v.want+1:
		v.found = &Fault{Altered, v.want, fmt.Sprintf("it says that it is record %d", v.last.Sequence)}
	case v.found.Wrong == Removed && r.Sequence == v.found.Sequence:
		v.found.Wrong, v.found.Detail = Reordered, fmt.Sprintf("it stands behind record %d", v.last.Sequence)
	case v.found.Wrong == Altered && r.Sequence == v.last.Sequence+1 && r.Previous == v.mended:
		v.found = &Fault{Altered, v.last.Sequence, "it has another hash of the record before it"}
	}
	v.last, v.lastHash = r, hash
}

// checkSigned looks at checkpoints, and that there are enough of them.
func (v *Verifier) checkSigned(r *Record, hash Hash) {
	if h := v.Head; h != nil && r.Sequence == h.Sequence {
		v.headSeen = h.Type == r.Type && h.Previous == r.Previous
		if !v.headSeen {
			v.found = &Fault{Altered, r.Sequence, "it is not the checkpoint that the node has noted"}
			return
		}
	}
	switch {
	case r.Type == TypeCheckpoint && r.Data.Key != KeyID(v.Key):
		v.found = &Fault{Forged, r.Sequence, fmt.Sprintf("it is signed by the key %s, not by %s", fault.Text(r.Data.Key),
			KeyID(v.Key))}
	case r.Type == TypeCheckpoint && !(len(v.Key) == ed25519.PublicKeySize &&
		ed25519.Verify(v.Key, r.signed(), r.Data.Signature)):
		v.found = &Fault{Forged, r.Sequence, "its signature is wrong"}
	case r.Type == TypeCheckpoint:
		v.signed, v.unsigned = r.Sequence, 0
	case v.unsigned > mostUnsigned:
		v.found = &Fault{Forged, r.Sequence, fmt.Sprintf("there is no checkpoint among %d records", v.unsigned)}
	}
}

// End says what the chain is whose last record was taken.
func (v *Verifier) End() Report {
	if v.found == nil {
		v.found, v.doubt = v.doubt, nil
	}
	if h := v.Head; v.found == nil && h != nil && !v.headSeen && v.lastSequence() < h.Sequence {
		v.found = &Fault{Truncated, v.lastSequence() + 1,
			fmt.Sprintf("the node has stored a checkpoint at %d, which is not there", h.Sequence)}
	}
	report := Report{Records: v.records, First: v.first, Signed: v.signed, Fault: v.found}
	if v.last != nil {
		report.Last = Link{Sequence: v.last.Sequence, Hash: v.lastHash}
	}
	return report
}
