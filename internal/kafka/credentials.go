package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/access/credential"
	"github.com/firthmq/firth/internal/access/verify"
)

// Credentials keeps the verifiers of SCRAM of users, for clients that manage them (KIP-554). It is used from any
// goroutine.
type Credentials interface {
	verify.Users
	// Names lists the users in the order of their names.
	Names() []string
	// AlterSCRAM sets and removes verifiers of a user, all or none, and is back when it is stored and in force. A user
	// who is not there is made. Errors: NotFound when one that is to be removed is not there; Invalid for a name that
	// no user may have; Limited; those of storing.
	AlterSCRAM(ctx context.Context, user string, set []credential.SCRAM, remove []credential.Mechanism) error
}
