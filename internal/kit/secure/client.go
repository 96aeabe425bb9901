package secure

import (
	"crypto/tls"
	"crypto/x509"
)

// Client is TLS towards a server: the authorities in a file, or the system's where it has no name, know the server,
// and a certificate and its key, where they have names, are shown to it. Errors: Invalid, NotFound, Denied and IO,
// each naming the file.
func Client(authorities, certificate, key string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if authorities != "" {
		all, err := loadAuthorities(authorities)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		for _, one := range all {
			c.RootCAs.AddCert(one)
		}
	}
	if certificate == "" {
		return c, nil
	}
	pair, err := loadPair(certificate, key)
	if err != nil {
		return nil, err
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}
