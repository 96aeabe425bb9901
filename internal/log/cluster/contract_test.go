package cluster_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"

	"github.com/firthmq/firth/internal/log/cluster"
	"github.com/firthmq/firth/internal/log/stream"
	"github.com/firthmq/firth/internal/log/streamtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if kafka.stop != nil {
			kafka.stop()
		}
		os.Exit(code)
	}))
}

// open is a keeper on the cluster of a broker, closed with the test.
func open(t *testing.T, seeds ...string) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Open(context.Background(), cluster.Options{Seeds: seeds})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func fake(t *testing.T) []string {
	t.Helper()
	f, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f.ListenAddrs()
}

func TestContractOnKfake(t *testing.T) {
	streamtest.Run(t, func(t *testing.T) stream.Keeper { return open(t, fake(t)...) })
}

func TestContractOnKafka(t *testing.T) {
	b := apache(t)
	streamtest.Run(t, func(t *testing.T) stream.Keeper {
		c := open(t, b.seed)
		t.Cleanup(func() { // it runs before the keeper closes
			for _, topic := range c.Topics().All() {
				if strings.HasPrefix(topic.Name, stream.InternalPrefix) {
					continue
				}
				if err := c.DeleteTopic(context.Background(), topic.Name); err != nil {
					t.Error(err)
				}
			}
		})
		return c
	})
}
