package groups

import (
	"cmp"
	"slices"

	"github.com/firthmq/firth/internal/log/stream"
)

// Look is what is known of a group.
type Look struct {
	Share, Filter string
	Sessions      int // subscribed; where nodes share sessions, those that are connected
	Connected     int // of those
	Open          int // messages that were given out and wait for an acknowledgement, or to be given out again
	// Behind tells that the log may hold more for it: nobody is there, or it fell behind. At is where it stands.
	Behind bool
	At     func(p stream.PartitionID) int64
}

// Look gives all groups to which a session is subscribed, by their names.
func (g *Groups) Look() (all []Look) {
	for _, one := range g.all() {
		if one.subscribed() {
			all = append(all, one.look())
		}
	}
	slices.SortFunc(all, func(a, b Look) int {
		return cmp.Or(cmp.Compare(a.Share, b.Share), cmp.Compare(a.Filter, b.Filter))
	})
	return all
}

func (g *Group) look() Look {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := Look{
		Share: g.name.share, Filter: g.name.filter, Sessions: len(g.subs), Connected: len(g.takers),
		Behind: g.presence == nil || g.behind > 0,
		At:     func(p stream.PartitionID) int64 { return int64(g.stands(p)) },
	}
	for _, p := range g.parts {
		l.Open += p.Open()
	}
	return l
}
