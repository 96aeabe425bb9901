package mqtt

import "context"

// ReasonOf is the table of errors.go, for its test.
var ReasonOf = reasonOf

// Checkpoint makes a checkpoint of the sessions now.
func (d *Door) Checkpoint() { d.seats.Checkpoint(context.Background()) }
