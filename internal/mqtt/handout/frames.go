package handout

import "math"

func (f *Hello) appendTo(b []byte) []byte { return appendUvarints(b, f.Version) }
func (f *Hello) parse(r *reader)          { f.Version = r.uvarint(math.MaxUint64) }

func (f *Serves) appendTo(b []byte) []byte {
	b = appendUvarints(b, f.Shard, f.Last, uint64(len(f.Groups)))
	for i := range f.Groups {
		b = f.Groups[i].appendTo(b)
	}
	return b
}

func (f *Serves) parse(r *reader) {
	const least = 2 // bytes of a name
	f.Shard, f.Last = r.uvarint(maxNumber), r.uvarint(math.MaxUint64)
	for n := r.uvarint(uint64(len(r.b) / least)); n > 0 && !r.bad; n-- {
		f.Groups = append(f.Groups, r.name())
	}
}

func (f *Claim) appendTo(b []byte) []byte {
	return f.Group.appendTo(appendUvarints(b, f.Request, f.Shard))
}

func (f *Claim) parse(r *reader) {
	f.Request, f.Shard, f.Group = r.uvarint(math.MaxUint64), r.uvarint(maxNumber), r.name()
}

func (f *Unclaim) appendTo(b []byte) []byte { return f.Group.appendTo(appendUvarints(b, f.Shard)) }
func (f *Unclaim) parse(r *reader)          { f.Shard, f.Group = r.uvarint(maxNumber), r.name() }

// The bits of the options of a Join: the lowest is the QoS.
const (
	optionQoS1   = 1 << 0
	optionRetain = 1 << 1
	optionsMost  = optionQoS1 | optionRetain
)

func (f *Join) appendTo(b []byte) []byte {
	options := f.QoS & optionQoS1
	if f.RetainAsPublished {
		options |= optionRetain
	}
	b = f.Group.appendTo(appendUvarints(b, f.Member))
	b = append(appendText(b, f.Client), f.Version, options)
	return appendUvarints(b, f.ID, f.Window, f.MaxPacket)
}

func (f *Join) parse(r *reader) {
	const newest = 5
	f.Member, f.Group, f.Client = r.uvarint(maxNumber), r.name(), r.text()
	f.Version = r.byte(newest)
	options := r.byte(optionsMost)
	f.QoS, f.RetainAsPublished = options&optionQoS1, options&optionRetain != 0
	f.ID, f.Window, f.MaxPacket = r.uvarint(maxNumber), r.uvarint(maxNumber), r.uvarint(maxNumber)
	if f.Version < 3 || f.Window == 0 {
		r.fail()
	}
}

func (f *Unsubscribe) appendTo(b []byte) []byte { return appendUvarints(b, f.Member) }
func (f *Unsubscribe) parse(r *reader)          { f.Member = r.uvarint(maxNumber) }

func (f *Leave) appendTo(b []byte) []byte { return appendUvarints(b, f.Member) }
func (f *Leave) parse(r *reader)          { f.Member = r.uvarint(maxNumber) }

func (f *Done) appendTo(b []byte) []byte {
	return appendUvarints(appendUvarints(b, f.Member, uint64(len(f.IDs))), f.IDs...)
}

func (f *Done) parse(r *reader) {
	f.Member = r.uvarint(maxNumber)
	for n := r.uvarint(uint64(len(r.b))); n > 0 && !r.bad; n-- {
		f.IDs = append(f.IDs, r.uvarint(math.MaxUint64))
	}
}

func (f *Refuse) appendTo(b []byte) []byte {
	return appendText(appendUvarints(b, f.Member, f.ID), f.Topic)
}

func (f *Refuse) parse(r *reader) {
	f.Member, f.ID, f.Topic = r.uvarint(maxNumber), r.uvarint(math.MaxUint64), r.text()
}

func (f *Answer) appendTo(b []byte) []byte { return appendText(appendUvarints(b, f.Request), f.Error) }
func (f *Answer) parse(r *reader)          { f.Request, f.Error = r.uvarint(math.MaxUint64), r.text() }

func (f *Message) appendTo(b []byte) []byte {
	b = appendUvarints(b, f.Member, f.ID, f.Payload, uint64(len(f.Publish)))
	return append(b, f.Publish...)
}

func (f *Message) parse(r *reader) {
	f.Member, f.ID = r.uvarint(maxNumber), r.uvarint(math.MaxUint64)
	f.Payload, f.Publish = r.uvarint(uint64(len(r.b))), r.bytes()
	if f.Payload > uint64(len(f.Publish)) {
		r.fail()
	}
}

func (*Ping) appendTo(b []byte) []byte { return b }
func (*Ping) parse(*reader)            {}
