package api

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"testing"
)

// TestPager pages through things that come in any order, by keys of which many are the same, up and down.
func TestPager(t *testing.T) {
	var all []place
	for i := range 100 {
		all = append(all, place{Number: int64(i * 7 % 5), ID: fmt.Sprintf("%02d", i*37%100)})
	}
	for _, sort := range []string{"n", "-n"} {
		want := slices.Clone(all)
		slices.SortFunc(want, func(a, b place) int {
			if sort == "-n" {
				a, b = b, a
			}
			return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.ID, b.ID))
		})
		for _, limit := range []int{1, 3, 10, 99, 100, 101} {
			var got []place
			for next := ""; ; {
				p, err := newPager[place](&ask{values: url.Values{"sort": {sort}, "limit": {fmt.Sprint(limit)}, "cursor": {next}}})
				if err != nil {
					t.Fatal(err)
				}
				for _, one := range all {
					p.offer(one, func() place { return one })
				}
				if len(p.kept.items) > limit+1 {
					t.Errorf("%d things are held for a page of %d", len(p.kept.items), limit)
				}
				out := page(p, func(at place) place { return at })
				got, next = append(got, out.Items...), out.Next
				if next == "" {
					break
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, %d on a page: %v", sort, limit, got)
			}
		}
	}
}

// TestPagerOfNodes merges the pages of three nodes, of which two have some things both, as when they move.
func TestPagerOfNodes(t *testing.T) {
	var want []place
	var nodes [3][]place
	for i := range 100 {
		one := place{Number: int64(i * 7 % 5), ID: fmt.Sprintf("%02d", i*37%100)}
		want, nodes[i%3] = append(want, one), append(nodes[i%3], one)
		if i%10 == 0 {
			nodes[(i+1)%3] = append(nodes[(i+1)%3], one)
		}
	}
	slices.SortFunc(want, place.compare)
	same := func(at place) place { return at }
	for _, limit := range []int{1, 3, 10, 99, 100, 101} {
		var got []place
		for next := ""; ; {
			var pagers [3]*pager[place]
			for i := range nodes {
				p, err := newPager[place](&ask{values: url.Values{"sort": {"n"}, "limit": {fmt.Sprint(limit)}, "cursor": {next}}})
				if err != nil {
					t.Fatal(err)
				}
				for _, one := range nodes[i] {
					p.offer(one, func() place { return one })
				}
				pagers[i] = p
			}
			for _, other := range pagers[1:] {
				theirs := page(other, same)
				join(pagers[0], &theirs, func(at *place) place { return *at })
			}
			out := page(pagers[0], same)
			got, next = append(got, out.Items...), out.Next
			if out.Total != 110 {
				t.Errorf("there are %d", out.Total)
			}
			if next == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d on a page: %v", limit, got)
		}
	}
}

// FuzzCursor: whatever a cursor says, it is one or it is refused.
func FuzzCursor(f *testing.F) {
	f.Add(cursor{Sort: "name", At: place{Number: 3, Text: "a", ID: "b"}}.String())
	f.Add("")
	f.Add("bnVsbA")
	f.Fuzz(func(t *testing.T, text string) {
		var c cursor
		if parseCursor(text, &c) != nil {
			return
		}
		var again cursor
		if err := parseCursor(c.String(), &again); err != nil && len(c.String()) <= maxCursor || err == nil && again != c {
			t.Errorf("%+v: %+v, %v", c, again, err)
		}
	})
}
