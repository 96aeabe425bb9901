package group

import "fmt"

// Code is a Kafka error code that a group answers with.
type Code int16

// The codes, with Kafka's numbers.
const (
	None                      Code = 0
	CoordinatorNotAvailable   Code = 15
	IllegalGeneration         Code = 22
	InconsistentGroupProtocol Code = 23
	UnknownMemberID           Code = 25
	InvalidSessionTimeout     Code = 26
	RebalanceInProgress       Code = 27
	InvalidRequest            Code = 42
	NonEmptyGroup             Code = 68
	GroupIDNotFound           Code = 69
	MemberIDRequired          Code = 79
	GroupMaxSizeReached       Code = 81
	FencedInstanceID          Code = 82
	FencedMemberEpoch         Code = 110
	UnreleasedInstanceID      Code = 111
	StaleMemberEpoch          Code = 113
	InvalidRegularExpression  Code = 128
	StreamsInvalidTopology    Code = 130
)

// String is Kafka's name of the code.
func (c Code) String() string {
	switch c {
	case None:
		return "NONE"
	case CoordinatorNotAvailable:
		return "COORDINATOR_NOT_AVAILABLE"
	case IllegalGeneration:
		return "ILLEGAL_GENERATION"
	case InconsistentGroupProtocol:
		return "INCONSISTENT_GROUP_PROTOCOL"
	case UnknownMemberID:
		return "UNKNOWN_MEMBER_ID"
	case InvalidSessionTimeout:
		return "INVALID_SESSION_TIMEOUT"
	case RebalanceInProgress:
		return "REBALANCE_IN_PROGRESS"
	case InvalidRequest:
		return "INVALID_REQUEST"
	case NonEmptyGroup:
		return "NON_EMPTY_GROUP"
	case GroupIDNotFound:
		return "GROUP_ID_NOT_FOUND"
	case MemberIDRequired:
		return "MEMBER_ID_REQUIRED"
	case GroupMaxSizeReached:
		return "GROUP_MAX_SIZE_REACHED"
	case FencedInstanceID:
		return "FENCED_INSTANCE_ID"
	case FencedMemberEpoch:
		return "FENCED_MEMBER_EPOCH"
	case UnreleasedInstanceID:
		return "UNRELEASED_INSTANCE_ID"
	case StaleMemberEpoch:
		return "STALE_MEMBER_EPOCH"
	case InvalidRegularExpression:
		return "INVALID_REGULAR_EXPRESSION"
	case StreamsInvalidTopology:
		return "STREAMS_INVALID_TOPOLOGY"
	}
	return fmt.Sprintf("code %d", int16(c))
}
