package stream

import "testing"

// TestLateIsNotOvertaken calls two who wait, gives their room away, and calls the first once more when he comes too
// late: the second, who comes then, is behind him all the same.
func TestLateIsNotOvertaken(t *testing.T) {
	var l Line
	a, b := new(Turn), new(Turn)
	l.Wait(a, 1)
	l.Wait(b, 1)
	if called := l.Next(2, nil); len(called) != 2 || !l.Called() {
		t.Fatalf("%d were called", len(called))
	}
	l.Forget()
	if l.Called() {
		t.Error("room is kept for who did not come")
	}
	if l.Ahead(a) || l.Ahead(b) {
		t.Error("who was called is held up, though nobody waits")
	}
	l.Wait(a, 1) // there was no room for him
	if !l.Ahead(b) {
		t.Error("the second overtakes the first, who waits")
	}
	if called := l.Next(2, nil); len(called) != 1 || called[0] != a {
		t.Fatalf("%v were called, not the first", called)
	}
	if !l.Ahead(b) {
		t.Error("the second overtakes the first, who was called once more")
	}
	if l.Ahead(a) {
		t.Error("the first is held up")
	}
	l.Pass(a)
	if l.Ahead(b) {
		t.Error("the second is held up by who has come")
	}
	l.Pass(b)
	if l.Ahead(nil) || l.Called() {
		t.Error("somebody is left")
	}
}
