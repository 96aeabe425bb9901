package rule

import (
	"math/bits"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Operation is what somebody wants to do to a resource. The numbers are those of Kafka's AclOperation, for they go over
// the wire. Of MQTT, publishing is Write, and subscribing and receiving are Read.
type Operation uint8

// The operations.
const (
	All             Operation = 2
	Read            Operation = 3
	Write           Operation = 4
	Create          Operation = 5
	Delete          Operation = 6
	Alter           Operation = 7
	Describe        Operation = 8
	ClusterAction   Operation = 9
	DescribeConfigs Operation = 10
	AlterConfigs    Operation = 11
	IdempotentWrite Operation = 12
	CreateTokens    Operation = 13
	DescribeTokens  Operation = 14
	TwoPhaseCommit  Operation = 15

	lastOperation = TwoPhaseCommit
)

var operationNames = [...]string{
	All: "all", Read: "read", Write: "write", Create: "create", Delete: "delete", Alter: "alter", Describe: "describe",
	ClusterAction: "cluster_action", DescribeConfigs: "describe_configs", AlterConfigs: "alter_configs",
	IdempotentWrite: "idempotent_write", CreateTokens: "create_tokens", DescribeTokens: "describe_tokens",
	TwoPhaseCommit: "two_phase_commit",
}

// String is the name of an operation as rules have it: "describe_configs".
func (o Operation) String() string {
	if int(o) < len(operationNames) && operationNames[o] != "" {
		return operationNames[o]
	}
	return "unknown"
}

// ParseOperation is the operation that a name means: Kafka's, in small letters, or publish and subscribe, or
// idempotent-write. Errors: Invalid.
func ParseOperation(name string) (Operation, error) {
	word := strings.ReplaceAll(strings.ToLower(name), "-", "_")
	switch word {
	case "publish":
		return Write, nil
	case "subscribe", "receive":
		return Read, nil
	}
	if at := slices.Index(operationNames[:], word); at > 0 && word != "" {
		return Operation(at), nil
	}
	return 0, fault.New(fault.Invalid, "access.Operation", "%s is no operation", fault.Text(name)).
		WithHint("they are %s; and of MQTT publish and subscribe", strings.Join(operationNames[All:], ", "))
}

// Operations is a set of operations.
type Operations uint32

// Everything is the set of all operations, of which All is one.
const Everything = Operations(1<<(lastOperation+1) - 1<<All)

// Of is the set of some operations; with All in it, of every one.
func Of(list ...Operation) Operations {
	var s Operations
	for _, o := range list {
		s |= 1 << o
	}
	if s.Has(All) {
		return Everything
	}
	return s
}

// Has tells whether an operation is in the set.
func (s Operations) Has(o Operation) bool { return s&(1<<o) != 0 }

// List is the operations of the set, by number; those that All stands for are not named besides.
func (s Operations) List() []Operation {
	if s == Everything {
		return []Operation{All}
	}
	list := make([]Operation, 0, bits.OnesCount32(uint32(s)))
	for o := All; o <= lastOperation; o++ {
		if s.Has(o) {
			list = append(list, o)
		}
	}
	return list
}

// String lists the operations: "read,describe".
func (s Operations) String() string {
	var names []string
	for _, o := range s.List() {
		names = append(names, o.String())
	}
	return strings.Join(names, ",")
}

// implied are the operations besides itself of which a right to one gives the right to an operation, as Kafka's
// authorizer has it. What is denied implies nothing.
var implied = [lastOperation + 1]Operations{
	Describe:        Of(Read, Write, Delete, Alter),
	DescribeConfigs: Of(AlterConfigs),
}

// grants are what rules say of one resource.
type grants struct{ allow, deny Operations }

func (g grants) with(h grants) grants { return grants{g.allow | h.allow, g.deny | h.deny} }

// may is the decision: what is denied is denied, and what nobody allowed is too.
func (g grants) may(o Operation) bool {
	return !g.deny.Has(o) && g.allow&(1<<o|implied[o]) != 0
}
