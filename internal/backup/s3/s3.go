// Package s3 is a place for backups in a bucket of an S3-compatible store.
//
//	place, err := s3.Open("s3://bucket/prefix", s3.Options{Region: "eu-central-1"})
//	err = place.Put(ctx, "backups/1.json", content)
//
// Each object is put with one request, which stores it whole or not at all, and says the SHA-256 of what it brings.
package s3

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // what S3 asks for, besides SHA-256
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/firthmq/firth/internal/backup"
	"github.com/firthmq/firth/internal/kit/fault"
)

const (
	op     = "backup.S3"
	scheme = "s3://"
)

// Is tells whether a place is in a bucket.
func Is(where string) bool { return strings.HasPrefix(where, scheme) }

// Bucket is a prefix of a bucket.
type Bucket struct {
	core   *minio.Core
	bucket string
	prefix string        // empty, or with a slash at its end
	lasts  time.Duration // how long a lock is held that nobody keeps
	keeps  time.Duration // how often it is kept
	blocks blocks

	mu   sync.Mutex
	held *lease // nil: nothing is written
}

var _ backup.Place = (*Bucket)(nil)

// Open is the place at an address, s3://bucket/prefix. Nothing is asked of the store yet. Errors: Invalid; Denied (a
// file with a secret that others can read).
func Open(where string, o Options) (*Bucket, error) {
	bucket, prefix, err := parse(where)
	if err != nil {
		return nil, err
	}
	core, err := o.client()
	if err != nil {
		return nil, err
	}
	return &Bucket{core: core, bucket: bucket, prefix: prefix, lasts: lockLasts, keeps: lockKeeps}, nil
}

// parse reads an address. What might be a secret in it is not repeated.
func parse(where string) (bucket, prefix string, err error) {
	u, err := url.Parse(where)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.Port() != "":
		return "", "", fault.New(fault.Invalid, op, "the place is not of the form s3://bucket/prefix")
	case u.User != nil:
		return "", "", fault.New(fault.Invalid, op, "an address holds no credentials: everybody here sees it").
			WithHint("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or --s3-credentials FILE")
	}
	prefix = strings.Trim(u.Path, "/")
	if strings.Contains("/"+prefix+"/", "//") && prefix != "" || strings.Contains("/"+prefix+"/", "/../") {
		return "", "", fault.New(fault.Invalid, op, "the prefix has an empty part, or one that is ..")
	}
	if prefix != "" {
		prefix += "/"
	}
	return u.Host, prefix, nil
}

// Put implements backup.Place.
func (b *Bucket) Put(ctx context.Context, name string, content []byte) error {
	if err := b.mayWrite(); err != nil {
		return err
	}
	_, err := b.put(ctx, name, content, minio.PutObjectOptions{})
	return err
}

// put stores an object, and gives its ETag.
func (b *Bucket) put(ctx context.Context, name string, content []byte, o minio.PutObjectOptions) (string, error) {
	sum, old := sha256.Sum256(content), md5.Sum(content) //nolint:gosec // see above
	o.ContentType, o.DisableContentSha256 = "application/octet-stream", true
	info, err := b.core.PutObject(ctx, b.bucket, b.prefix+name, bytes.NewReader(content), int64(len(content)),
		base64.StdEncoding.EncodeToString(old[:]), hex.EncodeToString(sum[:]), o)
	return info.ETag, asFault(ctx, err)
}

// Get implements backup.Place.
func (b *Bucket) Get(ctx context.Context, name string, most int64) ([]byte, error) {
	content, _, err := b.get(ctx, name, most)
	return content, err
}

// get reads an object, and gives what the store says of it.
func (b *Bucket) get(ctx context.Context, name string, most int64) ([]byte, http.Header, error) {
	body, info, header, err := b.core.GetObject(ctx, b.bucket, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, nil, asFault(ctx, err)
	}
	defer body.Close()
	if info.Size > most {
		return nil, nil, fault.New(fault.TooLarge, op, "%s has %d bytes", name, info.Size)
	}
	content, err := io.ReadAll(io.LimitReader(body, most+1)) // the size is not known if the answer comes in chunks
	if err != nil {
		return nil, nil, fault.New(fault.IO, op, "%s: %w", name, err)
	}
	if int64(len(content)) > most {
		return nil, nil, fault.New(fault.TooLarge, op, "%s has more than %d bytes", name, most)
	}
	return content, header, nil
}

// ReadAt implements backup.Place.
func (b *Bucket) ReadAt(ctx context.Context, name string, p []byte, off int64) error {
	for n := 0; n < len(p); {
		at := off + int64(n)
		block, err := b.block(ctx, name, at/blockBytes)
		if err != nil {
			return err
		}
		in := int(at % blockBytes)
		if in >= len(block) {
			return fault.New(fault.IO, op, "%s ends at byte %d", name, at)
		}
		n += copy(p[n:], block[in:])
	}
	return nil
}

// block is a block of an object, shorter at its end.
func (b *Bucket) block(ctx context.Context, name string, number int64) ([]byte, error) {
	key := blockKey{name, number}
	if block, ok := b.blocks.get(key); ok {
		return block, nil
	}
	var o minio.GetObjectOptions
	if err := o.SetRange(number*blockBytes, (number+1)*blockBytes-1); err != nil {
		return nil, fault.Wrap(fault.Invalid, op, err)
	}
	body, _, _, err := b.core.GetObject(ctx, b.bucket, b.prefix+name, o)
	if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return nil, nil // it ends in front of the block
	}
	if err != nil {
		return nil, asFault(ctx, err)
	}
	defer body.Close()
	block, err := io.ReadAll(io.LimitReader(body, blockBytes))
	if err != nil {
		return nil, fault.New(fault.IO, op, "%s: %w", name, err)
	}
	b.blocks.put(key, block)
	return block, nil
}

// Names implements backup.Place.
func (b *Bucket) Names(ctx context.Context, dir string, visit func(name string, size int64)) error {
	ctx, cancel := context.WithCancel(ctx) // the list ends when nobody reads it any more
	defer cancel()
	for o := range b.core.Client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix + dir + "/",
		Recursive: true}) {
		if o.Err != nil {
			return asFault(ctx, o.Err)
		}
		visit(strings.TrimPrefix(o.Key, b.prefix), o.Size)
	}
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Timeout, op, err)
	}
	return nil
}

// Remove implements backup.Place. A store removes what is not there without a word, so it is looked for first.
func (b *Bucket) Remove(ctx context.Context, name string) error {
	if err := b.mayWrite(); err != nil {
		return err
	}
	if _, err := b.core.StatObject(ctx, b.bucket, b.prefix+name, minio.StatObjectOptions{}); err != nil {
		return asFault(ctx, err)
	}
	return asFault(ctx, b.core.RemoveObject(ctx, b.bucket, b.prefix+name, minio.RemoveObjectOptions{}))
}

// asFault is an error of the client as one of ours. A bucket that is not there is not what NotFound means here: a piece
// that is gone.
func asFault(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fault.Wrap(fault.Timeout, op, err)
	}
	said := minio.ToErrorResponse(err)
	switch said.Code {
	case minio.NoSuchKey:
		return fault.New(fault.NotFound, op, "%w", err)
	case minio.NoSuchBucket:
		return fault.New(fault.Invalid, op, "%w", err).WithHint("make the bucket first, as private as the messages are")
	case minio.AccessDenied, "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken":
		return fault.New(fault.Denied, op, "the store refuses: %w", err).WithHint(
			"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or --s3-credentials FILE; they have to list, get, put and delete")
	case minio.NotImplemented:
		return fault.New(fault.Unsupported, op, "%w", err)
	case minio.PreconditionFailed, "ConditionalRequestConflict":
		return fault.New(fault.Exists, op, "%w", err)
	}
	switch said.StatusCode { // an answer to HEAD says nothing else
	case http.StatusNotFound:
		return fault.New(fault.NotFound, op, "%w", err)
	case http.StatusForbidden:
		return fault.New(fault.Denied, op, "the store refuses: %w", err)
	case http.StatusPreconditionFailed:
		return fault.New(fault.Exists, op, "%w", err)
	}
	return fault.New(fault.IO, op, "%w", err)
}
