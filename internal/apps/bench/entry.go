package bench

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Entry is how the generators get in. The zero value is a plain connection of nobody in particular.
type Entry struct {
	TLS      *tls.Config // nil: none. Without a name in it the host of the address is that of the server
	User     string      // "": none is given; with Kafka by SASL PLAIN
	Password string
}

// dial connects, from a local address unless that is nil.
func (e Entry) dial(ctx context.Context, address string, from net.Addr) (net.Conn, error) {
	d := net.Dialer{LocalAddr: from}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fault.Wrap(fault.IO, "bench.Dial", err)
	}
	if e.TLS == nil {
		return c, nil
	}
	config := e.TLS
	if config.ServerName == "" {
		config = config.Clone()
		if config.ServerName, _, err = net.SplitHostPort(address); err != nil {
			return nil, fault.Wrap(fault.Invalid, "bench.Dial", err)
		}
	}
	sealed := tls.Client(c, config)
	if err := sealed.HandshakeContext(ctx); err != nil {
		_ = c.Close() // the first error tells
		return nil, fault.Wrap(fault.Denied, "bench.Dial", err)
	}
	return sealed, nil
}

// options are those of a Kafka client.
func (e Entry) options() (opts []kgo.Opt) {
	if e.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(e.TLS))
	}
	if e.User != "" {
		opts = append(opts, kgo.SASL(plain.Auth{User: e.User, Pass: e.Password}.AsMechanism()))
	}
	return opts
}

// The versions of the calls with which a plain socket logs in: the last ones whose responses have no tags.
const (
	handshakeVersion = 1
	loginVersion     = 1
)

// login has a Kafka socket authenticate by SASL PLAIN, if a user is given.
func (e Entry) login(s *socket) error {
	if e.User == "" {
		return nil
	}
	hello := kmsg.NewPtrSASLHandshakeRequest()
	hello.SetVersion(handshakeVersion)
	hello.Mechanism = "PLAIN"
	said := kmsg.NewPtrSASLHandshakeResponse()
	said.SetVersion(handshakeVersion)
	if err := s.ask(hello, said); err != nil {
		return err
	}
	proof := kmsg.NewPtrSASLAuthenticateRequest()
	proof.SetVersion(loginVersion)
	proof.SASLAuthBytes = []byte("\x00" + e.User + "\x00" + e.Password)
	verdict := kmsg.NewPtrSASLAuthenticateResponse()
	verdict.SetVersion(loginVersion)
	if err := s.ask(proof, verdict); err != nil {
		return err
	}
	if said.ErrorCode != 0 || verdict.ErrorCode != 0 {
		return fault.New(fault.Denied, "bench.Dial", "the broker refused the login: errors %d and %d",
			said.ErrorCode, verdict.ErrorCode)
	}
	return nil
}

// ask sends one request and reads its response.
func (s *socket) ask(req kmsg.Request, resp kmsg.Response) error {
	if _, err := s.Write(formatter.AppendRequest(nil, req, 0)); err != nil {
		return fault.Wrap(fault.IO, "bench.Write", err)
	}
	body, err := s.frame()
	if err != nil {
		return err
	}
	return fault.Wrap(fault.Invalid, "bench.Read", resp.ReadFrom(body[4:])) // behind the correlation id
}
