package record

import "fmt"

// Attributes are the flags of a batch.
type Attributes uint16

// The bits, as Kafka has them; bits 7 to 15 are reserved.
const (
	codecMask     Attributes = 0x07
	logAppendTime Attributes = 1 << 3
	transactional Attributes = 1 << 4
	control       Attributes = 1 << 5
	deleteHorizon Attributes = 1 << 6
	reserved      Attributes = 0xff80
)

// Codec is how the records of the batch are compressed.
func (a Attributes) Codec() Codec { return Codec(a & codecMask) }

// LogAppendTime tells that MaxTimestamp is the time of every record, by the log's clock.
func (a Attributes) LogAppendTime() bool { return a&logAppendTime != 0 }

// Transactional tells that the batch is part of a transaction.
func (a Attributes) Transactional() bool { return a&transactional != 0 }

// Control tells that the batch is a transaction marker and not data.
func (a Attributes) Control() bool { return a&control != 0 }

// DeleteHorizon tells that BaseTimestamp is the time after which compaction may drop tombstones.
func (a Attributes) DeleteHorizon() bool { return a&deleteHorizon != 0 }

// Codec is a compression of the records of a batch, with Kafka's number.
type Codec uint8

// The codecs.
const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	LZ4    Codec = 3
	Zstd   Codec = 4
)

// Known tells whether there is such a codec.
func (c Codec) Known() bool { return c <= Zstd }

// String is the codec's name in Kafka's compression.type.
func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("codec %d", uint8(c))
}
