package group

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Topology is what an application of Kafka Streams does, as far as its group must know: which topics it reads, writes
// and keeps state in.
type Topology struct {
	Epoch         int32
	Subtopologies []Subtopology // by their ids
}

// Subtopology is a part of a topology that is connected by more than topics.
type Subtopology struct {
	ID           string
	Sources      []string        // topics that it reads, and that are not made for it
	Regexes      []string        // regular expressions of such topics; they are refused
	Changelogs   []InternalTopic // in which it keeps its state
	Sinks        []string        // repartition topics that it writes
	Repartitions []InternalTopic // repartition topics that it reads
	Together     []Copartition
}

// InternalTopic is a topic that is made for a topology.
type InternalTopic struct {
	Name        string
	Partitions  int32 // 0: what the topology comes to
	Replication int16 // 0: the default
	Configs     []Setting
}

// Setting is a name and a value: of a topic, or a tag of a client.
type Setting struct{ Name, Value string }

// Copartition is a set of topics that must have as many partitions each. It has their indexes in the subtopology.
type Copartition struct{ Sources, Repartitions []int16 }

// reads are the topics that a subtopology reads.
func (s *Subtopology) reads() []string {
	all := slices.Clone(s.Sources)
	for i := range s.Repartitions {
		all = append(all, s.Repartitions[i].Name)
	}
	return all
}

// Topics are the names of all topics of the topology, each once, in order.
func (t *Topology) Topics() []string {
	var all []string
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		all = append(append(all, s.reads()...), s.Sinks...)
		for j := range s.Changelogs {
			all = append(all, s.Changelogs[j].Name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// equal tells whether two topologies say the same.
func (t *Topology) equal(o *Topology) bool {
	return string(appendTopology(nil, t)) == string(appendTopology(nil, o))
}

// Flaw is what is wrong with a topology by itself; "": nothing.
func (t *Topology) Flaw() string {
	seen := map[string]bool{}
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		switch {
		case seen[s.ID]:
			return "Subtopology " + s.ID + " is there twice."
		case len(s.Regexes) > 0:
			return "Regular expressions for source topics are not supported yet."
		case len(s.reads()) == 0:
			return "Subtopology " + s.ID + " does not contain any source topics."
		}
		seen[s.ID] = true
		for j := range s.Changelogs {
			if c := &s.Changelogs[j]; c.Partitions != 0 {
				return fmt.Sprintf("Changelog topic %s must have an undefined partition count, but it is set to %d.",
					c.Name, c.Partitions)
			}
		}
		beyond := func(n int) func(int16) bool { return func(i int16) bool { return i < 0 || int(i) >= n } }
		for _, c := range s.Together {
			if slices.ContainsFunc(c.Sources, beyond(len(s.Sources))) ||
				slices.ContainsFunc(c.Repartitions, beyond(len(s.Repartitions))) {
				return "Subtopology " + s.ID + " has copartition groups of topics that it does not have."
			}
		}
	}
	return ""
}

// StatusCode says what is the matter with a streams group, or with a member, with Kafka's numbers.
type StatusCode int8

// The statuses.
const (
	StaleTopology                StatusCode = 0
	MissingSourceTopics          StatusCode = 1
	IncorrectlyPartitionedTopics StatusCode = 2
	MissingInternalTopics        StatusCode = 3
	ShutdownApplication          StatusCode = 4
	AssignmentDelayed            StatusCode = 5
)

// Status is one thing that is the matter, and what is told of it.
type Status struct {
	Code   StatusCode
	Detail string
}

// plan is what a topology comes to with the topics that there are.
type plan struct {
	tasks   map[string]int32 // how many each subtopology has, by its id; nil: that cannot be told
	missing []InternalTopic  // with their partitions
	status  *Status          // why nothing can be assigned
	flaw    string           // why it never can
	hash    int64            // of the topics of the topology that there are
}

// fits tells whether tasks can be assigned.
func (p *plan) fits() bool { return p.tasks != nil && p.status == nil && p.flaw == "" }

// planner works a plan out.
type planner struct {
	*Topology
	topics  Topics
	decided map[string]int32 // partitions of internal topics
}

func (t *Topology) plan(topics Topics) plan {
	w := planner{t, topics, map[string]int32{}}
	p := plan{hash: w.hash()}
	if gone := w.missingSources(); len(gone) > 0 {
		p.status = &Status{MissingSourceTopics, "Source topics " + brief(gone) + " are missing."}
		return p
	}
	if p.flaw = w.decideRepartitions(); p.flaw != "" {
		return p
	}
	if why := w.decideTogether(); why != "" {
		p.status = &Status{IncorrectlyPartitionedTopics, why}
		return p
	}
	tasks := map[string]int32{}
	for i := range t.Subtopologies {
		s := &t.Subtopologies[i]
		for _, name := range s.reads() {
			tasks[s.ID] = max(tasks[s.ID], w.count(name))
		}
		for j := range s.Changelogs {
			if name := s.Changelogs[j].Name; !slices.Contains(s.Sources, name) {
				w.decided[name] = tasks[s.ID]
			}
		}
	}
	p.missing, p.status = w.missingInternal()
	p.tasks = tasks
	return p
}

// brief lists names, the first few of many.
func brief(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d additional topics", strings.Join(names[:most], ", "), len(names)-most)
}

// hash is that of the topics of the topology.
func (w *planner) hash() int64 { return hashOf(w.topics, w.Topics()) }

// count is how many partitions a topic has, or is to have; 0: that is not known.
func (w *planner) count(name string) int32 {
	if t, is := w.topics.ByName(name); is {
		return t.Partitions
	}
	return w.decided[name]
}

func (w *planner) missingSources() []string {
	var gone []string
	for i := range w.Subtopologies {
		for _, name := range w.Subtopologies[i].Sources {
			if _, is := w.topics.ByName(name); !is {
				gone = append(gone, name)
			}
		}
	}
	slices.Sort(gone)
	return slices.Compact(gone)
}

// decideRepartitions finds how many partitions repartition topics are to have: what they ask for, or as many as the
// largest topic that those read who write them. It gives why that cannot be told.
func (w *planner) decideRepartitions() string {
	var open []string
	for i := range w.Subtopologies {
		for _, r := range w.Subtopologies[i].Repartitions {
			if r.Partitions != 0 {
				w.decided[r.Name] = r.Partitions
			} else {
				open = append(open, r.Name)
			}
		}
	}
	for {
		left := slices.DeleteFunc(slices.Clone(open), func(name string) bool {
			n := w.upstream(name)
			if n > 0 {
				w.decided[name] = n
			}
			return n > 0
		})
		switch {
		case len(left) == 0:
			return ""
		case len(left) == len(open):
			return "Failed to compute number of partitions for all repartition topics: " + brief(left) + "."
		}
		open = left
	}
}

// upstream is how many partitions the largest topic has that those read who write a repartition topic.
func (w *planner) upstream(name string) (most int32) {
	for i := range w.Subtopologies {
		if s := &w.Subtopologies[i]; slices.Contains(s.Sinks, name) {
			for _, source := range s.reads() {
				most = max(most, w.count(source))
			}
		}
	}
	return most
}

// decideTogether has topics that belong together have as many partitions, and tells why they cannot.
func (w *planner) decideTogether() string {
	for i := range w.Subtopologies {
		s := &w.Subtopologies[i]
		for _, c := range s.Together {
			if why := w.decideOne(s, &c); why != "" {
				return why
			}
		}
	}
	return ""
}

func (w *planner) decideOne(s *Subtopology, c *Copartition) string {
	var given, open []string // topics whose partitions are given, and those that follow
	for _, i := range c.Sources {
		given = append(given, s.Sources[i])
	}
	for _, i := range c.Repartitions {
		if r := &s.Repartitions[i]; r.Partitions != 0 {
			given = append(given, r.Name)
		} else {
			open = append(open, r.Name)
		}
	}
	asks := func(name string) int32 { // what a repartition topic asks for goes before what there is
		return cmp.Or(w.decided[name], w.count(name))
	}
	n := int32(0)
	for _, name := range given {
		if has := asks(name); n != 0 && has != n {
			return "Following topics do not have the same number of partitions: [" + w.counted(given) + "]"
		}
		n = asks(name)
	}
	if len(given) == 0 {
		for _, name := range open {
			n = max(n, w.decided[name])
		}
	}
	for _, name := range open {
		w.decided[name] = n
	}
	return ""
}

func (w *planner) counted(names []string) string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = fmt.Sprintf("%s=%d", name, cmp.Or(w.decided[name], w.count(name)))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// missingInternal are the internal topics that there are not, in the order of their names, and what that means.
func (w *planner) missingInternal() (missing []InternalTopic, status *Status) {
	var names []string
	for i := range w.Subtopologies {
		s := &w.Subtopologies[i]
		for _, t := range slices.Concat(s.Repartitions, s.Changelogs) {
			want := w.decided[t.Name]
			is, there := w.topics.ByName(t.Name)
			switch {
			case there && want != 0 && is.Partitions != want:
				return nil, &Status{IncorrectlyPartitionedTopics, fmt.Sprintf(
					"Existing topic %s has different number of partitions: expected %d, found %d", t.Name, want, is.Partitions)}
			case !there && !slices.Contains(names, t.Name):
				t.Partitions = want
				missing, names = append(missing, t), append(names, t.Name)
			}
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	slices.Sort(names)
	slices.SortFunc(missing, func(a, b InternalTopic) int { return strings.Compare(a.Name, b.Name) })
	return missing, &Status{MissingInternalTopics, "Internal topics are missing: " + brief(names)}
}
