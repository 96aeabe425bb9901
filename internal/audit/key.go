package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// The files of the audit in the data directory.
const (
	// KeyFile holds the private key of Ed25519 that checkpoints are signed with (PKCS #8 in PEM), mode 0600.
	KeyFile = "audit.key"
	// HeadFile holds the last checkpoint that is stored, so that a log whose end was cut off is found.
	HeadFile = "audit.head"
)

// maxFile bounds what is read of them, in bytes.
const maxFile = 64 << 10

// readKey reads the private key; nil: there is none. Errors: Corrupt; those of the disk.
func readKey(fs vfs.FS) (ed25519.PrivateKey, error) {
	text, err := vfs.ReadWhole(fs, KeyFile, maxFile)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, is := key.(ed25519.PrivateKey); is {
				return key, nil
			}
		}
	}
	return nil, fault.New(fault.Corrupt, "audit", "%s holds no private key of Ed25519", KeyFile).WithHint("put the key " +
		"back from a backup; or remove the file: a new key is made, and the audit is verified up to here with the old one")
}

// makeKey makes a key and stores it.
func makeKey(fs vfs.FS) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "audit", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "audit", err)
	}
	return key, vfs.WriteWhole(fs, KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
