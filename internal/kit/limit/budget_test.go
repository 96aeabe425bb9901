package limit

import (
	"sync"
	"testing"
)

// TestBudgetLeavesSomething: whoever takes as much as his share allows, again and again, leaves something to the next,
// and all together stay within the budget.
func TestBudgetLeavesSomething(t *testing.T) {
	const most, holders = 1 << 20, 1000
	b := NewBudget(most)
	accounts := make([]Account, holders)
	for i := range accounts {
		accounts[i].Open(b)
	}
	for i := range accounts { // one after the other: each takes all that it gets
		for accounts[i].Fits(64) {
			accounts[i].Add(64)
		}
	}
	if b.Used() > most || b.Used() < most*2/5 {
		t.Errorf("%d of %d bytes are used", b.Used(), most)
	}
	for i := range accounts {
		if held := accounts[i].Held(); held < most/2/holders-64 {
			t.Fatalf("holder %d could have %d bytes only", i, held)
		}
	}
	for i := range accounts {
		accounts[i].Close()
		accounts[i].Add(5) // too late to count
	}
	if b.Used() != 0 || b.Share() != most/2 {
		t.Errorf("%d bytes are used after all were closed", b.Used())
	}
}

// TestBudgetTellsInTurn: who waits is told once, in the order of coming, when something was given back.
func TestBudgetTellsInTurn(t *testing.T) {
	b := NewBudget(100)
	var a Account
	a.Open(b)
	a.Add(200)
	var told []int
	for i := range 20 {
		b.Wait(func() { told = append(told, i) })
	}
	a.Add(-50)
	if len(told) != 0 {
		t.Errorf("told %v although nothing is free", told)
	}
	for range 3 {
		a.Add(-20)
	}
	for range 3 {
		a.Add(-20)
	}
	if len(told) != 20 {
		t.Fatalf("told %v", told)
	}
	for i, who := range told {
		if i != who {
			t.Fatalf("told %v", told)
		}
	}
}

func TestAccountsFromManyGoroutines(t *testing.T) {
	b := NewBudget(1 << 30)
	var wg sync.WaitGroup
	var a Account
	a.Open(b)
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				a.Add(10)
				a.Add(-10)
			}
		})
	}
	wg.Wait()
	if b.Used() != 0 || a.Held() != 0 {
		t.Errorf("%d in use, %d held", b.Used(), a.Held())
	}
}
