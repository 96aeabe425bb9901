package torture

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/firthmq/firth/internal/log/cluster"
)

// tellAfter is how long service may be away until the test tells what it sees, and how often from then on.
const tellAfter = 10 * time.Second

// tell tells what keeps service away: publishers without it and the shards of their sessions, what each gateway says,
// what Kafka does not do for the witness, and what the cluster says of itself.
func (s *shared) tell(since time.Time) {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: no service for all since %v\n", s.h.now().Round(time.Millisecond),
		time.Since(since).Round(100*time.Millisecond))
	for i, p := range s.progress {
		if _, is := p.since(since, s.exact[i].window); !is {
			fmt.Fprintf(&b, "  %s, shard %d: ", s.exact[i].id, shardOf(s.exact[i].id))
			if at := p.latest(); at.IsZero() {
				b.WriteString("nothing is stored yet\n")
			} else {
				fmt.Fprintf(&b, "stored last %v ago\n", time.Since(at).Round(100*time.Millisecond))
			}
		}
	}
	for i, g := range s.gateways {
		fmt.Fprintf(&b, "  gateway %d: %s\n", i, g.ready())
		for line := range strings.Lines(s.fresh(i)) {
			b.WriteString("    " + line)
		}
	}
	if _, away := s.witness.until(since); away != "" {
		fmt.Fprintf(&b, "  plain clients of Kafka%s\n", away)
	} else {
		b.WriteString("  plain clients of Kafka: served\n")
	}
	s.b.describe(&b)
	s.t.Log(b.String())
}

// shardOf is the shard of a session, as docs/design/0014-gateway.md has it.
func shardOf(client string) int {
	const shards = 64
	h := fnv.New32a()
	io.WriteString(h, client)
	return int(h.Sum32() % shards)
}

// latest is when the last message was stored; zero: none was.
func (p *progress) latest() (at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.at) > 0 {
		at = p.at[len(p.at)-1]
	}
	return at
}

// fresh is what a gateway has logged since the last time, at most so much of it.
func (s *shared) fresh(i int) string {
	const most = 3000
	text := s.gateways[i].log.String()
	if len(text) < s.told[i] { // it was started again
		s.told[i] = 0
	}
	news := tail(text[s.told[i]:], most)
	s.told[i] = len(text)
	return news
}

var givenOut = regexp.MustCompile(`(?m)^time=(\S+) .*has given out the sessions" nodes=(\d+)`)

// givenOut is when gateways have learned anew who has which sessions, after a time, and among how many.
func (s *shared) givenOut(from time.Time) string {
	var b strings.Builder
	for i, g := range s.gateways {
		if g.log == nil {
			continue
		}
		for _, found := range givenOut.FindAllStringSubmatch(g.log.String(), -1) {
			at, err := time.Parse(time.RFC3339, found[1])
			if err == nil && at.After(from) {
				fmt.Fprintf(&b, ", to gateway %d of %s after %v", i, found[2], at.Sub(from).Round(100*time.Millisecond))
			}
		}
	}
	return b.String()
}

// ready is what a gateway says of itself in a line.
func (s *server) ready() string {
	c := http.Client{Timeout: 2 * time.Second}
	resp, err := c.Get("http://" + s.http + "/readyz?verbose")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return resp.Status + ", " + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", ", ")
}

// describe writes down what the cluster says of itself: who is there, who leads, who has groups and transactions, and
// which of these are open.
func (b *brokers) describe(to *strings.Builder) {
	c := b.dial()
	defer c.Close()
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Second)
	defer cancel()
	admin := kadm.NewClient(c)
	if leader, epoch, err := quorum(ctx, c); err != nil {
		fmt.Fprintf(to, "  controllers: %v\n", err)
	} else {
		fmt.Fprintf(to, "  controllers: %d leads, epoch %d\n", leader, epoch)
	}
	m, err := admin.Metadata(ctx)
	if err != nil {
		fmt.Fprintf(to, "  metadata: %v\n", err)
		return
	}
	leaders, behind, none := map[int32]int{}, 0, []string{}
	m.Topics.EachPartition(func(p kadm.PartitionDetail) {
		if p.Leader < 0 || p.Err != nil {
			none = append(none, fmt.Sprintf("%s/%d (%v)", p.Topic, p.Partition, p.Err))
		}
		leaders[p.Leader]++
		if len(p.ISR) < len(p.Replicas) {
			behind++
		}
	})
	slices.Sort(none)
	fmt.Fprintf(to, "  brokers %v; partitions by leader %v, %d with replicas behind, without a leader: %v\n",
		m.Brokers.NodeIDs(), leaders, behind, none[:min(len(none), 5)])
	for _, one := range admin.FindGroupCoordinators(ctx, cluster.LeaseGroup) {
		fmt.Fprintf(to, "  group %s: broker %d, %v\n", one.Name, one.NodeID, one.Err)
	}
	open, err := admin.ListTransactions(ctx, nil, []string{"Ongoing", "PrepareCommit", "PrepareAbort"})
	fmt.Fprintf(to, "  %d transactions are open, %v\n", len(open), err)
	if all, err := admin.DescribeTransactions(ctx, open.TransactionalIDs()...); err == nil {
		for _, one := range all.Sorted() {
			if age := time.Since(time.UnixMilli(one.StartTimestamp)); age > 2*time.Second {
				fmt.Fprintf(to, "    %s: %s for %v at broker %d\n", one.TxnID, one.State, age.Round(100*time.Millisecond),
					one.Coordinator)
			}
		}
	}
}

// quorum is who leads the controllers.
func quorum(ctx context.Context, c kmsg.Requestor) (leader, epoch int32, err error) {
	req := kmsg.NewPtrDescribeQuorumRequest()
	t := kmsg.NewDescribeQuorumRequestTopic()
	t.Topic = "__cluster_metadata"
	t.Partitions = append(t.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return -1, -1, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return -1, -1, fmt.Errorf("error %d", resp.ErrorCode)
	}
	p := &resp.Topics[0].Partitions[0]
	return p.LeaderID, p.LeaderEpoch, nil
}

// lastWords has gateways say where each of their goroutines is, and tells those of the keeper, and what brokers have
// said of elections. They end by that.
func (s *shared) lastWords() {
	for i, g := range s.gateways {
		if g.ended == nil {
			continue
		}
		_ = g.signal(syscall.SIGCONT)
		if g.signal(syscall.SIGQUIT) != nil {
			continue
		}
		<-g.ended
		g.ended = nil
		s.t.Logf("gateway %d is at:\n%s", i, stacks(g.log.String()))
	}
	for _, a := range s.b.kafkas {
		text, err := os.ReadFile(a.words())
		s.t.Logf("broker %d: %v\n%s", a.id, err, tail(string(text), 20000))
	}
}

var arguments = regexp.MustCompile(`(?m)\(.*\)$|^\t| \+0x.*$|^goroutine \d+ `)

// stacks are the goroutines that are in the keeper, each kind once with how many there are.
func stacks(dump string) string {
	kinds, order := map[string]int{}, []string{}
	for one := range strings.SplitSeq(dump, "\n\n") {
		if !strings.HasPrefix(one, "goroutine ") || !strings.Contains(one, "/log/cluster.") {
			continue
		}
		kind := arguments.ReplaceAllString(one, "")
		if kinds[kind]++; kinds[kind] == 1 {
			order = append(order, kind)
		}
	}
	var b strings.Builder
	for _, kind := range order {
		fmt.Fprintf(&b, "%d times:\n%s\n", kinds[kind], kind)
	}
	return b.String()
}
