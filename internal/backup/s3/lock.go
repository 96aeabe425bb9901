package s3

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/firthmq/firth/internal/kit/fault"
)

// The lock is an object that is put only where there is none (If-None-Match), and put again while somebody writes. Who
// was killed leaves it: it is taken over, if it is still the same one (If-Match), when nobody has put it for so long,
// by the clock of the store. Who could not put it for half as long writes no more, by its own.

const (
	lockName  = "LOCK"
	lockLasts = 2 * time.Minute
	lockKeeps = 15 * time.Second
	// dropWithin is how long who has done its work waits for the store to give the lock back.
	dropWithin = 30 * time.Second
	maxLock    = 64 << 10
)

// holder is what stands in the lock.
type holder struct {
	Token string `json:"token"`
	Host  string `json:"host"`
	PID   int    `json:"pid"`
}

// lease is a lock that is held.
type lease struct {
	b       *Bucket
	text    []byte
	end     context.CancelFunc
	ended   chan struct{} // closed when it is not put any more
	etag    string        // of the lock as it was put last; of the goroutine that puts it
	renewed time.Time     // when it was asked for last that was put; of Bucket.mu
	lost    bool          // somebody else has it; of Bucket.mu
}

// Lock implements backup.Place. Errors: Exists, Unsupported (the store puts whatever the condition), Denied, IO.
func (b *Bucket) Lock(ctx context.Context) (io.Closer, error) {
	host, _ := os.Hostname()
	text, err := json.Marshal(holder{Token: rand.Text(), Host: host, PID: os.Getpid()})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	l := &lease{b: b, text: append(text, '\n'), ended: make(chan struct{}), renewed: time.Now()}
	if err := l.take(ctx); err != nil {
		return nil, err
	}
	if err := l.heeded(ctx); err != nil {
		return nil, err
	}
	ctx, l.end = context.WithCancel(context.WithoutCancel(ctx))
	b.mu.Lock()
	b.held = l
	b.mu.Unlock()
	go l.keep(ctx)
	return l, nil
}

// take puts the lock where there is none, or in place of one that nobody puts any more.
func (l *lease) take(ctx context.Context) (err error) {
	var o minio.PutObjectOptions
	o.SetMatchETagExcept("*")
	if l.etag, err = l.b.put(ctx, lockName, l.text, o); !fault.Is(err, fault.Exists) {
		return notHeeded(err)
	}
	old, header, err := l.b.get(ctx, lockName, maxLock)
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.Exists, "backup.Lock", "somebody else was writing there a moment ago").WithHint("try again")
	}
	if err != nil {
		return err
	}
	etag := trimmed(header.Get("ETag"))
	if string(old) == string(l.text) { // it was put, and the answer was lost
		l.etag = etag
		return nil
	}
	var who holder
	_ = json.Unmarshal(old, &who) // what is none is held by nobody who can be named
	if age, ok := ageOf(header); !ok || age < l.b.lasts {
		return fault.New(fault.Exists, "backup.Lock", "somebody else is writing there: process %d of %s", who.PID,
			fault.Text(who.Host)).WithHint("wait until it has ended; the lock of one that was killed is taken after %v",
			l.b.lasts)
	}
	o = minio.PutObjectOptions{}
	o.SetMatchETag(etag)
	l.etag, err = l.b.put(ctx, lockName, l.text, o)
	return notHeeded(err)
}

// heeded refuses a store that puts whatever the condition: two at once would remove each other's pieces.
func (l *lease) heeded(ctx context.Context) error {
	var o minio.PutObjectOptions
	o.SetMatchETagExcept("*")
	etag, err := l.b.put(ctx, lockName, l.text, o)
	if fault.Is(err, fault.Exists) {
		return nil
	}
	if err == nil {
		l.etag = etag
		err = fault.New(fault.Unsupported, op, "the store puts an object that is there, though it was told not to")
	}
	l.drop(ctx)
	return notHeeded(err)
}

// notHeeded says what to do about a store that has no conditions.
func notHeeded(err error) error {
	if f := new(fault.Error); fault.Is(err, fault.Unsupported) {
		f.Kind, f.Op, f.Err = fault.Unsupported, "backup.Lock", err
		return f.WithHint("the lock needs a store with conditional writes (If-None-Match), as AWS, MinIO and Ceph have them")
	}
	return err
}

// ageOf is for how long nobody has put an object, by the clock of the store.
func ageOf(header http.Header) (time.Duration, bool) {
	now, err := http.ParseTime(header.Get("Date"))
	put, err2 := http.ParseTime(header.Get("Last-Modified"))
	return now.Sub(put), err == nil && err2 == nil
}

func trimmed(etag string) string {
	if len(etag) > 1 && etag[0] == '"' && etag[len(etag)-1] == '"' {
		return etag[1 : len(etag)-1]
	}
	return etag
}

// keep puts the lock again and again, until it is closed or lost.
func (l *lease) keep(ctx context.Context) {
	defer close(l.ended)
	tick := time.NewTicker(l.b.keeps)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !l.keepOnce(ctx) {
			return
		}
	}
}

// keepOnce puts the lock again; false: it is lost.
func (l *lease) keepOnce(ctx context.Context) bool {
	asked := time.Now()
	var o minio.PutObjectOptions
	o.SetMatchETag(l.etag)
	etag, err := l.b.put(ctx, lockName, l.text, o)
	gone := fault.Is(err, fault.Exists) || fault.Is(err, fault.NotFound)
	if gone {
		gone = !l.isOurs(ctx, &etag)
	}
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	switch {
	case gone:
		l.lost = true
	case etag != "":
		l.etag, l.renewed = etag, asked
	}
	return !gone
}

// isOurs tells whether what stands in the lock is ours: it was put, and the answer was lost.
func (l *lease) isOurs(ctx context.Context, etag *string) bool {
	text, header, err := l.b.get(ctx, lockName, maxLock)
	if err != nil {
		return !fault.Is(err, fault.NotFound)
	}
	*etag = trimmed(header.Get("ETag"))
	return string(text) == string(l.text)
}

// mayWrite refuses to write without the lock, which a process that stood still for long may have lost.
func (b *Bucket) mayWrite() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.held == nil:
		return fault.New(fault.Internal, op, "nothing is written without the lock")
	case b.held.lost:
		return fault.New(fault.Fenced, op, "somebody else has taken the lock meanwhile").WithHint("begin again")
	case time.Since(b.held.renewed) > b.lasts/2: // the other half is for what is on its way
		return fault.New(fault.Fenced, op, "the lock could not be kept for %v", b.lasts/2).WithHint("begin again")
	}
	return nil
}

// Close lets others write.
func (l *lease) Close() error {
	l.end()
	<-l.ended
	l.b.mu.Lock()
	l.b.held = nil
	lost := l.lost
	l.b.mu.Unlock()
	if lost {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), dropWithin)
	defer cancel()
	l.drop(ctx)
	return nil
}

// drop removes the lock, if it is ours. One that cannot be removed is taken over when it is old.
func (l *lease) drop(ctx context.Context) {
	text, _, err := l.b.get(ctx, lockName, maxLock)
	if err == nil && string(text) == string(l.text) {
		_ = l.b.core.RemoveObject(ctx, l.b.bucket, l.b.prefix+lockName, minio.RemoveObjectOptions{})
	}
}
