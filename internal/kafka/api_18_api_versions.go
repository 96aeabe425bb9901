package kafka

import (
	"context"

	"github.com/firthmq/firth/internal/kafka/wire"
)

// ApiVersions (18): v0-4.
//
// Behaviour
//   - Announces the APIs and versions of this door and the features in force: group.version 1, by which clients use
//     consumer groups (KIP-848). Without transaction.version they use transactions of the first protocol, which are
//     refused in their turn.
//   - Any version may ask; one that is not served is answered in version 0 with UNSUPPORTED_VERSION and
//     the ranges (KIP-511). The response header is never flexible.
//   - A client's software name and version that break KIP-511's rules are INVALID_REQUEST.
//
// Versions: 1 throttle time, 3 flexible and software, 4 features from version 0 (KAFKA-17011).

// apiVersions answers ApiVersions.
func (d *Door) apiVersions(_ context.Context, c *conn, h wire.Header, body, dst []byte) ([]byte, error) {
	software, release, ok, err := wire.ParseApiVersions(h.Version, body)
	if err != nil {
		return nil, err
	}
	code := wire.None
	if !ok {
		code = wire.InvalidRequest
	}
	c.software, c.release = bounded(string(software)), bounded(string(release))
	c.log.Debug("kafka: client", "software", c.software, "release", c.release)
	return wire.AppendApiVersions(dst, h, code, d.versions), nil
}
