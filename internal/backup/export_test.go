package backup

import (
	"crypto/sha256"
	"slices"
)

// Summed gives a line the checksum of a manifest.
func Summed(line []byte) []byte {
	s := Sum(sha256.Sum256(line))
	return slices.Concat(line, []byte(checksumWord+s.String()+"\n"))
}
