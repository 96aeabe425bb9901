package api

import (
	"cmp"
	"container/heap"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Page is one page of a list.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"cursor of the next page; without it this is the last"`
	Total int    `json:"total" doc:"how many there are on all pages"`
}

const (
	pageSize = 100
	mostPage = 1000
)

// listParams are those of every list, which is sorted by some of its fields, the first by default.
func listParams(sorts ...string) []param {
	var values []string
	for _, s := range sorts {
		values = append(values, s, "-"+s)
	}
	return []param{
		{name: "limit", kind: "integer", low: 1, high: mostPage, value: "100", doc: "how many there are on a page at most"},
		{name: "cursor", kind: "string", doc: "next of the page before; the other parameters have to be the same"},
		{name: "sort", kind: "string", values: values, value: sorts[0],
			doc: "by which field they are sorted; with - from the largest down"},
	}
}

// place is where something stands in a list: by a number, a text, and what names it, which no other has.
type place struct {
	Number int64  `json:"n,omitempty"`
	Text   string `json:"t,omitempty"`
	ID     string `json:"i"`
}

func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(p.Number, other.Number), cmp.Compare(p.Text, other.Text), cmp.Compare(p.ID, other.ID))
}

// cursor is a place that a page ended at, and by what was sorted.
type cursor struct {
	Sort string `json:"s"`
	At   place  `json:"p"`
}

// maxCursor bounds the text of a cursor, in bytes.
const maxCursor = 8 << 10

func (c cursor) String() string {
	text, _ := json.Marshal(c) // it always has a JSON form
	return base64.RawURLEncoding.EncodeToString(text)
}

// parseCursor reads what String wrote into a value. Errors: Invalid.
func parseCursor(text string, into any) error {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil && len(text) <= maxCursor {
		err = json.Unmarshal(raw, into)
	}
	if err != nil || len(text) > maxCursor {
		return fault.New(fault.Invalid, op, "the cursor is none that was given out here").
			WithHint("it is next of the page before; without it the list begins anew")
	}
	return nil
}

// pager takes the things of a list as they come, in any order, and keeps those of one page: what it holds is bounded by
// the size of a page, whatever there is.
type pager[T any] struct {
	limit int
	sort  string
	down  bool
	after *place // the page begins behind it; nil: it is the first
	total int
	many  bool // there is what other nodes gave
	more  bool // one of them has more than it gave
	kept  placed[T]
}

// placed are things with their places, the last of them on top.
type placed[T any] struct {
	down  bool
	items []seated[T]
}

type seated[T any] struct {
	at   place
	item T
}

func (h *placed[T]) compare(a, b place) int {
	if h.down {
		return b.compare(a)
	}
	return a.compare(b)
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (h *placed[T]) Len() int           { return len(h.items) }
func (h *placed[T]) Less(i, j int) bool { return h.compare(h.items[i].at, h.items[j].at) > 0 }
func (h *placed[T]) Swap(i, j int)      { h.items[i], h.items[j] = h.items[j], h.items[i] }

// Push adds one at the end.
func (h *placed[T]) Push(x any) {
	if one, is := x.(seated[T]); is {
		h.items = append(h.items, one)
	}
}

// Pop takes the one at the end.
func (h *placed[T]) Pop() any {
	last := h.items[len(h.items)-1]
	h.items = h.items[:len(h.items)-1]
	return last
}

// newPager makes one for what is asked for. Errors: Invalid.
func newPager[T any](q *ask) (*pager[T], error) {
	sort, down := strings.CutPrefix(q.text("sort"), "-")
	p := &pager[T]{limit: int(q.number("limit")), sort: sort, down: down, kept: placed[T]{down: down}}
	if text := q.text("cursor"); text != "" {
		var c cursor
		if err := parseCursor(text, &c); err != nil {
			return nil, err
		}
		if c.Sort != q.text("sort") {
			return nil, fault.New(fault.Invalid, op, "the cursor is of a list that is sorted by %s", fault.Text(c.Sort))
		}
		p.after = &c.At
	}
	return p, nil
}

// offer takes one more thing that is asked for. item is called if it may be on the page.
func (p *pager[T]) offer(at place, item func() T) {
	p.total++
	if p.after != nil && p.kept.compare(at, *p.after) <= 0 {
		return
	}
	if p.kept.Len() > p.limit { // one more than a page, which tells that there is a next
		if p.kept.compare(at, p.kept.items[0].at) >= 0 {
			return
		}
		heap.Pop(&p.kept)
	}
	heap.Push(&p.kept, seated[T]{at, item()})
}

// join takes in the same page of another node, whose things stand where at tells.
func join[T any](p *pager[T], theirs *Page[T], at func(*T) place) {
	p.total += theirs.Total - len(theirs.Items)
	p.many, p.more = true, p.more || theirs.Next != ""
	for i := range theirs.Items {
		p.offer(at(&theirs.Items[i]), func() T { return theirs.Items[i] })
	}
}

// once are things that two nodes may have given, which moved from one to the other meanwhile, each once.
func once[T any](items []seated[T]) []seated[T] {
	seen := make(map[string]bool, len(items))
	return slices.DeleteFunc(items, func(one seated[T]) bool {
		again := seen[one.at.ID]
		seen[one.at.ID] = true
		return again
	})
}

// page is what was kept of the things, in order, each as show makes it.
func page[T, V any](p *pager[T], show func(T) V) Page[V] {
	items := p.kept.items
	slices.SortFunc(items, func(a, b seated[T]) int { return p.kept.compare(a.at, b.at) })
	more := p.more || len(items) > p.limit
	if p.many {
		items = once(items)
	}
	out := Page[V]{Items: make([]V, 0, len(items)), Total: p.total}
	if more && len(items) > 0 {
		items = items[:min(p.limit, len(items))]
		sort := p.sort
		if p.down {
			sort = "-" + sort
		}
		out.Next = cursor{Sort: sort, At: items[len(items)-1].at}.String()
	}
	for _, one := range items {
		out.Items = append(out.Items, show(one.item))
	}
	return out
}
