package authority

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// maxFile bounds a file of the authority but the list, in bytes.
const maxFile = 1 << 20

// write puts a file in the place of what was there: after a crash there is the old one or the new.
func (a *Authority) write(name string, text []byte) error {
	fs := a.opt.FS
	if err := fs.MkdirAll(Folder); err != nil {
		return err
	}
	if err := fs.SyncDir("."); err != nil {
		return err
	}
	return vfs.WriteWhole(fs, name, text)
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
