package admin_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/firthmq/firth/internal/cli/admin"
)

// TestPartial: an answer in which something is missing is there, and so is the error that says so.
func TestPartial(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/admin/v1/some" {
			w.Header().Set("Firth-Silent", "abc,def")
		}
		_, _ = io.WriteString(w, `["one"]`)
	}))
	defer s.Close()
	c := admin.Client{Address: strings.TrimPrefix(s.URL, "http://")}
	for path, silent := range map[string][]string{"/all": nil, "/some": {"abc", "def"}} {
		var got []string
		err := c.Call(t.Context(), admin.Request{Method: http.MethodGet, Path: path}, &got)
		if !slices.Equal(got, []string{"one"}) {
			t.Errorf("%s: %q", path, got)
		}
		switch partial, is := errors.AsType[*admin.Partial](err); {
		case is != (silent != nil), !is && err != nil:
			t.Errorf("%s: %v", path, err)
		case is && (!slices.Equal(partial.Silent, silent) || !strings.Contains(err.Error(), "abc, def")):
			t.Errorf("%s: %v", path, err)
		}
	}
}
