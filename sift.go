package killfeed

// sift reads events and adds those that the filter matches to the answer. It returns true when the answer ends with them, having
// set through: then there is more, if not all of them were looked at or rest is set, which says that there may be others.
func (s *search) sift(ans *Answer, ids []EventID, rest bool) (end bool, err error) {
	limit := s.read.Limit
	if s.single {
		limit = 1
	}
	stop := func(through EventID, more bool) bool {
		s.through, ans.More, end = through, more, true
		return false
	}
	n := 0
	err = s.feed.store.Read(ids, func(e Event, err error) bool {
		n++
		more := n < len(ids) || rest
		if err != nil {
			if s.damaged(ans, e.ID, err) {
				return true
			}
			end = true
			return false
		}
		s.sifted++
		s.siftedBytes += len(e.Killmail)
		if s.matches(&e) {
			if s.taken += len(e.Killmail); s.taken > s.budget && len(ans.Events) > 0 {
				return stop(e.ID-1, true)
			}
			ans.Events = append(ans.Events, e)
			if len(ans.Events) == limit && (more || s.single) {
				return stop(e.ID, more)
			}
		}
		if more && s.spent() {
			return stop(e.ID, true)
		}
		return true
	})
	return end, err
}

// spent tells whether as much was looked into for the filter as one read may.
func (s *search) spent() bool {
	return s.sifted >= maxSifted || s.siftedBytes >= maxSiftedBytes || s.steps >= maxSteps
}

// matches tells whether the filter matches, if there is one. Where systems lie is asked of the static data of the moment, as it is
// for topics: a subscription may outlive what its filter was made with.
func (s *search) matches(e *Event) bool {
	if s.read.Filter == nil {
		return true
	}
	u := s.feed.Universe()
	if u == nil {
		u = s.read.Filter.u
	}
	newest := e.ID+EventID(len(s.feed.leaves.slots)) > s.feed.store.State().Head
	matches, steps := s.read.Filter.matchLeaves(s.feed.leaves.of(e, &s.leaves, newest), u)
	s.steps += steps
	return matches
}
