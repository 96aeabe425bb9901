package mqtt

import (
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// tell logs what a client caused, once a minute for each client and reason; the next line says how many were left out.
func (d *Door) tell(what, clientID string, reason packet.ReasonCode, args ...any) {
	held, ok := d.lines.Pass(reason.String() + " " + clientID)
	if !ok {
		return
	}
	args = append([]any{"client", fault.Text(clientID), "reason", reason.String()}, args...)
	if held > 0 {
		args = append(args, "left_out", held)
	}
	d.opt.Logger.Info(what, args...)
}
