package torture

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// place is a partition, as Kafka names it.
type place struct {
	topic string
	index int32
}

func (p place) String() string { return fmt.Sprintf("%s/%d", p.topic, p.index) }

// message is one that a publisher or producer wants to be stored.
type message struct {
	actor  string
	seq    int
	topic  string // of the log
	key    string // the whole MQTT topic; empty for a Kafka record
	value  string // never the same twice
	ticket uint64 // its number in the history
	once   bool   // of an idempotent producer: exactly one record, however often it is sent

	sends   atomic.Int32 // how often it may have reached the server
	acked   atomic.Bool
	ackedAt time.Time   // set before acked, by a publisher
	refused atomic.Bool // at least once: it may stand behind what was sent later
	index   int32       // partition and offset that the acknowledgement told; set before acked, only of once
	offset  int64
}

// sighting is a record that somebody was shown: from then on it must stay where it is.
type sighting struct {
	at     place
	offset int64
	value  string
}

// history is all that was sent, acknowledged and seen.
type history struct {
	mu        sync.Mutex
	messages  []*message
	byValue   map[string]*message
	seen      []sighting         // by the group consumer since the last check
	committed map[place]int64    // largest acknowledged commit
	attempted map[place]int64    // largest commit that was asked for
	topics    map[string]topicID // creations that were acknowledged
	dying     map[string]bool    // topics whose deletion was asked for
	gone      map[topicID]string // deletions that were acknowledged, and the name
	trimmed   map[place]int64    // largest acknowledged DeleteRecords
	trimming  map[place]int64    // largest that was asked for
	// transactions, in the order in which each producer made them.
	transactions []*transaction
	groups       []*groupHistory
	queues       []*queueHistory
	grown        map[string]int    // partitions of a topic, the most that were acknowledged
	growing      map[string]int    // the most that were asked for
	settings     map[string]string // of the topic of the producers: last acknowledged, by key
	setting      map[string]string // what was asked for since then, of which nobody knows
	complaint    []string          // what clients were told that they should not have been
	began        time.Time
}

type topicID = kadm.TopicID

func newHistory() *history {
	return &history{
		byValue: map[string]*message{}, committed: map[place]int64{}, attempted: map[place]int64{},
		topics: map[string]topicID{}, dying: map[string]bool{}, gone: map[topicID]string{},
		trimmed: map[place]int64{}, trimming: map[place]int64{}, grown: map[string]int{}, growing: map[string]int{},
		settings: map[string]string{}, setting: map[string]string{}, began: time.Now(),
	}
}

// now is the time since the history began, never 0.
func (h *history) now() time.Duration { return time.Since(h.began) + 1 }

func (h *history) add(m *message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m.ticket = uint64(len(h.messages))
	h.messages = append(h.messages, m)
	h.byValue[m.value] = m
}

// message finds a message by its ticket, nil if there is none.
func (h *history) message(ticket uint64) *message {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ticket >= uint64(len(h.messages)) {
		return nil
	}
	return h.messages[ticket]
}

// find finds a message by its value, nil if there is none.
func (h *history) find(value string) *message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byValue[value]
}

func (h *history) saw(s ...sighting) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, s...)
}

// consumed takes what the consumer has seen since the last time, and tells what it has committed.
func (h *history) consumed() (seen []sighting, committed map[place]int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen, h.seen = h.seen, nil
	return seen, maps.Clone(h.committed)
}

// commit notes the wish to commit, and acknowledged that it was granted.
func (h *history) commit(offsets map[place]int64, acknowledged bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	into := h.attempted
	if acknowledged {
		into = h.committed
	}
	for at, o := range offsets {
		into[at] = max(into[at], o)
	}
}

func (h *history) created(name string, id topicID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.topics[name] = id
}

// deleting notes the wish to delete a topic, and deleted that it was granted.
func (h *history) deleting(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dying[name] = true
}

func (h *history) deleted(name string, id topicID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone[id] = name
	delete(h.topics, name)
	delete(h.dying, name)
}

// trim notes the wish to delete records, and acknowledged where the partition begins since.
func (h *history) trim(at place, to int64, acknowledged bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	into := h.trimming
	if acknowledged {
		into = h.trimmed
	}
	into[at] = max(into[at], to)
}

// grow notes the wish to have so many partitions in a topic, and acknowledged that they are there.
func (h *history) grow(topic string, partitions int, acknowledged bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	into := h.growing
	if acknowledged {
		into = h.grown
	}
	into[topic] = max(into[topic], partitions)
}

// set notes the wish to change a setting of the topic of the producers, and acknowledged that it holds.
func (h *history) set(key, value string, acknowledged bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if delete(h.setting, key); acknowledged {
		h.settings[key] = value
	} else {
		h.setting[key] = value
	}
}

func (h *history) complain(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.complaint = append(h.complaint, fmt.Sprintf(format, args...))
}

// counts tells how many messages there are, and how many of them were acknowledged.
func (h *history) counts() (all, acked int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.messages {
		if m.acked.Load() {
			acked++
		}
	}
	return len(h.messages), acked
}
