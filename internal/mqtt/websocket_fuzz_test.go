package mqtt_test

import (
	"io"
	"net"
	"net/http/httptest"
	"testing"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// FuzzWebSocket sends bytes behind the handshake, whatever they are as frames (RFC 6455, section 5), and leaves. What
// comes back is frames of a server with whole packets in them, of which the first is a CONNACK; the connection ends,
// and another client does not notice.
func FuzzWebSocket(f *testing.F) {
	h := open(f, nil)
	web := httptest.NewServer(h.door.WebSocket())
	f.Cleanup(web.Close)
	bystander := h.connect(f, packet.V5, "bystander", nil)
	all, _ := conversation(packet.V311)
	fives, _ := conversation(packet.V5)
	ping := frame(nil, frameLast|framePing, []byte("p"))
	half := len(all) / 2
	for _, seed := range [][]byte{
		frame(nil, frameLast|frameBinary, all),
		frame(nil, frameLast|frameBinary, fives),
		frame(append(frame(nil, frameBinary, all[:half]), ping...), frameLast|frameContinues, all[half:]),
		frame(frame(nil, frameLast|frameBinary, all[:half]), frameLast|frameBinary, all[half:]),
		frame(nil, frameLast|frameText, all),
		frame(frame(nil, frameBinary, nil), frameLast|frameBinary, all),
		frame(nil, frameLast|frameContinues, all),
		frame(nil, frameLast|0x8, []byte{3, 232}),                 // close
		frame(nil, frameLast|0x8, []byte{3}),                      // half a status code
		append([]byte{0x82, byte(len(all))}, all...),              // no mask
		append([]byte{0x82, 0xfe, 0, 1, 0, 0, 0, 0}, all...),      // a length in too many bytes
		{0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x10}, // a negative one
		append(frame(nil, frameLast|frameBinary, all), ping...),
		frame(nil, 0x70|frameLast|frameBinary, all), // reserved bits
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		c, _ := dialFrames(t, web.Listener.Addr().String(), "Sec-WebSocket-Protocol: mqtt\r\n")
		_, _ = c.net.Write(sent) // it may have ended before the last byte
		_ = c.net.(*net.TCPConn).CloseWrite()
		came, _ := io.ReadAll(c.r) // by a reset, too
		c.judge(came)
		bystander.t = t
		bystander.send(&packet.Pingreq{})
		want[*packet.Pingresp](bystander)
	})
}

// judge holds what a server sent to be frames with packets in them. The last frame may be cut.
func (f *frames) judge(came []byte) {
	f.t.Helper()
	var stream []byte
	for len(came) >= 2 {
		size, head := int(came[1]), 2
		if size == 126 && len(came) >= 4 {
			size, head = int(came[2])<<8|int(came[3]), 4
		}
		switch kind := came[0] & 0xf; {
		case came[0]&0x70 != 0 || size > 126 && head == 2:
			f.t.Fatalf("a frame begins with % x", came[:2])
		case len(came) < head+size:
			came = nil
			continue
		case kind == frameBinary || kind == frameContinues:
			stream = append(stream, came[head:head+size]...)
		case kind != 0x8 && kind != framePing && kind != framePong:
			f.t.Fatalf("a frame of kind %d", kind)
		}
		came = came[head+size:]
	}
	for first := true; len(stream) > 0; first = false {
		n, err := packet.Frame(stream, packet.MaxSize)
		if err != nil || first && packet.Type(stream[0]>>4) != packet.CONNACK {
			f.t.Fatalf("%v in % x", err, stream)
		}
		if n == 0 {
			return // cut
		}
		stream = stream[n:]
	}
}
