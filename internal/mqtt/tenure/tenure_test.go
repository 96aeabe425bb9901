package tenure_test

import (
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/mqtt/tenure"
)

var events = map[string]tenure.Event{
	"given": tenure.Given, "taken": tenure.Taken, "fenced": tenure.Fenced, "owned": tenure.Owned,
	"folded": tenure.Folded, "failed": tenure.Failed, "left": tenure.Left,
}

// TestTenure: what is done at each event, and the state after it.
func TestTenure(t *testing.T) {
	for _, test := range []struct{ name, events, steps, state string }{
		{"nothing happens to what is absent", "taken fenced owned folded failed left", "rest rest rest rest rest rest",
			"absent"},
		{"it comes", "given owned folded", "own fold serve", "serving"},
		{"it comes once", "given given owned given folded given", "own rest fold rest serve rest", "serving"},
		{"it goes", "given owned folded taken left", "own fold serve leave rest", "absent"},
		{"it goes once", "given owned folded taken taken fenced left", "own fold serve leave rest rest rest", "absent"},
		{"a write was refused", "given owned folded fenced", "own fold serve drop", "leaving"},
		{"a refused shard does not come back by itself", "given owned folded fenced left", "own fold serve drop rest",
			"absent"},
		{"it is taken while it is claimed", "given taken owned left", "own stop drop rest", "absent"},
		{"it is taken while it is claimed, which fails", "given taken failed left", "own stop drop rest", "absent"},
		{"it is taken while it is read", "given owned taken folded left", "own fold stop drop rest", "absent"},
		{"it is fenced while it is read", "given owned fenced folded left", "own fold stop drop rest", "absent"},
		{"nobody can be fenced before it is owned", "given fenced owned", "own rest fold", "folding"},
		{"claiming fails", "given failed left", "own drop rest", "absent"},
		{"reading fails", "given owned failed left", "own fold drop rest", "absent"},
		{"it comes again", "given failed left given", "own drop rest own", "claiming"},
		{"it is given back while it goes", "given owned folded taken given left", "own fold serve leave rest own",
			"claiming"},
		{"it is given back and taken again", "given owned folded taken given taken left",
			"own fold serve leave rest rest rest", "absent"},
		{"it is given back while it is stopped", "given taken given failed left owned", "own stop rest drop own fold",
			"folding"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var shard tenure.Tenure
			var steps []string
			for e := range strings.FieldsSeq(test.events) {
				if events[e].String() != e {
					t.Fatalf("%s is called %s", e, events[e])
				}
				steps = append(steps, shard.On(events[e]).String())
			}
			if got := strings.Join(steps, " "); got != test.steps {
				t.Errorf("%s: %s, not %s", test.events, got, test.steps)
			}
			if got := shard.State().String(); got != test.state {
				t.Errorf("%s: it is %s, not %s", test.events, got, test.state)
			}
		})
	}
}

// TestOneAtATime: whatever happens from outside, one step is under way at a time, and a shard that nobody takes ends
// where it was wanted last. All sequences of five events from outside are played, against every way that steps end.
func TestOneAtATime(t *testing.T) {
	outside := []tenure.Event{tenure.Given, tenure.Taken, tenure.Fenced}
	for code := range 3 * 3 * 3 * 3 * 3 * 32 {
		var shard tenure.Tenure
		under, wanted := tenure.Rest, false
		begin := func(step tenure.Step) {
			switch step {
			case tenure.Rest, tenure.Stop, tenure.Serve:
				return
			}
			if under != tenure.Rest {
				t.Fatalf("%d: %s begins while %s is under way", code, step, under)
			}
			under = step
		}
		finish := func(well bool) {
			done := map[tenure.Step]tenure.Event{tenure.Own: tenure.Owned, tenure.Fold: tenure.Folded}[under]
			switch under {
			case tenure.Rest:
				return
			case tenure.Leave, tenure.Drop:
				done, well = tenure.Left, true
			}
			under = tenure.Rest
			if !well {
				done = tenure.Failed
				wanted = wanted && shard.State() == tenure.Leaving
			}
			begin(shard.On(done))
		}
		rest := code
		for range 5 {
			e := outside[rest%3]
			rest /= 3
			before := shard.State()
			begin(shard.On(e))
			switch {
			case e != tenure.Fenced:
				wanted = e == tenure.Given
			case before == tenure.Serving, before == tenure.Folding:
				wanted = false
			}
			finish(rest&1 == 0 || code%7 > 0)
		}
		for range 10 {
			finish(true)
		}
		if is := shard.State() == tenure.Serving; is != wanted || under != tenure.Rest {
			t.Fatalf("%d: it is %s, wanted: %v, %s is under way", code, shard.State(), wanted, under)
		}
	}
}
