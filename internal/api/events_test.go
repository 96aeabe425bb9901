package api

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// flood is a Follower that has so many messages at once, and ends.
type flood int

// Next implements Follower.
func (f *flood) Next(context.Context, time.Duration) (*Event, error) {
	if *f == 0 {
		return nil, io.EOF
	}
	*f--
	return &Event{Name: "a", ID: "1"}, nil
}

// Close implements Follower.
func (*flood) Close() {}

// TestShare: a second lets so many through, and what was left out is told with the next that is.
func TestShare(t *testing.T) {
	s := share{most: 2}
	at := time.Unix(1000, 0)
	for i, want := range []bool{true, true, false, false} {
		if got := s.lets(at); got != want {
			t.Errorf("message %d: %v", i, got)
		}
	}
	if !s.lets(at.Add(time.Second)) || s.left != 2 {
		t.Errorf("the next second: %+v", s)
	}
	all := share{}
	for range 1000 {
		if !all.lets(at) {
			t.Fatal("no share is all")
		}
	}
}

// TestSkipped: of a flood who follows gets a share, and how many it was not sent; or all.
func TestSkipped(t *testing.T) {
	const many = 1000
	for _, most := range []int{0, 1} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s, err := newEvents(w)
			if err != nil {
				t.Error(err)
				return
			}
			f := flood(many)
			of := share{most: most}
			s.send(r.Context(), &f, &of)
			if err := s.skipped(&of, true); err != nil {
				t.Error(err)
			}
		}))
		answer, err := http.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close() // it is read
		server.Close()
		got := strings.Count(string(text), "event: message")
		told := strings.Contains(string(text), "event: skipped")
		if most == 0 && (got != many || told) || most > 0 && (got == 0 || got == many || !told) {
			t.Errorf("a share of %d: %d messages of %d", most, got, many)
		}
	}
}
