package handover

import (
	"errors"
	"os"
)

// keepToOurselves: nothing is passed on by number here.
func keepToOurselves(int) {}

// duplicate: no socket is passed on here.
func duplicate(int) (*os.File, error) { return nil, errors.ErrUnsupported }
