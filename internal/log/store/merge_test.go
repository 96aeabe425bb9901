package store

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestMergeable holds the choice of files to merge to a table. A file is its size, with an s if it stays, with +N if
// it is N hours younger than the one before.
func TestMergeable(t *testing.T) {
	many := strings.Repeat("64 ", 15)
	for _, c := range []struct {
		name, files string
		want        string
	}{
		{"nothing", "", ""},
		{"one file", "64", ""},
		{"more may come", "64 64 64 64", ""},
		{"fifteen of a size", many, ""},
		{"sixteen of a size", many + "64", "0 to 16"},
		{"the next does not fit", strings.Repeat("100 ", 11), "0 to 10"},
		{"the next stays", "64 64 64 64s", "0 to 3"},
		{"a large one before small ones", "900 30 30 30 64s", "1 to 4"},
		{"one would be most of it", "600 64 64 64 64 64 64 64 64 64", ""},
		{"what was merged stays", "1000 1000 1000 64", ""},
		{"between files that stay", "64s 64 64s 64 64 64s", "3 to 5"},
		{"a day lies between", "10 10+1 10+20 10+1 10+1", "0 to 2"},
		{"many small ones behind a merged one of their size", "16 " + strings.Repeat("1 ", 15), ""},
		{"more of them", "16 " + strings.Repeat("1 ", 48), "0 to 49"},
		{"the oldest first", "64 64s 30 30 64s 64 64 64s", "2 to 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var fs []mergeInput
			var at int64
			for word := range strings.FieldsSeq(c.files) {
				var in mergeInput
				size, hours, later := strings.Cut(word, "+")
				if later {
					var n int64
					if _, err := fmt.Sscan(hours, &n); err != nil {
						t.Fatal(err)
					}
					at += n * time.Hour.Milliseconds()
				}
				size, in.stays = strings.CutSuffix(size, "s")
				if _, err := fmt.Sscan(size, &in.bytes); err != nil {
					t.Fatal(err)
				}
				in.newest = at
				fs = append(fs, in)
			}
			got := ""
			if from, to := mergeable(fs, 1024); from < to {
				got = fmt.Sprintf("%d to %d", from, to)
			}
			if got != c.want {
				t.Errorf("merges %q, want %q", got, c.want)
			}
		})
	}
}
