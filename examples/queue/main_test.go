package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/node"
)

// TestQueue: a job that fails is done at another try, and one that always fails becomes a dead letter.
func TestQueue(t *testing.T) {
	c := node.Default()
	c.Data, c.Logger = t.TempDir(), logtest.New(t)
	c.Listen.MQTT, c.Listen.Kafka, c.Listen.WS, c.Listen.HTTP = "127.0.0.1:0", "127.0.0.1:0", "", ""
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	kafka, err := kgo.NewClient(kgo.SeedBrokers(n.Addresses().Kafka), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	jobs := []*kgo.Record{
		kgo.StringRecord("broken 3"), kgo.StringRecord("resize 1"), kgo.StringRecord("flaky 2"),
	}
	for _, job := range jobs {
		job.Topic = topic
	}
	if err := kafka.ProduceSync(ctx, jobs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	worker, err := join(ctx, n.Addresses().Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer worker.Close()
	var printed strings.Builder
	if err := work(ctx, worker, len(jobs), &printed); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"resize 1 is done at try 1\n", "flaky 2 is done at try 2\n",
		"broken 3 failed at try 3: not understood\n"} {
		if !strings.Contains(printed.String(), want) {
			t.Errorf("%q is missing in\n%s", want, printed.String())
		}
	}
	reader, err := kgo.NewClient(kgo.SeedBrokers(n.Addresses().Kafka), kgo.ConsumeTopics(letters),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	letter := reader.PollRecords(ctx, 1).Records()
	if len(letter) != 1 || string(letter[0].Value) != "broken 3" {
		t.Errorf("the dead letters are %v", letter)
	}
}
