package fault

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestEveryKindHasItsOwnName(t *testing.T) {
	seen := map[string]Kind{}
	for i, k := range Kinds() {
		if int(k) != i {
			t.Errorf("Kinds()[%d] = %d", i, k)
		}
		name := k.String()
		if name == "" || strings.HasPrefix(name, "kind ") {
			t.Errorf("kind %d has no name", k)
		}
		if other, twice := seen[name]; twice {
			t.Errorf("%q names %d and %d", name, other, k)
		}
		seen[name] = k
	}
	if got := Kind(200).String(); got != "kind 200" {
		t.Errorf("an unknown kind is %q", got)
	}
}

func TestErrorsAreFoundInAChain(t *testing.T) {
	cause := New(NotFound, "store.Read", "no topic %q", "x").WithHint("make it with %s", "firth topic")
	for _, err := range []error{
		cause,
		fmt.Errorf("reading: %w", cause),
		errors.Join(io.ErrUnexpectedEOF, cause),
	} {
		if !Is(err, NotFound) || Is(err, Exists) || KindOf(err) != NotFound {
			t.Errorf("%v: kind %v", err, KindOf(err))
		}
		if got := HintOf(err); got != "make it with firth topic" {
			t.Errorf("%v: hint %q", err, got)
		}
	}
	if got := cause.Error(); got != `store.Read: no topic "x"` {
		t.Errorf("text %q", got)
	}
}

func TestTheOutermostKindCounts(t *testing.T) {
	inner := New(IO, "vfs.Sync", "broken").WithHint("look at the disk")
	outer := Wrap(ReadOnly, "journal.Sync", inner)
	if KindOf(outer) != ReadOnly || Is(outer, IO) {
		t.Errorf("kind %v", KindOf(outer))
	}
	if got := HintOf(outer); got != "look at the disk" {
		t.Errorf("hint %q", got)
	}
	if !errors.Is(outer, inner) {
		t.Error("the cause is lost")
	}
	if got := outer.Error(); got != "journal.Sync: vfs.Sync: broken" {
		t.Errorf("text %q", got)
	}
}

func TestErrorsWithoutAKind(t *testing.T) {
	if err := Wrap(IO, "op", nil); err != nil {
		t.Errorf("Wrap(nil) = %v", err)
	}
	for _, err := range []error{nil, io.EOF} {
		if KindOf(err) != Internal || Is(err, Internal) || HintOf(err) != "" {
			t.Errorf("%v: %v, %q", err, KindOf(err), HintOf(err))
		}
	}
	if err := New(IO, "op", "at %d: %w", 3, io.EOF); !errors.Is(err, io.EOF) {
		t.Errorf("%v does not wrap its cause", err)
	}
}
