package mqtt

import (
	"context"
	"net"
	"net/http"

	"github.com/coder/websocket"

	"github.com/firthmq/firth/internal/kit/secure"
)

// WebSocket is Listener.WebSocket of a listener without limits of its own.
func (d *Door) WebSocket() http.Handler { return d.plain().WebSocket() }

// WebSocket serves MQTT over WebSocket, for the path /mqtt (MQTT 5.0, section 6). Clients must offer the
// sub-protocol mqtt [MQTT-6.0.0-3], or mqttv3.1 as old ones do, and send binary frames only
// [MQTT-6.0.0-1]; packets need not begin or end with frames [MQTT-6.0.0-2].
func (l *Listener) WebSocket() http.Handler {
	log := l.door.opt.Logger
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			Subprotocols:    []string{"mqtt", "mqttv3.1"}, // [MQTT-6.0.0-4] [MQTT-6.0.0-4]
			OriginPatterns:  l.door.opt.WebSocketOrigins,
			CompressionMode: websocket.CompressionDisabled,
		})
		if err != nil {
			log.Info("WebSocket refused", "remote", r.RemoteAddr, "error", err)
			return
		}
		if ws.Subprotocol() == "" {
			if err := ws.Close(websocket.StatusPolicyViolation, "the sub-protocol mqtt is needed"); err != nil {
				log.Debug("closing a WebSocket", "remote", r.RemoteAddr, "error", err)
			}
			return
		}
		// The connection outlives the request: it ends by itself, or by Drain.
		n := websocket.NetConn(context.WithoutCancel(r.Context()), ws, websocket.MessageBinary)
		if c := l.admit(&webConn{Conn: n, remote: r.RemoteAddr, secure: secure.ConnOf(r.Context())}); c != nil {
			c.heedRevocation()
			c.serve()
		}
	})
}

// webConn is a WebSocket as a stream of bytes that knows where it comes from.
type webConn struct {
	net.Conn
	remote string
	secure *secure.Conn // beneath it; nil: it is not encrypted
}

// RemoteAddr implements net.Conn.
func (c *webConn) RemoteAddr() net.Addr { return webAddr(c.remote) }

// webAddr is the address of a client as the HTTP server knows it.
type webAddr string

// Network implements net.Addr.
func (webAddr) Network() string { return "websocket" }

// String implements net.Addr.
func (a webAddr) String() string { return string(a) }
