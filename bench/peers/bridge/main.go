// Command bridge carries MQTT messages of QoS 1 into Kafka: the peer of the seam. It acknowledges a message to the
// MQTT broker after Kafka has acknowledged its record, so nothing is lost that a publisher was told is taken.
//
// It is made to be fast within what its two libraries allow: nothing waits for a single message, any number of
// them are under way, reads are buffered and acknowledgements written together. The first level of a topic name is
// the Kafka topic, the rest is the key, as Firth maps them, so messages of a topic name stay in order as long as one
// connection reads them.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/url"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	broker := flag.String("mqtt", "127.0.0.1:1883", "address of the MQTT broker")
	kafka := flag.String("kafka", "127.0.0.1:9092", "address of the Kafka broker")
	connections := flag.Int("connections", 1, "MQTT connections; more than one share a subscription and give up order")
	linger := flag.Duration("linger", 0, "how long a Kafka batch waits to be filled")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	producer, err := kgo.NewClient(kgo.SeedBrokers(*kafka), kgo.ClientID("bridge"), kgo.AllowAutoTopicCreation(),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(*linger),
		kgo.MaxBufferedRecords(200_000), kgo.DisableClientMetrics())
	if err != nil {
		log.Fatal(err)
	}
	defer producer.Close()
	for i := range *connections {
		filter := "#"
		if *connections > 1 {
			filter = "$share/bridge/#"
		}
		client, err := subscribe(*broker, fmt.Sprintf("bridge-%d", i), filter, carry(producer))
		if err != nil {
			log.Fatal(err)
		}
		defer client.Disconnect(0)
	}
	log.Print("ready")
	<-ctx.Done()
}

// carry produces each message and acknowledges it once that is done. Acknowledgements of the library hand over
// several times, so they have a goroutine of their own and do not hold up the producer.
func carry(producer *kgo.Client) mqtt.MessageHandler {
	produced := make(chan mqtt.Message, 64<<10)
	go func() {
		for m := range produced {
			m.Ack()
		}
	}()
	return func(_ mqtt.Client, m mqtt.Message) {
		topic, key, _ := strings.Cut(m.Topic(), "/")
		r := &kgo.Record{Topic: topic, Key: []byte(key), Value: m.Payload()}
		producer.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				log.Fatalf("not carried, not acknowledged: %v", err)
			}
			produced <- m
		})
	}
}

func subscribe(broker, id, filter string, handle mqtt.MessageHandler) (mqtt.Client, error) {
	o := mqtt.NewClientOptions().AddBroker("tcp://" + broker).SetClientID(id).SetCleanSession(true).
		SetKeepAlive(0).SetAutoAckDisabled(true).SetOrderMatters(true).SetStore(noStore{}).
		SetMessageChannelDepth(64 << 10).SetCustomOpenConnectionFn(dial)
	o.SetConnectionLostHandler(func(_ mqtt.Client, err error) { log.Fatal(err) })
	client := mqtt.NewClient(o)
	t := client.Connect()
	if t.Wait(); t.Error() != nil {
		return nil, t.Error()
	}
	t = client.Subscribe(filter, 1, handle)
	t.Wait()
	return client, t.Error()
}

// noStore keeps no packets: the MQTT broker has what is not acknowledged.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}

// gathered is a connection whose reads are buffered, and whose writes go out together while the last one is under
// way: the library reads byte by byte and writes packet by packet.
type gathered struct {
	net.Conn
	r     *bufio.Reader
	mu    sync.Mutex
	out   []byte
	err   error
	ready chan struct{}
}

func dial(uri *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", uri.Host, 10*time.Second)
	if err != nil {
		return nil, err
	}
	g := &gathered{Conn: c, r: bufio.NewReaderSize(c, 256<<10), ready: make(chan struct{}, 1)}
	go g.write()
	return g, nil
}

func (g *gathered) Read(p []byte) (int, error) { return g.r.Read(p) }

func (g *gathered) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return 0, g.err
	}
	g.out = append(g.out, p...)
	select {
	case g.ready <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (g *gathered) write() {
	var spare []byte
	for range g.ready {
		g.mu.Lock()
		out := g.out
		g.out = spare[:0]
		g.mu.Unlock()
		if _, err := g.Conn.Write(out); err != nil {
			g.mu.Lock()
			g.err = err
			g.mu.Unlock()
			return
		}
		spare = out
	}
}
