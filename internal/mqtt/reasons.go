package mqtt

import (
	"errors"
	"strings"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// maxReasonString is the longest reason string that we send, in bytes; of a longer one its beginning.
const maxReasonString = 200

// explain says in words why p refuses or ends, if the client wants to know and the packet still fits
// [MQTT-3.2.2-19] [MQTT-3.14.2-3]. CONNACK, DISCONNECT and SUBACK have reason strings: they are what people look at.
func explain(p packet.Packet, props *packet.Properties, cause error, takes int, wanted bool) {
	wrong, ok := errors.AsType[*packet.Error](cause)
	if !ok || !wanted || wrong.Detail == "" {
		return
	}
	detail := wrong.Detail
	if len(detail) > maxReasonString {
		detail = strings.ToValidUTF8(detail[:maxReasonString-3], "") + "..."
	}
	props.SetReasonString([]byte(detail))
	if p.Size(packet.V5) > takes { // [MQTT-3.2.2-20] [MQTT-3.14.2-4]
		props.Remove(packet.PropReasonString)
	}
}

// refer names the server that clients shall go to, where a reason code says so.
func (d *Door) refer(reason packet.ReasonCode, props *packet.Properties) {
	moves := reason == packet.UseAnotherServer || reason == packet.ServerMoved
	if moves && d.opt.ServerReference != "" {
		props.SetServerReference([]byte(d.opt.ServerReference))
	}
}
