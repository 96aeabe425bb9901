package peer

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// header begins a connection that a gateway passes on to another one, in the manner of the PROXY protocol: by which
// listener it came, and whose it is (docs/format/gateways.md). What the client sent follows as it came.
type header struct {
	door   string   // the name of the listener, which has the same one on both nodes
	client net.Addr // *net.TCPAddr or *net.UnixAddr
}

// errHeader is what no header is.
var errHeader = errors.New("no header of a link")

const (
	signature     = "FIRTHLNK"
	headerVersion = 1
	maxField      = 255 // bytes of the name, and of the address
	fixedBytes    = len(signature) + 1
)

// What a header calls the network of a client.
const (
	networkTCP  = 1
	networkUnix = 2
)

// appendTo appends the header. Errors: a name or an address that does not fit.
func (h *header) appendTo(b []byte) ([]byte, error) {
	network, text := byte(networkTCP), h.client.String()
	switch a := h.client.(type) {
	case *net.TCPAddr:
	case *net.UnixAddr:
		network, text = networkUnix, a.Name
	default:
		return nil, fmt.Errorf("a client of network %q", h.client.Network())
	}
	if len(h.door) > maxField || len(text) > maxField {
		return nil, fmt.Errorf("a name of more than %d bytes", maxField)
	}
	b = append(append(b, signature...), headerVersion, byte(len(h.door)))
	b = append(append(b, h.door...), network, byte(len(text)))
	return append(b, text...), nil
}

// readHeader reads a header off r, and not a byte more. Errors: those of r, and errHeader.
func readHeader(r io.Reader) (h header, err error) {
	var fixed [fixedBytes + 1]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return h, err
	}
	if string(fixed[:len(signature)]) != signature || fixed[len(signature)] != headerVersion {
		return h, errHeader
	}
	rest := make([]byte, int(fixed[fixedBytes])+2)
	if _, err := io.ReadFull(r, rest); err != nil {
		return h, err
	}
	h.door = string(rest[:len(rest)-2])
	network, text := rest[len(rest)-2], make([]byte, rest[len(rest)-1])
	if _, err := io.ReadFull(r, text); err != nil {
		return h, err
	}
	switch network {
	case networkTCP:
		at, err := netip.ParseAddrPort(string(text))
		if err != nil {
			return h, errHeader
		}
		h.client = net.TCPAddrFromAddrPort(at)
	case networkUnix:
		h.client = &net.UnixAddr{Name: string(text), Net: "unix"}
	default:
		return h, errHeader
	}
	return h, nil
}
