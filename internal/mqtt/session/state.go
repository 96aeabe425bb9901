package session

import "github.com/firthmq/firth/internal/mqtt/packet"

// State is what a session is beyond its connection. Open makes it. It is not safe for concurrent use.
type State struct {
	// Out is the table of what was sent to the client and not acknowledged.
	Out Outbound

	clientID string
	will     *packet.Publish
	limits   *Limits
	subs     filters
	expiry   uint32 // session expiry interval that the client asked for, in seconds
	held     int32  // bytes
}

// ClientID is the client identifier, given or assigned.
func (s *State) ClientID() string { return s.clientID }

// Held is about how many bytes the subscriptions make us hold.
func (s *State) Held() int { return int(s.held) }

// TakeWill is the will to publish when the session's connection ends, or nil. The second time it is nil.
func (s *State) TakeWill() *packet.Publish {
	w := s.will
	s.will = nil
	return w
}

// Will is the will, or nil.
func (s *State) Will() *packet.Publish { return s.will }

// Disconnect takes a DISCONNECT of the client: unless it says so, the will is deleted [MQTT-3.14.4-3]. It may not
// raise the session expiry interval from 0 [MQTT-3.1.2-23].
func (s *State) Disconnect(p *packet.Disconnect) error {
	if p.Props.SessionExpiry > 0 && s.expiry == 0 {
		return &packet.Error{Reason: packet.ProtocolError, Detail: "session expiry interval raised from 0"}
	}
	if p.Reason == packet.Success {
		s.will = nil
	}
	return nil
}
