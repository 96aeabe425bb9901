package store

import (
	"math"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/log/journal"
)

// found is what there is to see of a log before its files are opened.
type found struct {
	names []string        // in the log folder
	heads map[uint64]head // of the journals, by the number in their name
	place place           // of the newest checkpoint
	ends  []place         // where journals ended, as that checkpoint knows
}

// head is what the first bytes of a journal file say.
type head struct {
	journal.Header
	state headState
}

type headState uint8

const (
	headWhole   headState = iota
	headBlank             // never written, or of an earlier life of the file
	headDamaged           // something else
)

// how says as what a file is opened.
type how uint8

const (
	asSegment  how = iota
	asJournal      // frame by frame
	asHeadless     // the same, with what its first frame says instead of its header
)

// step is what recovery does with one file.
type step struct {
	fileID
	name string // below the data directory
	how  how
	// Limits are those of a scan, also of a segment that has to be read as the journal that it was. Nonce is that of the
	// header.
	limits journal.Limits
	// blank: as far as one can see no header was ever written, so that what lies in the file may be an earlier life's.
	blank bool
	// fresh: the end of it may not be on stable storage.
	fresh bool
}

// plan is what recovery will do. The steps are in the order of their files.
type plan struct {
	steps    []step
	extras   []string // files that hold nothing: spares, unfinished writes, rolled-up journals
	findings []Finding
	next     uint64            // the number of the next journal: larger than any
	newest   map[uint64]uint32 // the largest generation of each number
}

// planOf makes the plan for what was found. It is a pure function: testdata/plan has it as a play.
func planOf(f *found) plan {
	p := plan{next: f.place.File + 1, newest: make(map[uint64]uint32)}
	journals := p.sort(f.names)
	for _, number := range slices.Backward(journals) { // of each number a segment without generation ends the journal
		done := fileID{number: number}
		if slices.ContainsFunc(p.steps, func(s step) bool { return s.fileID == done }) {
			p.extras = append(p.extras, journalName(number))
			continue
		}
		p.addJournal(f, number)
	}
	slices.SortFunc(p.steps, func(a, b step) int { return a.compare(b.fileID) })
	slices.Sort(p.extras)
	for i := range p.steps {
		p.limit(f, &p.steps[i])
	}
	return p
}

// sort puts the names where they belong. It gives the numbers of the journals in ascending order.
func (p *plan) sort(names []string) (journals []uint64) {
	for _, name := range names {
		path := logDir + "/" + name
		id, isSegment := parseSegmentName(name)
		number, isJournal := journal.ParseName(name)
		switch {
		case isSegment:
			p.steps = append(p.steps, step{fileID: id, name: path, how: asSegment})
			p.newest[id.number] = max(p.newest[id.number], id.generation)
		case isJournal:
			journals = append(journals, number)
		case strings.HasPrefix(name, "spare."), strings.HasSuffix(name, ".tmp"):
			p.extras = append(p.extras, path)
		default:
			p.findings = append(p.findings, Finding{File: path, What: "is no file of the log"})
		}
		p.next = max(p.next, id.number+1, number+1)
	}
	slices.Sort(journals)
	return journals
}

func (p *plan) addJournal(f *found, number uint64) {
	s := step{fileID: fileID{number: number}, name: journalName(number), how: asJournal, fresh: number >= f.place.File}
	h := f.heads[number]
	if h.state != headWhole {
		if h.state == headBlank && f.void(number, p.last()) {
			p.extras = append(p.extras, s.name)
			return
		}
		s.how, s.blank = asHeadless, h.state == headBlank
	}
	p.steps = append(p.steps, s)
}

// last is the largest number of a file that holds something, of those looked at so far.
func (p *plan) last() (number uint64) {
	for i := range p.steps {
		number = max(number, p.steps[i].number)
	}
	return number
}

// void tells whether a journal without a header holds nothing: no file with something in it is newer, last being the
// newest such, and no checkpoint knows of a frame in it, or of a later file; or a later journal says that nothing in it
// was ever synced. A checkpoint may lie at its head: then the file took the place of one that broke at its first frame.
func (f *found) void(number, last uint64) bool {
	if end, ok := f.endOf(number); ok {
		return end <= journal.HeaderBytes
	}
	return number > last && (number > f.place.File || number == f.place.File && f.place.Pos <= journal.HeaderBytes)
}

// endOf is where a journal ended, if a later one or the checkpoint says so.
func (f *found) endOf(number uint64) (int64, bool) {
	for _, h := range f.heads {
		if h.state == headWhole && h.Previous == number {
			return h.PrevEnd, true
		}
	}
	for _, at := range f.ends {
		if at.File == number {
			return at.Pos, true
		}
	}
	return 0, false
}

// limit says what is known of a journal that is going to be scanned, or may have to be.
func (p *plan) limit(f *found, s *step) {
	s.limits.Nonce = f.heads[s.number].Nonce
	s.limits.End, _ = f.endOf(s.number)
	switch {
	case s.number < f.place.File:
		s.limits.Trust = math.MaxInt64
	case s.number == f.place.File:
		s.limits.Trust = f.place.Pos
	}
}
