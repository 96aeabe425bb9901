// Command respond answers the requests of devices as a Kafka client: it consumes the topic of the log that has them,
// and produces each response with the correlation data of its request to where the request says.
//
//	go run ./examples/respond -topic plant
//	firth request -t plant/7/valve -m open
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os/signal"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	brokers := flag.String("brokers", "127.0.0.1:9092", "where Firth speaks Kafka")
	topic := flag.String("topic", "plant", "topic of the log with the requests: the first level of their MQTT topics")
	flag.Parse()
	if err := run(*brokers, *topic); err != nil {
		log.Fatal(err)
	}
}

func run(brokers, topic string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ConsumerGroup("respond"), kgo.ConsumeTopics(topic),
		kgo.AllowAutoTopicCreation())
	if err != nil {
		return err
	}
	defer client.Close()
	return serve(ctx, client, done)
}

// done answers a request.
func done(request *kgo.Record) []byte { return append([]byte("done: "), request.Value...) }

// serve answers requests until ctx ends.
func serve(ctx context.Context, client *kgo.Client, answer func(request *kgo.Record) []byte) error {
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return nil
		} else if err != nil {
			return err
		}
		var responses []*kgo.Record
		for request := range fetches.RecordsAll() {
			if r := respond(request, answer); r != nil {
				responses = append(responses, r)
			}
		}
		if err := client.ProduceSync(ctx, responses...).FirstErr(); err != nil {
			return err
		}
	}
}

// respond is the response to a request; nil: the record is none.
func respond(request *kgo.Record, answer func(*kgo.Record) []byte) *kgo.Record {
	to := header(request, "response-topic")
	if to == nil {
		return nil
	}
	first, _, _ := strings.Cut(string(to), "/") // a mapping of your own may say another topic of the log
	r := &kgo.Record{Topic: first, Key: to, Value: answer(request)}
	if correlation := header(request, "correlation-data"); correlation != nil {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "correlation-data", Value: correlation})
	}
	return r
}

func header(r *kgo.Record, name string) []byte {
	for _, h := range r.Headers {
		if h.Key == name {
			return h.Value
		}
	}
	return nil
}
