package bridge

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"time"

	"github.com/firthmq/firth/internal/apps/bridge/relay"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// TLS says how a bridge speaks TLS. Files are read at each connection.
type TLS struct {
	CA          string // file of authorities; empty: those of the system
	Certificate string // files of what the bridge shows; empty: nothing
	Key         string
	ServerName  string // that the certificate must be for; empty: the host of the address
	ALPN        string // empty: none
	Insecure    bool   // any name will do in a certificate that is good
}

// connectTimeout is how long a connection may take until it is accepted.
const connectTimeout = 15 * time.Second

// dialRemote connects to the other server.
func (b *Bridge) dialRemote(ctx context.Context, address string) (*client.Wire, error) {
	o, err := b.remoteOptions()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	w, err := client.Join(ctx, address, o)
	if o.Bridge && packet.ReasonOf(err) == packet.UnsupportedVersion {
		b.public.Store(true) // from now on: it is no Mosquitto, nor does it know what that says
		return b.dialRemote(ctx, address)
	}
	return w, err
}

// dialLocal connects to our door, which sends at most window messages above QoS 0 that are not acknowledged.
func (b *Bridge) dialLocal(ctx context.Context, window int) (*client.Wire, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return client.Join(ctx, "", b.localOptions(window))
}

func (b *Bridge) localOptions(window int) client.Options {
	o := client.Options{
		ClientID: b.o.LocalClientID, Version: packet.V5, Resume: true, KeepAlive: -1, UserName: b.o.User,
		Will: b.will(relay.Local), ReadBuffer: readBuffer,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return b.home.Dial(ctx) },
	}
	o.Props.SetSessionExpiry(forever)
	o.Props.SetReceiveMaximum(uint16(min(max(window, 1), 0xffff)))
	return o
}

// forever is a session expiry interval without an end (MQTT 5.0, section 3.1.2.11.2).
const forever = 0xffff_ffff

// readBuffer is the memory of a connection to read into, at first.
const readBuffer = 16 << 10

// remoteOptions are those for the other server. Errors: those of the files.
func (b *Bridge) remoteOptions() (client.Options, error) {
	o := client.Options{
		ClientID: b.o.ClientID, Version: b.o.Version, Resume: !b.o.Clean, KeepAlive: b.o.KeepAlive,
		UserName: b.o.RemoteUser, Will: b.will(relay.Remote), ReadBuffer: readBuffer,
		Bridge: b.o.Version != packet.V5 && !b.o.NoPrivate && !b.public.Load(),
	}
	if b.o.Version == packet.V5 {
		if !b.o.Clean {
			o.Props.SetSessionExpiry(uint32(min(b.o.SessionExpiry/time.Second, forever)))
		}
		o.Props.SetReceiveMaximum(uint16(min(b.o.MaxInflight, 0xffff)))
		o.Props.AddUser(relay.Mark, b.home.ID) // a Firth tells its own
	}
	var err error
	if b.o.PasswordFile != "" {
		if o.Password, err = given.ReadPrivate("bridge", b.o.PasswordFile); err != nil {
			return o, err
		}
		o.Password = bytes.TrimRight(o.Password, "\r\n")
	}
	if b.o.TLS != nil {
		var config *tls.Config
		config, err = b.o.TLS.config()
		o.Dial = b.dialTLS(config)
	}
	return o, err
}

// dialTLS connects by TLS: the name to expect is that of the address unless another one is given.
func (b *Bridge) dialTLS(config *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).DialContext(ctx, network, address)
	}
}

// config reads the files. Errors: those of package given; Invalid.
func (t *TLS) config() (*tls.Config, error) {
	const op = "bridge"
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.ALPN != "" {
		c.NextProtos = []string{t.ALPN}
	}
	if t.CA != "" {
		text, err := given.Read(op, t.CA)
		if err != nil {
			return nil, err
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fault.New(fault.Invalid, op, "no certificate in %s", t.CA)
		}
	}
	if t.Certificate != "" {
		certificate, err := given.Read(op, t.Certificate)
		if err != nil {
			return nil, err
		}
		key, err := given.ReadPrivate(op, t.Key)
		if err != nil {
			return nil, err
		}
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, op, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if t.Insecure {
		c.InsecureSkipVerify = true //nolint:gosec // asked for; the chain is verified below, as Mosquitto does
		c.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, c.RootCAs) }
	}
	return c, nil
}

// verifyChain wants a certificate of a known authority, for whatever name.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(o)
	return err
}

// will is what a side tells when it loses us; nil: nothing.
func (b *Bridge) will(side relay.Side) *packet.Will {
	if !b.o.Announce[side] {
		return nil
	}
	return &packet.Will{Topic: []byte(b.o.state()), Payload: []byte("0"), QoS: 1, Retain: true}
}

func versionName(v packet.Version) string {
	switch v {
	case packet.V31:
		return "3.1"
	case packet.V311:
		return "3.1.1"
	}
	return "5"
}
