// Package tenure is what a node does with a shard of the sessions from when it is given it until it has let go of it:
//
//	absent → claiming → folding → serving → leaving → absent
//
// It holds what state a shard is in and which step comes next; who does the steps says what became of them.
package tenure

// State is how far a node is with a shard.
type State uint8

// The states.
const (
	Absent   State = iota // it is not this node's
	Claiming              // who had it before is being fenced
	Folding               // its sessions are being read
	Serving               // its sessions are here
	Leaving               // they are being let go of, or what was under way is being stopped
)

var states = [...]string{"absent", "claiming", "folding", "serving", "leaving"}

// String is the name of the state.
func (s State) String() string { return states[s] }

// Event is what happens to a shard.
type Event uint8

// The events. Given, Taken and Fenced come from outside at any time, the others from who does the steps.
const (
	Given  Event = iota // it is to be this node's
	Taken               // it is to be this node's no more
	Fenced              // another node has it: a write of this one was refused
	Owned               // Own is done
	Folded              // Fold is done
	Failed              // Own or Fold could not be done
	Left                // Leave or Drop is done
)

var events = [...]string{"given", "taken", "fenced", "owned", "folded", "failed", "left"}

// String is the name of the event.
func (e Event) String() string { return events[e] }

// Step is what is to be done next. But for Stop it is for one at a time: who reports the end of a step gets the next.
type Step uint8

// The steps.
const (
	Rest  Step = iota // nothing
	Own               // fence who had it before
	Fold              // read its sessions
	Serve             // its sessions are here: nothing is left to do
	Stop              // have the Own or Fold under way end soon; who does it reports as ever
	Leave             // end the connections of its sessions, store what is to be stored, and forget it
	Drop              // Leave without a write: nothing would be taken, or there is nothing
)

var steps = [...]string{"rest", "own", "fold", "serve", "stop", "leave", "drop"}

// String is the name of the step.
func (s Step) String() string { return steps[s] }

// Tenure is of one shard. The zero Tenure is of one that is not this node's.
type Tenure struct {
	state  State
	wanted bool // it is to be this node's
}

// State is how far it is.
func (t *Tenure) State() State { return t.state }

// On takes in an event, and says what is to be done by it. What does not fit the state changes nothing.
func (t *Tenure) On(e Event) Step {
	switch e {
	case Given:
		t.wanted = true
	case Taken:
		t.wanted = false
	}
	switch t.state {
	case Absent:
		return t.absent(e)
	case Claiming:
		return t.claiming(e)
	case Folding:
		return t.folding(e)
	case Serving:
		return t.serving(e)
	}
	return t.leaving(e)
}

func (t *Tenure) absent(e Event) Step {
	if e != Given {
		return Rest
	}
	return t.to(Claiming, Own)
}

func (t *Tenure) claiming(e Event) Step {
	switch e {
	case Owned:
		return t.to(Folding, Fold)
	case Taken:
		return t.to(Leaving, Stop)
	case Failed: // who wants it says so again
		t.wanted = false
		return t.to(Leaving, Drop)
	}
	return Rest
}

func (t *Tenure) folding(e Event) Step {
	switch e {
	case Folded:
		return t.to(Serving, Serve)
	case Taken:
		return t.to(Leaving, Stop)
	case Fenced:
		t.wanted = false
		return t.to(Leaving, Stop)
	case Failed:
		t.wanted = false
		return t.to(Leaving, Drop)
	}
	return Rest
}

func (t *Tenure) serving(e Event) Step {
	switch e {
	case Taken:
		return t.to(Leaving, Leave)
	case Fenced: // whether it is to be here still, the group of gateways says
		t.wanted = false
		return t.to(Leaving, Drop)
	}
	return Rest
}

func (t *Tenure) leaving(e Event) Step {
	switch e {
	case Owned, Folded, Failed: // it was stopped
		return Drop
	case Left:
		if t.wanted { // it was given back meanwhile
			return t.to(Claiming, Own)
		}
		return t.to(Absent, Rest)
	}
	return Rest
}

func (t *Tenure) to(s State, next Step) Step {
	t.state = s
	return next
}
