// Package mosquitto reads a mosquitto.conf as a configuration of Firth: every directive is translated, or named with
// the reason why it is not.
//
//	files, err := mosquitto.Parse("mosquitto.conf", text, include)
//	t, err := mosquitto.Translate(files)
//	os.Stdout.Write(t.YAML())
//	for _, n := range t.Notes { ... }
//
// The package is pure.
package mosquitto

import (
	"fmt"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
)

// Place is a line of a file.
type Place struct {
	File string
	Line int // from 1
}

// String is the place as editors take it.
func (p Place) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// Directive is one line that says something: a name and the rest of it.
type Directive struct {
	Place
	Name, Value string
}

// Note says what became of a directive that has no key of ours.
type Note struct {
	Directive
	Needless bool   // what it asks for is so anyway
	Why      string // a sentence without its full stop
}

// String is the note in a line.
func (n Note) String() string {
	what := "not translated"
	if n.Needless {
		what = "not needed"
	}
	return fmt.Sprintf("%s: %s: %s: %s", n.Place, n.Name, what, n.Why)
}

// includeDepth bounds how deep files may include folders.
const includeDepth = 10

// Parse gives the directives of a file in their order, those of included files in the place of include_dir. include
// reads a folder: the names and texts of the files in it that end with .conf, in the order of their names.
// Errors: those of include; Invalid when files include each other.
func Parse(file string, text []byte, include func(dir string) (names []string, texts [][]byte, err error),
) ([]Directive, error) {
	return parse(nil, file, text, include, 0)
}

func parse(all []Directive, file string, text []byte,
	include func(string) ([]string, [][]byte, error), depth int,
) ([]Directive, error) {
	if depth > includeDepth {
		return nil, fault.New(fault.Invalid, "mosquitto", "%s: include_dir is nested more than %d deep", file, includeDepth)
	}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value := line, ""
		if i := strings.IndexAny(line, " \t"); i >= 0 {
			name, value = line[:i], strings.TrimSpace(line[i:])
		}
		d := Directive{Place: Place{file, number}, Name: name, Value: value}
		if d.Name != "include_dir" {
			all = append(all, d)
			continue
		}
		names, texts, err := include(d.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: include_dir: %w", d.Place, err)
		}
		for i := range names {
			if all, err = parse(all, names[i], texts[i], include, depth+1); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}
