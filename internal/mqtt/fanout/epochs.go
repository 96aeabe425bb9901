package fanout

import (
	"slices"

	"github.com/firthmq/firth/internal/log/record"
)

// epochs says in which epoch the records of a partition became news: those from an offset on, up to where the next
// entry begins. Both rise from entry to entry. Records below the first entry were there before anybody listened.
type epochs []heard

type heard struct {
	from  record.Offset
	epoch uint64
}

// unheard is the epoch of what nobody has heard of as news: no subscription but those that came back is as old.
const unheard = 1

// keptEpochs bounds the list while members are behind. Beyond it the older half counts as of one epoch, so that a
// subscription may get a little of what is older than it.
const keptEpochs = 4096

// add notes that the records from an offset on became news in an epoch.
func (e epochs) add(from record.Offset, epoch uint64) epochs {
	if n := len(e); n > 0 && e[n-1].epoch >= epoch {
		return e
	}
	if len(e) >= keptEpochs {
		half := len(e) / 2
		e[half].from = e[0].from
		e = e[:copy(e, e[half:])]
	}
	return append(e, heard{from, epoch})
}

// at is the epoch of the record at an offset.
func (e epochs) at(offset record.Offset) uint64 {
	for _, h := range slices.Backward(e) {
		if h.from <= offset {
			return h.epoch
		}
	}
	return unheard
}

// fewEpochs are kept in any case: what became news just now is still asked for by Heard.
const fewEpochs = 16

// forget drops what is not needed for the records from an offset on, if the list is worth it.
func (e epochs) forget(offset record.Offset) epochs {
	if len(e) <= fewEpochs {
		return e
	}
	n := 0
	for n+fewEpochs < len(e) && e[n+1].from <= offset {
		n++
	}
	return e[:copy(e, e[n:])]
}

// from appends the entries for the records from an offset on to into.
func (e epochs) from(offset record.Offset, into epochs) epochs {
	i := len(e) - 1
	for i > 0 && e[i].from > offset {
		i--
	}
	return append(into, e[max(i, 0):]...)
}
