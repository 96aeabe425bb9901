package session

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// The values of the records. Numbers are varints as in encoding/binary. Every Parse has the errors Unsupported, for a
// version that is not known, and Corrupt; it allocates no more than some times the bytes that it is given, and what it
// returns does not point into them.

// SessionRecord is what a session is beside its subscriptions and messages.
type SessionRecord struct {
	Version packet.Version // protocol version of the last connection
	Expiry  uint32         // session expiry interval in seconds; the largest: never
	Away    int64          // Unix milliseconds since when it has no connection; 0: it has one
	Mark    uint64         // that it is pinned to; 0: it follows the last
	Owner   string         // the user that nobody else takes it from; empty: none
}

// ownedVersion is the version of a value with an owner, who must not be lost.
const ownedVersion = 2

// AppendTo appends the value.
func (s *SessionRecord) AppendTo(b []byte) []byte {
	version := byte(valueVersion)
	if s.Owner != "" {
		version = ownedVersion
	}
	b = append(b, version, byte(s.Version))
	b = binary.AppendUvarint(b, uint64(s.Expiry))
	b = binary.AppendUvarint(b, uint64(s.Away))
	b = binary.AppendUvarint(b, s.Mark)
	if s.Owner == "" {
		return b
	}
	return append(binary.AppendUvarint(b, uint64(len(s.Owner))), s.Owner...)
}

// ParseSession decodes a SessionRecord.
func ParseSession(b []byte) (SessionRecord, error) {
	const op = "session.ParseSession"
	r, err := openValue(op, b, ownedVersion)
	if err != nil {
		return SessionRecord{}, err
	}
	s := SessionRecord{Version: packet.Version(r.byte())}
	r.want(s.Version >= packet.V31 && s.Version <= packet.V5)
	s.Expiry = uint32(r.uvarint(math.MaxUint32))
	s.Away = int64(r.uvarint(math.MaxInt64))
	s.Mark = r.uvarint(math.MaxUint64)
	if !r.bad && b[0] == ownedVersion {
		s.Owner = string(r.bytes(r.count(1)))
		r.want(s.Owner != "")
	}
	if err := r.done(op, b); err != nil {
		return SessionRecord{}, err
	}
	return s, nil
}

// FilterRecord is a subscription without its filter, which is in the key.
type FilterRecord struct {
	ID                uint32 // subscription identifier; 0: none
	QoS               byte   // granted
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte   // 0 to 2
	Since             uint64 // mark at which it came into force; 0: none is known
	Where             bool   // deliveries say where they are
	// Where it begins, if not at what was news, whether it has caught up, and the mark that it is pinned to since; 0: it
	// follows the last.
	From   From
	Caught bool
	Mark   uint64
}

// maxSubscriptionID is the largest subscription identifier (section 3.8.2.1.2).
const maxSubscriptionID = 1<<28 - 1

// The bits of the subscription options (section 3.8.3.1).
const (
	optionQoS               = 3
	optionNoLocal           = 1 << 2
	optionRetainAsPublished = 1 << 3
	optionRetainHandling    = 4 // shift of two bits
	optionReserved          = 3 << 6
)

// AppendTo appends the value.
func (f *FilterRecord) AppendTo(b []byte) []byte {
	options := f.QoS&optionQoS | f.RetainHandling<<optionRetainHandling
	if f.NoLocal {
		options |= optionNoLocal
	}
	if f.RetainAsPublished {
		options |= optionRetainAsPublished
	}
	flags := byte(f.From.Kind) << flagsFrom
	if f.Where {
		flags |= flagWhere
	}
	if f.Caught {
		flags |= flagCaught
	}
	version := byte(valueVersion)
	if flags != 0 {
		version = replayVersion
	}
	b = append(b, version, options)
	b = binary.AppendUvarint(b, uint64(f.ID))
	b = binary.AppendUvarint(b, f.Since)
	if flags == 0 {
		return b
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(f.From.At))
	return binary.AppendUvarint(b, f.Mark)
}

// replayVersion is the version of a value with the fields of a replay, which must not be lost.
const replayVersion = 2

// The bits of the byte behind the other fields of that version.
const (
	flagWhere  = 1
	flagCaught = 1 << 1
	flagsFrom  = 2 // shift of the kind of a From
)

// ParseFilter decodes a FilterRecord.
func ParseFilter(b []byte) (FilterRecord, error) {
	const op = "session.ParseFilter"
	r, err := openValue(op, b, replayVersion)
	if err != nil {
		return FilterRecord{}, err
	}
	options := r.byte()
	f := FilterRecord{
		QoS: options & optionQoS, NoLocal: options&optionNoLocal != 0,
		RetainAsPublished: options&optionRetainAsPublished != 0, RetainHandling: options >> optionRetainHandling & 3,
	}
	r.want(f.QoS < QoSLevels && f.RetainHandling <= 2 && options&optionReserved == 0)
	f.ID = uint32(r.uvarint(maxSubscriptionID))
	f.Since = r.uvarint(math.MaxUint64)
	if !r.bad && b[0] == replayVersion {
		flags := r.byte()
		f.Where, f.Caught, f.From.Kind = flags&flagWhere != 0, flags&flagCaught != 0, FromKind(flags>>flagsFrom)
		f.From.At = int64(r.uvarint(math.MaxInt64))
		f.Mark = r.uvarint(math.MaxUint64)
		r.want(f.From.Kind < fromKinds)
	}
	if err := r.done(op, b); err != nil {
		return FilterRecord{}, err
	}
	return f, nil
}

// WillRecord is a will that is to be published.
type WillRecord struct {
	Due   int64          // Unix milliseconds at which it is to be published; 0: the connection is there
	Delay uint32         // seconds from the loss of the connection
	Will  packet.Publish // without packet id
	User  string         // name of who left it, for the guard; empty: none given
	From  string         // how who left it was here, for the guard; empty: not known
}

// AppendTo appends the value, the will as a PUBLISH of MQTT 5.
func (w *WillRecord) AppendTo(b []byte) []byte {
	version := byte(valueVersion)
	switch {
	case w.From != "":
		version = fromVersion
	case w.User != "":
		version = userVersion
	}
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(w.Due))
	b = binary.AppendUvarint(b, uint64(w.Delay))
	will := w.Will
	will.PacketID, will.Dup = willPacketID, false
	b = binary.AppendUvarint(b, uint64(will.Size(packet.V5)))
	b = will.AppendTo(b, packet.V5)
	if version >= userVersion {
		b = append(binary.AppendUvarint(b, uint64(len(w.User))), w.User...)
	}
	if version >= fromVersion {
		b = append(binary.AppendUvarint(b, uint64(len(w.From))), w.From...)
	}
	return b
}

// userVersion is the version of a value with the name of a user, without which nobody may be judged.
const userVersion = 2

// fromVersion is the version of a value that also says how who left it was here.
const fromVersion = 3

// willPacketID stands where a PUBLISH above QoS 0 needs an id.
const willPacketID = 1

// ParseWill decodes a WillRecord.
func ParseWill(b []byte) (WillRecord, error) {
	const op = "session.ParseWill"
	r, err := openValue(op, b, userVersion, fromVersion)
	if err != nil {
		return WillRecord{}, err
	}
	var w WillRecord
	w.Due = int64(r.uvarint(math.MaxInt64))
	w.Delay = uint32(r.uvarint(math.MaxUint32))
	frame := bytes.Clone(r.bytes(r.count(1)))
	if !r.bad && b[0] >= userVersion {
		w.User = string(r.bytes(r.count(1)))
	}
	if !r.bad && b[0] >= fromVersion {
		w.From = string(r.bytes(r.count(1)))
	}
	if err := r.done(op, b); err != nil {
		return WillRecord{}, err
	}
	dec := packet.Decoder{Version: packet.V5}
	p, err := dec.Decode(frame)
	if err != nil {
		return WillRecord{}, fault.Wrap(fault.Corrupt, op, err)
	}
	will, ok := p.(*packet.Publish)
	if !ok || will.Props.Has(packet.PropTopicAlias) {
		return WillRecord{}, fault.New(fault.Corrupt, op, "a will that is a %s or has a topic alias", p.Type())
	}
	w.Will = *will
	w.Will.PacketID, w.Will.Dup = 0, false
	return w, nil
}

// PlaceRecord is where a session stands in a partition beyond its mark.
type PlaceRecord struct {
	Next    int64    // offset below which it was offered everything
	Flights []Flight // what of that is in flight, in the order of sending. From.Partition is 0: the key has it
}

// AppendTo appends the value.
func (p *PlaceRecord) AppendTo(b []byte) []byte {
	b = append(b, valueVersion)
	b = binary.AppendUvarint(b, uint64(p.Next))
	b = binary.AppendUvarint(b, uint64(len(p.Flights)))
	var position uint64
	offset := p.Next
	for i := range p.Flights {
		f := &p.Flights[i]
		b = binary.AppendUvarint(b, (f.Position-position)<<stepBits|uint64(f.step()))
		b = binary.AppendVarint(b, f.From.Offset-offset)
		position, offset = f.Position, f.From.Offset
	}
	return b
}

// ParsePlace decodes a PlaceRecord.
func ParsePlace(b []byte) (PlaceRecord, error) {
	const op = "session.ParsePlace"
	r, err := openValue(op, b)
	if err != nil {
		return PlaceRecord{}, err
	}
	p := PlaceRecord{Next: int64(r.uvarint(math.MaxInt64))}
	n := r.count(2)
	r.want(n <= longest)
	if n > 0 && !r.bad {
		p.Flights = make([]Flight, 0, n)
	}
	before := Flight{From: Place{Offset: p.Next}}
	for i := 0; i < n && !r.bad; i++ {
		before = r.flight(&before, i == 0)
		p.Flights = append(p.Flights, before)
	}
	if err := r.done(op, b); err != nil {
		return PlaceRecord{}, err
	}
	return p, nil
}

// flight is one that follows another, or the first.
func (r *reader) flight(before *Flight, first bool) Flight {
	key := r.uvarint(math.MaxUint64)
	further, step := key>>stepBits, step(key&(1<<stepBits-1))
	f := Flight{
		Position: before.Position + further, QoS: step.qos(), Released: step == released,
		From: Place{Offset: before.From.Offset + r.varint()},
	}
	r.want(step != over && (further > 0 || first) && f.Position <= maxPosition && f.From.Offset >= 0)
	return f
}

// ReceivedRecord has a bit for each of the 256 packet ids of a chunk, those of one high byte: the lowest bit of its
// first byte is the lowest. Those set are of QoS 2 and were received and not released.
type ReceivedRecord [32]byte

// Empty tells that no id is in it: then the record is removed.
func (c *ReceivedRecord) Empty() bool { return *c == ReceivedRecord{} }

// AppendTo appends the value.
func (c *ReceivedRecord) AppendTo(b []byte) []byte { return append(append(b, valueVersion), c[:]...) }

// ParseReceived decodes a ReceivedRecord.
func ParseReceived(b []byte) (ReceivedRecord, error) {
	const op = "session.ParseReceived"
	r, err := openValue(op, b)
	if err != nil {
		return ReceivedRecord{}, err
	}
	var c ReceivedRecord
	copy(c[:], r.bytes(len(c)))
	return c, r.done(op, b)
}

// GroupRecord is what a group of a shared subscription is beside the messages that it has not done with.
type GroupRecord struct {
	Mark uint64 // that it is pinned to; 0: it follows the last; or MarkOfFilter
	// Shards are those with sessions that are subscribed, rising, where nodes share sessions; none: it is not known.
	Shards []int
}

// MarkOfFilter stands for the mark since which the oldest subscription of a group is in force.
const MarkOfFilter = math.MaxUint64

// claimedVersion is the version of the value of a group that knows who is subscribed.
const claimedVersion = 2

// maxShard is the highest number of a shard: a bound for what is read.
const maxShard = 1<<20 - 1

// AppendTo appends the value.
func (g *GroupRecord) AppendTo(b []byte) []byte {
	if len(g.Shards) == 0 {
		return binary.AppendUvarint(append(b, valueVersion), g.Mark)
	}
	b = binary.AppendUvarint(append(b, claimedVersion), g.Mark)
	b = binary.AppendUvarint(b, uint64(len(g.Shards)))
	next := 0
	for _, shard := range g.Shards {
		b = binary.AppendUvarint(b, uint64(shard-next))
		next = shard + 1
	}
	return b
}

// ParseGroup decodes a GroupRecord.
func ParseGroup(b []byte) (GroupRecord, error) {
	const op = "session.ParseGroup"
	r, err := openValue(op, b, claimedVersion)
	if err != nil {
		return GroupRecord{}, err
	}
	g := GroupRecord{Mark: r.uvarint(math.MaxUint64)}
	if !r.bad && b[0] == claimedVersion {
		g.Shards = make([]int, r.count(1))
		r.want(len(g.Shards) > 0)
		next := 0
		for i := range g.Shards {
			g.Shards[i] = next + int(r.uvarint(maxShard))
			r.want(g.Shards[i] <= maxShard)
			next = g.Shards[i] + 1
		}
	}
	if err := r.done(op, b); err != nil {
		return GroupRecord{}, err
	}
	return g, nil
}

// AppendTo appends the value.
func (m MarkRecord) AppendTo(b []byte) []byte {
	b = append(b, valueVersion)
	b = binary.AppendUvarint(b, uint64(len(m)))
	var before MarkAt
	for _, at := range m {
		b = binary.AppendUvarint(b, at.Mark-before.Mark)
		b = binary.AppendVarint(b, at.Offset-before.Offset)
		before = at
	}
	return b
}

// ParseMark decodes a MarkRecord.
func ParseMark(b []byte) (MarkRecord, error) {
	const op = "session.ParseMark"
	r, err := openValue(op, b)
	if err != nil {
		return nil, err
	}
	m := make(MarkRecord, r.count(2))
	var before MarkAt
	for i := range m {
		further := r.uvarint(math.MaxUint64 - before.Mark)
		before = MarkAt{Mark: before.Mark + further, Offset: before.Offset + r.varint()}
		r.want(further > 0 && before.Offset >= 0)
		m[i] = before
	}
	if err := r.done(op, b); err != nil {
		return nil, err
	}
	return m, nil
}
