package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterClientQuotas (49): v0-1.
//
// Behaviour
//   - Sets or removes quotas of a user, a client id, both, or an address, by name or for all others (KIP-546). They are
//     on the disk when this is answered, and in force (throttle.go): producer_byte_rate, consumer_byte_rate,
//     request_percentage and controller_mutation_rate; for an address connection_creation_rate.
//   - Entries that are right are changed together, each other one has its own error: INVALID_REQUEST for an entity,
//     a quota or a value that is none.
//
// Versions: 1 flexible.

// alterClientQuotas answers AlterClientQuotas.
func (d *Door) alterClientQuotas(
	ctx context.Context, c *conn, req *kmsg.AlterClientQuotasRequest,
) (*kmsg.AlterClientQuotasResponse, error) {
	resp := kmsg.NewPtrAlterClientQuotasResponse()
	var changes []quotaChange
	var failed error
	if !d.may(c, OpAlterConfigs, OnCluster, ClusterResource) {
		failed = refusal(wire.ClusterAuthorizationFailed, "the quotas cannot be altered")
	}
	faults := make([]error, len(req.Entries))
	for i := range req.Entries {
		change, err := quotaChangeOf(&req.Entries[i])
		if faults[i] = err; err == nil {
			changes = append(changes, change)
		}
	}
	if failed == nil && len(changes) > 0 && !req.ValidateOnly {
		failed = d.alterQuotas(ctx, c, changes)
	}
	for i := range req.Entries {
		answer := kmsg.NewAlterClientQuotasResponseEntry()
		for _, part := range req.Entries[i].Entity {
			is := kmsg.NewAlterClientQuotasResponseEntryEntity()
			is.Type, is.Name = part.Type, part.Name
			answer.Entity = append(answer.Entity, is)
		}
		err := faults[i]
		if failed != nil && err == nil {
			err = failed
		}
		if err != nil {
			answer.ErrorCode, answer.ErrorMessage = createCode(err), new(err.Error())
		}
		resp.Entries = append(resp.Entries, answer)
	}
	return resp, nil
}

// quotaChangeOf reads an entry. Errors: coded.
func quotaChangeOf(entry *kmsg.AlterClientQuotasRequestEntry) (quotaChange, error) {
	change := quotaChange{rates: map[quotaKind]float64{}}
	for _, part := range entry.Entity {
		if p := change.entity.part(part.Type); p != nil && p.given {
			return change, refusal(wire.InvalidRequest, "an entity with two parts of type %s", part.Type)
		}
		if err := change.entity.set(part.Type, part.Name); err != nil {
			return change, err
		}
	}
	if err := change.entity.check(); err != nil {
		return change, err
	}
	for _, op := range entry.Ops {
		kind, err := change.entity.kindOf(op.Key)
		if err != nil {
			return change, err
		}
		if change.rates[kind] = 0; op.Remove {
			continue
		}
		if err := kind.check(op.Value); err != nil {
			return change, err
		}
		change.rates[kind] = op.Value
	}
	return change, nil
}
