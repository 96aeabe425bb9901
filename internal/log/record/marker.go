package record

import "encoding/binary"

// Types of a control record, in its key (KIP-98).
const (
	MarkerAbort  int16 = 0
	MarkerCommit int16 = 1
)

// NewMarker makes the control batch that ends the transaction of a producer in a partition: one record
// whose key says abort or commit and whose value names the epoch of the coordinator.
func NewMarker(producerID int64, epoch int16, coordinatorEpoch int32, commit bool, unixMillis int64) Batch {
	kind := MarkerAbort
	if commit {
		kind = MarkerCommit
	}
	const version = 0
	key := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, version), uint16(kind))
	value := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, version), uint32(coordinatorEpoch))
	var bu Builder
	bu.Reset(make([]byte, 0, markerBytes), unixMillis)
	bu.SetProducer(producerID, epoch, -1)
	bu.Append(&Record{Timestamp: unixMillis, Key: key, Value: value})
	b := bu.Seal(0, 0)
	binary.BigEndian.PutUint16(b[atAttributes:], uint16(transactional|control))
	binary.BigEndian.PutUint32(b[atCRC:], b.ComputeCRC())
	return b
}

// markerBytes is the size of a marker.
const markerBytes = BatchOverhead + 18

// Marker tells how a control batch ends its transaction; ok is false for one that is no marker.
func (b Batch) Marker() (commit, ok bool) {
	if !b.Attributes().Control() || b.Count() != 1 || b.Attributes().Codec() != None {
		return false, false
	}
	var it Iter
	var v View
	const keyBytes = 4
	if it.Reset(b, nil) != nil || !it.Next(&v) || len(v.Key) < keyBytes {
		return false, false
	}
	kind := int16(binary.BigEndian.Uint16(v.Key[2:]))
	return kind == MarkerCommit, kind == MarkerCommit || kind == MarkerAbort
}
