package packet

import (
	"errors"
	"fmt"

	"github.com/firthmq/firth/internal/kit/fault"
)

// ReasonCode is the result of an operation (section 2.4). Codes from 0x80 are failures. MQTT 3 knows
// only the return codes of CONNACK and SUBACK: encoding and decoding translate them.
type ReasonCode uint8

// The reason codes of section 2.4.
const (
	Success                           ReasonCode = 0x00
	NormalDisconnection               ReasonCode = 0x00
	GrantedQoS0                       ReasonCode = 0x00
	GrantedQoS1                       ReasonCode = 0x01
	GrantedQoS2                       ReasonCode = 0x02
	DisconnectWithWill                ReasonCode = 0x04
	NoMatchingSubscribers             ReasonCode = 0x10
	NoSubscriptionExisted             ReasonCode = 0x11
	ContinueAuthentication            ReasonCode = 0x18
	ReAuthenticate                    ReasonCode = 0x19
	UnspecifiedError                  ReasonCode = 0x80
	Malformed                         ReasonCode = 0x81
	ProtocolError                     ReasonCode = 0x82
	ImplementationError               ReasonCode = 0x83
	UnsupportedVersion                ReasonCode = 0x84
	ClientIDNotValid                  ReasonCode = 0x85
	BadUserNameOrPassword             ReasonCode = 0x86
	NotAuthorized                     ReasonCode = 0x87
	ServerUnavailable                 ReasonCode = 0x88
	ServerBusy                        ReasonCode = 0x89
	Banned                            ReasonCode = 0x8A
	ServerShuttingDown                ReasonCode = 0x8B
	BadAuthenticationMethod           ReasonCode = 0x8C
	KeepAliveTimeout                  ReasonCode = 0x8D
	SessionTakenOver                  ReasonCode = 0x8E
	TopicFilterInvalid                ReasonCode = 0x8F
	TopicNameInvalid                  ReasonCode = 0x90
	PacketIDInUse                     ReasonCode = 0x91
	PacketIDNotFound                  ReasonCode = 0x92
	ReceiveMaximumExceeded            ReasonCode = 0x93
	TopicAliasInvalid                 ReasonCode = 0x94
	PacketTooLarge                    ReasonCode = 0x95
	MessageRateTooHigh                ReasonCode = 0x96
	QuotaExceeded                     ReasonCode = 0x97
	AdministrativeAction              ReasonCode = 0x98
	PayloadFormatInvalid              ReasonCode = 0x99
	RetainNotSupported                ReasonCode = 0x9A
	QoSNotSupported                   ReasonCode = 0x9B
	UseAnotherServer                  ReasonCode = 0x9C
	ServerMoved                       ReasonCode = 0x9D
	SharedSubscriptionsNotSupported   ReasonCode = 0x9E
	ConnectionRateExceeded            ReasonCode = 0x9F
	MaximumConnectTime                ReasonCode = 0xA0
	SubscriptionIDsNotSupported       ReasonCode = 0xA1
	WildcardSubscriptionsNotSupported ReasonCode = 0xA2
)

// String is the name of the code in the specification, in lower case; success for 0x00, which has
// three names.
func (r ReasonCode) String() string {
	if e := reasonEntry(r); e != nil {
		return e.name
	}
	return fmt.Sprintf("reason code 0x%02x", uint8(r))
}

// Failed tells whether the code is a failure.
func (r ReasonCode) Failed() bool { return r >= 0x80 }

// who bits: which packets may carry a code, and for the packets that both sides send, who may.
const (
	inConnack = 1 << iota
	inPuback  // and PUBREC
	inPubrel  // and PUBCOMP
	inSuback
	inUnsuback
	inDisconnectClient
	inDisconnectServer
	inAuthClient
	inAuthServer

	inDisconnect = inDisconnectClient | inDisconnectServer
	inAuth       = inAuthClient | inAuthServer
)

type reasonInfo struct {
	code ReasonCode
	in   uint16
	name string
}

// reasons is table 2.6 of the specification, together with the tables of each packet.
var reasons = [...]reasonInfo{
	{Success, inConnack | inPuback | inPubrel | inSuback | inUnsuback | inDisconnect | inAuthServer, "success"},
	{GrantedQoS1, inSuback, "granted QoS 1"},
	{GrantedQoS2, inSuback, "granted QoS 2"},
	{DisconnectWithWill, inDisconnectClient, "disconnect with will message"},
	{NoMatchingSubscribers, inPuback, "no matching subscribers"},
	{NoSubscriptionExisted, inUnsuback, "no subscription existed"},
	{ContinueAuthentication, inAuth, "continue authentication"},
	{ReAuthenticate, inAuthClient, "re-authenticate"},
	{UnspecifiedError, inConnack | inPuback | inSuback | inUnsuback | inDisconnect, "unspecified error"},
	{Malformed, inConnack | inDisconnect, "malformed packet"},
	{ProtocolError, inConnack | inDisconnect, "protocol error"},
	{ImplementationError, inConnack | inPuback | inSuback | inUnsuback | inDisconnect, "implementation specific error"},
	{UnsupportedVersion, inConnack, "unsupported protocol version"},
	{ClientIDNotValid, inConnack, "client identifier not valid"},
	{BadUserNameOrPassword, inConnack, "bad user name or password"},
	{NotAuthorized, inConnack | inPuback | inSuback | inUnsuback | inDisconnectServer, "not authorized"},
	{ServerUnavailable, inConnack, "server unavailable"},
	{ServerBusy, inConnack | inDisconnectServer, "server busy"},
	{Banned, inConnack, "banned"},
	{ServerShuttingDown, inDisconnectServer, "server shutting down"},
	{BadAuthenticationMethod, inConnack | inDisconnectServer, "bad authentication method"},
	{KeepAliveTimeout, inDisconnectServer, "keep alive timeout"},
	{SessionTakenOver, inDisconnectServer, "session taken over"},
	{TopicFilterInvalid, inSuback | inUnsuback | inDisconnectServer, "topic filter invalid"},
	{TopicNameInvalid, inConnack | inPuback | inDisconnect, "topic name invalid"},
	{PacketIDInUse, inPuback | inSuback | inUnsuback, "packet identifier in use"},
	{PacketIDNotFound, inPubrel, "packet identifier not found"},
	{ReceiveMaximumExceeded, inDisconnect, "receive maximum exceeded"},
	{TopicAliasInvalid, inDisconnect, "topic alias invalid"},
	{PacketTooLarge, inConnack | inDisconnect, "packet too large"},
	{MessageRateTooHigh, inDisconnect, "message rate too high"},
	{QuotaExceeded, inConnack | inPuback | inSuback | inDisconnect, "quota exceeded"},
	{AdministrativeAction, inDisconnect, "administrative action"},
	{PayloadFormatInvalid, inConnack | inPuback | inDisconnect, "payload format invalid"},
	{RetainNotSupported, inConnack | inDisconnectServer, "retain not supported"},
	{QoSNotSupported, inConnack | inDisconnectServer, "QoS not supported"},
	{UseAnotherServer, inConnack | inDisconnectServer, "use another server"},
	{ServerMoved, inConnack | inDisconnectServer, "server moved"},
	{SharedSubscriptionsNotSupported, inSuback | inDisconnectServer, "shared subscriptions not supported"},
	{ConnectionRateExceeded, inConnack | inDisconnectServer, "connection rate exceeded"},
	{MaximumConnectTime, inDisconnectServer, "maximum connect time"},
	{SubscriptionIDsNotSupported, inSuback | inDisconnectServer, "subscription identifiers not supported"},
	{WildcardSubscriptionsNotSupported, inSuback | inDisconnectServer, "wildcard subscriptions not supported"},
}

func reasonEntry(r ReasonCode) *reasonInfo {
	for i := range reasons {
		if reasons[i].code == r {
			return &reasons[i]
		}
	}
	return nil
}

// allowed tells whether a packet may carry the code.
func (r ReasonCode) allowed(in uint16) bool {
	e := reasonEntry(r)
	return e != nil && e.in&in != 0
}

// InConnack is the code that says most of a failure in a CONNACK, which may not carry all [MQTT-3.2.2-8].
func (r ReasonCode) InConnack() ReasonCode {
	switch {
	case r.allowed(inConnack):
		return r
	case r == ServerShuttingDown:
		return ServerUnavailable
	}
	return UnspecifiedError
}

// InDisconnect is the code that says most of a failure in a DISCONNECT of a server, which may not carry all
// [MQTT-3.14.2-1].
func (r ReasonCode) InDisconnect() ReasonCode {
	switch {
	case r.allowed(inDisconnectServer):
		return r
	case r == ServerUnavailable: // it may be there again
		return ServerBusy
	case r == Banned:
		return AdministrativeAction
	case r == BadUserNameOrPassword, r == ClientIDNotValid:
		return NotAuthorized
	}
	return UnspecifiedError
}

// returnCode is the code of a CONNACK of MQTT 3: 0 to 5 (3.1.1, table 3.1).
func (r ReasonCode) returnCode() byte {
	switch r {
	case Success:
		return 0
	case UnsupportedVersion:
		return 1
	case ClientIDNotValid:
		return 2
	case BadUserNameOrPassword, BadAuthenticationMethod:
		return 4
	case NotAuthorized, Banned:
		return 5
	}
	return 3 // server unavailable
}

// fromReturnCode translates a return code of MQTT 3. ok is false for one that does not exist.
func fromReturnCode(c byte) (r ReasonCode, ok bool) {
	codes := [...]ReasonCode{
		Success, UnsupportedVersion, ClientIDNotValid, ServerUnavailable, BadUserNameOrPassword, NotAuthorized,
	}
	if int(c) >= len(codes) {
		return 0, false
	}
	return codes[c], true
}

// Error is a packet that was refused. Reason is what a CONNACK or DISCONNECT of MQTT 5 says of it.
type Error struct {
	Reason ReasonCode // 0x80 or above
	Detail string     // what exactly is wrong, for logs; it never holds bytes of the packet unquoted
	// Server is the server that the client is to use, where the reason sends it to another one; "": it is not known.
	Server string
}

// Error is the reason and the detail.
func (e *Error) Error() string { return e.Reason.String() + ": " + e.Detail }

// As lets errors.As, fault.Is and fault.KindOf see a fault.Error: TooLarge for a packet above its
// limit, Unsupported for a protocol version, Invalid for all else.
func (e *Error) As(target any) bool {
	f, ok := target.(**fault.Error)
	if !ok {
		return false
	}
	kind := fault.Invalid
	switch e.Reason {
	case PacketTooLarge:
		kind = fault.TooLarge
	case UnsupportedVersion:
		kind = fault.Unsupported
	}
	*f = &fault.Error{Kind: kind, Op: "packet.Decode", Err: errors.New(e.Error())}
	return true
}

// ReasonOf is the reason code in err's chain, or UnspecifiedError.
func ReasonOf(err error) ReasonCode {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return UnspecifiedError
}

func malformed(format string, args ...any) *Error {
	return &Error{Reason: Malformed, Detail: fmt.Sprintf(format, args...)}
}

func protocolError(format string, args ...any) *Error {
	return &Error{Reason: ProtocolError, Detail: fmt.Sprintf(format, args...)}
}
