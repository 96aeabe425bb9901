package mqtt

import (
	"context"
	"fmt"

	"github.com/firthmq/firth/internal/mqtt/packet"
)

// ReasonOf is the table of errors.go, for its test.
var ReasonOf = reasonOf

// Checkpoint makes a checkpoint of the sessions now.
func (d *Door) Checkpoint() { d.seats.Checkpoint(context.Background()) }

// NoteMany notes an event of each of n clients, many-0 and so on.
func NoteMany(d *Door, n int) {
	for i := range n {
		d.note(fmt.Sprintf("many-%d", i), eventConnected, packet.Success, "")
	}
}
