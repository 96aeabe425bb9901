package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// header begins a connection that a gateway passes on to another one, in the manner of the PROXY protocol: by which
// listener it came, and whose it is (docs/format/gateways.md). In version 1 what the client sent follows as it came. In
// version 2 the gateway has decrypted it and read the CONNECT: what TLS told is in the header, and what follows is in
// the clear.
type header struct {
	door   string   // the name of the listener, which has the same one on both nodes
	client net.Addr // *net.TCPAddr or *net.UnixAddr
	opened bool     // version 2
	tls    *TLS     // of version 2; nil: the client speaks no TLS
}

// TLS is what the TLS of a device told the gateway that it connected to.
type TLS struct {
	Version    uint16   // as crypto/tls numbers them
	ServerName string   // that the device asked for; "": none
	Chain      [][]byte // certificates that it showed, its own first, as DER; none: it showed none
}

// errHeader is what no header is.
var errHeader = errors.New("no header of a link")

const (
	signature     = "FIRTHLNK"
	headerVersion = 1   // what follows is as it came
	openedVersion = 2   // what follows is in the clear
	maxField      = 255 // bytes of a name, and of an address
	fixedBytes    = len(signature) + 1

	maxChain       = 16        // certificates
	maxCertificate = 1<<16 - 1 // bytes of one
)

// What a header calls the network of a client.
const (
	networkTCP  = 1
	networkUnix = 2
)

// appendTo appends the header. Errors: a name, an address or a chain that does not fit.
func (h *header) appendTo(b []byte) ([]byte, error) {
	network, text := byte(networkTCP), h.client.String()
	switch a := h.client.(type) {
	case *net.TCPAddr:
	case *net.UnixAddr:
		network, text = networkUnix, a.Name
	default:
		// A WebSocket knows its client by the text only, which is that of a TCP address.
		if _, err := netip.ParseAddrPort(text); err != nil {
			return nil, fmt.Errorf("a client of network %q", h.client.Network())
		}
	}
	if len(h.door) > maxField || len(text) > maxField {
		return nil, fmt.Errorf("a name of more than %d bytes", maxField)
	}
	version := byte(headerVersion)
	if h.opened {
		version = openedVersion
	}
	b = append(append(b, signature...), version, byte(len(h.door)))
	b = append(append(b, h.door...), network, byte(len(text)))
	b = append(b, text...)
	if h.opened {
		return h.tls.appendTo(b)
	}
	return b, nil
}

// appendTo appends what TLS told; nil is that there was none.
func (t *TLS) appendTo(b []byte) ([]byte, error) {
	if t == nil {
		return append(b, 0, 0), nil
	}
	if len(t.ServerName) > maxField || len(t.Chain) > maxChain {
		return nil, fmt.Errorf("a name of more than %d bytes, or more than %d certificates", maxField, maxChain)
	}
	b = binary.BigEndian.AppendUint16(b, t.Version)
	b = append(append(b, byte(len(t.ServerName))), t.ServerName...)
	b = append(b, byte(len(t.Chain)))
	for _, one := range t.Chain {
		if len(one) > maxCertificate {
			return nil, fmt.Errorf("a certificate of more than %d bytes", maxCertificate)
		}
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(one))), one...)
	}
	return b, nil
}

// readHeader reads a header off r, and not a byte more. Errors: those of r, and errHeader.
func readHeader(r io.Reader) (h header, err error) {
	in := fields{r: r}
	begin := in.take(len(signature) + 1)
	if in.err != nil {
		return h, in.err
	}
	version := begin[len(signature)]
	if string(begin[:len(signature)]) != signature || version != headerVersion && version != openedVersion {
		return h, errHeader
	}
	h.door = in.text()
	network, text := in.byte(), in.text()
	if in.err != nil {
		return h, in.err
	}
	switch network {
	case networkTCP:
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			return h, errHeader
		}
		h.client = net.TCPAddrFromAddrPort(at)
	case networkUnix:
		h.client = &net.UnixAddr{Name: text, Net: "unix"}
	default:
		return h, errHeader
	}
	if h.opened = version == openedVersion; h.opened {
		h.tls = in.tls()
	}
	return h, in.err
}

// fields reads fields, until one cannot be read.
type fields struct {
	r   io.Reader
	err error
}

func (f *fields) take(n int) []byte {
	b := make([]byte, n)
	if f.err == nil {
		_, f.err = io.ReadFull(f.r, b)
	}
	return b
}

func (f *fields) byte() byte { return f.take(1)[0] }

func (f *fields) number() uint16 { return binary.BigEndian.Uint16(f.take(2)) }

func (f *fields) text() string { return string(f.take(int(f.byte()))) }

// tls reads what TLS told.
func (f *fields) tls() *TLS {
	t := &TLS{Version: f.number()}
	if f.err != nil || t.Version == 0 {
		return nil
	}
	t.ServerName = f.text()
	n := int(f.byte())
	if f.err == nil && n > maxChain {
		f.err = errHeader
	}
	for range n {
		if f.err != nil {
			return nil
		}
		t.Chain = append(t.Chain, f.take(int(f.number())))
	}
	return t
}
