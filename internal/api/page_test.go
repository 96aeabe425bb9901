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
