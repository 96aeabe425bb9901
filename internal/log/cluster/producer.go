package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/kit/clock"
	"github.com/firthmq/firth/internal/kit/fault"
)

// producer is what the cluster knows a sender by: an id, an epoch, and the numbers of its records in each partition
// (KIP-98). Requests are not repeated below it, so that it knows what may have been taken in.
type producer struct {
	client  *kgo.Client
	name    string        // the transactional id; none: it appends without transactions
	timeout time.Duration // of transactions
	owned   bool          // the name is that of a shard: who takes it anew would fence the next owner
	second  bool          // transactions are of the second kind (KIP-890): their end gives the next epoch

	id        int64
	epoch     int16
	given     bool  // id and epoch were, once
	rival     error // the answer that says that the shard has another owner
	ready     bool  // they may be used
	sequences map[*part]int32
	joined    map[*part]struct{} // partitions in the open transaction, where they have to be named
}

func (p *producer) transactional() bool { return p.name != "" }

// begin takes an id if there is none that may be used.
func (p *producer) begin(ctx context.Context) error {
	switch {
	case p.rival != nil:
		return p.lost()
	case p.ready:
		return nil
	}
	return p.take(ctx)
}

// lost is the error of an owner whose shard another has.
func (p *producer) lost() error { return fault.Wrap(fault.Fenced, "log.Append", p.rival) }

// take gets an id and an epoch. What the transactional id has left open is aborted by that, and what may still be on
// its way under the old epoch will be refused. The owner of a shard asks for the epoch after his own, which another
// owner does not have to fear (KIP-360). Errors: Fenced, and what the cluster says.
func (p *producer) take(ctx context.Context) error {
	p.ready = false
	for try := 0; ; try++ {
		req := kmsg.NewPtrInitProducerIDRequest()
		if p.transactional() {
			req.TransactionalID = &p.name
			req.TransactionTimeoutMillis = int32(p.timeout.Milliseconds())
		}
		again := p.owned && p.given
		if again {
			req.ProducerID, req.ProducerEpoch = p.id, p.epoch
		}
		resp, err := req.RequestWith(ctx, p.client)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		switch v := judge(err); {
		case v == taken:
			p.become(resp.ProducerID, resp.ProducerEpoch)
			return nil
		case v == refused:
			return err
		case again && (v == outdated || v == fenced):
			p.rival = err
			return p.lost()
		}
		if clock.Pause(ctx, lasting(try)) != nil {
			return err
		}
	}
}

func (p *producer) become(id int64, epoch int16) {
	p.id, p.epoch, p.given, p.ready = id, epoch, true, true
	if p.sequences == nil {
		p.sequences, p.joined = make(map[*part]int32), make(map[*part]struct{})
	}
	clear(p.sequences)
	clear(p.joined)
}

// join makes partitions part of the open transaction, where their batches do not do so themselves.
func (p *producer) join(ctx context.Context, heads []*batch) (step, error) {
	if !p.transactional() || p.second {
		return done, nil
	}
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = p.name, p.id, p.epoch
	topics := make(map[string]int)
	for _, b := range heads {
		if _, in := p.joined[b.p]; in {
			continue
		}
		i, ok := topics[b.p.topic]
		if !ok {
			i = len(req.Topics)
			topics[b.p.topic] = i
			t := kmsg.NewAddPartitionsToTxnRequestTopic()
			t.Topic = b.p.topic
			req.Topics = append(req.Topics, t)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, b.p.index)
	}
	if len(req.Topics) == 0 {
		return done, nil
	}
	a := attempt{undoable: true, owned: p.owned}
	resp, err := req.RequestWith(ctx, p.client)
	if err == nil {
		err = joinError(resp)
	}
	s := a.next(judge(err), ctx.Err() == nil)
	if s == done {
		for _, b := range heads {
			p.joined[b.p] = struct{}{}
		}
	}
	return s, err
}

// joinError is what is wrong with the partitions that were named, or nil.
func joinError(resp *kmsg.AddPartitionsToTxnResponse) (err error) {
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			if e := kerr.ErrorForCode(p.ErrorCode); e != nil && (err == nil || judge(e) != later) {
				err = e // one is at fault, the others were not attempted
			}
		}
	}
	return err
}

// end ends the open transaction, with its records or without. Done, the producer may begin the next one.
func (p *producer) end(ctx context.Context, commit bool) (step, error) {
	a := attempt{undoable: !commit, owned: p.owned}
	for try := 0; ; try++ {
		req := kmsg.NewPtrEndTxnRequest()
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = p.name, p.id, p.epoch, commit
		resp, err := req.RequestWith(ctx, p.client)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		v := judge(err)
		if p.owned && (v == fenced || v == outdated && commit && !errors.Is(err, kerr.TransactionAbortable)) {
			v, p.rival = fenced, err // what he has filled is not there any more, so another has ended it
			err = p.lost()
		}
		s := a.next(v, ctx.Err() == nil)
		if s == again && clock.Pause(ctx, lasting(try)) != nil {
			s = a.next(later, false)
		}
		switch s {
		case again:
			continue
		case done:
			p.ended(resp, commit)
		default:
			p.ready = false
		}
		return s, err
	}
}

// ended notes that a transaction has ended. The epoch of one that was aborted may still be in use by a request that
// nobody waits for, unless the cluster has given the next.
func (p *producer) ended(resp *kmsg.EndTxnResponse, commit bool) {
	switch {
	case p.second && resp.ProducerID >= 0:
		p.become(resp.ProducerID, resp.ProducerEpoch)
	case commit:
		clear(p.joined)
	default:
		p.ready = false
	}
}
