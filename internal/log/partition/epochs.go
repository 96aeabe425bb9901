package partition

import "github.com/firthmq/firth/internal/log/record"

// Epoch is a leader epoch and the first offset written under it.
type Epoch struct {
	Epoch int32
	Start record.Offset
}

// Epochs is the history of leader epochs of one partition, oldest first.
type Epochs []Epoch

// Add notes that a batch was written at base under epoch.
func (es Epochs) Add(epoch int32, base record.Offset) Epochs {
	if n := len(es); n > 0 && es[n-1].Epoch >= epoch {
		return es
	}
	return append(es, Epoch{Epoch: epoch, Start: base})
}

// End is the largest epoch not above the asked one and the offset at which it ended, high being where the
// newest ends (KIP-101). One from before the oldest that is known ended, as far as anybody can still tell,
// where that one began, and where nothing was ever written any epoch ends at the beginning. It is (-1, -1) when there
// is none.
func (es Epochs) End(asked int32, high record.Offset) (epoch int32, end record.Offset) {
	epoch, end = -1, -1
	switch {
	case asked >= 0 && len(es) == 0:
		return asked, high
	case asked >= 0 && asked < es[0].Epoch:
		return asked, es[0].Start
	}
	for i := range es {
		if es[i].Epoch > asked {
			break
		}
		epoch, end = es[i].Epoch, high
		if i+1 < len(es) {
			end = es[i+1].Start
		}
	}
	return epoch, end
}

// At is the epoch under which the record at an offset was written, -1 if nobody knows.
func (es Epochs) At(off record.Offset) int32 {
	epoch := int32(-1)
	for i := range es {
		if es[i].Start > off {
			break
		}
		epoch = es[i].Epoch
	}
	return epoch
}

// Trim forgets epochs that ended at or below start.
func (es Epochs) Trim(start record.Offset) Epochs {
	for len(es) > 1 && es[1].Start <= start {
		es = es[1:]
	}
	return es
}
