package secure

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
)

// Conn is a connection whose handshake is done.
type Conn struct {
	*tls.Conn
	beneath *beneath
	peer    *Peer
	name    string
	bulks   *sync.Pool // of *bulk; the listener's
	close   sync.Once
}

// Peer is who the client is; nil: it showed no certificate, or there is no such connection.
func (c *Conn) Peer() *Peer {
	if c == nil {
		return nil
	}
	return c.peer
}

// ServerName is the name that the client asked for (SNI), or "".
func (c *Conn) ServerName() string { return c.name }

// Beneath is the connection that carries this one.
func (c *Conn) Beneath() net.Conn { return c.beneath.Conn }

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.close.Do(c.peer.Forget)
	return c.Conn.Close()
}

// Why a handshake failed, as metrics name it.
const (
	notTLS        = "not_tls"
	noCertificate = "no_certificate"
	badCert       = "bad_certificate"
	isRevoked     = "revoked"
	noVersion     = "version"
	noCipher      = "cipher"
	noProtocol    = "alpn"
	clientAlert   = "refused_by_client"
	tooMuch       = "too_large"
	tooLate       = "timeout"
	gone          = "closed"
	crowded       = "crowded"
	odd           = "other"
)

// reasonOf is why a handshake failed.
func reasonOf(err error) string {
	var header tls.RecordHeaderError
	var bad *tls.CertificateVerificationError
	var system *net.OpError
	switch {
	case errors.As(err, &header):
		return notTLS
	case errors.Is(err, errRevoked):
		return isRevoked
	case errors.Is(err, errTooMuch):
		return tooMuch
	case errors.As(err, &bad):
		return badCert
	case errors.Is(err, os.ErrDeadlineExceeded):
		return tooLate
	case errors.As(err, &system) && system.Op == "remote error":
		return clientAlert
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.As(err, &system):
		return gone
	}
	text := err.Error()
	for _, known := range [...]struct{ reason, part string }{ // package tls has no values for these
		{noCertificate, "client didn't provide a certificate"}, {noVersion, "unsupported versions"},
		{noCipher, "no cipher suite supported"}, {noProtocol, "unsupported application protocols"},
		{badCert, "certificate"}, {tooMuch, "oversized"},
	} {
		if strings.Contains(text, known.part) {
			return known.reason
		}
	}
	return odd
}

// hintFor is what to do about a reason, for who looks after the listener.
func hintFor(reason string, err error) string {
	switch reason {
	case notTLS:
		return "the client has to use TLS here: " + whatSpeaks(err)
	case noCertificate:
		return "the client has to show a certificate: --cert and --key of mosquitto_pub"
	case badCert:
		return "client_ca has to hold the authority that issued the client's certificate"
	case noVersion:
		return "clients need TLS 1.2 or newer, and what min_version says"
	case clientAlert:
		return "the client does not take our certificate: does it know its authority (--cafile), and is the name that it " +
			"connects to in it?"
	case crowded, tooLate:
		return "more clients connect than handshakes can be done, or some do nothing"
	}
	return ""
}

// whatSpeaks guesses what a client speaks in place of TLS.
func whatSpeaks(err error) string {
	var header tls.RecordHeaderError
	if !errors.As(err, &header) {
		return ""
	}
	h := header.RecordHeader
	switch {
	case h[0] == 0x10:
		return "this looks like plain MQTT, for which listen.mqtt is"
	case isHTTP(h[:]):
		return "this looks like plain HTTP"
	case h[0] == 0 && h[1] == 0:
		return "this looks like plain Kafka, for which listen.kafka is"
	}
	return "this is no protocol that is known here"
}

// isHTTP tells whether bytes begin a request of HTTP.
func isHTTP(b []byte) bool {
	for _, method := range []string{"GET ", "POST", "PUT ", "HEAD", "DELE", "OPTI"} {
		if strings.HasPrefix(string(b), method) {
			return true
		}
	}
	return false
}
