package s3

import (
	"crypto/md5" //nolint:gosec // of ETags
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"encoding/pem"

	"github.com/firthmq/firth/internal/kit/secure/securetest"
)

// shop is a store in memory, which can be made to fail.
type shop struct {
	t      *testing.T
	server *httptest.Server
	ca     string // the file with its certificate

	mu      sync.Mutex
	objects map[string]object
	now     time.Time
	blind   bool // to conditions
	puts    int
	// before is asked about each request; false: it has answered. It is called with the lock.
	before func(w http.ResponseWriter, r *http.Request) bool
	// after is asked when a change is done, and nothing is answered yet; false: nothing will be.
	after func(r *http.Request) bool
}

type object struct {
	content  []byte
	modified time.Time
}

func (o object) etag() string { return fmt.Sprintf(`"%x"`, md5.Sum(o.content)) } //nolint:gosec // as S3 does

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t, objects: map[string]object{}, now: time.Now().Truncate(time.Second)}
	s.server = httptest.NewTLSServer(s)
	t.Cleanup(s.server.Close)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	s.ca = securetest.Write(t, t.TempDir(), "ca.pem", text)
	keys := "[default]\naws_access_key_id = KEY\naws_secret_access_key = SECRET\n" +
		"[other]\naws_access_key_id = OTHER\naws_secret_access_key = SECRET\n"
	securetest.Write(t, filepath.Dir(s.ca), "keys", []byte(keys))
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SHARED_CREDENTIALS_FILE",
		"AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	return s
}

func (s *shop) keys() string { return filepath.Join(filepath.Dir(s.ca), "keys") }

func (s *shop) options() Options {
	return Options{Endpoint: s.server.URL, Region: "here", Credentials: s.keys(), CAFile: s.ca, Attempts: 1}
}

// open is a place in the shop.
func (s *shop) open() *Bucket {
	s.t.Helper()
	b, err := Open("s3://bucket/some/prefix", s.options())
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// with changes the shop while nobody is served.
func (s *shop) with(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

// names are the objects below the prefix.
func (s *shop) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.objects))
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>so it is</Message></Error>", code)
}

// ServeHTTP implements http.Handler.
func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Date", s.now.UTC().Format(http.TimeFormat))
	if s.before != nil && !s.before(w, r) {
		return
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	sum := sha256.Sum256(body)
	switch {
	case bucket != "bucket":
		fail(w, http.StatusNotFound, "NoSuchBucket")
	case !strings.Contains(r.Header.Get("Authorization"), "Credential=KEY/"):
		fail(w, http.StatusForbidden, "InvalidAccessKeyId")
	case err != nil || int64(len(body)) != max(r.ContentLength, 0):
		fail(w, http.StatusBadRequest, "IncompleteBody")
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]):
		fail(w, http.StatusBadRequest, "XAmzContentSHA256Mismatch")
	case key == "":
		s.list(w, r)
	default:
		s.serve(w, r, key, body)
	}
}

func (s *shop) serve(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	old, there := s.objects[key]
	none, match := r.Header.Get("If-None-Match"), r.Header.Get("If-Match")
	switch {
	case r.Method == http.MethodPut && !s.blind && (none == "*" && there || match != "" && match != old.etag()):
		fail(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	case r.Method == http.MethodPut:
		old = object{body, s.now}
		s.objects[key] = old
		s.puts++
	case !there:
		fail(w, http.StatusNotFound, "NoSuchKey")
		return
	case r.Method == http.MethodDelete:
		delete(s.objects, key)
	}
	if (r.Method == http.MethodPut || r.Method == http.MethodDelete) && s.after != nil && !s.after(r) {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("ETag", old.etag())
	if r.Method == http.MethodDelete {
		w.WriteHeader(http.StatusNoContent)
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		http.ServeContent(w, r, "", old.modified, strings.NewReader(string(old.content)))
	}
}

// list answers with pages of two.
func (s *shop) list(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		Key, ETag    string
		Size         int
		LastModified string
	}
	var out struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string
		Contents              []entry
	}
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if !strings.HasPrefix(key, r.URL.Query().Get("prefix")) || key <= r.URL.Query().Get("continuation-token") {
			continue
		}
		if len(out.Contents) == 2 {
			out.IsTruncated, out.NextContinuationToken = true, out.Contents[1].Key
			break
		}
		o := s.objects[key]
		out.Contents = append(out.Contents, entry{key, o.etag(), len(o.content), o.modified.UTC().Format(time.RFC3339)})
	}
	text, err := xml.Marshal(out)
	if err != nil {
		s.t.Error(err)
	}
	_, _ = w.Write(text)
}
