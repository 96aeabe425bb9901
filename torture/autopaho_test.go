package torture

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/autopaho/queue/memory"
	"github.com/eclipse/paho.golang/paho"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const pahoTopic = "paho"

// TestAutopaho has a client that reconnects by itself, Eclipse Paho's for Go, publish and subscribe while the server is
// killed beneath it and started again. Nothing that it published with QoS 1 is lost; what a back end produced for QoS 2
// came to it once, in order. It does not publish with QoS 2: at a PUBREC it writes to a connection that it may have
// given up meanwhile, without a look, and panics (paho.golang 0.23.0).
func TestAutopaho(t *testing.T) {
	const each, kills = 400, 4
	s := newServer(t)
	if _, err := s.start(); err != nil {
		t.Fatal(err)
	}
	heard, listening := &ears{seen: map[string]int{}}, make(chan struct{}, kills+1)
	sub := reconnecting(t, s.mqtt, "ears", autopaho.ClientConfig{
		OnConnectionUp: func(c *autopaho.ConnectionManager, _ *paho.Connack) {
			go func() { // it must not block
				all := []paho.SubscribeOptions{{Topic: pahoTopic + "/#", QoS: 2}}
				if _, err := c.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: all}); err == nil {
					listening <- struct{}{}
				}
			}()
		},
		ClientConfig: paho.ClientConfig{OnPublishReceived: []func(paho.PublishReceived) (bool, error){heard.note}},
	})
	<-listening
	pub := reconnecting(t, s.mqtt, "mouth", autopaho.ClientConfig{Queue: memory.New()})
	produce := backEnd(t, s.kafka)
	for n := range each {
		if err := pub.PublishViaQueue(t.Context(), &autopaho.QueuePublish{
			Publish: &paho.Publish{Topic: pahoTopic + "/1", QoS: 1, Payload: fmt.Appendf(nil, "one %05d", n)}}); err != nil {
			t.Fatal(err)
		}
		produce(fmt.Sprintf("two %05d", n))
		if (n+1)%(each/(kills+1)) != 0 || n+1 == each {
			continue
		}
		// Some are on their way, on one side or the other.
		for end := time.Now().Add(startLimit); !heard.all(2*n-40) && time.Now().Before(end); <-time.After(time.Millisecond) {
		}
		if !s.kill() {
			t.Fatal("the server had ended by itself")
		}
		if _, err := s.start(); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(startLimit); !heard.all(2*each) && time.Now().Before(end); <-time.After(pace) {
	}
	for _, c := range []*autopaho.ConnectionManager{pub, sub} {
		if err := c.Disconnect(t.Context()); err != nil {
			t.Error(err)
		}
		<-c.Done()
	}
	t.Logf("QoS 1: %d are in the log again, %d came again", once(t, "the log", logged(t, s.kafka), each),
		once(t, "the subscriber", heard.seen, each))
	if !slices.IsSorted(heard.order) {
		t.Errorf("QoS 2 came in another order: %v", heard.order)
	}
}

// backEnd is an idempotent producer of what devices get with QoS 2.
func backEnd(t *testing.T, address string) (produce func(value string)) {
	t.Helper()
	c, err := dialKafka(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if _, err := kadm.NewClient(c).CreateTopic(t.Context(), 1, 1, nil, pahoTopic); err != nil {
		t.Fatal(err)
	}
	return func(value string) {
		r := &kgo.Record{Topic: pahoTopic, Key: []byte(pahoTopic + "/2"), Value: []byte(value)}
		r.Headers = []kgo.RecordHeader{{Key: "mqtt.flags", Value: []byte("2")}}
		c.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
}

// reconnecting is a client with a session that lasts.
func reconnecting(t *testing.T, address, id string, c autopaho.ClientConfig) *autopaho.ConnectionManager {
	t.Helper()
	c.ServerUrls = []*url.URL{{Scheme: "mqtt", Host: address}}
	c.KeepAlive, c.SessionExpiryInterval, c.ClientID = 20, 3600, id
	c.ReconnectBackoff = func(int) time.Duration { return pace }
	ctx, stop := context.WithCancel(t.Context())
	m, err := autopaho.NewConnection(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		<-m.Done()
	})
	return m
}

// ears is what a subscriber was given: how often each message, and those of QoS 2 as they came.
type ears struct {
	mu    sync.Mutex
	seen  map[string]int
	order []string
}

func (e *ears) note(p paho.PublishReceived) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	text := string(p.Packet.Payload)
	if e.seen[text]++; strings.HasPrefix(text, "two") {
		e.order = append(e.order, text)
	}
	return true, nil
}

// all tells whether so many different messages have come, or more.
func (e *ears) all(n int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.seen) >= n
}

// logged is how often the log has each message.
func logged(t *testing.T, address string) map[string]int {
	t.Helper()
	c, err := dialKafka(address, kgo.ConsumeTopics(pahoTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, pahoTopic)
	if err != nil {
		t.Fatal(err)
	}
	due, read := int64(0), int64(0)
	ends.Each(func(o kadm.ListedOffset) { due += o.Offset })
	there := map[string]int{}
	for read < due {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", read, due, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			there[string(r.Value)]++
			read++
		})
	}
	return there
}

// once wants each of so many messages of QoS 1, and those of QoS 2 once each. It gives how many came again.
func once(t *testing.T, where string, seen map[string]int, each int) (again int) {
	t.Helper()
	for n := range each {
		one, two := seen[fmt.Sprintf("one %05d", n)], seen[fmt.Sprintf("two %05d", n)]
		if one < 1 || two != 1 {
			t.Errorf("%s: message %d is there %d times with QoS 1, %d times with QoS 2", where, n, one, two)
		}
		again += one - 1
	}
	return again
}
