// Package handout is what nodes tell each other about shared subscriptions, where they share sessions: frames of a link
// between a node that has members of groups and the one that has the groups (docs/format/gateways.md). It is the codec
// only; packages groups and members are the two ends.
//
//	b = handout.Append(b, &handout.Done{Member: 1, IDs: ids})
//	frame, err := handout.Read(r)      // of a bufio.Reader
package handout

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Version is the version of the frames, which Hello says: a link of another one is refused.
const Version = 1

// Frame is one of the types below.
type Frame interface {
	kind() byte
	appendTo(b []byte) []byte
	parse(r *reader)
}

// Name is the name of a group.
type Name struct{ Share, Filter string }

// What the node with members says.
type (
	// Hello begins a link.
	Hello struct{ Version uint64 }
	// Serves tells all groups to which sessions of a shard are subscribed, by who has the shard. Last is the last mark of
	// the shard when it came: who has the shard later knows one that is no lower.
	Serves struct {
		Shard  uint64 // from 0
		Last   uint64
		Groups []Name
	}
	// Claim tells that a session of a shard is subscribed from now on. Answer follows once that is stored.
	Claim struct {
		Request uint64
		Shard   uint64
		Group   Name
	}
	// Unclaim tells that no session of a shard is subscribed any more.
	Unclaim struct {
		Shard uint64
		Group Name
	}
	// Join tells of a member, or that its subscription has other options.
	Join struct {
		Member            uint64 // a number that the link gives it
		Group             Name
		Client            string // its identifier
		Version           byte   // of MQTT
		QoS               byte   // granted: 0 or 1
		RetainAsPublished bool
		ID                uint64 // subscription identifier; 0: none
		Window            uint64 // the most messages that it may be given before it is Done with some; from 1
		MaxPacket         uint64 // the largest PUBLISH in bytes
	}
	// Unsubscribe tells that a member is given nothing more; what it has stays its own.
	Unsubscribe struct{ Member uint64 }
	// Leave tells that a member's connection has ended: what it has is for others.
	Leave struct{ Member uint64 }
	// Done tells of messages: with QoS 1 they are acknowledged, with QoS 0 on their way.
	Done struct {
		Member uint64
		IDs    []uint64
	}
	// Refuse tells that a member may not see a message, and so none of its topic name.
	Refuse struct {
		Member, ID uint64
		Topic      string
	}
)

// What the node with the groups says.
type (
	// Answer answers a Claim. Error is why it is not stored; "": it is.
	Answer struct {
		Request uint64
		Error   string
	}
	// Message is one for a member, a PUBLISH whose packet id is 0 in the form in which it gets it.
	Message struct {
		Member, ID uint64 // an ID is given once on a link
		Payload    uint64 // bytes of payload in the PUBLISH
		Publish    []byte
	}
)

// Ping is from both: the link is there. It is answered with one.
type Ping struct{}

func (*Hello) kind() byte       { return 1 }
func (*Serves) kind() byte      { return 2 }
func (*Claim) kind() byte       { return 3 }
func (*Unclaim) kind() byte     { return 4 }
func (*Join) kind() byte        { return 5 }
func (*Unsubscribe) kind() byte { return 6 }
func (*Leave) kind() byte       { return 7 }
func (*Done) kind() byte        { return 8 }
func (*Refuse) kind() byte      { return 9 }
func (*Answer) kind() byte      { return 10 }
func (*Message) kind() byte     { return 11 }
func (*Ping) kind() byte        { return 12 }

// made is a frame of a kind; nil: there is none.
func made(kind byte) Frame {
	switch kind {
	case 1:
		return new(Hello)
	case 2:
		return new(Serves)
	case 3:
		return new(Claim)
	case 4:
		return new(Unclaim)
	case 5:
		return new(Join)
	case 6:
		return new(Unsubscribe)
	case 7:
		return new(Leave)
	case 8:
		return new(Done)
	case 9:
		return new(Refuse)
	case 10:
		return new(Answer)
	case 11:
		return new(Message)
	case 12:
		return new(Ping)
	}
	return nil
}

const (
	// lengthBytes come first: how many bytes follow, kind and fields.
	lengthBytes = 4
	// MaxFrame is the most bytes that follow: a PUBLISH of the largest size that MQTT knows, and what is beside it.
	MaxFrame = 1<<28 + 1<<10
)

// Append appends a frame.
func Append(b []byte, f Frame) []byte {
	from := len(b)
	b = f.appendTo(append(b, 0, 0, 0, 0, f.kind()))
	binary.BigEndian.PutUint32(b[from:], uint32(len(b)-from-lengthBytes))
	return b
}

// Read reads a frame, whose bytes are its own. Errors: those of r, io.EOF at the end; Corrupt for what is no frame;
// Unsupported for a kind that is not known.
func Read(r *bufio.Reader) (Frame, error) {
	var length [lengthBytes]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(length[:]))
	if n == 0 || n > MaxFrame {
		return nil, fault.New(fault.Corrupt, "handout.Read", "a frame of %d bytes", n)
	}
	b, err := readAll(r, n)
	if err != nil {
		return nil, err
	}
	return Parse(b)
}

// readAll reads n bytes; it takes no more memory than some times what comes.
func readAll(r io.Reader, n int) (b []byte, err error) {
	const step = 64 << 10
	for len(b) < n {
		from := len(b)
		b = append(b, make([]byte, min(n-from, max(step, from)))...)
		if _, err := io.ReadFull(r, b[from:]); err != nil {
			return nil, noEnd(err)
		}
	}
	return b, nil
}

// noEnd is the end in the middle of a frame.
func noEnd(err error) error {
	if err == io.EOF { //nolint:errorlint // as ReadFull gives it
		return io.ErrUnexpectedEOF
	}
	return err
}

// Parse decodes what follows the length of a frame. Message points into b. Errors: Corrupt, Unsupported.
func Parse(b []byte) (Frame, error) {
	const op = "handout.Parse"
	if len(b) == 0 {
		return nil, fault.New(fault.Corrupt, op, "an empty frame")
	}
	f := made(b[0])
	if f == nil {
		return nil, fault.New(fault.Unsupported, op, "a frame of kind %d", b[0])
	}
	r := reader{b: b[1:]}
	if f.parse(&r); r.bad || len(r.b) > 0 {
		return nil, fault.New(fault.Corrupt, op, "a frame of kind %d with %d bytes", b[0], len(b))
	}
	return f, nil
}

// reader takes fields off the front of b. Once one is not there or not what it has to be, it is bad, and gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) uvarint(most uint64) uint64 {
	n, width := binary.Uvarint(r.b)
	if width <= 0 || n > most {
		r.fail()
		return 0
	}
	r.b = r.b[width:]
	return n
}

func (r *reader) byte(most byte) byte {
	if len(r.b) == 0 || r.b[0] > most {
		r.fail()
		return 0
	}
	n := r.b[0]
	r.b = r.b[1:]
	return n
}

func (r *reader) bytes() []byte {
	n := r.uvarint(MaxFrame)
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) text() string { return string(r.bytes()) }

func (r *reader) name() Name { return Name{Share: r.text(), Filter: r.text()} }

// maxNumber bounds shards and members.
const maxNumber = math.MaxUint32

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (n *Name) appendTo(b []byte) []byte { return appendText(appendText(b, n.Share), n.Filter) }

func appendUvarints(b []byte, all ...uint64) []byte {
	for _, n := range all {
		b = binary.AppendUvarint(b, n)
	}
	return b
}
