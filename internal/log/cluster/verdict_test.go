package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/firthmq/firth/internal/kit/fault"
)

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		err  error
		want verdict
	}{
		{nil, taken},
		{errNoLeader, later},
		{kerr.NotEnoughReplicas, later},
		{kerr.ConcurrentTransactions, later},
		{fmt.Errorf("unable to dial: %w", &net.OpError{Op: "dial", Err: errors.New("refused")}), later},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, unclear},
		{io.EOF, unclear},
		{context.DeadlineExceeded, unclear},
		{errNoAnswer, unclear},
		{kerr.RequestTimedOut, unclear},
		{kerr.NotLeaderForPartition, unclear}, // it may have ceased to lead while it waited for its followers
		{kerr.NotCoordinator, unclear},
		{kerr.UnknownTopicID, unclear}, // of a topic that was just made; who knows that it is gone says so himself
		{kerr.NotEnoughReplicasAfterAppend, unclear},
		{kerr.KafkaStorageError, unclear},
		{kerr.UnknownServerError, unclear},
		{kerr.OutOfOrderSequenceNumber, outdated},
		{kerr.InvalidTxnState, outdated},
		{kerr.TransactionAbortable, outdated},
		{fmt.Errorf("ending: %w", kerr.ProducerFenced), fenced},
		{kerr.InvalidProducerEpoch, fenced},
		{brokerError(kerr.MessageTooLarge.Code, new("too large")), refused},
		{kerr.TopicAuthorizationFailed, refused},
		{kerr.CorruptMessage, refused},
		{kerr.UnsupportedVersion, refused},
		{noPartition("op", 7), refused},
	} {
		if got := judge(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

// TestAttempts goes through what a producer does with the answers to one batch, or to one end of a transaction.
func TestAttempts(t *testing.T) {
	var (
		plain  = attempt{}
		shared = attempt{undoable: true}
		owned  = attempt{undoable: true, owned: true}
		commit = attempt{owned: true}
	)
	for _, c := range []struct {
		name    string
		a       attempt
		answers []verdict
		gaveUp  bool // time has run out at the last
		want    step
	}{
		{"taken in", plain, []verdict{taken}, false, done},
		{"taken in at last", plain, []verdict{later, unclear, later, taken}, false, done},
		{"taken in when time was over", plain, []verdict{taken}, true, done},
		{"no leader", plain, []verdict{later}, false, again},
		{"no leader in time", plain, []verdict{later, later}, true, drop},
		{"no answer", plain, []verdict{unclear}, false, again},
		{"no answer in time", plain, []verdict{unclear}, true, lose},
		{"no answer, then no leader in time", plain, []verdict{unclear, later}, true, lose},
		{"not known here", plain, []verdict{outdated}, false, renew},
		{"not known here, in the end", plain, []verdict{outdated}, true, drop},
		{"no answer, then not known", plain, []verdict{unclear, outdated}, false, lose},
		{"refused", plain, []verdict{later, refused}, false, drop},
		{"no answer, then refused", plain, []verdict{unclear, refused}, false, lose},

		{"a transaction is aborted all the same", shared, []verdict{unclear, outdated}, false, renew},
		{"a transaction without an answer in time", shared, []verdict{unclear}, true, drop},
		{"a transaction of nobody was aborted by the cluster", shared, []verdict{fenced}, false, renew},
		{"an owner is fenced", owned, []verdict{fenced}, false, drop},
		{"an owner is fenced behind no answer", owned, []verdict{unclear, fenced}, false, drop},

		{"committed", commit, []verdict{later, taken}, false, done},
		{"fenced before the commit", commit, []verdict{fenced}, false, drop},
		{"fenced, before the commit or after it", commit, []verdict{unclear, fenced}, false, lose},
		{"the commit came too late", commit, []verdict{outdated}, false, renew},
		{"the commit, or another", commit, []verdict{unclear, outdated}, false, lose},
	} {
		a := c.a
		for i, v := range c.answers {
			last := i == len(c.answers)-1
			got := a.next(v, !last || !c.gaveUp)
			if !last && got != again {
				t.Errorf("%s: step %d after answer %d", c.name, got, i)
			}
			if last && got != c.want {
				t.Errorf("%s: step %d, want %d", c.name, got, c.want)
			}
		}
	}
}

// TestWorstAnswerCounts: a transaction is sent again as a whole, or not at all.
func TestWorstAnswerCounts(t *testing.T) {
	for _, c := range []struct {
		steps []step
		want  step
	}{
		{[]step{done, done}, done},
		{[]step{done, again, done}, again},
		{[]step{again, renew, again}, renew},
		{[]step{renew, drop, again}, drop},
		{[]step{drop, renew}, drop},
	} {
		var heads []*batch
		for _, s := range c.steps {
			heads = append(heads, &batch{step: s, err: fault.New(fault.IO, "op", "%d", s)})
		}
		if got, err := worst(heads); got != c.want || (got != done && err.Error() == "") {
			t.Errorf("%v: %d, %v", c.steps, got, err)
		}
	}
}
