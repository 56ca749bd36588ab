package names

// cache is the entries used last: at least half as many as it may hold, at most all of those. It has two generations: what is
// used moves to the young one, and when that is full the old one goes. So nothing has to be kept in order. The Book's mutex
// guards it.
type cache struct {
	most       int // of one generation
	young, old map[uint32]record
}

func newCache(most int) cache {
	return cache{most: max(1, most/2), young: map[uint32]record{}, old: map[uint32]record{}}
}

func (c *cache) get(id uint32) (record, bool) {
	if r, ok := c.young[id]; ok {
		return r, true
	}
	r, ok := c.old[id]
	if ok {
		c.put(id, r)
	}
	return r, ok
}

func (c *cache) put(id uint32, r record) {
	if _, ok := c.young[id]; !ok && len(c.young) >= c.most {
		c.old, c.young = c.young, make(map[uint32]record, c.most/4)
	}
	c.young[id] = r
	delete(c.old, id)
}

func (c *cache) len() int { return len(c.young) + len(c.old) }
