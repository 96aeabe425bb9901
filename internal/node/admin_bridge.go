package node

import (
	"net/http"

	"github.com/firthmq/firth/internal/apps/bridge"
)

// adminBridges tells of all bridges, or of the one that name names.
func (n *Node) adminBridges(r *http.Request) (any, error) {
	if r.URL.Query().Has("name") {
		b, err := n.bridge(r)
		if err != nil {
			return nil, err
		}
		return []bridge.Status{b.Status()}, nil
	}
	return n.bridges.List(), nil
}

// bridge is the bridge that name names.
func (n *Node) bridge(r *http.Request) (*bridge.Bridge, error) {
	return n.bridges.Named(r.URL.Query().Get("name"))
}

func (n *Node) adminTestBridge(r *http.Request) (any, error) {
	b, err := n.bridge(r)
	if err != nil {
		return nil, err
	}
	return b.Test(r.Context()), nil
}

func (n *Node) adminPauseBridge(r *http.Request) (any, error) {
	b, err := n.bridge(r)
	if err != nil {
		return nil, err
	}
	return b.Pause(), nil
}

func (n *Node) adminResumeBridge(r *http.Request) (any, error) {
	b, err := n.bridge(r)
	if err != nil {
		return nil, err
	}
	return b.Resume(), nil
}
