package authority

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"path"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// maxFile bounds a file of the authority but the list, in bytes.
const maxFile = 1 << 20

func readWhole(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxFile {
		return nil, fault.New(fault.TooLarge, op, "%s has %d bytes", name, size)
	}
	text := make([]byte, size)
	if _, err := f.ReadAt(text, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return text, nil
}

// write puts a file in the place of what was there: after a crash there is the old one or the new.
func (a *Authority) write(name string, text []byte) error {
	fs := a.opt.FS
	if err := fs.MkdirAll(Folder); err != nil {
		return err
	}
	if err := fs.SyncDir("."); err != nil {
		return err
	}
	next := name + ".new"
	f, err := fs.Create(next)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(text, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(next, name); err != nil {
		return err
	}
	return fs.SyncDir(path.Dir(name))
}

func (a *Authority) writeKey(name string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	return a.write(name, encode("PRIVATE KEY", der))
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fault.New(fault.Invalid, op, "no certificate as PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, fault.New(fault.Invalid, op, "no key as PEM (PKCS #8)")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fault.New(fault.Invalid, op, "a key that cannot sign")
	}
	return signer, nil
}
