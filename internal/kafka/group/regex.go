package group

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"slices"
)

// regex is one regular expression that members subscribe to: it stands for the topics whose whole names it matches.
type regex struct {
	users  int
	topics []string // that it matched, in order
	seen   Topics   // when it did
}

// The bounds of a regular expression: its bytes, and the steps that it compiles to.
const (
	maxRegex      = 4096
	maxRegexSteps = 20_000
)

// checkRegex tells whether a text is a regular expression of RE2, and not too large.
func checkRegex(text string) error {
	if len(text) > maxRegex {
		return errors.New("it is longer than 4096 bytes")
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return err
	}
	if steps(tree) > maxRegexSteps {
		return errors.New("its repetitions make it too large")
	}
	return nil
}

// steps is about how many instructions a regular expression compiles to: repetitions are written out.
func steps(tree *syntax.Regexp) int {
	n := 1 + len(tree.Rune)
	for _, sub := range tree.Sub {
		n += steps(sub)
	}
	if tree.Op == syntax.OpRepeat {
		n *= max(tree.Min, tree.Max, 1)
	}
	return n
}

func (g *Consumer) useRegex(text string) {
	if text == "" {
		return
	}
	if g.regexes[text] == nil {
		g.regexes[text] = &regex{}
	}
	g.regexes[text].users++
}

func (g *Consumer) forgetRegex(text string) {
	r := g.regexes[text]
	if r == nil {
		return
	}
	if r.users--; r.users == 0 {
		delete(g.regexes, text)
		g.touch(KindRegex, text)
	}
}

// resolve looks again at what a regular expression matches, if topics have changed since, as far as the client may
// know of them. It tells whether that is something else now.
func (g *Consumer) resolve(text string, sees func(string) bool) (changed bool) {
	r := g.regexes[text]
	if r == nil || r.seen == g.topics {
		return false
	}
	r.seen = g.topics
	matcher, err := regexp.Compile("^(?:" + text + ")$")
	if err != nil {
		return false // it was checked
	}
	var topics []string
	g.topics.Each(func(t Topic) bool {
		if matcher.MatchString(t.Name) && (sees == nil || sees(t.Name)) {
			topics = append(topics, t.Name)
		}
		return true
	})
	slices.Sort(topics)
	if slices.Equal(topics, r.topics) {
		return false
	}
	r.topics = topics
	g.touch(KindRegex, text)
	return true
}
