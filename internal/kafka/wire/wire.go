// Package wire is the Kafka protocol as bytes: frames, request and response headers, the table of
// APIs and versions, error codes, and the codecs of the hot requests, written by hand.
//
// Produce is walked without allocating, Fetch is decoded into memory that its connection keeps, and a
// Fetch response is framed around record bytes that are never copied. Metadata and ApiVersions are
// encoded here too. Every other API goes through kmsg, behind Decode.
//
// Nothing is allocated for a count that the bytes left cannot hold, and the bytes of one request are
// bounded by API before they are read (API.MaxBytes): a frame cannot cost more than a small multiple
// of itself. The package is pure: no goroutine, lock, clock, file or socket.
package wire

import "github.com/firthmq/firth/internal/kit/fault"

// SizeLen is the length in bytes of the size that precedes each request and response.
const SizeLen = 4

// UUID is a topic id as it stands in a request. The zero UUID means none.
type UUID [16]byte

func invalid(op, format string, args ...any) error {
	return fault.New(fault.Invalid, op, format, args...)
}
