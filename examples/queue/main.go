// Command queue is a worker: one of any number that share the jobs of a topic, as the members of a share group. A job
// that fails is given to a worker again; one that fails too often becomes a dead letter.
//
//	go run ./examples/queue -jobs 3
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	topic   = "jobs"
	letters = "dlq.jobs"
	workers = "workers" // the share group
	tries   = 3         // of a job, before it is a dead letter
)

func main() {
	brokers := flag.String("brokers", "127.0.0.1:9092", "where Firth speaks Kafka")
	jobs := flag.Int("jobs", 0, "end after so many jobs, done or given up; 0: go on")
	flag.Parse()
	if err := run(*brokers, *jobs); err != nil {
		log.Fatal(err)
	}
}

func run(brokers string, jobs int) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	client, err := join(ctx, brokers)
	if err != nil {
		return err
	}
	defer client.Close()
	return work(ctx, client, jobs, os.Stdout)
}

// join makes a member of the group, which is set up before: where it begins is settled with its first member.
func join(ctx context.Context, brokers string) (*kgo.Client, error) {
	admin, err := kgo.NewClient(kgo.SeedBrokers(brokers))
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	if err := settle(ctx, admin); err != nil {
		return nil, err
	}
	return kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ShareGroup(workers), kgo.ConsumeTopics(topic))
}

// settle sets up the group: it begins with the oldest job, and keeps what fails too often.
func settle(ctx context.Context, client *kgo.Client) error {
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, workers
	for _, setting := range [][2]string{
		{"share.auto.offset.reset", "earliest"},
		{"share.delivery.count.limit", strconv.Itoa(tries)},
		{"errors.deadletterqueue.topic.name", letters},
		{"errors.deadletterqueue.copy.record.enable", "true"},
	} {
		config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		config.Name, config.Value = setting[0], &setting[1]
		resource.Configs = append(resource.Configs, config)
	}
	request.Resources = append(request.Resources, resource)
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	if message := response.Resources[0].ErrorMessage; message != nil {
		return errors.New(*message)
	}
	return nil
}

// work does jobs until so many are done or given up, or ctx ends.
func work(ctx context.Context, client *kgo.Client, jobs int, out io.Writer) error {
	for ended := 0; jobs == 0 || ended < jobs; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // an interruption is how it is ended
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		for job := range fetches.RecordsAll() {
			if err := do(job); err != nil {
				fmt.Fprintf(out, "%s failed at try %d: %v\n", job.Value, job.DeliveryCount(), err)
				job.Ack(kgo.AckRelease)
				if job.DeliveryCount() == tries {
					ended++
				}
				continue
			}
			fmt.Fprintf(out, "%s is done at try %d\n", job.Value, job.DeliveryCount())
			job.Ack(kgo.AckAccept)
			ended++
		}
		if err := client.FlushAcks(ctx); err != nil {
			return err
		}
	}
	return nil
}

// do does a job. A flaky one fails at first, a broken one always.
func do(job *kgo.Record) error {
	switch what := string(job.Value); {
	case strings.HasPrefix(what, "flaky") && job.DeliveryCount() == 1:
		return errors.New("no connection")
	case strings.HasPrefix(what, "broken"):
		return errors.New("not understood")
	}
	return nil
}
