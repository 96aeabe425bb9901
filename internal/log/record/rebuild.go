package record

// ResetLike begins a batch of some of the records of b, as compaction makes them: it stands for the same offsets,
// and has b's producer, sequence numbers and flags. The records follow by AppendView, and SealLike ends it.
func (bu *Builder) ResetLike(dst []byte, b Batch) {
	base := b.BaseTimestamp()
	if a := b.Attributes(); a.LogAppendTime() && !a.DeleteHorizon() {
		base = b.MaxTimestamp() // the time of every record: no distances
	}
	bu.Reset(dst, base)
	bu.SetProducer(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence())
	bu.attributes, bu.lastDelta = b.Attributes()&^codecMask, b.LastOffsetDelta()
}

// SetDeleteHorizon says from when on compaction may drop the tombstones of the batch, in milliseconds since 1970
// (KIP-534). It takes the place of the base timestamp, so it comes before the first record.
func (bu *Builder) SetDeleteHorizon(unixMillis int64) {
	bu.attributes |= deleteHorizon
	bu.baseTimestamp = unixMillis
}

// AppendView encodes a record of the batch that ResetLike was given. It keeps its offset.
func (bu *Builder) AppendView(v *View) {
	timeDelta := v.Timestamp - bu.baseTimestamp
	body := 1 + varintLen(timeDelta) + varintLen(v.offsetDelta) + blockLen(v.Key) + blockLen(v.Value) +
		varintLen(int64(v.HeaderCount)) + len(v.headers)

	buf := appendVarint(bu.buf, int64(body))
	buf = append(buf, 0) // attributes of a record: none are defined
	buf = appendVarint(buf, timeDelta)
	buf = appendVarint(buf, v.offsetDelta)
	buf = appendBlock(buf, v.Key)
	buf = appendBlock(buf, v.Value)
	buf = appendVarint(buf, int64(v.HeaderCount))
	bu.buf = append(buf, v.headers...)
	if bu.count == 0 || v.Timestamp > bu.maxTimestamp {
		bu.maxTimestamp = v.Timestamp
	}
	bu.count++
}

// AppendInstead encodes key, value and headers of r in the place of a record of the batch that ResetLike was given:
// with its offset and its timestamp.
func (bu *Builder) AppendInstead(v *View, r *Record) {
	encoded := appendHeaders(nil, r.Headers)
	bu.AppendView(&View{
		Offset: v.Offset, Timestamp: v.Timestamp, Key: r.Key, Value: r.Value, HeaderCount: len(r.Headers),
		offsetDelta: v.offsetDelta, headers: encoded,
	})
}

// SealLike fills in the header and returns the batch at the place of b, the batch that ResetLike was given,
// compressed as that was. Without records it is a header only, as Kafka writes it: readers learn where to go on,
// and a producer's sequence numbers stay known. s compresses; it may be nil where nothing is compressed.
// Errors: Invalid, for an unknown codec.
func (bu *Builder) SealLike(b Batch, s *Scratch) (Batch, error) {
	codec := b.Attributes().Codec()
	switch {
	case bu.count == 0:
		const noTimestamp = -1
		bu.attributes &^= deleteHorizon
		bu.baseTimestamp, bu.maxTimestamp = noTimestamp, b.MaxTimestamp()
		return bu.seal(bu.buf, b.BaseOffset(), b.LeaderEpoch(), None), nil
	case codec == None:
		return bu.seal(bu.buf, b.BaseOffset(), b.LeaderEpoch(), None), nil
	}
	return bu.sealCompressed(b.BaseOffset(), b.LeaderEpoch(), codec, s)
}
