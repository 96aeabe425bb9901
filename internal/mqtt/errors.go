package mqtt

import (
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// reasonOf is the reason code of a PUBACK for a message that the log did not take. PUBACK knows fewer
// codes than DISCONNECT (section 3.4.2.1): a record that is too large is Quota exceeded there, and there is none for a
// server that has the session or the log no more: the connection ends, and the client sends again where it comes back.
func reasonOf(err error) packet.ReasonCode {
	switch fault.KindOf(err) {
	case fault.Denied:
		return packet.NotAuthorized
	case fault.TooLarge, fault.Full, fault.Limited:
		return packet.QuotaExceeded
	case fault.Closed, fault.Fenced:
		return packet.ServerUnavailable
	case fault.Invalid, fault.ReadOnly, fault.Unsupported:
		return packet.ImplementationError
	case fault.Internal, fault.NotFound, fault.Exists, fault.OutOfRange, fault.Corrupt, fault.IO, fault.Timeout,
		fault.OutOfSequence, fault.Unavailable:
		return packet.UnspecifiedError
	default:
		return packet.UnspecifiedError
	}
}

// connackReason is the reason code of a CONNACK for a session that cannot be kept.
func connackReason(err error) packet.ReasonCode {
	switch {
	case fault.Is(err, fault.Limited):
		return packet.QuotaExceeded
	case fault.Is(err, fault.Denied):
		return packet.NotAuthorized
	}
	return packet.ServerUnavailable
}
