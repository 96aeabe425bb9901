// Package proxy reads the PROXY protocol, versions 1 and 2, by which a load balancer says at the beginning of a
// connection whose it is (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt).
//
//	l = proxy.Listen(l, proxy.Options{Timeout: 10 * time.Second})
//	c, err := l.Accept() // its header was read, c.RemoteAddr is the client's
//
// Only a listener that is told so reads a header: whoever may connect to it may say that he is somebody else.
package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// errHeader is what no PROXY header is.
var errHeader = errors.New("no PROXY header")

const (
	// maxLine is the longest header of version 1, with its end (section 2.1).
	maxLine = 107
	// minLine is the shortest one: PROXY UNKNOWN.
	minLine = 15
	// fixed is the part of a header of version 2 that says how long the rest is (section 2.2).
	fixed = 16
	// maxRest bounds that rest: addresses of at most 216 bytes and the values behind them. HAProxy sends some hundred
	// bytes, clouds less; a certificate may be in it.
	maxRest = 8 << 10
	// signature begins a header of version 2.
	signature = "\r\n\r\n\x00\r\nQUIT\n"
)

// ReadHeader reads a header of either version off r, and not a byte more. Remote is the address of the client; nil
// when the balancer speaks for itself (LOCAL), or does not know (UNKNOWN, AF_UNSPEC). Errors: those of r, and one for
// what is no header.
func ReadHeader(r io.Reader) (remote net.Addr, err error) {
	var b [maxLine]byte
	if _, err := io.ReadFull(r, b[:minLine]); err != nil {
		return nil, err
	}
	if bytes.HasPrefix(b[:], []byte(signature)) {
		if _, err := io.ReadFull(r, b[minLine:fixed]); err != nil {
			return nil, err
		}
		return readBinary(r, b[:fixed])
	}
	if !bytes.HasPrefix(b[:], []byte("PROXY ")) {
		return nil, errHeader
	}
	n := minLine
	for !bytes.HasSuffix(b[:n], []byte("\r\n")) {
		if n == maxLine {
			return nil, errHeader
		}
		if _, err := io.ReadFull(r, b[n:n+1]); err != nil { // what comes behind the line is not ours
			return nil, err
		}
		n++
	}
	return parseLine(string(b[:n-2]))
}

// parseLine reads a header of version 1, without its end.
func parseLine(line string) (net.Addr, error) {
	words := strings.Split(line, " ")
	if len(words) >= 2 && words[1] == "UNKNOWN" { // whatever follows
		return nil, nil //nolint:nilnil // there is no address, and that is right
	}
	if len(words) != 6 {
		return nil, errHeader
	}
	var ports [2]uint16
	var ips [2]netip.Addr
	for i := range ips {
		ip, err := netip.ParseAddr(words[2+i])
		if err != nil || ip.Zone() != "" || ip.Is4() != (words[1] == "TCP4") {
			return nil, errHeader
		}
		port, err := strconv.ParseUint(words[4+i], 10, 16)
		if err != nil || words[4+i] != strconv.FormatUint(port, 10) { // no signs, no zeros before it
			return nil, errHeader
		}
		ips[i], ports[i] = ip, uint16(port)
	}
	if words[1] != "TCP4" && words[1] != "TCP6" {
		return nil, errHeader
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ips[0], ports[0])), nil
}

// What the bytes 12 and 13 of a header of version 2 say.
const (
	local  = 0x20
	proxy  = 0x21
	inet   = 1
	inet6  = 2
	unix   = 3
	stream = 1
)

// readBinary reads a header of version 2 behind its fixed part. What comes behind the addresses (TLVs) is skipped.
func readBinary(r io.Reader, head []byte) (net.Addr, error) {
	command, family, transport := head[12], head[13]>>4, head[13]&0xf
	rest := make([]byte, min(int(binary.BigEndian.Uint16(head[14:])), maxRest+1))
	if len(rest) > maxRest || command != local && command != proxy {
		return nil, errHeader
	}
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, err
	}
	if command == local {
		return nil, nil //nolint:nilnil // the balancer speaks for itself
	}
	size := [...]int{inet: 12, inet6: 36, unix: 216}
	switch {
	case family == 0: // AF_UNSPEC
		return nil, nil //nolint:nilnil // the balancer does not know
	case int(family) >= len(size) || len(rest) < size[family] || transport != stream:
		return nil, errHeader
	case family == unix:
		name, _, _ := strings.Cut(string(rest[:108]), "\x00")
		return &net.UnixAddr{Name: name, Net: "unix"}, nil
	case family == inet:
		ip := netip.AddrFrom4([4]byte(rest))
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, binary.BigEndian.Uint16(rest[8:]))), nil
	}
	ip := netip.AddrFrom16([16]byte(rest))
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, binary.BigEndian.Uint16(rest[32:]))), nil
}
