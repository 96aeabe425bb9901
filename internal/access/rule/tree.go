package rule

import (
	"bytes"
	"strings"
)

// tree is topic filters and what rules say of the names that each matches, level by level: what it costs to ask does
// not grow with their number, but where a question has + and the filters have many names at that level. It never
// changes once it is made.
type tree struct {
	levels    map[string]*tree
	plus      *tree
	hash      grants // of the filter that ends here with #
	own       grants // of the filter that ends here
	below     grants // of all filters that begin so: own, hash, and those of all levels below
	belowWild grants // the same without levels that begin with $, which a wildcard in front does not mean
}

// add puts a filter in.
func (t *tree) add(filter string, g grants) {
	dollar := filter[0] == '$'
	for n, more := t, true; ; {
		n.below = n.below.with(g)
		if n != t || !dollar {
			n.belowWild = n.belowWild.with(g)
		}
		if !more {
			n.own = n.own.with(g)
			return
		}
		var level string
		level, filter, more = strings.Cut(filter, "/")
		switch level {
		case "#":
			n.hash = n.hash.with(g)
			return
		case "+":
			if n.plus == nil {
				n.plus = &tree{}
			}
			n = n.plus
		default:
			if n.levels == nil {
				n.levels = map[string]*tree{}
			}
			if n.levels[level] == nil {
				n.levels[level] = &tree{}
			}
			n = n.levels[level]
		}
	}
}

// covering is what the filters say that match every name that a question, a name or a filter, matches. As names.Covers.
func (t *tree) covering(question []byte) grants { return t.cover(question, true, question[0] != '$') }

// cover goes on with the rest of a question, if there is more of it; wild: + and # are meant here.
func (t *tree) cover(rest []byte, more, wild bool) (g grants) {
	if wild {
		g = t.hash // a/# matches a too (section 4.7.1.2)
	}
	if !more {
		return g.with(t.own)
	}
	level, rest, more := bytes.Cut(rest, slash)
	if isWildcard(level, '#') {
		return g
	}
	if t.plus != nil && wild {
		g = g.with(t.plus.cover(rest, more, true))
	}
	if below := t.levels[string(level)]; below != nil { // none is called +
		g = g.with(below.cover(rest, more, true))
	}
	return g
}

// touching is what the filters say that match some name that a filter matches. As names.Overlaps.
func (t *tree) touching(filter []byte) grants { return t.touch(filter, true, true) }

func (t *tree) touch(rest []byte, more, root bool) (g grants) {
	wild := !root || rest[0] != '$'
	if wild {
		g = t.hash
	}
	if !more {
		return g.with(t.own)
	}
	level, rest, more := bytes.Cut(rest, slash)
	switch {
	case isWildcard(level, '#') && root:
		return t.belowWild
	case isWildcard(level, '#'):
		return t.below
	}
	if t.plus != nil && wild {
		g = g.with(t.plus.touch(rest, more, false))
	}
	if !isWildcard(level, '+') {
		if below := t.levels[string(level)]; below != nil {
			g = g.with(below.touch(rest, more, false))
		}
		return g
	}
	for name, below := range t.levels {
		if g == t.below { // nothing more is to be had
			break
		}
		if g.with(below.below) != g && !(root && strings.HasPrefix(name, "$")) {
			g = g.with(below.touch(rest, more, false))
		}
	}
	return g
}

var slash = []byte{'/'}

func isWildcard(level []byte, c byte) bool { return len(level) == 1 && level[0] == c }
