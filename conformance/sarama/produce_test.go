package sarama

import (
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// TestSync has an idempotent producer that waits for each record send with every codec, with keys, headers and times,
// and wants each back as it was sent. [Kafka-Fetch] [Kafka-InitProducerId] [Kafka-ListOffsets] [Kafka-Produce]
func TestSync(t *testing.T) {
	each(t, sarama.V0_11_0_0, func(t *testing.T, v sarama.KafkaVersion) {
		codecs := []sarama.CompressionCodec{
			sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4,
			sarama.CompressionZSTD,
		}
		if !v.IsAtLeast(sarama.V2_1_0_0) {
			codecs = codecs[:4]
		}
		name := topic(t, administer(t, v), 1)
		const each = 20
		for i, codec := range codecs {
			p := idempotent(t, v, codec)
			for n := range each {
				offset := send(t, p, name, fmt.Sprintf("%v-%d", codec, n))
				if want := int64(i*each + n); offset != want {
					t.Fatalf("%v: record %d has offset %d, want %d", codec, n, offset, want)
				}
			}
			check(t, "close", p.Close())
		}
		for i, m := range consume(t, config(v), name, each*len(codecs)) {
			want := fmt.Sprintf("%v-%d", codecs[i/each], i%each)
			if string(m.Value) != want || string(m.Key) != "key "+want || len(m.Headers) != 1 ||
				string(m.Headers[0].Key) != "header" || string(m.Headers[0].Value) != want {
				t.Fatalf("record %d: %q %q %v, want %q", i, m.Key, m.Value, m.Headers, want)
			}
		}
	})
}

func idempotent(t *testing.T, v sarama.KafkaVersion, codec sarama.CompressionCodec) sarama.SyncProducer {
	t.Helper()
	c := config(v)
	c.Producer.Return.Successes = true
	c.Producer.Idempotent = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Compression = codec
	c.Net.MaxOpenRequests = 1
	p, err := sarama.NewSyncProducer([]string{broker}, c)
	check(t, "producer", err)
	return p
}

func send(t *testing.T, p sarama.SyncProducer, topic, text string) int64 {
	t.Helper()
	_, offset, err := p.SendMessage(&sarama.ProducerMessage{
		Topic: topic, Key: sarama.StringEncoder("key " + text), Value: sarama.StringEncoder(text),
		Headers: []sarama.RecordHeader{{Key: []byte("header"), Value: []byte(text)}},
	})
	check(t, "send", err)
	return offset
}

// TestAsync has an idempotent producer send 5,000 records without waiting: each is acknowledged and stands there once,
// those of a key in order.
func TestAsync(t *testing.T) {
	each(t, sarama.V0_11_0_0, func(t *testing.T, v sarama.KafkaVersion) {
		const count = 5000
		name := topic(t, administer(t, v), 1)
		c := config(v)
		c.Producer.Idempotent = true
		c.Producer.RequiredAcks = sarama.WaitForAll
		c.Producer.Return.Successes = true
		c.Producer.Compression = sarama.CompressionSnappy
		c.Producer.Flush.Messages = 100
		c.Producer.Flush.Frequency = 10 * time.Millisecond // without it the last ones would wait for more
		c.Net.MaxOpenRequests = 1
		p, err := sarama.NewAsyncProducer([]string{broker}, c)
		check(t, "producer", err)
		go func() {
			for i := range count {
				p.Input() <- &sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder(fmt.Sprint(i))}
			}
			p.AsyncClose()
		}()
		acked, refused := 0, make(chan struct{})
		go func() {
			defer close(refused)
			for e := range p.Errors() {
				t.Error(e)
			}
		}()
		for range p.Successes() {
			acked++
		}
		<-refused
		if acked != count {
			t.Fatalf("%d of %d are acknowledged", acked, count)
		}
		for i, m := range consume(t, config(v), name, count) {
			if string(m.Value) != fmt.Sprint(i) || m.Offset != int64(i) {
				t.Fatalf("record %d is %q at %d", i, m.Value, m.Offset)
			}
		}
	})
}
