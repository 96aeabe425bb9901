package node

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/firthmq/firth/internal/kit/fault"
)

// unixListener is a Unix socket whose file goes when it is closed.
type unixListener struct {
	*net.UnixListener
	path    string
	made    fs.FileInfo
	remove  sync.Once
	lasting bool        // its file is systemd's, and stays
	passed  atomic.Bool // its file is another process', and stays
}

// adoptUnix takes a Unix socket that was passed to this process; its file is not removed before own is called.
func adoptUnix(l *net.UnixListener, lasting bool) (*unixListener, error) {
	u := &unixListener{UnixListener: l, path: l.Addr().String(), lasting: lasting}
	u.passed.Store(true)
	made, err := os.Lstat(u.path)
	if err != nil {
		return nil, fault.Wrap(fault.IO, "node.Listen", err)
	}
	u.made = made
	return u, nil
}

// own has the file go when the listener is closed; with false it stays.
func (l *unixListener) own(owned bool) { l.passed.Store(!owned) }

// listenUnix makes a Unix socket with a mode. The file that a process left which is gone is replaced; one that somebody
// listens on, and one that is no socket, stays.
func listenUnix(ctx context.Context, d door, path string) (net.Listener, error) {
	if !privateSockets {
		return nil, fault.New(fault.Unsupported, d.key, "a Unix socket keeps nobody out on this system: %s", d.address).
			WithHint("listen on 127.0.0.1")
	}
	if err := removeStale(ctx, d, path); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	got, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, explainListen(d, err)
	}
	l, ok := got.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fault.New(fault.Internal, d.key, "%s is no Unix socket", d.address), got.Close())
	}
	l.SetUnlinkOnClose(false) // by then the file may be another's
	u := &unixListener{UnixListener: l, path: path}
	err = os.Chmod(path, d.socketMode())
	if err == nil {
		u.made, err = os.Lstat(path)
	}
	if err != nil {
		return nil, errors.Join(fault.Wrap(fault.IO, d.key, err), u.Close())
	}
	return u, nil
}

// removeStale removes a socket that nobody listens on.
func removeStale(ctx context.Context, d door, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fault.Wrap(fault.IO, d.key, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fault.New(fault.Exists, d.key, "%s is there and is no socket", path).
			WithHint("choose another path, or remove it")
	}
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(explainListen(d, errInUse), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fault.New(fault.Exists, d.key, "%s is there, and whether somebody listens on it cannot be told: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fault.Wrap(fault.IO, d.key, err)
	}
	return nil
}

// Close implements net.Listener. It removes the file, unless that is another's by now.
func (l *unixListener) Close() error {
	err := l.UnixListener.Close()
	if l.lasting || l.passed.Load() {
		return err
	}
	l.remove.Do(func() {
		now, gone := os.Lstat(l.path)
		if gone == nil && (l.made == nil || os.SameFile(l.made, now)) {
			err = errors.Join(err, os.Remove(l.path))
		}
	})
	return err
}
