package tokens

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// FileName is the file's name in a data directory.
const FileName = "tokens.json"

// maxFile bounds the file that is read. A thousand tokens are a quarter of it.
const maxFile = 2 << 20

// entry is a token in the file.
type entry struct {
	Name         string     `json:"name"`
	SHA256       string     `json:"sha256"`
	Scopes       []string   `json:"scopes"`
	ClientPrefix string     `json:"client_prefix,omitempty"`
	Rate         float64    `json:"rate,omitempty"`
	Created      time.Time  `json:"created"`
	Expires      *time.Time `json:"expires,omitempty"`
	// Before is the text before the last rotation, for as long as it is good too.
	Before *before `json:"before,omitempty"`
}

type before struct {
	SHA256 string    `json:"sha256"`
	Until  time.Time `json:"until"`
}

type document struct {
	Tokens []entry `json:"tokens"`
}

// Load reads a file. One that is not there is an empty set. A file that cannot be understood, be it one member that this version
// does not know, is an error and never fewer tokens or more rights.
func Load(path string) (*Set, error) {
	doc, err := read(path)
	if err != nil {
		return nil, err
	}
	return doc.set(path)
}

func read(path string) (doc document, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return doc, nil
	}
	if err != nil {
		return doc, fmt.Errorf("reading the tokens: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	if err != nil {
		return doc, fmt.Errorf("reading the tokens: %w", err)
	}
	dec := json.NewDecoder(f)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return doc, fmt.Errorf("reading the tokens: %s: %w", path, err)
	}
	if dec.More() {
		return doc, fmt.Errorf("reading the tokens: %s has something behind its end", path)
	}
	return doc, nil
}

// set makes the set of a document, with those tokens whose text was changed and is good for a while yet.
func (d *document) set(path string) (*Set, error) {
	var (
		all   []Token
		names = map[string]bool{}
	)
	fault := func(err error) error { return fmt.Errorf("reading the tokens: %s: %w", path, err) }
	if len(d.Tokens) > MaxTokens {
		return nil, fault(fmt.Errorf("there are %d tokens: want at most %d", len(d.Tokens), MaxTokens))
	}
	for i := range d.Tokens {
		e := &d.Tokens[i]
		t, err := e.token()
		if err != nil {
			return nil, fault(err)
		}
		if names[t.Name] {
			return nil, fault(fmt.Errorf("token %s is there twice", t.Name))
		}
		names[t.Name] = true
		all = append(all, t)
		if b := e.Before; b != nil {
			old := t
			if old.Sum, err = parseSum(b.SHA256); err != nil {
				return nil, fault(fmt.Errorf("token %s, before: %w", t.Name, err))
			}
			if old.Expires.IsZero() || b.Until.Before(old.Expires) {
				old.Expires = b.Until
			}
			if old.Expires.IsZero() { // "until" was left out: that must not be for ever
				return nil, fault(fmt.Errorf("token %s, before: until is missing", t.Name))
			}
			all = append(all, old)
		}
	}
	return NewSet(all), nil
}

func (e *entry) token() (t Token, err error) {
	t = Token{Name: e.Name, ClientPrefix: e.ClientPrefix, Rate: e.Rate, Created: e.Created}
	if t.Scopes, err = ParseScopes(e.Scopes); err != nil {
		return t, fmt.Errorf("token %s: %w", e.Name, err)
	}
	if t.Sum, err = parseSum(e.SHA256); err != nil {
		return t, fmt.Errorf("token %s: %w", e.Name, err)
	}
	if e.Expires != nil {
		if t.Expires = *e.Expires; t.Expires.IsZero() { // which means for ever everywhere else
			return t, fmt.Errorf("token %s: expires is not accepted: want a time, or leave it out", e.Name)
		}
	}
	return t, t.check()
}

func parseSum(text string) (sum Sum, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf("sha256 is not accepted: want %d hex digits", 2*len(sum))
	}
	copy(sum[:], b)
	if sum == (Sum{}) || sum == SumOf("") {
		return sum, errors.New("sha256 is of no token")
	}
	return sum, nil
}

// Create adds a token to the file and returns its text, which is told nowhere else. Name, Scopes, ClientPrefix, Rate and Expires
// are the caller's. An expired one of the name gives way.
func Create(path string, t Token, now time.Time) (text string, err error) {
	if err := t.check(); err != nil {
		return "", err
	}
	if t.Expired(now) {
		return "", fmt.Errorf("expiry %s is not accepted: want a time to come", t.Expires.Format(time.RFC3339))
	}
	text = newText()
	return text, change(path, func(d *document) error {
		if i := d.find(t.Name); i >= 0 {
			if old := d.Tokens[i].Expires; old == nil || now.Before(*old) {
				return fmt.Errorf("there is a token %s: revoke it first, rotate it, or choose another name", t.Name)
			}
			d.Tokens = slices.Delete(d.Tokens, i, i+1)
		}
		if len(d.Tokens) >= MaxTokens {
			return fmt.Errorf("there are %d tokens, and may be no more: revoke some", MaxTokens)
		}
		e := entry{
			Name: t.Name, SHA256: sumText(text), Scopes: t.Scopes.Names(), ClientPrefix: t.ClientPrefix, Rate: t.Rate,
			Created: now.UTC().Truncate(time.Second),
		}
		if !t.Expires.IsZero() {
			until := t.Expires.UTC().Truncate(time.Second)
			e.Expires = &until
		}
		d.Tokens = append(d.Tokens, e)
		return nil
	})
}

// Revoke takes a token out of the file.
func Revoke(path, name string) error {
	return change(path, func(d *document) error {
		i := d.find(name)
		if i < 0 {
			return fmt.Errorf("%w called %q", ErrUnknown, name)
		}
		d.Tokens = slices.Delete(d.Tokens, i, i+1)
		return nil
	})
}

// Rotate gives a token another text and returns it. What it allows stays. The text before is good for the overlap, at once none
// with 0; one that a rotation before that left is good no more.
func Rotate(path, name string, overlap time.Duration, now time.Time) (text string, err error) {
	text = newText()
	return text, change(path, func(d *document) error {
		i := d.find(name)
		if i < 0 {
			return fmt.Errorf("%w called %q", ErrUnknown, name)
		}
		e := &d.Tokens[i]
		if e.Expires != nil && !now.Before(*e.Expires) {
			return fmt.Errorf("token %s has expired: create it anew", name)
		}
		e.Before = nil
		if overlap > 0 {
			e.Before = &before{e.SHA256, now.Add(overlap).UTC().Truncate(time.Second)}
		}
		e.SHA256, e.Created = sumText(text), now.UTC().Truncate(time.Second)
		return nil
	})
}

// ErrUnknown: there is no token of the name.
var ErrUnknown = errors.New("there is no token")

func sumText(text string) string {
	sum := SumOf(text)
	return hex.EncodeToString(sum[:])
}

func (d *document) find(name string) int {
	return slices.IndexFunc(d.Tokens, func(e entry) bool { return e.Name == name })
}

// change reads the file, has f change what is in it, and puts the result in its place. The new file is made before the old one is
// read, and nobody makes it twice: that is the lock between two commands.
func change(path string, f func(*document) error) (err error) {
	next := path + ".new"
	out, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("changing the tokens: another command is at it, or was cut off; if none is, delete %s", next)
	}
	if err != nil {
		return fmt.Errorf("changing the tokens: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(next)
		}
	}()
	text, err := changed(path, f)
	if err == nil {
		_, err = out.Write(text)
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := likeDirectory(next, filepath.Dir(path)); err != nil {
		return fmt.Errorf("changing the tokens: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("changing the tokens: %w", err)
	}
	return syncDirectory(filepath.Dir(path))
}

// changed is the text of the file as f changes it.
func changed(path string, f func(*document) error) ([]byte, error) {
	doc, err := read(path)
	if err != nil {
		return nil, err
	}
	if _, err := doc.set(path); err != nil { // what is broken is not made worse
		return nil, err
	}
	if err := f(&doc); err != nil {
		return nil, err
	}
	if doc.Tokens == nil {
		doc.Tokens = []entry{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		return nil, fmt.Errorf("changing the tokens: %w", err)
	}
	return b.Bytes(), nil
}
