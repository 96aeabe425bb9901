package sarama

import (
	"context"
	"fmt"
	"testing"

	"github.com/Shopify/sarama"
)

// oldMember reads ten records of a claim, marks them and ends.
type oldMember struct {
	done context.CancelFunc
	from []int64
}

func (*oldMember) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*oldMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *oldMember) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for r := range c.Messages() {
		s.MarkMessage(r, "")
		if m.from = append(m.from, r.Offset); len(m.from) == 10 {
			m.done()
			return nil
		}
	}
	return nil
}

// TestShopify has sarama from before it moved, which commits offsets with version 1 whatever it is told to speak, go on
// where it had committed.
func TestShopify(t *testing.T) {
	for _, v := range []sarama.KafkaVersion{sarama.V0_11_0_0, sarama.DefaultVersion, sarama.V2_8_0_0, sarama.MaxVersion} {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			name := named(t)
			conf := sarama.NewConfig()
			conf.Version = v
			conf.Producer.Return.Successes = true
			conf.Consumer.Offsets.Initial = sarama.OffsetOldest
			conf.Metadata.Retry.Max = 20 // the topic is made by the first who asks for it
			p, err := sarama.NewSyncProducer([]string{broker}, conf)
			check(t, "producer", err)
			defer p.Close()
			for i := range 30 {
				value := sarama.StringEncoder(fmt.Sprint(i))
				_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: name, Value: value})
				check(t, "send", err)
			}
			for round := range 3 {
				g, err := sarama.NewConsumerGroup([]string{broker}, name, conf)
				check(t, "group", err)
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				m := &oldMember{done: cancel}
				for ctx.Err() == nil {
					check(t, "consume", g.Consume(ctx, []string{name}, m))
				}
				check(t, "close", g.Close())
				if len(m.from) != 10 || m.from[0] != int64(10*round) {
					t.Fatalf("round %d read %v", round, m.from)
				}
			}
		})
	}
}
