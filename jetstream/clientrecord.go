package jetstream

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"killfeed"
)

// record is a client as it stands in the bucket.
type record struct {
	Name    string `json:"name"`
	Created int64  `json:"created"` // Unix milliseconds, as is Seen
	Seen    int64  `json:"seen"`
	Moves   uint64 `json:"moves,omitempty"`
	Holder  string `json:"holder,omitempty"`
	// Head is the head of the log where it was written.
	Head killfeed.EventID `json:"head,omitempty"`
	// Offsets are by the topic's name. One of a kind that this version does not know is kept for those that do.
	Offsets map[string]killfeed.EventID `json:"offsets,omitempty"`
}

func parseRecord(name string, value []byte) (record, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return record{}, err
	}
	if r.Name != name {
		return record{}, fmt.Errorf("the key of %q has the record of %q", name, r.Name)
	}
	return r, nil
}

func (k *cached) encode(name string) ([]byte, error) {
	r := k.record
	r.Name = name
	return json.Marshal(r)
}

// shared is the client as the feed has it.
func (k cached) shared(name string) killfeed.SharedClient {
	s := killfeed.SharedClient{Gone: k.absent()}
	s.Client = name
	if s.Gone {
		return s
	}
	s.Created, s.At = time.UnixMilli(k.Created).UTC(), time.UnixMilli(k.Seen).UTC()
	s.Hold = killfeed.Hold{Moves: k.Moves, Holder: k.Holder, Head: k.Head}
	s.Offsets = make(map[killfeed.Topic]killfeed.EventID, len(k.Offsets))
	for text, at := range k.Offsets {
		if t, err := killfeed.ParseTopic(text); err == nil {
			s.Offsets[t] = at
		}
	}
	return s
}

// change is what a batch has of one client.
type change struct {
	name    string
	gone    bool
	seen    *killfeed.ClientSeen
	moved   uint64
	holder  string
	offsets []killfeed.Offset
	ask     bool // whether the client is as this node knows it
}

// changesOf sorts what b has by client, in the order in which they are first named.
func changesOf(b *killfeed.Batch) []*change {
	var list []*change
	by := map[string]*change{}
	of := func(name string) *change {
		c := by[name]
		if c == nil {
			c = &change{name: name}
			by[name] = c
			list = append(list, c)
		}
		return c
	}
	for _, name := range b.Gone {
		of(name).gone = true
	}
	for _, o := range b.Offsets {
		c := of(o.Client)
		c.offsets = append(c.offsets, o)
	}
	for i := range b.Seen {
		of(b.Seen[i].Client).seen = &b.Seen[i]
	}
	for _, h := range b.Holds {
		c := of(h.Client)
		if h == (killfeed.HoldChange{Client: h.Client}) {
			c.ask = true
		}
		if h.Moved {
			c.moved++
		}
		if h.Holder != "" {
			c.holder = h.Holder
		}
	}
	return list
}

// apply is what the change makes of a client when the log ends with head, and whether that differs.
func (c *change) apply(base cached, head killfeed.EventID) (next cached, changed bool) {
	if !c.gone && !base.absent() {
		next.record = base.record
	}
	if c.gone && len(c.offsets) == 0 && c.seen == nil && c.moved == 0 && c.holder == "" {
		next.gone = true
		return next, !base.absent()
	}
	r := &next.record
	if len(c.offsets) > 0 {
		r.Offsets = maps.Clone(r.Offsets)
		if r.Offsets == nil {
			r.Offsets = make(map[string]killfeed.EventID, len(c.offsets))
		}
		for _, o := range c.offsets {
			r.Offsets[o.Topic.String()] = o.At
		}
	}
	if c.seen != nil {
		r.Created, r.Seen = c.seen.Created.UnixMilli(), c.seen.At.UnixMilli()
	}
	r.Moves += c.moved
	if c.holder != "" {
		r.Holder = c.holder
	}
	if c.ask && len(c.offsets) == 0 && c.seen == nil && c.moved == 0 && c.holder == "" {
		return next, false // also of a client that there is not
	}
	r.Head = max(r.Head, head)
	return next, base.absent() || !r.equal(&base.record)
}

// equal leaves Head out: that alone is no change.
func (r *record) equal(o *record) bool {
	return r.Created == o.Created && r.Seen == o.Seen && r.Moves == o.Moves && r.Holder == o.Holder && maps.Equal(r.Offsets, o.Offsets)
}

// keyOf is the bucket's key of something with a name of any characters.
func keyOf(kind, name string) string {
	return kind + base64.RawURLEncoding.EncodeToString([]byte(name))
}

// nameOf is the inverse of keyOf; false for what a node has not written.
func nameOf(kind, key string) (string, bool) {
	text, ok := strings.CutPrefix(key, kind)
	if !ok {
		return "", false
	}
	name, err := base64.RawURLEncoding.DecodeString(text)
	return string(name), err == nil
}
