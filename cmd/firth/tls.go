package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"

	"github.com/spf13/pflag"

	"github.com/firthmq/firth/internal/cli/output"
)

// tlsFlags are the flags of every command that may speak TLS, named as in mosquitto_pub.
type tlsFlags struct {
	on, insecure      bool
	cafile, cert, key string
	alpn              string
}

func (f *tlsFlags) add(flags *pflag.FlagSet) {
	flags.BoolVar(&f.on, "tls", false, "TLS: use it, and trust the certificates that the system trusts")
	flags.StringVar(&f.cafile, "cafile", "", "TLS: `file` with the certificates to trust")
	flags.StringVar(&f.cert, "cert", "", "TLS: `file` with the client's certificate")
	flags.StringVar(&f.key, "key", "", "TLS: `file` with the client's key")
	flags.BoolVar(&f.insecure, "insecure", false, "TLS: do not check the server's certificate")
}

// wanted tells whether any flag asks for TLS.
func (f *tlsFlags) wanted() bool { return f.on || f.cafile != "" || f.cert != "" || f.insecure }

// config is for a server of a name; "": that of the address that is connected to.
func (f *tlsFlags) config(name string) (*tls.Config, error) {
	c := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: f.insecure} //nolint:gosec // --insecure
	if f.alpn != "" {
		c.NextProtos = []string{f.alpn}
	}
	if f.cafile != "" {
		pem, err := os.ReadFile(f.cafile)
		if err != nil {
			return nil, output.Usage("%w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, output.Usage("%s holds no certificate", f.cafile)
		}
	}
	if f.cert != "" || f.key != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, output.Usage("--cert and --key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
