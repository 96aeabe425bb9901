package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kit/fault"
)

// What a request that changes something says, and on what condition.

// mostBody bounds what a request says, in bytes.
const mostBody = 4 << 20

// read reads what a request says. Errors: Invalid; TooLarge.
func (q *ask) read(into any) error {
	text := json.NewDecoder(http.MaxBytesReader(nil, q.r.Body, mostBody))
	text.DisallowUnknownFields()
	err := text.Decode(into)
	if err == nil {
		if _, behind := text.Token(); !errors.Is(behind, io.EOF) {
			err = errors.New("there is more behind the value")
		}
	}
	_, large := errors.AsType[*http.MaxBytesError](err)
	_, own := errors.AsType[*fault.Error](err)
	switch {
	case large:
		return fault.New(fault.TooLarge, op, "what is said is longer than %d bytes", mostBody)
	case errors.Is(err, io.EOF):
		return fault.New(fault.Invalid, op, "nothing is said: the request has no body")
	case err != nil && !own:
		return fault.New(fault.Invalid, op, "what is said is not understood: %w", err)
	}
	return err
}

// Only judges what is there before it is changed, by its entity tag, while nobody else changes it; "": nothing is
// there. Errors: those that refuse the change.
type Only func(tag string) error

// condition is what a change asks of what is there (RFC 9110, section 13.1).
type condition struct {
	tags []string // If-Match
	any  bool     // If-Match: *
	none bool     // If-None-Match: *
}

// conditionOf reads it. Who changes something that somebody else may have changed says what it has seen of it; where
// the change may make something, that it has seen nothing. Errors: with 428, Invalid.
func (rt *route) conditionOf(r *http.Request) (*condition, error) {
	match, none := r.Header.Values("If-Match"), r.Header.Values("If-None-Match")
	switch {
	case len(match) > 0 && len(none) > 0, len(none) > 0 && (!rt.makes || !slices.Equal(none, []string{"*"})):
		return nil, fault.New(fault.Invalid, op, "If-None-Match is not understood here").WithHint("%s", rt.conditions())
	case len(match)+len(none) == 0:
		return nil, &statusError{http.StatusPreconditionRequired,
			fault.New(fault.Invalid, op, "a change says what it is a change of").WithHint("%s", rt.conditions())}
	}
	c := &condition{none: len(none) > 0}
	for text := range strings.SplitSeq(strings.Join(match, ","), ",") {
		switch text = strings.TrimSpace(text); {
		case text == "*":
			c.any = true
		case len(text) > 2 && text[0] == '"' && text[len(text)-1] == '"':
			c.tags = append(c.tags, text[1:len(text)-1])
		}
	}
	return c, nil
}

// conditions says which there are.
func (rt *route) conditions() string {
	text := "send If-Match with the ETag that a GET has shown; * means whatever is there"
	if rt.makes {
		text += ". If-None-Match: * makes it anew"
	}
	return text
}

// check implements Only. Errors: with 412, Fenced.
func (c *condition) check(tag string) error {
	there := tag != ""
	if c.none && !there || there && (c.any || slices.Contains(c.tags, tag)) {
		return nil
	}
	err := fault.New(fault.Fenced, op, "it is another one by now").WithHint("GET it again, and look at what has changed")
	if !there {
		err = fault.New(fault.Fenced, op, "it is not there")
	} else if c.none {
		err = fault.New(fault.Fenced, op, "it is there already").WithHint("GET it, and send its ETag as If-Match")
	}
	return &statusError{http.StatusPreconditionFailed, err}
}

// reply is an answer with more than its value.
type reply struct {
	value any
	tag   string // the entity tag of what is shown; "": none
	made  bool   // it was not there before
}
