package group

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// The sticky assignor of streams groups. A task stays with the member that has it, as far as all members have as many
// active tasks as any other; then it goes to one that has it as a standby task, whose state is there; then to the
// process with the least to do. Tasks with state are spread before those without. Standby tasks stay too, else they go
// where the task was active, else to the process with the least to do: never to one that has the task already.

// AssignorSticky is the name of the assignor of streams groups.
const AssignorSticky = "sticky"

// worker is a member as the assignor sees it.
type worker struct {
	member  *streamer
	process *process
	active  []Task
	standby []Task
}

func (w *worker) load() int { return len(w.active) + len(w.standby) }

// process is an instance of the application, with a member for each of its threads.
type process struct {
	id      string
	workers []*worker
	has     map[Task]bool
	load    int
}

// busier compares what the threads of processes have to do.
func (p *process) busier(o *process) int {
	return cmp.Or(cmp.Compare(p.load*len(o.workers), o.load*len(p.workers)), strings.Compare(p.id, o.id))
}

// deal is one assignment being made.
type deal struct {
	workers   []*worker // in the order of their members' ids
	processes []*process
	was       map[Task]*worker   // who had the task as active
	stood     map[Task][]*worker // who had it as standby or warm-up
}

// targets is what each member is to have.
func (g *Streams) targets() iter.Seq2[*streamer, TaskSet] {
	d := newDeal(g.members)
	if g.plan.fits() && len(g.members) > 0 {
		stateful, stateless := g.tasks()
		d.spread(stateful)
		d.spread(stateless)
		d.standBy(stateful, int(g.opts.StandbyReplicas))
	}
	return func(yield func(*streamer, TaskSet) bool) {
		for _, w := range d.workers {
			if !yield(w.member, TaskSet{Active: NewTasks(w.active), Standby: NewTasks(w.standby)}) {
				return
			}
		}
	}
}

// tasks are those of the topology, with state and without.
func (g *Streams) tasks() (stateful, stateless []Task) {
	for i := range g.topology.Subtopologies {
		s := &g.topology.Subtopologies[i]
		for n := range g.plan.tasks[s.ID] {
			if t := (Task{s.ID, n}); len(s.Changelogs) > 0 {
				stateful = append(stateful, t)
			} else {
				stateless = append(stateless, t)
			}
		}
	}
	return stateful, stateless
}

func newDeal(members []*streamer) *deal {
	d := &deal{was: map[Task]*worker{}, stood: map[Task][]*worker{}}
	byID := map[string]*process{}
	members = slices.SortedFunc(slices.Values(members), func(a, b *streamer) int { return strings.Compare(a.id, b.id) })
	for _, m := range members {
		p := byID[m.process]
		if p == nil {
			p = &process{id: m.process, has: map[Task]bool{}}
			byID[m.process] = p
			d.processes = append(d.processes, p)
		}
		w := &worker{member: m, process: p}
		p.workers = append(p.workers, w)
		d.workers = append(d.workers, w)
		m.target.each(func(t Task, active bool) {
			if active {
				d.was[t] = w
			} else {
				d.stood[t] = append(d.stood[t], w)
			}
		})
	}
	return d
}

func (w *worker) take(t Task, active bool) {
	if active {
		w.active = append(w.active, t)
	} else {
		w.standby = append(w.standby, t)
	}
	w.process.has[t] = true
	w.process.load++
}

// spread gives each task to one worker as active, so that in the end no worker has two more than another.
func (d *deal) spread(tasks []Task) {
	total := len(tasks)
	for _, w := range d.workers {
		total += len(w.active)
	}
	all, more := total/len(d.workers), total%len(d.workers) // each gets all, and some get one more
	for _, w := range d.workers {
		if len(w.active) > all {
			more--
		}
	}
	give := func(w *worker, t Task) bool {
		if w == nil || len(w.active) > all || len(w.active) == all && more <= 0 {
			return false
		}
		if len(w.active) == all {
			more--
		}
		w.take(t, true)
		return true
	}
	tasks = slices.DeleteFunc(slices.Clone(tasks), func(t Task) bool { return give(d.was[t], t) })
	tasks = slices.DeleteFunc(tasks, func(t Task) bool {
		return slices.ContainsFunc(d.stood[t], func(w *worker) bool { return give(w, t) })
	})
	byActive := func(a, b *worker) int { return cmp.Compare(len(a.active), len(b.active)) }
	for _, t := range tasks {
		slices.SortStableFunc(d.processes, (*process).busier)
		for _, p := range d.processes {
			if give(slices.MinFunc(p.workers, byActive), t) {
				break
			}
		}
	}
}

// standBy gives each task to as many processes more, as standby, as there are to be replicas and are processes.
func (d *deal) standBy(tasks []Task, replicas int) {
	replicas = min(replicas, len(d.processes)-1)
	if replicas <= 0 {
		return
	}
	total := len(tasks) * replicas
	for _, w := range d.workers {
		total += len(w.active)
	}
	most := (total + len(d.workers) - 1) / len(d.workers)
	open := map[Task]int{}
	for _, t := range tasks {
		open[t] = replicas
		for _, w := range append(slices.Clone(d.stood[t]), d.was[t]) {
			if w != nil && open[t] > 0 && !w.process.has[t] && w.load() < most {
				w.take(t, false)
				open[t]--
			}
		}
	}
	for _, t := range tasks {
		for ; open[t] > 0; open[t]-- {
			slices.SortStableFunc(d.processes, (*process).busier)
			for _, p := range d.processes { // one of them does not have it: there are more than replicas
				if !p.has[t] {
					slices.MinFunc(p.workers, func(a, b *worker) int { return cmp.Compare(a.load(), b.load()) }).take(t, false)
					break
				}
			}
		}
	}
}
