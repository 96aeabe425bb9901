// Package rule decides who may do what to what: the one decision that both doors and operators ask for.
//
// A Rule allows or denies a principal some operations on resources, under conditions. A Policy is a set of rules ready
// for use; the Rights of a subject are what of it concerns one connection, and answer on every publish and delivery:
//
//	policy, err := rule.New(rules, mapping)
//	rights := policy.Rights(&rule.Subject{User: "alice", Roles: roles, ClientID: "c1"})
//	rights.Name(rule.Write, topicName, "sensors")   // a device publishes
//	rights.Topic(rule.Read, "sensors")              // a consumer fetches
//
// What a rule denies is denied, whatever others allow; what no rule allows is denied too. A right to the names of
// devices and a right to a topic of the log are rights to the same data, through the mapping: a name may be read if its
// topic of the log may, and a topic of the log if all names that it can hold may.
//
// A rule that masks does neither: what is read has fields that are not shown to its principal (Rights.MaskOfName,
// Rights.MaskOfTopic). Masks add up, and nothing takes one back.
//
// The package is pure: Policy and Rights never change and may be used from any goroutine.
package rule

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/kit/fault"
)

// Effect is what a rule does.
type Effect uint8

// The effects. Deny and Allow have the numbers of Kafka's AclPermissionType, which knows no others.
const (
	Deny  Effect = 2
	Allow Effect = 3
	Mask  Effect = 16 // what is read of topics has fields that are not shown, or not as they are
)

// String is the effect as rules have it.
func (e Effect) String() string {
	switch e {
	case Deny:
		return "deny"
	case Allow:
		return "allow"
	case Mask:
		return "mask"
	}
	return "unknown"
}

// The kinds of principals, in front of a name.
const (
	UserPrefix  = "User:"
	RolePrefix  = "Role:"
	GroupPrefix = "Group:"
)

// Everybody is the principal of a rule for every user, also for those who have not said who they are.
const Everybody = UserPrefix + "*"

// Anonymous is the user of a connection that has not said whose it is, by Kafka's name.
const Anonymous = "ANONYMOUS"

// Rule allows or denies, or masks.
type Rule struct {
	Effect     Effect
	Principal  string // "User:alice", "User:*", "Role:device", "Group:plant"
	Operations Operations
	Resource   Resource
	When       Conditions
	Masks      []mask.Mask // of Mask, whose operation is Read and whose resource is a topic
}

// Conditions limit a rule to some connections. The zero value is no limit.
type Conditions struct {
	Networks  []netip.Prefix // that it comes from one of these
	Listener  string         // that it came by this one
	Encrypted bool           // that it has TLS
	ClientID  string         // that its client identifier is this, or begins with what stands in front of a * at the end
}

func (c *Conditions) none() bool {
	return len(c.Networks) == 0 && c.Listener == "" && !c.Encrypted && c.ClientID == ""
}

// hold tells whether a subject is within the limits, for a rule of that effect.
func (c *Conditions) hold(who *Subject, e Effect) bool {
	switch {
	case c.ClientID != "" && !likeClient(c.ClientID, who.ClientID):
		return false
	case who.Faint && e != Allow:
		return true
	case c.Encrypted && !who.Encrypted, c.Listener != "" && c.Listener != who.Listener:
		return false
	case len(c.Networks) == 0:
		return true
	}
	at := who.Address.Unmap().WithZone("")
	return slices.ContainsFunc(c.Networks, func(n netip.Prefix) bool { return n.Contains(at) })
}

func likeClient(pattern, id string) bool {
	if prefix, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(id, prefix)
	}
	return pattern == id
}

// Subject is a connection, and who it belongs to.
type Subject struct {
	User       string // Anonymous if it has not said
	Roles      []string
	Groups     []string
	ClientID   string
	CommonName string // of its certificate
	// Certificate is what else its certificate says; nil: it has none.
	Certificate Certificate
	Address     netip.Addr
	Listener    string
	Protocol    string // "mqtt", "kafka" or "http"; no rule is about it
	Encrypted   bool
	// Faint says that only user, roles and client identifier are known: other conditions hold for what denies or masks,
	// and for nothing else.
	Faint bool
}

// Check tells what is wrong with a rule. Errors: Invalid.
func (r *Rule) Check() error {
	const op = "access.Rule"
	if err := r.Resource.Check(); err != nil {
		return err
	}
	if err := CheckPrincipal(r.Principal); err != nil {
		return err
	}
	if r.Effect == Mask || len(r.Masks) > 0 {
		if err := r.checkMasks(); err != nil {
			return err
		}
	}
	possible := operations[r.Resource.Kind]
	switch {
	case r.Effect != Allow && r.Effect != Deny && r.Effect != Mask:
		return fault.New(fault.Invalid, op, "it neither allows nor denies")
	case r.Operations == 0:
		return fault.New(fault.Invalid, op, "it is about no operation")
	case r.Operations != Everything && r.Operations&^possible != 0:
		return fault.New(fault.Invalid, op, "%s is nothing to do to a %s", r.Operations&^possible, r.Resource.Kind).
			WithHint("there are %s", possible)
	case len(r.When.Networks) > maxNetworks:
		return fault.New(fault.Invalid, op, "%d networks: at most %d", len(r.When.Networks), maxNetworks)
	}
	return nil
}

func (r *Rule) checkMasks() error {
	const op = "access.Rule"
	switch {
	case r.Effect != Mask:
		return fault.New(fault.Invalid, op, "a rule with masks neither allows nor denies")
	case len(r.Masks) == 0 || len(r.Masks) > maxMasks:
		return fault.New(fault.Invalid, op, "%d masks: 1 to %d", len(r.Masks), maxMasks)
	case r.Operations != Of(Read) || r.Resource.Kind != Topic:
		return fault.New(fault.Invalid, op, "masks are about what is read of topics, or of names of devices")
	}
	for i := range r.Masks {
		if err := r.Masks[i].Check(); err != nil {
			return err
		}
	}
	return nil
}

// maxNetworks and maxMasks are how many networks and masks a rule may name.
const (
	maxNetworks = 64
	maxMasks    = 64
)

// CheckPrincipal tells what is wrong with the principal of a rule. Errors: Invalid.
func CheckPrincipal(principal string) error {
	kind, name, _ := strings.Cut(principal, ":")
	switch {
	case name == "" || !slices.Contains([]string{UserPrefix, RolePrefix, GroupPrefix}, kind+":"):
		return fault.New(fault.Invalid, "access.Rule", "%s is no principal", fault.Text(principal)).
			WithHint("write User:NAME, User:* for everybody, Group:NAME or Role:NAME")
	case len(name) > maxPrincipal || !utf8.ValidString(name):
		return fault.New(fault.Invalid, "access.Rule", "the principal is not UTF-8 of at most %d bytes", maxPrincipal)
	}
	return nil
}

// maxPrincipal is the longest name of a user, group or role, in bytes.
const maxPrincipal = 1024

// stored is a rule as JSON.
type stored struct {
	Effect     string   `json:"effect"`
	Principal  string   `json:"principal"`
	Operations []string `json:"operations"`
	Kind       string   `json:"kind"`
	Pattern    string   `json:"pattern"`
	Name       string   `json:"name"`
	Networks   []string `json:"networks,omitempty"`
	Listener   string   `json:"listener,omitempty"`
	Encrypted  bool     `json:"tls,omitempty"`
	ClientID   string   `json:"client_id,omitempty"`
	Masks      []string `json:"masks,omitempty"` // as mask.Parse reads them
}

// MarshalJSON implements json.Marshaler. Rules that say the same have the same text.
func (r Rule) MarshalJSON() ([]byte, error) {
	s := stored{Effect: r.Effect.String(), Principal: r.Principal, Kind: r.Resource.Kind.String(),
		Pattern: r.Resource.Pattern.String(), Name: r.Resource.Name, Listener: r.When.Listener,
		Encrypted: r.When.Encrypted, ClientID: r.When.ClientID}
	for _, o := range r.Operations.List() {
		s.Operations = append(s.Operations, o.String())
	}
	for _, n := range r.When.Networks {
		s.Networks = append(s.Networks, n.Masked().String())
	}
	slices.Sort(s.Networks)
	for i := range r.Masks {
		s.Masks = append(s.Masks, r.Masks[i].String())
	}
	slices.Sort(s.Masks)
	return json.Marshal(s)
}

// UnmarshalJSON implements json.Unmarshaler. Errors: Invalid.
func (r *Rule) UnmarshalJSON(text []byte) error {
	var s stored
	if err := json.Unmarshal(text, &s); err != nil {
		return fault.Wrap(fault.Invalid, "access.Rule", err)
	}
	parsed, err := s.rule()
	if err == nil {
		err = parsed.Check()
	}
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

// Parse reads a rule that somebody else has written for one principal, as JSON. It may leave the principal out, and
// neither has another one nor keys that are not known: what they mean may be what denies. Errors: Invalid.
func Parse(text []byte, principal string) (Rule, error) {
	s, read := stored{Principal: principal}, json.NewDecoder(bytes.NewReader(text))
	read.DisallowUnknownFields()
	if err := read.Decode(&s); err != nil {
		return Rule{}, fault.Wrap(fault.Invalid, "access.Rule", err)
	}
	if s.Principal != principal {
		return Rule{}, fault.New(fault.Invalid, "access.Rule", "it is about %s", fault.Text(s.Principal))
	}
	r, err := s.rule()
	if err == nil {
		err = r.Check()
	}
	return r, err
}

func (s *stored) rule() (r Rule, err error) {
	switch s.Effect {
	case "allow":
		r.Effect = Allow
	case "deny":
		r.Effect = Deny
	case "mask":
		r.Effect = Mask
	}
	r.Principal = s.Principal
	r.When = Conditions{Listener: s.Listener, Encrypted: s.Encrypted, ClientID: s.ClientID}
	r.Resource.Name = s.Name
	if r.Resource.Kind, err = ParseKind(s.Kind); err != nil {
		return r, err
	}
	if r.Resource.Pattern, err = ParsePattern(s.Pattern); err != nil {
		return r, err
	}
	var list []Operation
	for _, name := range s.Operations {
		o, err := ParseOperation(name)
		if err != nil {
			return r, err
		}
		list = append(list, o)
	}
	r.Operations = Of(list...)
	for _, text := range s.Networks {
		n, err := ParseNetwork(text)
		if err != nil {
			return r, err
		}
		r.When.Networks = append(r.When.Networks, n)
	}
	for _, text := range s.Masks {
		m, err := mask.Parse(text)
		if err != nil {
			return r, err
		}
		r.Masks = append(r.Masks, m)
	}
	return r, nil
}

// ParseNetwork is a network as "10.0.0.0/8", or one address. Errors: Invalid.
func ParseNetwork(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		if at, err := netip.ParseAddr(text); err == nil && at.Zone() == "" {
			at = at.Unmap()
			return netip.PrefixFrom(at, at.BitLen()), nil
		}
	} else if n, err := netip.ParsePrefix(text); err == nil && !n.Addr().Is4In6() {
		return n.Masked(), nil
	}
	return netip.Prefix{}, fault.New(fault.Invalid, "access.Network", "%s is no network", fault.Text(text)).
		WithHint("write 10.0.0.0/8, fd00::/8, or one address")
}

// ID names a rule: rules that say the same have the same. It is 16 hexadecimal digits.
func (r *Rule) ID() string {
	text, _ := r.MarshalJSON() // nothing in it cannot be encoded
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// String is the rule for people: "allow User:alice read on topic sensors", "mask User:bob key=hash on topic sensors".
func (r *Rule) String() string {
	var b strings.Builder
	what := r.Operations.String()
	if r.Effect == Mask {
		masks := make([]string, len(r.Masks))
		for i := range r.Masks {
			masks[i] = fault.Text(r.Masks[i].String())
		}
		what = strings.Join(masks, " ")
	}
	b.WriteString(r.Effect.String() + " " + r.Principal + " " + what + " on " + r.Resource.String())
	for _, n := range r.When.Networks {
		b.WriteString(" from " + n.String())
	}
	if r.When.Listener != "" {
		b.WriteString(" by " + r.When.Listener)
	}
	if r.When.Encrypted {
		b.WriteString(" with TLS")
	}
	if r.When.ClientID != "" {
		b.WriteString(" as " + r.When.ClientID)
	}
	return b.String()
}
