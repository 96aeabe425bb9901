package torture

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
)

// subscriber is a device that is given all that is published from now on.
type subscriber struct {
	c  *client.Client
	mu sync.Mutex

	live     map[string]bool   // values
	retained map[string]string // value by MQTT topic, of what came as retained
	news     chan struct{}     // something has come
}

// subscribe returns once all filters are granted at QoS 1.
func subscribe(ctx context.Context, address, id string, filters ...string) (*subscriber, error) {
	s := &subscriber{live: map[string]bool{}, retained: map[string]string{}, news: make(chan struct{}, 1)}
	c, err := client.Dial(ctx, address, client.Options{ClientID: id, OnMessage: s.take})
	if err != nil {
		return nil, err
	}
	s.c = c
	for _, f := range filters {
		codes, err := c.Subscribe(ctx, packet.Properties{}, packet.Subscription{Filter: []byte(f), QoS: 1})
		if err != nil {
			return nil, err
		}
		if codes[0] != 1 {
			return nil, fmt.Errorf("subscription to %s: %v", f, codes[0])
		}
	}
	return s, nil
}

func (s *subscriber) take(p *packet.Publish) {
	s.mu.Lock()
	if p.Retain {
		s.retained[string(p.Topic)] = string(p.Payload)
	} else {
		s.live[string(p.Payload)] = true
	}
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *subscriber) received() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.live)
}

// await returns once enough says so, or with the end of ctx.
func (s *subscriber) await(
	ctx context.Context, enough func(live map[string]bool, retained map[string]string) bool,
) error {
	for {
		s.mu.Lock()
		done := enough(s.live, s.retained)
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-s.news:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.c.Done():
			return s.c.Err()
		}
	}
}

// readRetained asks for the retained messages of the torture's topics, as many as the log says there are.
func readRetained(ctx context.Context, address string, want int) (map[string]string, error) {
	s, err := subscribe(ctx, address, "reader", retainedTopic+"/#")
	if err != nil {
		return nil, err
	}
	defer s.c.Close()
	s.await(ctx, func(_ map[string]bool, retained map[string]string) bool { return len(retained) >= want })
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.retained), nil
}
