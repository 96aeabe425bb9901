package torture

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// nemesis is what is done to the server. strike ends when the server is up and its disk is well.
type nemesis struct {
	name   string
	disk   bool // it needs a disk that can be made to fail
	strike func(c *campaign)
}

// nemeses are all there are.
func nemeses() []nemesis {
	return []nemesis{
		{"kill", false, (*campaign).kill},
		{"pause", false, (*campaign).pause},
		{"end", false, (*campaign).end},
		{"full disk", true, (*campaign).fillDisk},
		{"failing disk", true, (*campaign).failDisk},
		{"slow disk", true, (*campaign).slowDisk},
		{"kill on failing disk", true, func(c *campaign) {
			c.breakTwice()
			c.kill()
		}},
	}
}

// choose draws one to three of them.
func (c *campaign) choose() {
	all := nemeses()
	for _, i := range c.dice.Perm(len(all))[:1+c.dice.IntN(3)] {
		c.nemeses = append(c.nemeses, all[i])
		c.s.faulty = c.s.faulty || all[i].disk
	}
	if c.s.faulty {
		c.s.expected = []string{"commit failed", "housekeeping of the log failed", "closed log", "merging files failed",
			"ending an old journal failed", "retention failed"}
	}
}

func (c *campaign) wait(least, most int) {
	pauseFor(c.t.Context(), time.Duration(least+c.dice.IntN(most-least))*time.Millisecond)
}

// kill is SIGKILL, one time in four once more in the start that follows.
func (c *campaign) kill() {
	if !c.s.kill() {
		c.t.Fatalf("the server had ended before it was killed:\n%s", c.s.log)
	}
	if c.dice.IntN(4) == 0 && !c.s.faulty {
		c.must(c.s.stillborn(time.Duration(c.dice.IntN(60)) * time.Millisecond))
	}
	_, err := c.s.start()
	c.must(err)
}

// pause is SIGSTOP and SIGCONT, one time in four for longer than sessions last.
func (c *campaign) pause() {
	c.must(c.s.signal(syscall.SIGSTOP))
	if c.dice.IntN(4) == 0 {
		c.wait(2000, 3500)
	} else {
		c.wait(50, 1000)
	}
	c.must(c.s.signal(syscall.SIGCONT))
}

// end is an orderly end and a start.
func (c *campaign) end() {
	c.must(c.s.stop())
	_, err := c.s.start()
	c.must(err)
}

// fillDisk leaves no room for a while.
func (c *campaign) fillDisk() {
	for _, on := range []vfs.OpKind{vfs.OpWrite, vfs.OpPreallocate, vfs.OpCreate} {
		c.must(c.s.inject(vfs.Fault{On: on, Times: -1, Kind: fault.Full, Short: c.dice.IntN(2) == 0}))
	}
	c.wait(100, 1000)
	c.must(c.s.heal())
}

// failDisk has it fail for a while.
func (c *campaign) failDisk() {
	c.breakTwice()
	c.wait(100, 1000)
	c.must(c.s.heal())
}

// breakTwice has the disk fail twice: one to four operations of a kind each.
func (c *campaign) breakTwice() {
	kinds := []vfs.OpKind{vfs.OpWrite, vfs.OpSync, vfs.OpSync, vfs.OpRename, vfs.OpSyncDir, vfs.OpPreallocate, vfs.OpRead}
	for i := range 2 {
		c.must(c.s.inject(vfs.Fault{On: kinds[c.dice.IntN(len(kinds))], Kind: fault.IO, Skip: i * c.dice.IntN(4),
			Times: 1 + c.dice.IntN(4), Short: c.dice.IntN(2) == 0}))
	}
	c.wait(1, 100)
}

// slowDisk has every sync take long for a while.
func (c *campaign) slowDisk() {
	c.must(c.s.inject(vfs.Fault{On: vfs.OpSync, Times: -1, Delay: time.Duration(20+c.dice.IntN(300)) * time.Millisecond}))
	c.wait(200, 1500)
	c.must(c.s.heal())
}

// wide is a topic whose partitions become more.
const wide = "wide"

// grow adds a partition to the wide topic and has a new producer write to all of them, until ctx ends or it fails.
func grow(ctx context.Context, h *history, address string, w words) error {
	c, err := dialKafka(address)
	if err != nil {
		return err
	}
	defer c.Close()
	h.grow(wide, 1, false)
	h.grow(wide, 1, true)
	for ctx.Err() == nil {
		h.mu.Lock()
		next := h.growing[wide] + 1
		h.mu.Unlock()
		h.grow(wide, next, false)
		answers, err := kadm.NewClient(c).UpdatePartitions(ctx, next, wide)
		if err != nil || answers.Error() != nil {
			return nil // it may have grown or not
		}
		h.grow(wide, next, true)
		p, err := newProducer(fmt.Sprint("grower-", next), w, h, address)
		if err != nil {
			return err
		}
		p.topic, p.parts = wide, next
		for range 3 * next {
			p.send()
		}
		err = p.c.Flush(context.WithoutCancel(ctx))
		p.c.Close()
		if err != nil {
			return err
		}
		pauseFor(ctx, 20*pace)
	}
	return nil
}

// configure changes settings of the topic of the producers until ctx ends. What it was not told of it tries again.
func configure(ctx context.Context, h *history, address string) error {
	c, err := dialKafka(address)
	if err != nil {
		return err
	}
	defer c.Close()
	for n := h.now().Milliseconds(); ctx.Err() == nil; n++ {
		key, value := "retention.ms", fmt.Sprint(1_000_000_000+n)
		h.mu.Lock()
		if asked, ok := h.setting[key]; ok {
			value = asked
		}
		h.mu.Unlock()
		h.set(key, value, false)
		answers, err := kadm.NewClient(c).AlterTopicConfigs(ctx,
			[]kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, ledger)
		if err == nil {
			for _, a := range answers {
				err = a.Err
			}
		}
		if err != nil {
			return nil
		}
		h.set(key, value, true)
		pauseFor(ctx, 10*pace)
	}
	return nil
}

// settings reads those of the topic of the producers.
func settings(ctx context.Context, address string) (map[string]string, error) {
	c, err := dialKafka(address, kgo.RequestRetries(10))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	described, err := kadm.NewClient(c).DescribeTopicConfigs(ctx, ledger)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, topic := range described {
		if topic.Err != nil {
			return nil, topic.Err
		}
		for _, one := range topic.Configs {
			found[one.Key] = one.MaybeValue()
		}
	}
	return found, nil
}
