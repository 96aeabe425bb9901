package cluster

import (
	"context"
	"errors"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
)

// kinds are what the error codes of Kafka mean to a caller of the log. What is not here is IO.
var kinds = map[int16]fault.Kind{
	kerr.OffsetOutOfRange.Code:                   fault.OutOfRange,
	kerr.CorruptMessage.Code:                     fault.Corrupt,
	kerr.UnknownTopicOrPartition.Code:            fault.NotFound,
	kerr.UnknownTopicID.Code:                     fault.NotFound,
	kerr.InconsistentTopicID.Code:                fault.NotFound,
	kerr.MessageTooLarge.Code:                    fault.TooLarge,
	kerr.RecordListTooLarge.Code:                 fault.TooLarge,
	kerr.RequestTimedOut.Code:                    fault.Timeout,
	kerr.NotEnoughReplicas.Code:                  fault.ReadOnly,
	kerr.NotEnoughReplicasAfterAppend.Code:       fault.ReadOnly,
	kerr.InvalidTopicException.Code:              fault.Invalid,
	kerr.InvalidPartitions.Code:                  fault.Invalid,
	kerr.InvalidReplicationFactor.Code:           fault.Invalid,
	kerr.InvalidReplicaAssignment.Code:           fault.Invalid,
	kerr.InvalidConfig.Code:                      fault.Invalid,
	kerr.InvalidRequest.Code:                     fault.Invalid,
	kerr.InvalidRecord.Code:                      fault.Invalid,
	kerr.InvalidTimestamp.Code:                   fault.Invalid,
	kerr.TopicAlreadyExists.Code:                 fault.Exists,
	kerr.TopicAuthorizationFailed.Code:           fault.Denied,
	kerr.ClusterAuthorizationFailed.Code:         fault.Denied,
	kerr.TransactionalIDAuthorizationFailed.Code: fault.Denied,
	kerr.SaslAuthenticationFailed.Code:           fault.Denied,
	kerr.TopicDeletionDisabled.Code:              fault.Denied,
	kerr.PolicyViolation.Code:                    fault.Limited,
	kerr.ThrottlingQuotaExceeded.Code:            fault.Limited,
	kerr.UnsupportedVersion.Code:                 fault.Unsupported,
	kerr.ProducerFenced.Code:                     fault.Fenced,
	kerr.InvalidProducerEpoch.Code:               fault.Fenced,
}

// convert gives an error of the client or of the cluster its kind. Nil stays nil.
func convert(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return fault.Wrap(kindOf(err), op, err)
}

func kindOf(err error) fault.Kind {
	if fe, ok := errors.AsType[*fault.Error](err); ok {
		return fault.KindOf(fe)
	}
	if ke, ok := errors.AsType[*kerr.Error](err); ok {
		if kind, known := kinds[ke.Code]; known {
			return kind
		}
		return fault.IO
	}
	switch {
	case errors.Is(err, kgo.ErrClientClosed), errors.Is(err, context.Canceled), errors.Is(err, net.ErrClosed):
		return fault.Closed
	case errors.Is(err, context.DeadlineExceeded):
		return fault.Timeout
	}
	return fault.IO
}

// passing tells whether an answer is about where a partition is led from now, or about a broker that is not up yet:
// it is asked again when that has been looked up.
func passing(code int16) bool {
	switch code {
	case kerr.NotLeaderForPartition.Code, kerr.LeaderNotAvailable.Code, kerr.ReplicaNotAvailable.Code,
		kerr.FencedLeaderEpoch.Code, kerr.UnknownLeaderEpoch.Code, kerr.OffsetNotAvailable.Code,
		kerr.UnknownTopicOrPartition.Code, kerr.UnknownTopicID.Code, kerr.InconsistentTopicID.Code,
		kerr.KafkaStorageError.Code, kerr.BrokerNotAvailable.Code, kerr.NetworkException.Code:
		return true
	}
	return false
}

// mayPass tells whether another try may succeed.
func mayPass(err error) bool {
	if ke, ok := errors.AsType[*kerr.Error](err); ok {
		return ke.Retriable
	}
	kind := kindOf(err)
	return kind == fault.IO || kind == fault.Timeout
}
