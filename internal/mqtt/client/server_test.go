package client

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// server is a small MQTT server for these tests: it acknowledges, gives every message back to the
// connections that have subscribed to anything, and does what the test's hooks say.
type server struct {
	t       *testing.T
	ln      net.Listener
	connack packet.Connack
	// hook sees each packet first; true: it has been dealt with.
	hook func(s *session, p packet.Packet) bool

	mu struct {
		sync.Mutex
		sessions   []*session
		subscribed map[*session]byte // the QoS granted
	}
	wg sync.WaitGroup
}

type session struct {
	conn net.Conn
	mu   sync.Mutex // of writes
	v    packet.Version

	connect *packet.Connect
	reads   atomic.Int64 // calls of Read that gave bytes
	nextID  uint16
}

func (s *session) send(p packet.Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.conn.Write(p.AppendTo(nil, s.v))
}

func listen(t *testing.T) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, ln: ln}
	s.mu.subscribed = make(map[*session]byte)
	s.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			ses := &session{conn: conn}
			s.mu.Lock()
			s.mu.sessions = append(s.mu.sessions, ses)
			s.mu.Unlock()
			s.wg.Go(func() { s.serve(ses) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		s.mu.Lock()
		for _, ses := range s.mu.sessions {
			_ = ses.conn.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *server) addr() string { return s.ln.Addr().String() }

func (s *server) serve(ses *session) {
	defer func() { _ = ses.conn.Close() }()
	in := &input{buf: make([]byte, 1024), max: packet.MaxSize}
	for {
		p, err := in.next(counting{ses.conn, ses})
		if err != nil {
			return
		}
		if c, ok := p.(*packet.Connect); ok {
			ses.v, ses.connect = c.Version, c
			if s.hook == nil || !s.hook(ses, p) {
				ses.send(&s.connack)
			}
			continue
		}
		if s.hook != nil && s.hook(ses, p) {
			continue
		}
		if _, ok := p.(*packet.Disconnect); ok {
			return
		}
		s.answer(ses, p)
	}
}

type counting struct {
	net.Conn
	ses *session
}

func (c counting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.ses.reads.Add(1)
	}
	return n, err
}

func (s *server) answer(ses *session, p packet.Packet) {
	switch p := p.(type) {
	case *packet.Publish:
		switch p.QoS {
		case 1:
			ses.send(&packet.Puback{PacketID: p.PacketID})
		case 2:
			ses.send(&packet.Pubrec{PacketID: p.PacketID})
		}
		s.fan(p)
	case *packet.Pubrel:
		ses.send(&packet.Pubcomp{PacketID: p.PacketID})
	case *packet.Pubrec:
		ses.send(&packet.Pubrel{PacketID: p.PacketID})
	case *packet.Subscribe:
		ack := &packet.Suback{PacketID: p.PacketID}
		for _, one := range p.Subscriptions {
			ack.Reasons = append(ack.Reasons, packet.ReasonCode(one.QoS))
			s.mu.Lock()
			s.mu.subscribed[ses] = one.QoS
			s.mu.Unlock()
		}
		ses.send(ack)
	case *packet.Unsubscribe:
		s.mu.Lock()
		delete(s.mu.subscribed, ses)
		s.mu.Unlock()
		ses.send(&packet.Unsuback{PacketID: p.PacketID, Reasons: make([]packet.ReasonCode, len(p.Filters))})
	case *packet.Pingreq:
		ses.send(&packet.Pingresp{})
	}
}

func (s *server) fan(p *packet.Publish) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for to, qos := range s.mu.subscribed {
		out := packet.Publish{Topic: bytes.Clone(p.Topic), Payload: bytes.Clone(p.Payload), QoS: min(qos, p.QoS)}
		if out.QoS > 0 {
			to.nextID++
			out.PacketID = to.nextID
		}
		to.send(&out)
	}
}
