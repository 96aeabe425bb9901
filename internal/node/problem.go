package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/cli/format"
)

// Problem is one fault of a configuration.
type Problem struct {
	Place string `json:"place"` // where: "firth.yaml:14:7", "FIRTH_LISTEN_MQTT", "--set"
	Text  string `json:"text"`  // what is wrong, what was found and what is allowed
}

// String is "place: text", in one line.
func (p Problem) String() string { return format.Printable(p.Place) + ": " + p.Text }

// Problems are all faults of a configuration, in the order of the text. It is an error of one line each.
type Problems []Problem

// Error is a line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// maxGuess is the length of the longest word that is compared with the known ones.
const maxGuess = 100

// nearest is the name in names that word most probably means, or "" if none is near.
func nearest(word string, names []string) string {
	best, bestDistance := "", max(2, len(word)/3)+1
	if len(word) > maxGuess {
		return ""
	}
	for _, name := range names {
		if d := distance(strings.ToLower(word), strings.ToLower(name)); d < bestDistance && d < max(len(name), 2) {
			best, bestDistance = name, d
		}
	}
	return best
}

// didYouMean is " (did you mean "name"?)", or "" if no name is near.
func didYouMean(word string, names []string) string {
	if name := nearest(word, names); name != "" {
		return fmt.Sprintf(" (did you mean %q?)", name)
	}
	return ""
}

// distance counts the letters to insert, drop, change or swap with a neighbour to turn a into b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = slices.Min([]int{rows[i-1][j] + 1, rows[i][j-1] + 1, rows[i-1][j-1] + change})
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
