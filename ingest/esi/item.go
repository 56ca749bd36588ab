package esi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"killfeed"
)

// Item names a killmail whose body ESI has.
type Item struct {
	// ID is the killmail_id, 1 or more.
	ID int64
	// Hash is 40 hex digits.
	Hash string
	// ZKB is zKillboard's part as received; nil when there is none.
	ZKB []byte
}

// ErrNoHash: an item has a killmail's id but no hash, and without it ESI does not tell the body.
var ErrNoHash = errors.New("the killmail's hash is missing, without which ESI does not give its body")

// item is what is read of an item, in its package or alone. Null is the same as none.
type item struct {
	KillmailID   int64           `json:"killmail_id"`
	KillID       int64           `json:"killID"`
	Hash         string          `json:"hash"`
	KillmailHash string          `json:"killmail_hash"`
	ZKB          json.RawMessage `json:"zkb"`
	Package      *item           `json:"package"`
}

// ReadItem reads what names a killmail: {"killmail_id":1,"hash":"…"}, with killID in place of killmail_id, with the hash in
// zkb, and all of this perhaps in {"package":…}. It is for what killfeed.ParseItem refuses with ErrNeedsESI, and for messages
// of zKillboard's websocket that are no killmails. The error is ErrNoHash, wrapped, when only the hash is missing. The result
// keeps nothing of data.
func ReadItem(data []byte) (Item, error) {
	var doc item
	if err := json.Unmarshal(data, &doc); err != nil {
		return Item{}, fmt.Errorf("reading the name of a killmail: %w", err)
	}
	if doc.Package != nil {
		doc = *doc.Package
	}
	it := Item{ID: doc.KillmailID}
	switch {
	case it.ID == 0:
		it.ID = doc.KillID
	case doc.KillID != 0 && doc.KillID != it.ID:
		return Item{}, fmt.Errorf("item with killmail_id %d has killID %d: want the same", it.ID, doc.KillID)
	}
	if it.ID < 1 {
		return Item{}, fmt.Errorf("item has killmail_id %d: want an integer from 1 on, as killmail_id or killID", it.ID)
	}
	var zkb struct {
		Hash string `json:"hash"`
	}
	if len(doc.ZKB) > 0 && !bytes.Equal(doc.ZKB, []byte("null")) {
		if err := json.Unmarshal(doc.ZKB, &zkb); err != nil {
			return Item{}, fmt.Errorf("reading zkb of killmail %d: %w", it.ID, err)
		}
		it.ZKB = bytes.Clone(doc.ZKB)
	}
	for _, h := range [...]string{doc.Hash, doc.KillmailHash, zkb.Hash} {
		if h == "" {
			continue
		}
		given, ok := lowerHash(h)
		switch {
		case !ok:
			return Item{}, fmt.Errorf("killmail %d has the hash %.60q: want 40 hex digits", it.ID, h)
		case it.Hash != "" && it.Hash != given:
			return Item{}, fmt.Errorf("killmail %d has two hashes, %s and %s: want one", it.ID, it.Hash, given)
		}
		it.Hash = given
	}
	if it.Hash == "" {
		return Item{}, fmt.Errorf("killmail %d: %w", it.ID, ErrNoHash)
	}
	return it, nil
}

// lowerHash is a hash in lower case. False: it is none.
func lowerHash(h string) (string, bool) {
	b := []byte(h)
	for i, c := range b {
		if c >= 'A' && c <= 'F' {
			b[i] = c + 'a' - 'A'
		}
		if c = b[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", false
		}
	}
	return string(b), len(b) == 40
}

// join makes a killmail of an item and its body. The package killfeed holds id and hash against the body.
func (it Item) join(body []byte) (*killfeed.Killmail, error) {
	if !json.Valid(body) { // or what follows could be read as something else than the body
		return nil, killfeed.Invalid("esi", string(body[:min(len(body), 64)]), "a JSON object")
	}
	doc := make([]byte, 0, len(body)+len(it.ZKB)+128)
	doc = fmt.Appendf(doc, `{"killmail_id":%d,"hash":%q,"esi":`, it.ID, it.Hash)
	doc = append(doc, body...)
	if it.ZKB != nil {
		doc = append(append(doc, `,"zkb":`...), it.ZKB...)
	}
	return killfeed.ParseItem(append(doc, '}'))
}
