package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterUserScramCredentials (51): v0.
//
// Behaviour
//   - Sets and removes verifiers of SCRAM (KIP-554). What comes is the salted password, which never leaves the request;
//     what is stored are the keys of RFC 5802. Each user is changed for itself, and the change is stored and in force
//     when it is answered. A user who is not there is made.
//   - DUPLICATE_RESOURCE for a user that is named more than once, RESOURCE_NOT_FOUND for a removal of what is not
//     there, UNSUPPORTED_SASL_MECHANISM, and UNACCEPTABLE_CREDENTIAL for no name, fewer than 4,096 or more than 16,384
//     iterations, and a salt or a salted password of the wrong length.

// alterUserScramCreds answers AlterUserScramCredentials.
func (d *Door) alterUserScramCreds(
	ctx context.Context, c *conn, req *kmsg.AlterUserSCRAMCredentialsRequest,
) (*kmsg.AlterUserSCRAMCredentialsResponse, error) {
	resp := kmsg.NewPtrAlterUserSCRAMCredentialsResponse()
	denied := d.mayCredentials(c, OpAlter)
	edits := scramEdits(req)
	times := map[string]int{}
	for _, e := range edits {
		times[e.user]++
	}
	for _, e := range edits {
		n := times[e.user]
		if delete(times, e.user); n == 0 { // was answered
			continue
		}
		err := denied
		if err == nil && n > 1 {
			err = refusal(wire.DuplicateResource, "the user is named more than once")
		}
		if err == nil {
			err = d.editScram(c.as(ctx), e)
		}
		result := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		if result.User = e.user; err != nil {
			result.ErrorCode, result.ErrorMessage = createCode(err), new(err.Error())
		}
		resp.Results = append(resp.Results, result)
	}
	return resp, nil
}

// scramEdit is one item of a request.
type scramEdit struct {
	user      string
	mechanism credential.Mechanism
	set       *kmsg.AlterUserSCRAMCredentialsRequestUpsertion // nil: it is removed
}

func scramEdits(req *kmsg.AlterUserSCRAMCredentialsRequest) (edits []scramEdit) {
	for _, it := range req.Deletions {
		edits = append(edits, scramEdit{user: it.Name, mechanism: credential.Mechanism(it.Mechanism)})
	}
	for i := range req.Upsertions {
		it := &req.Upsertions[i]
		edits = append(edits, scramEdit{user: it.Name, mechanism: credential.Mechanism(it.Mechanism), set: it})
	}
	return edits
}

// editScram does what an item asks for. Errors: coded.
func (d *Door) editScram(ctx context.Context, e scramEdit) error {
	if e.user == "" {
		return refusal(wire.UnacceptableCredential, "a user has a name")
	}
	if !e.mechanism.IsKnown() {
		return refusal(wire.UnsupportedSaslMechanism, "a mechanism of SCRAM that is not known: %d", int8(e.mechanism))
	}
	var set []credential.SCRAM
	remove := []credential.Mechanism{e.mechanism}
	if e.set != nil {
		made, err := credential.FromSalted(e.mechanism, e.set.SaltedPassword, e.set.Salt, int(e.set.Iterations))
		if err != nil {
			return coded{err, wire.UnacceptableCredential}
		}
		set, remove = []credential.SCRAM{made}, nil
	}
	err := d.opt.Credentials.AlterSCRAM(ctx, e.user, set, remove)
	switch {
	case fault.Is(err, fault.NotFound):
		return coded{err, wire.ResourceNotFound}
	case fault.Is(err, fault.Invalid):
		return coded{err, wire.UnacceptableCredential}
	}
	return err
}
