//go:build !linux

package bench

import "context"

// publishAcked keeps as many messages in flight as it may.
func (r *run) publishAcked(ctx context.Context) error { return r.publishApart(ctx) }
