package cluster

import (
	"errors"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
)

// verdict is what the cluster's answer to a producer means for what was sent.
type verdict uint8

const (
	taken    verdict = iota // it was taken in
	later                   // it was not taken in now, and may be another time
	unclear                 // it may have been taken in
	outdated                // it was not: the producer has to take an id and an epoch anew
	fenced                  // it was not: the transactional id has another epoch
	refused                 // it never will be: the fault is in what was sent, or in who sent it
)

// judge gives the meaning of an answer, or of there being none.
func judge(err error) verdict {
	if err == nil {
		return taken
	}
	ke, ok := errors.AsType[*kerr.Error](err)
	switch {
	case !ok && ownFault(err):
		return refused
	case errors.Is(err, errNoLeader):
		return later
	case !ok:
		if oe, ok := errors.AsType[*net.OpError](err); ok && oe.Op == "dial" {
			return later // there was no connection to send it on
		}
		return unclear
	}
	switch ke.Code {
	case kerr.NotEnoughReplicas.Code, kerr.ConcurrentTransactions.Code, kerr.CoordinatorLoadInProgress.Code,
		kerr.OperationNotAttempted.Code:
		return later
	case kerr.OutOfOrderSequenceNumber.Code, kerr.UnknownProducerID.Code, kerr.InvalidProducerIDMapping.Code,
		kerr.InvalidTxnState.Code, kerr.TransactionAbortable.Code:
		return outdated
	case kerr.ProducerFenced.Code, kerr.InvalidProducerEpoch.Code:
		return fenced
	case kerr.InvalidTransactionTimeout.Code, kerr.UnsupportedVersion.Code, kerr.UnsupportedForMessageFormat.Code,
		kerr.InvalidRequiredAcks.Code:
		return refused
	}
	if ownFault(ke) && !passing(ke.Code) {
		return refused
	}
	// A leader that is none any more, and a coordinator, say so too when they have written and others may have read it.
	return unclear
}

// attempt is something on its way into the cluster: the batch of a partition, or the end of a transaction. The same is
// sent again until the cluster has said what became of it: a second time it is known by its number or epoch, and not
// taken in twice.
type attempt struct {
	undoable bool // what comes of it is undone if it fails: a batch of a transaction that is not committed yet
	owned    bool // by the owner of a shard, who may be fenced
	doubtful bool // an earlier try may have been taken in
}

// step is what comes after an answer.
type step uint8

const (
	again step = iota // send the same again, or for the first time
	done
	renew // take an id and an epoch anew and send it under these: it was not taken in under the old ones
	drop  // give it up: it is not there and never will be
	lose  // give it up: nobody knows
)

// next takes in an answer. Patient says that there is time to try again.
func (a *attempt) next(v verdict, patient bool) step {
	if v == unclear && !a.undoable {
		a.doubtful = true
	}
	switch {
	case v == taken:
		return done
	case patient && (v == later || v == unclear):
		return again
	case a.doubtful:
		return lose
	case patient && (v == outdated || v == fenced && !a.owned):
		return renew
	}
	return drop
}
