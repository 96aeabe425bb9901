package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/log/record"
	"github.com/firthmq/firth/internal/log/stream"
)

// everybody is a visitor who may do everything.
type everybody struct{}

func (everybody) May(rule.Operation, rule.Kind, string) error { return nil }
func (everybody) Sees(rule.Operation, rule.Kind, string) bool { return true }
func (everybody) MayName(rule.Operation, string) error        { return nil }
func (everybody) SeesName(rule.Operation, string) bool        { return true }
func (everybody) MayFilter(string) error                      { return nil }
func (everybody) MaskTopic(string) *mask.Set                  { return nil }

// manyTopics is a log with topics and nothing in them.
type manyTopics struct {
	Log
	topics *stream.Topics
}

func (l manyTopics) Topics() *stream.Topics { return l.topics }
func (l manyTopics) Bounds(p stream.PartitionID) (stream.Bounds, error) {
	return stream.Bounds{High: record.Offset(p * 7919 % 1000)}, nil
}

func withTopics(n int) *API {
	var all []*stream.Topic
	for i := range n {
		all = append(all, &stream.Topic{Name: fmt.Sprintf("topic-%06d", i*7919%n), ID: record.UUID{byte(i), byte(i >> 8)},
			Partitions: []stream.PartitionID{stream.PartitionID(2 * i), stream.PartitionID(2*i + 1)}})
	}
	return New(Options{Log: manyTopics{topics: stream.NewTopics(all)},
		Enter: func(r *http.Request) (Visit, error) { return Visit{r, func() {}, everybody{}}, nil }})
}

// BenchmarkTopics is one page of 100 of 10,000 topics.
func BenchmarkTopics(b *testing.B) {
	a := withTopics(10_000)
	for _, query := range []string{"sort=name", "sort=-records", "search=42"} {
		b.Run(query, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path+"/topics?"+query, nil))
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

// manySessions are so many sessions of clients.
type manySessions struct {
	Clients
	n int
}

func (manySessions) SessionsElsewhere(context.Context, url.Values, func(*SessionPage)) []string {
	return nil
}

func (m manySessions) EachSession(visit func(*Session)) {
	for i := range m.n {
		visit(&Session{Client: fmt.Sprintf("client-%06d", i*7919%m.n), State: "away", Dropped: int64(i % 97)})
	}
}

// Backlogs implements Clients.
func (m manySessions) Backlogs() func(string) (int64, error) {
	return func(client string) (int64, error) { return int64(len(client)), nil }
}

// BenchmarkSessions is one page of 100 of 50,000 sessions.
func BenchmarkSessions(b *testing.B) {
	a := withTopics(1)
	a.opt.Clients = manySessions{n: 50_000}
	for _, query := range []string{"sort=client", "sort=-dropped", "sort=-backlog", "search=0042"} {
		b.Run(query, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path+"/sessions?"+query, nil))
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

// TestTurns: one more request that walks than may waits, and is told to come again when it has waited for long.
func TestTurns(t *testing.T) {
	a := withTopics(1)
	for range mostAtOnce {
		if err := a.takeTurn(t.Context(), a.turns); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path+"/topics", nil).WithContext(ctx))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	<-a.turns
	w = httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path+"/topics", nil))
	if w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestSaidAs: a parameter of a media type changes nothing, and what is none, or two, is nothing.
func TestSaidAs(t *testing.T) {
	for _, tc := range []struct {
		said []string
		want string
	}{
		{nil, ""},
		{[]string{"application/json"}, jsonType},
		{[]string{"application/json; charset=utf-8"}, jsonType},
		{[]string{`Application/JSON;charset="UTF-8"`}, jsonType},
		{[]string{"application/octet-stream;x=y"}, rawType},
		{[]string{"text/plain; application/json"}, ""},
		{[]string{`text/plain;x="application/json"`}, "text/plain"},
		{[]string{"text/plain, application/json"}, ""},
		{[]string{"application/json", "text/plain"}, ""},
		{[]string{"application/json; charset"}, ""},
	} {
		r := httptest.NewRequest(http.MethodPost, Path+"/topics", nil)
		r.Header["Content-Type"] = tc.said
		if got := SaidAs(r); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.said, got, tc.want)
		}
	}
}
