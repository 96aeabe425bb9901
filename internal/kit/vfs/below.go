package vfs

import "io"

// Below is an FS whose root is a folder of another, which must be there.
func Below(fs FS, dir string) FS { return &below{fs, dir} }

type below struct {
	fs  FS
	dir string
}

// at is a name as it is above.
func (b *below) at(op, name string) (string, error) {
	name, err := clean(op, name)
	return b.dir + "/" + name, err
}

func (b *below) open(op, name string, open func(string) (File, error)) (File, error) {
	at, err := b.at(op, name)
	if err != nil {
		return nil, err
	}
	return open(at)
}

func (b *below) do(op, name string, do func(string) error) error {
	at, err := b.at(op, name)
	if err != nil {
		return err
	}
	return do(at)
}

func (b *below) Create(name string) (File, error) { return b.open("vfs.Create", name, b.fs.Create) }

func (b *below) Open(name string) (File, error) { return b.open("vfs.Open", name, b.fs.Open) }

func (b *below) OpenWrite(name string) (File, error) {
	return b.open("vfs.OpenWrite", name, b.fs.OpenWrite)
}

func (b *below) Rename(from, to string) error {
	from, err := b.at("vfs.Rename", from)
	if err != nil {
		return err
	}
	return b.do("vfs.Rename", to, func(to string) error { return b.fs.Rename(from, to) })
}

func (b *below) Remove(name string) error { return b.do("vfs.Remove", name, b.fs.Remove) }

func (b *below) MkdirAll(dir string) error { return b.do("vfs.MkdirAll", dir, b.fs.MkdirAll) }

func (b *below) List(dir string) ([]string, error) {
	at, err := b.at("vfs.List", dir)
	if err != nil {
		return nil, err
	}
	return b.fs.List(at)
}

func (b *below) SyncDir(dir string) error { return b.do("vfs.SyncDir", dir, b.fs.SyncDir) }

func (b *below) Lock(name string) (io.Closer, error) {
	at, err := b.at("vfs.Lock", name)
	if err != nil {
		return nil, err
	}
	return b.fs.Lock(at)
}

// Space is that of the FS above.
func (b *below) Space() (free, total int64, err error) { return Space(b.fs) }
