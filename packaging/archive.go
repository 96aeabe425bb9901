package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
)

// part is a file of an archive.
type part struct {
	name string
	mode int64
	text []byte
}

// parts are what everybody gets besides the binary.
func (r *release) parts(b *binary) ([]part, error) {
	code, err := b.read()
	if err != nil {
		return nil, err
	}
	all := []part{{name: b.file(), mode: 0o755, text: code}}
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md"} {
		text, err := os.ReadFile(filepath.Join(r.root, name))
		if err != nil {
			return nil, err
		}
		all = append(all, part{name: name, mode: 0o644, text: text})
	}
	return all, nil
}

// archive writes a .tar.gz, and a .zip for Windows.
func (r *release) archive(b *binary) error {
	parts, err := r.parts(b)
	if err != nil {
		return err
	}
	write, extension := writeTar, "tar.gz"
	if b.os == "windows" {
		write, extension = writeZip, "zip"
	}
	return create(r.name(b, extension), func(w io.Writer) error { return write(w, parts, r.time) })
}

func writeTar(w io.Writer, parts []part, at time.Time) error {
	zipped, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(zipped)
	for _, p := range parts {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: "firth/" + p.name, Mode: p.mode, Size: int64(len(p.text)), ModTime: at,
			Uname: "root", Gname: "root", Format: tar.FormatUSTAR,
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := t.Write(p.text); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), zipped.Close())
}

func writeZip(w io.Writer, parts []part, at time.Time) error {
	z := zip.NewWriter(w)
	for _, p := range parts {
		f, err := z.CreateHeader(&zip.FileHeader{Name: "firth/" + p.name, Method: zip.Deflate, Modified: at})
		if err != nil {
			return err
		}
		if _, err := f.Write(p.text); err != nil {
			return err
		}
	}
	return z.Close()
}

// create makes a file anew.
func create(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
