package store

import (
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/segment"
	"github.com/firthmq/firth/internal/log/stream"
)

// journalNames gathers the MQTT topic names of what is put into a journal, as those who append tell them, so that
// nothing has to be read again for the index of the file. They are a hint, and given up where they take memory.
type journalNames struct {
	parts map[stream.PartitionID]*partNames
	held  int // bytes, of all
}

// partNames are those of one partition.
type partNames struct {
	builder    segment.NamesBuilder
	lost       bool          // not all are known
	base, last record.Offset // of what they are
}

// maxGathered bounds what the names of one journal take, in bytes.
const maxGathered = 4 << 20

// add takes the names of the next batch of a partition. Those of a batch that came from a producer are not known.
func (j *journalNames) add(id stream.PartitionID, e *segment.Extent, names []*stream.Name) {
	p := j.parts[id]
	if p == nil {
		if j.parts == nil {
			j.parts = make(map[stream.PartitionID]*partNames)
		}
		p = &partNames{base: e.Base}
		j.parts[id] = p
	}
	p.last = e.Last
	if p.lost {
		return
	}
	before := p.builder.Held()
	known := p.add(e, names)
	if j.held += p.builder.Held() - before; !known || j.held > maxGathered {
		j.held -= p.builder.Held()
		p.lost, p.builder = true, segment.NamesBuilder{}
	}
}

// add tells false if a name is not known, or is one by another mapping.
func (p *partNames) add(e *segment.Extent, names []*stream.Name) bool {
	if !e.Built() {
		return false
	}
	for _, n := range names {
		if n == nil || p.builder.Mapping != 0 && n.Mapping != p.builder.Mapping {
			return false
		}
		p.builder.Mapping = n.Mapping
		p.builder.Name(n.Topic)
	}
	p.builder.Batches(e.Last, int(e.Len), true)
	return true
}

// take gives the names of what a partition has in the journal, once; nil if not all are known by the mapping.
func (j *journalNames) take(pt part, mapping uint64) *segment.Names {
	p := j.parts[pt.p.ID]
	if p == nil || p.lost || p.builder.Mapping != mapping ||
		p.base > pt.extents[0].Base || p.last < pt.extents[len(pt.extents)-1].Last {
		return nil
	}
	delete(j.parts, pt.p.ID)
	return p.builder.Names()
}
