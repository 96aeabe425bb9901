package main

import (
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/cli/output"
)

// TestRequest: who asks is answered by who answers with firth sub.
func TestRequest(t *testing.T) {
	b := startBroker(t)
	answered := make(chan string, 1)
	go func() {
		out, errs, _ := b.try("", "sub", "-t", "plant/+/valve", "-q", "1", "-C", "1", "--respond", "to %t: %p, done")
		answered <- out + errs
	}()
	out, code := "", 1
	for deadline := time.Now().Add(time.Minute); code != 0 && time.Now().Before(deadline); { // until it has subscribed
		out, _, code = b.try("", "request", "-t", "plant/7/valve", "-m", "open", "-q", "1", "-W", "0.5")
	}
	if out != "to plant/7/valve: open, done\n" {
		t.Errorf("got %q", out)
	}
	if got := <-answered; got != "open\n" {
		t.Errorf("who answers printed %q", got)
	}
}

// TestRequestAcrossTheDoors: a Kafka client asks, and a device with firth sub answers with its correlation data.
func TestRequestAcrossTheDoors(t *testing.T) {
	b := startBroker(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	kafka, err := kgo.NewClient(kgo.SeedBrokers(b.kafka[1]), kgo.ConsumeTopics("answers"), kgo.AllowAutoTopicCreation(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	request := &kgo.Record{Topic: "plant", Key: []byte("plant/7/valve"), Value: []byte("open")}
	request.Headers = []kgo.RecordHeader{
		{Key: "response-topic", Value: []byte("answers/erp")}, {Key: "correlation-data", Value: []byte{0, 255}}}
	if err := kafka.ProduceSync(ctx, request).FirstErr(); err != nil {
		t.Fatal(err)
	}
	b.ok("", "sub", "-t", "plant/#", "--from", "earliest", "-C", "1", "--respond", "done: %p")
	r := kafka.PollFetches(ctx).Records()
	if len(r) != 1 || string(r[0].Key) != "answers/erp" || string(r[0].Value) != "done: open" {
		t.Fatalf("%+v", r)
	}
	correlated := false
	for _, h := range r[0].Headers {
		correlated = correlated || h.Key == "correlation-data" && string(h.Value) == "\x00\xff"
	}
	if !correlated {
		t.Errorf("headers %q", r[0].Headers)
	}
}

// TestRequestRefused: what makes no sense, and nobody who answers.
func TestRequestRefused(t *testing.T) {
	b := startBroker(t)
	for _, args := range [][]string{
		{"request", "-m", "x"}, {"request", "-t", "a/#"}, {"request", "-t", "a", "-e", "+"},
		{"request", "-t", "a", "-V", "311"}, {"request", "-t", "a", "-C", "0"},
		{"sub", "-t", "a", "--respond", "x", "-V", "311"},
	} {
		if _, errs, code := b.try("", args...); code != output.ExitUsage {
			t.Errorf("firth %q: exit code %d, %s", args, code, errs)
		}
	}
	_, errs, code := b.try("", "request", "-t", "a", "-m", "x", "-W", "0.3")
	if code != output.ExitFailed || !regexp.MustCompile(`0 of 1 responses came within 0.3 s`).MatchString(errs) {
		t.Errorf("exit code %d, %s", code, errs)
	}
}
