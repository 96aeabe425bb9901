package verify_test

import (
	"context"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access/token"
	"github.com/firthmq/firth/internal/access/token/tokentest"
	"github.com/firthmq/firth/internal/access/verify"
	"github.com/firthmq/firth/internal/kit/fault"
)

// changing are keys that others take the place of when one is missed.
type changing struct {
	now, next *token.Keys
	missed    int
}

func (c *changing) Keys() *token.Keys { return c.now }

func (c *changing) Miss(context.Context) {
	c.missed++
	if c.next != nil {
		c.now = c.next
	}
}

// TestTokens: a token is remembered while it is good and the keys are those that it was good by; a key that is missed
// is asked for, and without keys none is good.
func TestTokens(t *testing.T) {
	keysOf := func(id *tokentest.Issuer) *token.Keys {
		k, err := token.ParseKeys(id.Keys())
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	old, other := tokentest.New(t, "ES256").Named("old"), tokentest.New(t, "ES256").Named("new")
	from, now := &changing{now: keysOf(old)}, time.Now()
	tokens := verify.NewTokens([]verify.Issuer{{From: from, Issuer: token.Issuer{Name: tokentest.Name,
		Audiences: []string{"firth"}, Algorithms: []string{"ES256"}, User: "sub"}}}, 0, func() time.Time { return now })
	check := func(what, raw string, good bool, remembered int64, missed int) {
		t.Helper()
		_, err := tokens.Check(t.Context(), raw)
		if good != (err == nil) || err != nil && !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", what, err)
		}
		if tokens.Remembered() != remembered || from.missed != missed {
			t.Errorf("%s: %d remembered, %d missed", what, tokens.Remembered(), from.missed)
		}
	}
	first, second := old.Token(nil), other.Token(nil)
	check("the first", first, true, 0, 0)
	check("the first again", first, true, 1, 0)
	check("of a key that is not there", second, false, 1, 1)
	from.next = keysOf(other)
	check("of a key that is there now", second, true, 1, 2)
	check("of a key that is gone", first, false, 1, 3)
	check("the second again", second, true, 2, 3)
	from.now, from.next = nil, nil
	check("no keys are recent enough", second, false, 2, 4)
	from.now = keysOf(other)
	check("they are back", second, true, 2, 4)
	now = now.Add(2 * time.Hour)
	check("it has ended", second, false, 2, 4)
	check("of a stranger", other.Token(map[string]any{"iss": "x"}), false, 2, 4)
}
