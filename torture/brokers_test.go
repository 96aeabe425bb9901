package torture

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// jarsVariable names the class path of Apache Kafka, as in log/cluster: with it a gateway stands before three brokers
// of it, and before a cluster in memory without.
const jarsVariable = "FIRTH_TEST_KAFKA_JARS"

// brokers are a Kafka cluster that can go away.
type brokers struct {
	t         *testing.T
	addresses []string
	kafkas    []*apache // none: it is in memory
	way       *way      // to the one in memory
	memory    *kfake.Cluster
	lan       *lan // between them; nil: the loopback, and none can be cut off
}

func newBrokers(t *testing.T) *brokers {
	t.Helper()
	return newBrokersOn(t, nil)
}

// newBrokersOn has them on a network of their own, where that is not nil.
func newBrokersOn(t *testing.T, l *lan) *brokers {
	t.Helper()
	b := &brokers{t: t, lan: l}
	jars := os.Getenv(jarsVariable)
	if jars == "" {
		b.way = &way{conns: map[net.Conn]bool{}}
		f, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.GroupMinSessionTimeout(time.Second),
			kfake.ListenFn(b.way.listen))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		b.memory, b.addresses = f, f.ListenAddrs()
		return b
	}
	const nodes = 3
	at := quiet(t, 2*nodes) // the addresses of brokers, and of their controllers
	if l != nil {
		at = l.brokers(nodes)
	}
	for id := 1; id <= nodes; id++ {
		a, err := newApache(t.TempDir(), jars, id, at)
		if err != nil {
			t.Fatal(err)
		}
		if l != nil {
			a.java = append(l.within(id), a.java...)
		}
		b.kafkas, b.addresses = append(b.kafkas, a), append(b.addresses, at[id-1])
	}
	t.Cleanup(b.leave)
	b.come()
	return b
}

// leave has all brokers gone at once.
func (b *brokers) leave() {
	if b.way != nil {
		b.way.close()
	}
	for _, a := range b.kafkas {
		a.kill()
	}
}

// come has them back, and waits until they answer.
func (b *brokers) come() {
	b.t.Helper()
	if b.way != nil {
		b.way.open()
	}
	for _, a := range b.kafkas {
		if err := a.start(); err != nil {
			b.t.Fatal(err)
		}
	}
	var err error
	for end := time.Now().Add(startLimit); time.Now().Before(end); pauseFor(b.t.Context(), 10*pace) {
		if err = b.complete(); err == nil {
			return
		}
	}
	b.t.Fatal(err)
}

// whole wants every partition to have all its replicas in sync.
func (b *brokers) whole() error {
	if err := b.complete(); err != nil || b.way != nil {
		return err
	}
	c := b.dial()
	defer c.Close()
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	topics, err := kadm.NewClient(c).ListTopicsWithInternal(ctx)
	if err != nil {
		return err
	}
	topics.EachPartition(func(p kadm.PartitionDetail) {
		if len(p.ISR) < len(p.Replicas) {
			err = fmt.Errorf("%s/%d has %v in sync of %v", p.Topic, p.Partition, p.ISR, p.Replicas)
		}
	})
	return err
}

// complete wants all brokers to be known, by a client that has nothing in its memory.
func (b *brokers) complete() error {
	c := b.dial()
	defer c.Close()
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	m, err := kadm.NewClient(c).BrokerMetadata(ctx)
	if err == nil && len(m.Brokers) < len(b.addresses) {
		err = fmt.Errorf("only %d of the brokers are there", len(m.Brokers))
	}
	return err
}

func (b *brokers) dial(opts ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	c, err := dialKafka(b.addresses[0], append(opts, kgo.SeedBrokers(b.addresses...))...)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// way is the network before a cluster in memory: closed, it breaks all connections and lets none through.
type way struct {
	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

func (w *way) listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	return &wayListener{l, w}, err
}

type wayListener struct {
	net.Listener
	way *way
}

// Accept implements net.Listener.
func (l *wayListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || l.way.let(c) {
			return c, err
		}
		c.Close()
	}
}

func (w *way) let(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.conns[c] = true
	}
	return !w.closed
}

func (w *way) open() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = false
}

func (w *way) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for c := range w.conns {
		c.Close()
	}
	clear(w.conns)
}

// apache is one broker of Apache Kafka, which is a controller, too.
type apache struct {
	id     int
	folder string
	java   []string // the command
	node   *exec.Cmd
	ended  chan error // of the process
}

const apacheProperties = `process.roles=broker,controller
node.id=%[1]d
controller.quorum.voters=%[2]s
listeners=PLAINTEXT://%[3]s,CONTROLLER://%[4]s
advertised.listeners=PLAINTEXT://%[3]s
controller.listener.names=CONTROLLER
log.dirs=%[5]s
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=2
group.initial.rebalance.delay.ms=0
log.cleaner.threads=1
`

// newApache formats the folder of one of the brokers at these addresses: those of clients, then those of controllers.
func newApache(folder, jars string, id int, at []string) (*apache, error) {
	a := &apache{id: id, folder: folder}
	a.java = []string{"java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jars}
	for _, set := range []string{"showDateTime=true", "dateTimeFormat=HH:mm:ss.SSS", "showThreadName=false",
		"showShortLogName=true", "defaultLogLevel=warn", "log.org.apache.kafka.raft=info",
		"log.org.apache.kafka.controller.QuorumController=info", "log.org.apache.kafka.coordinator=info",
		"log.kafka.coordinator=info", "log.org.apache.kafka.clients=error", "log.kafka.server=error"} {
		a.java = append(a.java, "-Dorg.slf4j.simpleLogger."+set) // where slf4j-simple is in the class path
	}
	nodes := len(at) / 2
	voters := make([]string, 0, nodes)
	for n := range nodes {
		voters = append(voters, fmt.Sprintf("%d@%s", n+1, at[nodes+n]))
	}
	text := fmt.Sprintf(apacheProperties, id, strings.Join(voters, ","), at[id-1], at[nodes+id-1],
		filepath.Join(folder, "data"))
	if err := os.WriteFile(a.properties(), []byte(text), 0o600); err != nil {
		return nil, err
	}
	format := exec.Command(a.java[0], append(a.java[1:], "kafka.tools.StorageTool", "format", "-t",
		"Zmlya2gtdGVzdC1ub2RlMA", "-c", a.properties())...)
	if out, err := format.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("formatting: %w\n%s", err, out)
	}
	return a, nil
}

func (a *apache) properties() string { return filepath.Join(a.folder, "server.properties") }

// words is the file with what it says.
func (a *apache) words() string { return filepath.Join(a.folder, "kafka.log") }

func (a *apache) start() error {
	words, err := os.OpenFile(a.words(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer words.Close()
	a.node = exec.Command(a.java[0], append(a.java[1:], "kafka.Kafka", a.properties())...)
	a.node.Stdout, a.node.Stderr = words, words
	a.node.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.node.Start(); err != nil {
		return err
	}
	ended, node := make(chan error, 1), a.node
	a.ended = ended
	go func() { ended <- node.Wait() }()
	return nil
}

// kill ends it at once, and waits until it is gone.
func (a *apache) kill() {
	if a.ended == nil {
		return
	}
	a.node.Process.Kill()
	<-a.ended
	a.ended = nil
}

// fell tells how it has ended by itself; nil: it has not.
func (a *apache) fell() error {
	select {
	case err := <-a.ended:
		a.ended = nil
		return fmt.Errorf("broker %d has ended by itself: %w", a.id, err)
	default:
		return nil
	}
}

// signal sends it a signal that does not end it.
func (a *apache) signal(sig syscall.Signal) error { return a.node.Process.Signal(sig) }
