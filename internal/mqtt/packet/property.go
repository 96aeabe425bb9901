package packet

import (
	"fmt"
	"iter"
)

// Property is the identifier of a property (section 2.2.2.2).
type Property uint8

// The properties.
const (
	PropPayloadFormat         Property = 0x01
	PropMessageExpiry         Property = 0x02
	PropContentType           Property = 0x03
	PropResponseTopic         Property = 0x08
	PropCorrelationData       Property = 0x09
	PropSubscriptionID        Property = 0x0B
	PropSessionExpiry         Property = 0x11
	PropAssignedClientID      Property = 0x12
	PropServerKeepAlive       Property = 0x13
	PropAuthMethod            Property = 0x15
	PropAuthData              Property = 0x16
	PropRequestProblemInfo    Property = 0x17
	PropWillDelay             Property = 0x18
	PropRequestResponseInfo   Property = 0x19
	PropResponseInfo          Property = 0x1A
	PropServerReference       Property = 0x1C
	PropReasonString          Property = 0x1F
	PropReceiveMaximum        Property = 0x21
	PropTopicAliasMaximum     Property = 0x22
	PropTopicAlias            Property = 0x23
	PropMaximumQoS            Property = 0x24
	PropRetainAvailable       Property = 0x25
	PropUser                  Property = 0x26
	PropMaximumPacketSize     Property = 0x27
	PropWildcardAvailable     Property = 0x28
	PropSubscriptionIDAllowed Property = 0x29
	PropSharedAvailable       Property = 0x2A

	properties = 0x2B // one past the last
)

// Properties are the properties of one packet, or of a will. A field says something only when Has
// tells that its property is there; otherwise it is zero. The Set methods set both. The zero value
// has no property.
//
// Slices of decoded properties point into the packet's bytes.
type Properties struct {
	present uint64 // a bit for each Property

	ContentType      []byte
	ResponseTopic    []byte
	CorrelationData  []byte
	AssignedClientID []byte
	AuthMethod       []byte
	AuthData         []byte
	ResponseInfo     []byte
	ServerReference  []byte
	ReasonString     []byte

	// User holds the user properties, in order.
	User UserProperties
	// SubscriptionIDs has one identifier in SUBSCRIBE and any number in a PUBLISH to a client,
	// each from 1 to 268,435,455.
	SubscriptionIDs []uint32

	MessageExpiry     uint32 // seconds
	SessionExpiry     uint32 // seconds; 0xFFFFFFFF: never
	WillDelay         uint32 // seconds
	MaximumPacketSize uint32 // bytes, not 0
	ServerKeepAlive   uint16 // seconds
	ReceiveMaximum    uint16 // packets, not 0
	TopicAliasMaximum uint16
	TopicAlias        uint16 // not 0

	PayloadFormat         byte // 1: the payload is UTF-8
	RequestProblemInfo    byte // 0 or 1, as all below
	RequestResponseInfo   byte
	MaximumQoS            byte
	RetainAvailable       byte
	WildcardAvailable     byte
	SubscriptionIDAllowed byte
	SharedAvailable       byte
}

// Has tells whether the property is there.
func (p *Properties) Has(id Property) bool { return p.present>>id&1 != 0 }

// Empty tells whether there is no property at all.
func (p *Properties) Empty() bool {
	return p.present == 0 && len(p.User) == 0 && len(p.SubscriptionIDs) == 0
}

// Remove takes the property away.
func (p *Properties) Remove(id Property) {
	p.present &^= 1 << id
	switch id {
	case PropUser:
		p.User = nil
	case PropSubscriptionID:
		p.SubscriptionIDs = nil
	}
}

// SubscriptionID is the first subscription identifier, or 0 for none.
func (p *Properties) SubscriptionID() uint32 {
	if len(p.SubscriptionIDs) == 0 {
		return 0
	}
	return p.SubscriptionIDs[0]
}

// reset empties p and keeps the memory of the subscription identifiers. It is cheap when p is empty
// already, as it is for every packet of MQTT 3.
func (p *Properties) reset() {
	if p.Empty() {
		return
	}
	ids := p.SubscriptionIDs[:0]
	if cap(ids) > 64 {
		ids = nil
	}
	*p = Properties{SubscriptionIDs: ids}
}

func (p *Properties) add(id Property) { p.present |= 1 << id }

// UserProperties are user properties in the form they have on the wire: for each the byte 0x26, the
// name and the value, both as strings with a length of two bytes. Decoded ones are well formed. They
// may be handed from one packet to another, and to and from mapping, without taking them apart.
type UserProperties []byte

// All walks the names and values in order. It stops at the first byte that is not well formed.
func (u UserProperties) All() iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		s := scan{b: u}
		for len(s.b) > 0 && s.b[0] == byte(PropUser) {
			s.b = s.b[1:]
			name, value := s.binary(), s.binary()
			if s.err != nil || !yield(name, value) {
				return
			}
		}
	}
}

// Len is the number of user properties.
func (u UserProperties) Len() int {
	n := 0
	for range u.All() {
		n++
	}
	return n
}

// Append adds a user property. Name and value are strings of at most 65,535 bytes.
func (u UserProperties) Append(name, value []byte) UserProperties {
	return appendString(appendString(append(u, byte(PropUser)), name), value)
}

// shape is the form of a property's value.
type shape uint8

const (
	shapeNone  shape = iota // no such property
	shapeBool               // a byte, 0 or 1
	shapeInt16              // two bytes
	shapeInt32              // four bytes
	shapeVar                // a variable byte integer, the subscription identifier
	shapeString
	shapeBinary
	shapeUser // two strings
)

// willProperties stands for the type of packet in the table below; type 0 does not exist.
const willProperties Type = 0

type propertyInfo struct {
	shape   shape
	nonzero bool   // 0 is a protocol error
	in      uint16 // a bit for each type of packet
	name    string
}

const (
	inMessage = 1<<PUBLISH | 1<<willProperties
	inAcks    = 1<<PUBACK | 1<<PUBREC | 1<<PUBREL | 1<<PUBCOMP | 1<<SUBACK | 1<<UNSUBACK
)

// propertyTable is table 2-4 of the specification.
var propertyTable = [properties]propertyInfo{
	PropPayloadFormat:       {shapeBool, false, inMessage, "payload format indicator"},
	PropMessageExpiry:       {shapeInt32, false, inMessage, "message expiry interval"},
	PropContentType:         {shapeString, false, inMessage, "content type"},
	PropResponseTopic:       {shapeString, false, inMessage, "response topic"},
	PropCorrelationData:     {shapeBinary, false, inMessage, "correlation data"},
	PropSubscriptionID:      {shapeVar, true, 1<<PUBLISH | 1<<SUBSCRIBE, "subscription identifier"},
	PropSessionExpiry:       {shapeInt32, false, 1<<CONNECT | 1<<CONNACK | 1<<DISCONNECT, "session expiry interval"},
	PropAssignedClientID:    {shapeString, false, 1 << CONNACK, "assigned client identifier"},
	PropServerKeepAlive:     {shapeInt16, false, 1 << CONNACK, "server keep alive"},
	PropAuthMethod:          {shapeString, false, 1<<CONNECT | 1<<CONNACK | 1<<AUTH, "authentication method"},
	PropAuthData:            {shapeBinary, false, 1<<CONNECT | 1<<CONNACK | 1<<AUTH, "authentication data"},
	PropRequestProblemInfo:  {shapeBool, false, 1 << CONNECT, "request problem information"},
	PropWillDelay:           {shapeInt32, false, 1 << willProperties, "will delay interval"},
	PropRequestResponseInfo: {shapeBool, false, 1 << CONNECT, "request response information"},
	PropResponseInfo:        {shapeString, false, 1 << CONNACK, "response information"},
	PropServerReference:     {shapeString, false, 1<<CONNACK | 1<<DISCONNECT, "server reference"},
	PropReasonString:        {shapeString, false, inAcks | 1<<CONNACK | 1<<DISCONNECT | 1<<AUTH, "reason string"},
	PropReceiveMaximum:      {shapeInt16, true, 1<<CONNECT | 1<<CONNACK, "receive maximum"},
	PropTopicAliasMaximum:   {shapeInt16, false, 1<<CONNECT | 1<<CONNACK, "topic alias maximum"},
	PropTopicAlias:          {shapeInt16, true, 1 << PUBLISH, "topic alias"},
	PropMaximumQoS:          {shapeBool, false, 1 << CONNACK, "maximum QoS"},
	PropRetainAvailable:     {shapeBool, false, 1 << CONNACK, "retain available"},
	PropUser: {shapeUser, false, inMessage | inAcks | 1<<CONNECT | 1<<CONNACK | 1<<SUBSCRIBE | 1<<UNSUBSCRIBE |
		1<<DISCONNECT | 1<<AUTH, "user property"},
	PropMaximumPacketSize:     {shapeInt32, true, 1<<CONNECT | 1<<CONNACK, "maximum packet size"},
	PropWildcardAvailable:     {shapeBool, false, 1 << CONNACK, "wildcard subscription available"},
	PropSubscriptionIDAllowed: {shapeBool, false, 1 << CONNACK, "subscription identifiers available"},
	PropSharedAvailable:       {shapeBool, false, 1 << CONNACK, "shared subscription available"},
}

// String is the name of the property in the specification, in lower case.
func (id Property) String() string {
	if id < properties && propertyTable[id].shape != shapeNone {
		return propertyTable[id].name
	}
	return fmt.Sprintf("property 0x%02x", uint8(id))
}

// Allowed tells whether a packet of type t may carry the property. Type 0 stands for a will.
func (id Property) Allowed(t Type) bool {
	return id < properties && t <= AUTH && propertyTable[id].in>>t&1 != 0
}
