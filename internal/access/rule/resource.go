package rule

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/names"
)

// Kind is a kind of resource. The numbers are those of Kafka's ResourceType, for they go over the wire.
type Kind uint8

// The kinds.
const (
	Topic           Kind = 2 // of the log, and the names of devices by the pattern Filter
	Group           Kind = 3
	Cluster         Kind = 4
	TransactionalID Kind = 5
	DelegationToken Kind = 6
	User            Kind = 7

	lastKind = User
)

var kindNames = [...]string{Topic: "topic", Group: "group", Cluster: "cluster", TransactionalID: "transactional_id",
	DelegationToken: "delegation_token", User: "user"}

// String is the name of a kind as rules have it.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return "unknown"
}

// ParseKind is the kind that a name means. Errors: Invalid.
func ParseKind(name string) (Kind, error) {
	word := strings.ReplaceAll(strings.ToLower(name), "-", "_")
	if at := slices.Index(kindNames[:], word); at > 0 && word != "" {
		return Kind(at), nil
	}
	return 0, fault.New(fault.Invalid, "access.Kind", "%s is no kind of resource", fault.Text(name)).
		WithHint("they are %s", strings.Join(kindNames[Topic:], ", "))
}

// operations are those that make sense for a kind, as Kafka's AclEntry has them.
var operations = [lastKind + 1]Operations{
	Topic:           Of(Read, Write, Create, Describe, Delete, Alter, DescribeConfigs, AlterConfigs),
	Group:           Of(Read, Describe, Delete, DescribeConfigs, AlterConfigs),
	Cluster:         Of(Create, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite, Alter, Describe),
	TransactionalID: Of(Describe, Write, TwoPhaseCommit),
	DelegationToken: Of(Describe),
	User:            Of(CreateTokens, DescribeTokens),
}

// Pattern is how the name of a resource in a rule is meant. Literal and Prefixed have the numbers of Kafka's
// PatternType.
type Pattern uint8

// The patterns.
const (
	Literal  Pattern = 3 // the name itself; "*" means every name
	Prefixed Pattern = 4 // every name that begins so
	Filter   Pattern = 9 // of topics only: the names of devices that a topic filter of MQTT matches
)

var patternNames = [...]string{Literal: "literal", Prefixed: "prefixed", Filter: "filter"}

// String is the name of a pattern as rules have it.
func (p Pattern) String() string {
	if int(p) < len(patternNames) && patternNames[p] != "" {
		return patternNames[p]
	}
	return "unknown"
}

// ParsePattern is the pattern that a name means. Errors: Invalid.
func ParsePattern(name string) (Pattern, error) {
	if at := slices.Index(patternNames[:], strings.ToLower(name)); at > 0 && name != "" {
		return Pattern(at), nil
	}
	return 0, fault.New(fault.Invalid, "access.Pattern", "%s is no pattern", fault.Text(name)).
		WithHint("they are literal, prefixed and filter")
}

// AnyName is the literal name that means every name of a kind; of topics, every one that is not for Firth itself.
const AnyName = "*"

// ClusterName is the name of the one resource of the kind Cluster.
const ClusterName = "kafka-cluster"

// InternalPrefix is how topics of the log begin that are for Firth itself: only a rule whose own name begins so means
// them.
const InternalPrefix = "__firth_"

// Resource is what a rule is about: all resources of a kind whose names a pattern means.
type Resource struct {
	Kind    Kind
	Pattern Pattern
	Name    string // of Filter: with ${clientid}, ${username}, ${cert.cn} and the like as levels or parts of them
}

// String is the resource for people: "topic sensors", "topics sensors.*", "names sensors/+/state".
func (r Resource) String() string {
	switch {
	case r.Pattern == Filter:
		return "names " + r.Name
	case r.Pattern == Prefixed:
		return r.Kind.String() + "s " + r.Name + "*"
	case r.Name == AnyName:
		return "all " + r.Kind.String() + "s"
	}
	return r.Kind.String() + " " + r.Name
}

// maxResourceName is the longest name of a resource in a rule, in bytes.
const maxResourceName = 4096

// Check tells what is wrong with a resource. Errors: Invalid.
func (r Resource) Check() error {
	const op = "access.Resource"
	invalid := func(format string, args ...any) *fault.Error { return fault.New(fault.Invalid, op, format, args...) }
	switch {
	case r.Kind < Topic || r.Kind > lastKind:
		return invalid("%d is no kind of resource", r.Kind)
	case r.Pattern.String() == "unknown":
		return invalid("%d is no pattern", r.Pattern)
	case r.Name == "":
		return invalid("a %s without a name", r.Kind).WithHint(`"*" means every one`)
	case len(r.Name) > maxResourceName:
		return invalid("a name of %d bytes: at most %d", len(r.Name), maxResourceName)
	case !utf8.ValidString(r.Name):
		return invalid("the name %s is not UTF-8", fault.Text(r.Name))
	case r.Pattern == Filter && r.Kind != Topic:
		return invalid("a %s has no topic filter", r.Kind)
	case r.Pattern == Filter:
		return r.checkFilter()
	case r.Kind == Cluster && (r.Pattern != Literal || r.Name != ClusterName && r.Name != AnyName):
		return invalid("the only cluster is %s", ClusterName)
	}
	return nil
}

func (r Resource) checkFilter() error {
	sample, err := expand(r.Name, &Subject{User: "u", ClientID: "c", CommonName: "n", Certificate: anyCertificate{}})
	if err != nil {
		return err
	}
	if _, _, shared := names.SplitShare(sample); shared {
		return fault.New(fault.Invalid, "access.Resource", "%s: rules are about what a group shares, not about the group",
			fault.Text(r.Name)).WithHint("leave $share/NAME/ out")
	}
	return names.CheckFilter(sample)
}

// anyCertificate has every field.
type anyCertificate struct{}

func (anyCertificate) Value(string) string { return "v" }
