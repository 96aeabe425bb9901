package session

// Restoring is a session that is put together from its records, in the order in which they were written.
type Restoring struct {
	State   *State
	flights map[uint32][]Flight
	replays map[replayPlace]ReplayRecord
	session bool
}

// Restore begins to put together the session of a client.
func Restore(clientID string, limits *Limits) *Restoring {
	s := &State{clientID: clientID, limits: limits, told: true}
	s.Out.SetWindow(limits.MaxInflight)
	return &Restoring{State: s}
}

// Session applies the record of the session; nil: it has ended.
func (r *Restoring) Session(rec *SessionRecord) {
	if r.session = rec != nil; !r.session {
		return
	}
	s := r.State
	s.version, s.expiry, s.away, s.mark = rec.Version, rec.Expiry, rec.Away, rec.Mark
	s.setOwner(rec.Owner)
}

// Filter applies the record of a subscription; nil: there is none any more.
func (r *Restoring) Filter(filter string, rec *FilterRecord) {
	s := r.State
	if rec == nil {
		s.Unsubscribe([]byte(filter))
		return
	}
	s.Resubscribe(rec.Subscription(filter))
}

// Will applies the record of the will; nil: there is none any more.
func (r *Restoring) Will(rec *WillRecord) {
	if r.State.will = nil; rec != nil {
		r.State.will = &Will{Message: rec.Will, User: rec.User, From: rec.From, Delay: rec.Delay, Due: rec.Due}
	}
}

// Place applies the record of a partition; nil: there is none any more.
func (r *Restoring) Place(partition uint32, rec *PlaceRecord) {
	s := r.State
	if rec == nil {
		s.places.remove(partition)
		delete(r.flights, partition)
		return
	}
	p := s.places.at(partition)
	p.next, p.stored = rec.Next, true
	if r.flights == nil {
		r.flights = make(map[uint32][]Flight)
	}
	for i := range rec.Flights {
		rec.Flights[i].From.Partition = partition
	}
	r.flights[partition] = rec.Flights
}

// Replay applies the record of a place of the replay of a filter; nil: there is none any more.
func (r *Restoring) Replay(filter string, partition uint32, rec *ReplayRecord) {
	at := replayPlace{filter, partition}
	if rec == nil {
		delete(r.replays, at)
		return
	}
	if r.replays == nil {
		r.replays = make(map[replayPlace]ReplayRecord)
	}
	r.replays[at] = *rec
}

// restoreReplays puts the places of replays in. Those of replays that have ended are left alone.
func (r *Restoring) restoreReplays() {
	for at, rec := range r.replays {
		sub := r.State.find(at.filter)
		if sub == nil || sub.Replay == nil || sub.Since != rec.Since {
			continue
		}
		p := sub.Replay.places.at(at.partition)
		p.next, p.stored = rec.Next, true
	}
}

// Received applies the record of a chunk of packet ids of QoS 2.
func (r *Restoring) Received(chunk byte, rec ReceivedRecord) { r.State.In.Restore(chunk, rec) }

// Done gives the session, or nil if its records were only remains of one that has ended.
func (r *Restoring) Done() *State {
	if !r.session {
		return nil
	}
	var all []Flight
	for _, in := range r.flights {
		all = append(all, in...)
	}
	r.State.Out.Restore(all)
	r.restoreReplays()
	return r.State
}
