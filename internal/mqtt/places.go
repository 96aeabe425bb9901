package mqtt

import (
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// Places are where a follower goes on: the next offset of each partition that it follows.
type Places map[stream.PartitionID]record.Offset

// String is what ParsePlaces reads: base64 of the partition and the offset of each, in order, as varints.
func (p Places) String() string {
	b := make([]byte, 0, 16*len(p)+1)
	b = append(b, placesVersion)
	for _, id := range slices.Sorted(maps.Keys(p)) {
		b = binary.AppendUvarint(b, uint64(id))
		b = binary.AppendUvarint(b, uint64(p[id]))
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// placesVersion is the first byte: of another one nobody knows what it means.
const placesVersion = 1

// mostPlaces bounds what ParsePlaces reads: topics may be made while somebody follows, and grow.
const mostPlaces = 16 * placedAtOnce

// ParsePlaces reads what String wrote. Errors: Invalid.
func ParsePlaces(text string) (Places, error) {
	wrong := fault.New(fault.Invalid, "mqtt.Follow", "the id is none that was given out here").
		WithHint("it is that of the last event; without it what is news comes")
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) == 0 || b[0] != placesVersion {
		return nil, wrong
	}
	places := Places{}
	for b = b[1:]; len(b) > 0; {
		id, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, wrong
		}
		b = b[n:]
		at, n := binary.Uvarint(b)
		if n <= 0 || id > 1<<32-1 || int64(at) < 0 || len(places) == mostPlaces {
			return nil, wrong
		}
		b = b[n:]
		places[stream.PartitionID(id)] = record.Offset(at)
	}
	return places, nil
}

// of is where it goes on in a partition; -1: it has not been there.
func (p Places) of(id stream.PartitionID) record.Offset {
	if at, is := p[id]; is {
		return at
	}
	return -1
}

func (p Places) clone() Places { return maps.Clone(p) }
