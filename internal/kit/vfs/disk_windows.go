package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// inFolder runs an operation in the folder of a file. What os.Root opens, renames and removes may be open elsewhere, as
// on other systems: the log renames and removes files that are still read.
func inFolder(name string, do func(folder *os.Root, base string) error) error {
	folder, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(do(folder, filepath.Base(name)), folder.Close())
}

func openFile(name string, flag int) (f *os.File, err error) {
	err = inFolder(name, func(folder *os.Root, base string) (err error) {
		f, err = folder.OpenFile(base, flag, fileMode)
		return err
	})
	return f, err
}

// rename replaces the other file in one step. Both are in one folder.
func rename(from, to string) error {
	return inFolder(from, func(folder *os.Root, base string) error { return folder.Rename(base, filepath.Base(to)) })
}

func remove(name string) error {
	return inFolder(name, func(folder *os.Root, base string) error { return folder.Remove(base) })
}

// syncFolder flushes a folder as a file is flushed. FlushFileBuffers wants a handle that may write; the right to add
// a folder is one that whoever made an entry there has.
func syncFolder(name string) error {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	folder, err := windows.CreateFile(path, windows.FILE_APPEND_DATA|windows.SYNCHRONIZE,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, nil, windows.OPEN_EXISTING,
		windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return errors.Join(windows.FlushFileBuffers(folder), windows.CloseHandle(folder))
}

// lock locks a file until it is closed, by a byte far behind its end: a lock of Windows keeps others from reading
// what it covers. held: somebody else has the lock.
func lock(f *os.File) (held bool, err error) {
	at := windows.Overlapped{OffsetHigh: 1 << 30}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return true, nil
	}
	return false, err
}

func space(root string) (free, total int64, err error) {
	path, err := windows.UTF16PtrFromString(root)
	if err != nil {
		return 0, 0, err
	}
	var ours, all uint64
	err = windows.GetDiskFreeSpaceEx(path, &ours, &all, nil)
	return int64(ours), int64(all), err
}

// isFull tells whether an error says that there is no space left.
func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}
