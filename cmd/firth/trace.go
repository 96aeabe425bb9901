package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
)

type sessionEvent struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"`
	Text   string    `json:"text,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

func newSessionEvents(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events CLIENT",
		Short: "Show the last events of a client: connected, taken over, disconnected, dropped, ...",
		Long: `Show the last 100 events of a client: connected, taken over, disconnected and why, refused, kicked, expired,
messages dropped and why, and what retention took before the client could read it. They are kept in memory, and are
gone with a restart.`,
		Example: `  firth session events meter-17
  firth session events meter-17 -o json`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var events []sessionEvent
		q := admin.Request{Method: "GET", Path: "/events", Query: url.Values{"client": args}}
		return a.callAll(cmd, q, &events, func() error {
			return printList(cmd, *form, events, []string{"AT", "EVENT", "REASON", ""}, func(e *sessionEvent) []string {
				return []string{e.At.Format("2006-01-02T15:04:05.000Z07:00"), e.What, e.Reason, e.Text}
			})
		})
	}
	return cmd
}

type traceLine struct {
	At      time.Time         `json:"at"`
	In      bool              `json:"in"`
	Packet  string            `json:"packet,omitempty"`
	Bytes   int               `json:"bytes"`
	ID      uint16            `json:"id,omitempty"`
	Topic   string            `json:"topic,omitempty"`
	QoS     *byte             `json:"qos,omitempty"`
	Retain  bool              `json:"retain,omitempty"`
	Dup     bool              `json:"dup,omitempty"`
	Payload *int              `json:"payload_bytes,omitempty"`
	Filters []string          `json:"filters,omitempty"`
	Reasons []string          `json:"reasons,omitempty"`
	User    map[string]string `json:"user_properties,omitempty"`
	Text    string            `json:"text,omitempty"`
	Lost    uint64            `json:"lost,omitempty"`
}

func newSessionTrace(a *adminFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace CLIENT",
		Short: "Show the packets of a client as they come and go",
		Long: `Show the packets of a client as they come (<) and go (>), of its connection and of those that follow, until
Ctrl-C. Payloads and passwords are not shown. A client that is not there is waited for.`,
		Example: `  firth session trace meter-17
  firth session trace meter-17 -n 20 -o json`,
		Args: cobra.ExactArgs(1),
	}
	form := formFlag(cmd)
	count := cmd.Flags().IntP("count", "n", 0, "exit after `N` packets")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		q := admin.Request{Method: "GET", Path: "/trace", Query: url.Values{"client": args}}
		client, err := a.client(cmd)
		if err != nil {
			return err
		}
		lines, err := client.Open(ctx, q)
		if err != nil {
			return err
		}
		defer lines.Close()
		dec := json.NewDecoder(lines)
		for n := 0; *count == 0 || n < *count; n++ {
			var line traceLine
			err := dec.Decode(&line)
			switch {
			case errors.Is(err, io.EOF) || ctx.Err() != nil:
				return nil
			case err != nil:
				return err
			}
			if err := line.print(cmd.OutOrStdout(), *form); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func (l *traceLine) print(out io.Writer, form output.Form) error {
	if form == output.FormJSON {
		return output.JSON(out, l)
	}
	if l.Lost > 0 {
		if _, err := fmt.Fprintf(out, "(%d packets or writes came too fast to be shown)\n", l.Lost); err != nil {
			return err
		}
	}
	way := ">"
	if l.In {
		way = "<"
	}
	_, err := fmt.Fprintf(out, "%s %s %s\n", l.At.Format("15:04:05.000"), way, strings.Join(l.words(), " "))
	return err
}

func (l *traceLine) words() []string {
	words := []string{l.Packet}
	add := func(is bool, format string, args ...any) {
		if is {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(l.ID > 0, "id=%d", l.ID)
	add(l.QoS != nil, "q%d", deref(l.QoS))
	add(l.Retain, "retain")
	add(l.Dup, "dup")
	add(l.Topic != "", "%q", l.Topic)
	add(len(l.Filters) > 0, "%q", l.Filters)
	add(l.Payload != nil, "payload of %d bytes", deref(l.Payload))
	add(len(l.Reasons) > 0, "%s", strings.Join(l.Reasons, ", "))
	names := make([]string, 0, len(l.User))
	for name, value := range l.User {
		names = append(names, fmt.Sprintf("%q=%q", name, value))
	}
	slices.Sort(names)
	words = append(words, names...)
	add(l.Text != "", "(%s)", l.Text)
	return words
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
