package node

import (
	"slices"

	"github.com/firthmq/firth/internal/audit"
	"github.com/firthmq/firth/internal/audit/chain"
	"github.com/firthmq/firth/internal/mqtt"
)

// Reload puts a new configuration in force as far as that can be done without a restart: keys is what it
// changed, waiting what differs and needs a restart. It changes all that it can or, with an error,
// nothing. No session notices.
func (n *Node) Reload(next *Config) (keys, waiting []string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	table, err := n.cfg.hinge(next.Mapping)
	if err != nil {
		return nil, nil, err
	}
	rewriting, err := mqtt.NewRewriting(next.Rewrite, next.AutoSubscribe)
	if err != nil {
		return nil, nil, err
	}
	now, before := *n.cfg, *n.cfg
	for _, o := range Options() {
		switch {
		case o.show(&now) == o.show(next):
		case o.Reload:
			keys = append(keys, o.Key)
		default:
			waiting = append(waiting, o.Key)
		}
	}
	if err := n.reloadTLS(next); err != nil {
		return nil, nil, err
	}
	if n.kafka != nil {
		if err := n.kafka.SetGroupTimes(next.Groups.times()); err != nil {
			return nil, nil, err
		}
	}
	now.Mapping, now.Log.Level, now.Shutdown = next.Mapping, next.Log.Level, next.Shutdown
	now.Groups, now.Limits.Rates = next.Groups, next.Limits.Rates
	if err := n.setBridges(next); err != nil {
		return nil, nil, err
	}
	now.Bridges = next.Bridges
	now.Rewrite, now.AutoSubscribe, now.TLS, now.Access.Mode = next.Rewrite, next.AutoSubscribe, next.TLS, next.Access.Mode
	n.cfg = &now
	n.mapping.Store(table)
	n.access.Remapped()
	n.mqtt.SetMapping(table)
	if only := next.Access.Mode == modeReport; only != n.access.TriesOut() {
		n.access.TryOut(only)
		n.tellMode()
	}
	n.mqtt.SetRewriting(rewriting)
	n.mqtt.SetRates(next.Limits.Rates.options())
	if len(keys) > 0 && n.audit.On() {
		n.audit.Tell(chain.Event{Type: chain.TypeChange, Actor: chain.Actor{Principal: audit.NodeItself},
			Action: "config.reload", Outcome: chain.Success, After: audit.State(changedBy(&before, n.cfg, keys))})
	}
	return keys, waiting, nil
}

// changedBy is what keys were and are, for the audit; options hold no secrets but by the names of files.
func changedBy(before, after *Config, keys []string) map[string][2]string {
	all := map[string][2]string{}
	for _, o := range Options() {
		if slices.Contains(keys, o.Key) {
			all[o.Key] = [2]string{o.show(before), o.show(after)}
		}
	}
	return all
}
