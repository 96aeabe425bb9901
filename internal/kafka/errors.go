package kafka

import (
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
)

// code is the error code of the protocol for an error of the log: by its kind, and None for nil.
func code(err error) wire.Code {
	if err == nil {
		return wire.None
	}
	return codeOf(fault.KindOf(err))
}

// codeOf is the table of kinds. A test walks it. The handler of an API that has a better word for a
// kind (TOPIC_ALREADY_EXISTS is the same everywhere, INVALID_CONFIG is not) says so itself.
func codeOf(kind fault.Kind) wire.Code {
	switch kind {
	case fault.Invalid:
		return wire.InvalidRequest
	case fault.NotFound:
		return wire.UnknownTopicOrPartition
	case fault.Exists:
		return wire.TopicAlreadyExists
	case fault.OutOfRange:
		return wire.OffsetOutOfRange
	case fault.TooLarge:
		return wire.MessageTooLarge
	case fault.Corrupt:
		return wire.CorruptMessage
	case fault.Full, fault.IO, fault.ReadOnly:
		return wire.KafkaStorageError
	case fault.Closed:
		return wire.NotLeaderOrFollower
	case fault.Limited:
		return wire.PolicyViolation
	case fault.Denied:
		return wire.TopicAuthorizationFailed
	case fault.Unsupported:
		return wire.UnsupportedVersion
	case fault.OutOfSequence:
		return wire.OutOfOrderSequenceNumber
	case fault.Fenced:
		return wire.InvalidProducerEpoch
	case fault.Timeout, fault.Unavailable:
		return wire.RequestTimedOut
	case fault.Internal:
		return wire.UnknownServerError
	}
	return wire.UnknownServerError
}
