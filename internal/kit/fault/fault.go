// Package fault holds the one error type that crosses rooms.
//
// An error has a kind, which the doors turn into a reason code (MQTT) or an error code (Kafka)
// by one table each; an operation, which says where; and a hint, which tells a person what to do.
// The package knows nothing of messages.
//
//	return fault.New(fault.NotFound, "store.Read", "no topic %q", name)
//	if fault.Is(err, fault.NotFound) { ... }
package fault

import (
	"errors"
	"fmt"
)

// Kind says what went wrong, in the terms a caller decides by.
type Kind uint8

// The kinds. Every door maps every one of them; a test walks the list.
const (
	// Internal is a fault of Firth itself: an error without a kind has this one.
	Internal Kind = iota
	// Invalid is a request that breaks a rule of its protocol or a setting out of range.
	Invalid
	// NotFound names a topic, partition or group that does not exist.
	NotFound
	// Exists names a topic that exists already.
	Exists
	// OutOfRange is an offset below the log start or above the high watermark.
	OutOfRange
	// TooLarge is a record or batch above max.message.bytes, or a packet above its limit.
	TooLarge
	// Corrupt is data that fails its checksum or its format. On disk: reported, never served.
	Corrupt
	// Full is a disk without space: writes are refused, reads go on, writing resumes by itself.
	Full
	// IO is a failed read, write or sync.
	IO
	// ReadOnly is a log that takes no more writes after failed syncs.
	ReadOnly
	// Closed is a log or connection that is closing.
	Closed
	// Limited is a budget used up: topics, connections, memory.
	Limited
	// Denied is a refusal by the guard.
	Denied
	// Unsupported is a feature or version that is not there.
	Unsupported
	// OutOfSequence is an idempotent batch whose sequence leaves a gap.
	OutOfSequence
	// Fenced is a producer epoch older than the newest seen.
	Fenced
	// Timeout is a bound on time that passed.
	Timeout
	// Unavailable is a service of somebody else's that does not answer, or not in a way that helps.
	Unavailable

	kinds // the count, for tests
)

var names = [kinds]string{
	"internal", "invalid", "not found", "exists", "out of range", "too large", "corrupt", "disk full", "i/o",
	"read-only", "closed", "limited", "denied", "unsupported", "out of sequence", "fenced",
	"timeout", "unavailable",
}

// String is the kind in words.
func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Kinds lists every kind, for the tables of the doors and their tests.
func Kinds() []Kind {
	all := make([]Kind, kinds)
	for i := range all {
		all[i] = Kind(i)
	}
	return all
}

// Error is an error with a kind, an operation and a hint.
type Error struct {
	Kind Kind
	Op   string // room and verb, e.g. "journal.Sync"
	Hint string // what a person can do; may be empty
	Err  error  // the cause; never nil
}

// Error is "op: cause"; the hint is for whoever prints to a person.
func (e *Error) Error() string { return e.Op + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error of a kind from a message.
func New(kind Kind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Err: fmt.Errorf(format, args...)}
}

// Wrap gives err a kind and an operation. A nil err stays nil.
func Wrap(kind Kind, op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: kind, Op: op, Err: err}
}

// WithHint adds what a person can do.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// KindOf is the kind of the outermost Error in err's chain, or Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// Is tells whether err has the kind.
func Is(err error, kind Kind) bool {
	if err == nil { // before e, which escapes
		return false
	}
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}

// HintOf is the first hint in err's chain, or "".
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}
