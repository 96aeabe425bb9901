package mqtt

import (
	"context"
	"net/http"

	"github.com/coder/websocket"
)

// WebSocket serves MQTT over WebSocket, for the path /mqtt (MQTT 5.0, section 6). Clients must offer the
// sub-protocol mqtt [MQTT-6.0.0-3], or mqttv3.1 as old ones do, and send binary frames only
// [MQTT-6.0.0-1]; packets need not begin or end with frames [MQTT-6.0.0-2].
func (d *Door) WebSocket() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			Subprotocols:    []string{"mqtt", "mqttv3.1"},
			OriginPatterns:  d.opt.WebSocketOrigins,
			CompressionMode: websocket.CompressionDisabled,
		})
		if err != nil {
			d.opt.Logger.Info("WebSocket refused", "remote", r.RemoteAddr, "err", err)
			return
		}
		if ws.Subprotocol() == "" {
			if err := ws.Close(websocket.StatusPolicyViolation, "the sub-protocol mqtt is needed"); err != nil {
				d.opt.Logger.Debug("closing a WebSocket", "remote", r.RemoteAddr, "err", err)
			}
			return
		}
		ws.SetReadLimit(int64(d.opt.MaxPacketBytes) + maxConnect)
		// The connection outlives the request: it ends by itself, or by Drain.
		c := d.newConn(websocket.NetConn(context.WithoutCancel(r.Context()), ws, websocket.MessageBinary))
		if !d.add(c) {
			c.timer.Stop()
			c.wire.close()
			return
		}
		c.serve()
	})
}
