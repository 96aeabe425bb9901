//go:build !unix

package mqtt

// initRaw does nothing: bytes are read through net.Conn.
func (in *input) initRaw() {}
