package node

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
	now := *n.cfg
	for _, o := range Options() {
		switch {
		case o.show(&now) == o.show(next):
		case o.Reload:
			keys = append(keys, o.Key)
		default:
			waiting = append(waiting, o.Key)
		}
	}
	if err := n.kafka.SetGroupTimes(next.Groups.times()); err != nil {
		return nil, nil, err
	}
	now.Mapping, now.Log.Level, now.Shutdown = next.Mapping, next.Log.Level, next.Shutdown
	now.Groups = next.Groups
	n.cfg = &now
	n.mapping.Store(table)
	n.mqtt.SetMapping(table)
	return keys, waiting, nil
}
