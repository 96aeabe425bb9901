package stream

import (
	"fmt"

	"github.com/firthmq/firth/internal/log/record"
)

// Damage is the error of a Scan over records that are lost: those of [From, Next). What lies on both
// sides of them is as good as ever, so that who can live with the loss goes on at Next.
type Damage struct {
	From, Next record.Offset
	Err        error // what is wrong; its kind is Corrupt
}

// Error implements error.
func (d *Damage) Error() string {
	return fmt.Sprintf("offsets %d to %d cannot be read: %v", d.From, d.Next-1, d.Err)
}

// Unwrap gives what is wrong.
func (d *Damage) Unwrap() error { return d.Err }
