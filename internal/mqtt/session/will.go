package session

import (
	"bytes"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// Will is the will of a session.
type Will struct {
	Message packet.Publish
	User    string // name of who left it; empty: none given
	From    string // how who left it was here, as the guard has it; empty: not known
	Delay   uint32 // seconds after the connection ends at which it is published
	Due     int64  // milliseconds since 1970 at which it is; 0: there is a connection
}

// newWill is the will that a CONNECT leaves, or nil.
func (o *Opening) newWill() *Will {
	if o.will == nil {
		return nil
	}
	return &Will{Message: *o.will, User: o.User, From: o.From, Delay: o.willDelay}
}

// KeepsWill is about how many bytes the will makes us keep when the connection has ended; 0 if it is published then.
func (o *Opening) KeepsWill() int {
	if min(o.willDelay, o.Expiry) == 0 {
		return 0
	}
	return o.newWill().Size()
}

// Size is about how many bytes a will makes us keep; none has 0.
func (w *Will) Size() int {
	if w == nil {
		return 0
	}
	const self = 600
	p := &w.Message.Props
	return self + len(w.User) + len(w.From) + len(w.Message.Topic) + len(w.Message.Payload) + len(p.ContentType) +
		len(p.ResponseTopic) + len(p.CorrelationData) + len(p.User)
}

// ownProperties are the properties of a will, in memory of their own.
func ownProperties(p packet.Properties) packet.Properties {
	p.ContentType, p.ResponseTopic = bytes.Clone(p.ContentType), bytes.Clone(p.ResponseTopic)
	p.CorrelationData, p.User = bytes.Clone(p.CorrelationData), bytes.Clone(p.User)
	return p
}
