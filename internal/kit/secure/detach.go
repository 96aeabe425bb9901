package secure

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"net"

	"github.com/firthmq/firth/internal/kit/seal"
)

// secrets gathers what it takes to go on with a connection without package tls: its traffic secrets, which that tells
// as it would tell a debugger, and the records that were sent before it was done.
type secrets struct {
	client, server []byte
	sent           []byte
}

// maxSent bounds the records that are kept: a chain of certificates, and tickets with a client's chain in them.
const maxSent = 128 << 10

// Write takes a line of the format NSS Key Log: label, client random and secret.
func (s *secrets) Write(line []byte) (int, error) {
	words := bytes.Fields(line)
	if len(words) != 3 {
		return len(line), nil
	}
	into := &s.client
	switch string(words[0]) {
	case "CLIENT_TRAFFIC_SECRET_0":
	case "SERVER_TRAFFIC_SECRET_0":
		into = &s.server
	default:
		return len(line), nil
	}
	*into = make([]byte, hex.DecodedLen(len(words[2])))
	_, err := hex.Decode(*into, words[2])
	return len(line), err
}

// records cuts what was sent; nil: it is too much.
func (s *secrets) records() (all [][]byte) {
	for rest := s.sent; len(rest) > 0; {
		if len(rest) < seal.Head {
			return nil
		}
		n := seal.Head + int(binary.BigEndian.Uint16(rest[3:]))
		if n > len(rest) {
			return nil
		}
		all = append(all, rest[:n])
		rest = rest[n:]
	}
	return all
}

// Detach gives the connection beneath, and what opens and seals its records from here on, in place of Conn, which may
// not be used any more; false: it cannot be had, as of TLS 1.2. The listener must have been told to keep it.
func (c *Conn) Detach() (n net.Conn, in *seal.In, out *seal.Out, ok bool) {
	s := c.beneath.secrets
	c.beneath.secrets = nil
	if s == nil || s.client == nil || s.server == nil || len(s.sent) > maxSent {
		return nil, nil, nil, false
	}
	state := c.ConnectionState()
	records := s.records()
	if state.Version != tls.VersionTLS13 || records == nil {
		return nil, nil, nil, false
	}
	in, out = new(seal.In), new(seal.Out)
	used, err := seal.Used(state.CipherSuite, s.server, records)
	if err != nil || in.Begin(state.CipherSuite, s.client) != nil || out.Begin(state.CipherSuite, s.server, used) != nil {
		return nil, nil, nil, false
	}
	return c.beneath.Conn, in, out, true
}
