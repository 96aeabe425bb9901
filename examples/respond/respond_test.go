package main

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/logtest"
	"github.com/firthmq/firth/internal/mqtt/client"
	"github.com/firthmq/firth/internal/mqtt/packet"
	"github.com/firthmq/firth/internal/node"
)

// TestRespond: a device asks by MQTT and is answered by the example, a Kafka client.
func TestRespond(t *testing.T) {
	c := node.Default()
	c.Data, c.Logger = t.TempDir(), logtest.New(t)
	c.Listen.MQTT, c.Listen.Kafka, c.Listen.WS, c.Listen.HTTP = "127.0.0.1:0", "127.0.0.1:0", "", ""
	n, err := node.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	kafka, err := kgo.NewClient(kgo.SeedBrokers(n.Addresses().Kafka), kgo.ConsumeTopics("plant"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AllowAutoTopicCreation())
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	served := make(chan error, 1)
	got := make(chan *packet.Publish, 10)
	device, err := client.Dial(ctx, n.Addresses().MQTT, client.Options{OnMessage: func(p *packet.Publish) {
		one := *p
		one.Payload, one.Topic = append([]byte(nil), p.Payload...), append([]byte(nil), p.Topic...)
		one.Props.CorrelationData = append([]byte(nil), p.Props.CorrelationData...)
		got <- &one
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	_, err = device.Subscribe(ctx, packet.Properties{}, packet.Subscription{Filter: []byte("answers/7"), QoS: 1})
	if err != nil {
		t.Fatal(err)
	}
	p := packet.Publish{Topic: []byte("plant/7/valve"), Payload: []byte("open"), QoS: 1}
	if err := device.Publish(&p, 0); err != nil { // no request
		t.Fatal(err)
	}
	p.Props.SetResponseTopic([]byte("answers/7"))
	p.Props.SetCorrelationData([]byte{0, 255, 1})
	if err := device.Publish(&p, 1); err != nil {
		t.Fatal(err)
	}
	go func() { served <- serve(ctx, kafka, done) }()
	select {
	case r := <-got:
		if string(r.Topic) != "answers/7" || string(r.Payload) != "done: open" ||
			string(r.Props.CorrelationData) != "\x00\xff\x01" {
			t.Errorf("%+v", r)
		}
	case err := <-served:
		t.Fatal(err)
	case <-ctx.Done():
		t.Fatal("no response")
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
