package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// jarsVariable names the class path of Apache Kafka. conformance/cluster.sh fetches the jars and sets it.
const jarsVariable = "FIRTH_TEST_KAFKA_JARS"

// broker is an Apache Kafka of one node, in KRaft mode.
type broker struct {
	seed   string
	folder string
	data   string // its log directory
	java   []string
	node   *exec.Cmd
}

// kafka is the broker of all tests of this process: a JVM takes seconds to start.
var kafka struct {
	sync.Mutex
	*broker
	err  error
	stop func()
}

// classPath is that of Apache Kafka. Without it the test is skipped, which the gate in conformance takes for a failure.
func classPath(t testing.TB) string {
	t.Helper()
	jars := os.Getenv(jarsVariable)
	if jars == "" {
		t.Skipf("conformance/cluster.sh runs this: it sets %s", jarsVariable)
	}
	return jars
}

// apache gives the broker of Apache Kafka, and starts it first if need be.
func apache(t testing.TB) *broker {
	t.Helper()
	jars := classPath(t)
	kafka.Lock()
	defer kafka.Unlock()
	if kafka.broker == nil && kafka.err == nil {
		kafka.broker, kafka.stop, kafka.err = startKafka(jars)
	}
	if kafka.err != nil {
		t.Fatal(kafka.err)
	}
	return kafka.broker
}

// startKafka formats a directory, starts a node on it and waits until it answers.
func startKafka(jars string) (*broker, func(), error) {
	folder, err := os.MkdirTemp("", "firth-kafka-")
	if err != nil {
		return nil, nil, err
	}
	clean := func() { os.RemoveAll(folder) }
	ports, err := freePorts(2)
	if err != nil {
		clean()
		return nil, nil, err
	}
	b := &broker{seed: fmt.Sprintf("127.0.0.1:%d", ports[0]), data: filepath.Join(folder, "data")}
	config := filepath.Join(folder, "server.properties")
	if err := os.WriteFile(config, fmt.Appendf(nil, properties, ports[1], b.seed, b.data), 0o600); err != nil {
		clean()
		return nil, nil, err
	}
	b.folder = folder
	b.java = []string{"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jars}
	format := exec.Command("java", append(b.java, "kafka.tools.StorageTool", "format", "--standalone",
		"-t", "Zmlya2gtdGVzdC1ub2RlMA", "-c", config)...)
	if out, err := format.CombinedOutput(); err != nil {
		clean()
		return nil, nil, fmt.Errorf("formatting: %w\n%s", err, out)
	}
	stop := func() {
		b.kill()
		clean()
	}
	if err := b.start(); err != nil {
		stop()
		return nil, nil, err
	}
	return b, stop, nil
}

// start runs the node and waits until it answers.
func (b *broker) start() error {
	b.node = exec.Command("java", append(b.java, "kafka.Kafka", filepath.Join(b.folder, "server.properties"))...)
	b.node.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.node.Start(); err != nil {
		return err
	}
	return answers(b.seed)
}

// kill ends it at once, as kill -9 does.
func (b *broker) kill() {
	if b.node.Process != nil {
		b.node.Process.Kill()
		b.node.Wait()
	}
}

const properties = `process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:%[1]d
listeners=PLAINTEXT://%[2]s,CONTROLLER://127.0.0.1:%[1]d
advertised.listeners=PLAINTEXT://%[2]s
controller.listener.names=CONTROLLER
log.dirs=%[3]s
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
log.retention.check.interval.ms=3600000
log.cleaner.backoff.ms=100
log.cleaner.threads=1
log.segment.delete.delay.ms=1000
`

func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func answers(seed string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(seed))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for err = cl.Ping(ctx); err != nil; err = cl.Ping(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("no answer from Apache Kafka at %s", seed), err)
		}
	}
	return nil
}
