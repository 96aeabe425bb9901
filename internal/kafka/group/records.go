package group

import (
	"encoding/binary"
	"math"

	"github.com/firthmq/firth/internal/kafka/wire"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The records of __consumer_offsets, in Kafka's own format. docs/format/internal-topics.md has
// them byte by byte.

// Kind is what a record is about: the version of its key.
type Kind int16

// The kinds, with Kafka's numbers. There is also 0, of offsets that were committed before consumers had timestamps; it
// is read as KindOffset.
const (
	KindOffset      Kind = 1  // a committed offset
	KindClassic     Kind = 2  // a classic group
	KindConsumer    Kind = 3  // a consumer group: its epoch
	KindMember      Kind = 5  // a member of a consumer group: what it says of itself
	KindTargetEpoch Kind = 6  // of which epoch the target assignment of a consumer group is
	KindTarget      Kind = 7  // what a member of a consumer group is to have
	KindCurrent     Kind = 8  // what a member of a consumer group has
	KindShare       Kind = 11 // a share group: its epoch
	KindRegex       Kind = 16 // the topics that a regular expression of a consumer group matched

	KindStreams            Kind = 17 // a streams group: its epoch
	KindStreamsMember      Kind = 19 // a member of a streams group: what it says of itself
	KindStreamsTargetEpoch Kind = 20 // of which epoch the target assignment of a streams group is
	KindStreamsTarget      Kind = 21 // what a member of a streams group is to have
	KindStreamsCurrent     Kind = 22 // what a member of a streams group has
	KindTopology           Kind = 23 // the topology of a streams group
)

const offsetKeyV0 = 0

// The versions of the values that are written.
const (
	offsetValueExpiring = 1 // for a commit that asks for a retention of its own (before OffsetCommit 5)
	offsetValueV3       = 3
	groupValueV3        = 3
)

// firstFlexible is the first version of both values with compact lengths and tagged fields.
const firstFlexible = 4

// What kmsg decodes is walked along its shape first (wire.Shape): it believes how many tagged fields
// there are. Each begins behind the version.
var (
	offsetShape       = wire.ParseShape("8 4@3- s 8 8@1-1")
	groupShape        = wire.ParseShape("s 4 S S 8@2- [ s S@3- s s 4@1- 4 y y ]")
	subscriptionShape = wire.ParseShape("*s Y [ s *4 ]@1- 4@2- S@3-")
)

// fits says whether b is a version followed by what the shape asks for in that version.
func fits(shape wire.Shape, b []byte, flexibleFrom int16) bool {
	if len(b) < 2 {
		return false
	}
	version := int16(binary.BigEndian.Uint16(b))
	return shape.Fits(b[2:], version, version >= flexibleFrom)
}

func misfit(op string, b []byte) error {
	return fault.New(fault.Corrupt, op, "a value of %d bytes that is cut short or counts more than it has", len(b))
}

// NoExpiry is the Offset.Expires of a commit that lives as long as its group.
const NoExpiry = -1

// Offset is one committed offset.
type Offset struct {
	At          int64 // the offset
	LeaderEpoch int32 // of the last record read; -1: unknown
	Metadata    string
	Committed   int64 // when, milliseconds since 1970
	Expires     int64 // when it goes by its own wish, milliseconds since 1970; NoExpiry: not by itself
}

// Key is what a record of __consumer_offsets is about.
type Key struct {
	Kind      Kind
	Group     string
	Topic     string // of a committed offset
	Partition int32  // of a committed offset
	Name      string // of a member, or the regular expression
}

// named tells whether the record is one of several of its kind in a group.
func (k *Key) named() bool {
	switch k.Kind {
	case KindMember, KindTarget, KindCurrent, KindRegex, KindStreamsMember, KindStreamsTarget, KindStreamsCurrent:
		return true
	}
	return false
}

// Append encodes the key of a record of a group itself. Errors: Invalid, a name above 32,767 bytes.
func (k *Key) Append(b []byte) ([]byte, error) {
	if len(k.Group) > math.MaxInt16 || len(k.Name) > math.MaxInt16 {
		return nil, fault.New(fault.Invalid, "group.Key", "the name of a group or member is longer than 32767 bytes")
	}
	b = appendPlain(appendVersion(b, int16(k.Kind)), k.Group)
	if k.named() {
		b = appendPlain(b, k.Name)
	}
	return b, nil
}

// AppendOffset encodes the key of a committed offset. Errors: Invalid, a name above 32,767 bytes.
func (k *Key) AppendOffset(b []byte) ([]byte, error) {
	if len(k.Group) > math.MaxInt16 || len(k.Topic) > math.MaxInt16 {
		return nil, fault.New(fault.Invalid, "group.Key", "the name of a group or topic is longer than 32767 bytes")
	}
	key := kmsg.OffsetCommitKey{Version: int16(KindOffset), Group: k.Group, Topic: k.Topic, Partition: k.Partition}
	return key.AppendTo(b), nil
}

// Append encodes a committed offset: version 3, or 1 if it expires by itself.
// Errors: Invalid, metadata above 32,767 bytes.
func (o *Offset) Append(b []byte) ([]byte, error) {
	if len(o.Metadata) > math.MaxInt16 {
		return nil, fault.New(fault.Invalid, "group.Offset", "the metadata is longer than 32767 bytes")
	}
	v := kmsg.OffsetCommitValue{
		Version: offsetValueV3, Offset: o.At, LeaderEpoch: o.LeaderEpoch, Metadata: o.Metadata,
		CommitTimestamp: o.Committed,
	}
	if o.Expires != NoExpiry {
		v.Version, v.ExpireTimestamp = offsetValueExpiring, o.Expires
	}
	return v.AppendTo(b), nil
}

// GroupValue encodes a group, version 3.
func GroupValue(s *Snapshot) []byte {
	v := kmsg.GroupMetadataValue{
		Version: groupValueV3, ProtocolType: s.ProtocolType, Generation: s.Generation,
		Protocol: wire.Nullable(s.Protocol), Leader: wire.Nullable(s.Leader), CurrentStateTimestamp: s.Since,
	}
	for i := range s.Members {
		m := &s.Members[i]
		v.Members = append(v.Members, kmsg.GroupMetadataValueMember{
			MemberID: m.ID, InstanceID: wire.Nullable(m.InstanceID), ClientID: m.ClientID, ClientHost: m.ClientHost,
			RebalanceTimeoutMillis: m.RebalanceTimeout, SessionTimeoutMillis: m.SessionTimeout,
			Subscription: m.Metadata, Assignment: m.Assignment,
		})
	}
	return v.AppendTo(nil)
}

// DecodeKey decodes the key of a record. known is false for a version from the future or of another
// kind of group: such a record is to be left alone. Errors: Corrupt.
func DecodeKey(b []byte) (k Key, known bool, err error) {
	const op = "group.DecodeKey"
	if len(b) < 2 {
		return k, false, fault.New(fault.Corrupt, op, "a key of %d bytes", len(b))
	}
	r := reader{b: b}
	k.Kind = Kind(r.int16())
	if k.Kind == offsetKeyV0 {
		k.Kind = KindOffset
	}
	switch k.Kind {
	case KindOffset:
		k.Group, k.Topic, k.Partition = r.plain(), r.plain(), r.int32()
	case KindClassic, KindConsumer, KindTargetEpoch, KindShare, KindStreams, KindStreamsTargetEpoch, KindTopology:
		k.Group = r.plain()
	default:
		if !k.named() {
			return Key{}, false, nil
		}
		k.Group, k.Name = r.plain(), r.plain()
	}
	switch {
	case r.bad:
		return Key{}, false, fault.New(fault.Corrupt, op, "a key of %d bytes that is cut short", len(b))
	case k.Kind == KindOffset && k.Topic == "":
		return Key{}, false, fault.New(fault.Corrupt, op, "a committed offset of a topic without a name")
	}
	return k, true, nil
}

// DecodeOffset decodes a committed offset, versions 0 to 4. Errors: Corrupt, Unsupported.
func DecodeOffset(b []byte) (Offset, error) {
	const op = "group.DecodeOffset"
	v := kmsg.OffsetCommitValue{LeaderEpoch: -1, ExpireTimestamp: NoExpiry}
	if len(b) >= 2 {
		if version := int16(binary.BigEndian.Uint16(b)); version < 0 || version > 4 {
			return Offset{}, fault.New(fault.Unsupported, op, "version %d", version)
		}
	}
	if !fits(offsetShape, b, firstFlexible) {
		return Offset{}, misfit(op, b)
	}
	if err := v.ReadFrom(b); err != nil {
		return Offset{}, fault.Wrap(fault.Corrupt, op, err)
	}
	o := Offset{
		At: v.Offset, LeaderEpoch: v.LeaderEpoch, Metadata: v.Metadata, Committed: v.CommitTimestamp, Expires: NoExpiry,
	}
	if v.Version < 3 {
		o.LeaderEpoch = -1
	}
	if v.Version == offsetValueExpiring {
		o.Expires = v.ExpireTimestamp
	}
	return o, nil
}

// DecodeGroup decodes a group, versions 0 to 4. Errors: Corrupt, Unsupported.
func DecodeGroup(b []byte) (Snapshot, error) {
	const op = "group.DecodeGroup"
	v := kmsg.GroupMetadataValue{CurrentStateTimestamp: -1}
	if len(b) >= 2 {
		if version := int16(binary.BigEndian.Uint16(b)); version < 0 || version > 4 {
			return Snapshot{}, fault.New(fault.Unsupported, op, "version %d", version)
		}
	}
	if !fits(groupShape, b, firstFlexible) {
		return Snapshot{}, misfit(op, b)
	}
	if err := v.ReadFrom(b); err != nil {
		return Snapshot{}, fault.Wrap(fault.Corrupt, op, err)
	}
	s := Snapshot{
		ProtocolType: v.ProtocolType, Generation: v.Generation, Protocol: wire.Plain(v.Protocol),
		Leader: wire.Plain(v.Leader), Since: v.CurrentStateTimestamp,
	}
	for i := range v.Members {
		m := &v.Members[i]
		s.Members = append(s.Members, SnapshotMember{
			ID: m.MemberID, InstanceID: wire.Plain(m.InstanceID), ClientID: m.ClientID, ClientHost: m.ClientHost,
			RebalanceTimeout: max(m.RebalanceTimeoutMillis, m.SessionTimeoutMillis), SessionTimeout: m.SessionTimeoutMillis,
			Metadata: m.Subscription, Assignment: m.Assignment,
		})
	}
	return s, nil
}

// Subscribes is a predicate: whether some member subscribes to a topic. Where what a consumer says cannot be read, it
// may subscribe to anything. known is false for a group with members that are no consumers.
func (g *Group) Subscribes() (to func(topic string) bool, known bool) {
	if len(g.members) > 0 && g.protocolType != consumerType {
		return nil, false
	}
	topics, all := map[string]bool{}, false
	for _, m := range g.members {
		said := subscription(m.said(g.protocol))
		if said == nil {
			all = true
			continue
		}
		for _, t := range said.Topics {
			topics[t] = true
		}
	}
	return func(topic string) bool { return all || topics[topic] }, true
}
