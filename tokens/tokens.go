package tokens

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Scopes is what a token allows, a set.
type Scopes uint8

// What a token may allow. None includes another, but for Admin, which is everything.
const (
	// Read is polling and streaming, where that is not open to everybody.
	Read Scopes = 1 << iota
	// Publish is inserting killmails.
	Publish
	// Admin is everything.
	Admin
)

var scopeNames = []struct {
	scope Scopes
	name  string
}{{Read, "read"}, {Publish, "publish"}, {Admin, "admin"}}

// Has tells whether all of what is asked for is allowed.
func (s Scopes) Has(asked Scopes) bool { return s&Admin != 0 || s&asked == asked }

// Names are the scopes by name.
func (s Scopes) Names() []string {
	var names []string
	for _, one := range scopeNames {
		if s&one.scope != 0 {
			names = append(names, one.name)
		}
	}
	return names
}

// String is the names with commas between them.
func (s Scopes) String() string { return strings.Join(s.Names(), ",") }

// ParseScopes reads names of scopes. It wants one at least.
func ParseScopes(names []string) (s Scopes, err error) {
names:
	for _, name := range names {
		for _, one := range scopeNames {
			if one.name == name {
				s |= one.scope
				continue names
			}
		}
		return 0, fmt.Errorf("scope %q is not accepted: want some of read, publish, admin", name)
	}
	if s == 0 {
		return 0, fmt.Errorf("no scope is given: want some of read, publish, admin")
	}
	return s, nil
}

// Sum is the SHA-256 of a token's text.
type Sum [sha256.Size]byte

// SumOf is the sum of a text.
func SumOf(text string) Sum { return sha256.Sum256([]byte(text)) }

// Token is what is known of a token. It never changes.
type Token struct {
	// Name is what operators call it: 1 to 64 letters, digits, and any of . _ - in ASCII.
	Name string
	// Sum is of its text.
	Sum Sum
	// Scopes is what it allows.
	Scopes Scopes
	// ClientPrefix is what the names of the clients that it may use begin with; empty: it may use any.
	ClientPrefix string
	// Rate is how many requests a second it may make in the long run; 0: no limit of its own.
	Rate float64
	// Created is when it was made, or its text was last changed.
	Created time.Time
	// Expires is from when on it is none any more; zero: it is for ever.
	Expires time.Time
}

// Expired tells whether it is over.
func (t *Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// Uses tells whether the token may use a client of the name.
func (t *Token) Uses(client string) bool { return strings.HasPrefix(client, t.ClientPrefix) }

// AllowsAs tells whether both allow the same, whenever they end.
func (t *Token) AllowsAs(other *Token) bool {
	return t.Name == other.Name && t.Scopes == other.Scopes && t.ClientPrefix == other.ClientPrefix
}

// Limits of a token.
const (
	maxName   = 64
	maxPrefix = 120 // bytes; a client's name has 128
	maxRate   = 1e6
	// MaxTokens is how many tokens a file may have. Each request that brings one is compared with all of them.
	MaxTokens = 1000
)

// check tells what is wrong with a token.
func (t *Token) check() error {
	ok := func(r rune) bool {
		return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-", r))
	}
	switch {
	case t.Name == "" || len(t.Name) > maxName || strings.ContainsFunc(t.Name, func(r rune) bool { return !ok(r) }):
		return fmt.Errorf("token name %q is not accepted: want 1 to %d letters, digits, dots, dashes and underscores", t.Name, maxName)
	case t.Scopes == 0:
		return fmt.Errorf("token %s has no scope: want some of read, publish, admin", t.Name)
	case len(t.ClientPrefix) > maxPrefix || !utf8.ValidString(t.ClientPrefix) ||
		strings.ContainsFunc(t.ClientPrefix, func(r rune) bool { return !unicode.IsPrint(r) }) || strings.HasPrefix(t.ClientPrefix, " "):
		return fmt.Errorf("client prefix %q is not accepted: want at most %d bytes of printable UTF-8 without a space before it",
			t.ClientPrefix, maxPrefix)
	case t.ClientPrefix != "" && t.Scopes.Has(Admin):
		return fmt.Errorf("token %s has the scope admin and a client prefix: admin is everything, so want one of the two", t.Name)
	case !(t.Rate >= 0 && t.Rate <= maxRate): // also of NaN
		return fmt.Errorf("rate %v is not accepted: want requests a second, from 0 (no limit) to %.0f", t.Rate, maxRate)
	}
	return nil
}

// textPrefix is what a token's text begins with, so that people and scanners for secrets see what it is.
const textPrefix = "kf_"

// newText makes the text of a token: 256 random bits.
func newText() string {
	var random [32]byte
	rand.Read(random[:]) // never fails
	return textPrefix + base64.RawURLEncoding.EncodeToString(random[:])
}

// LooksLike tells whether a text has the form of a token's, whether or not there is one.
func LooksLike(text string) bool {
	rest, ok := strings.CutPrefix(text, textPrefix)
	if !ok {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	return err == nil && len(b) == 32
}

// Set is the tokens of a file at one time. It never changes. nil is an empty one.
type Set struct {
	tokens []Token
	bySum  map[Sum]*Token // of tokens
}

// NewSet makes a set. Of two with one sum the first counts.
func NewSet(all []Token) *Set {
	s := &Set{tokens: slices.Clone(all), bySum: map[Sum]*Token{}}
	for i := range s.tokens {
		if t := &s.tokens[i]; s.bySum[t.Sum] == nil {
			s.bySum[t.Sum] = t
		}
	}
	return s
}

// All are the tokens in the order of the file. Nobody may change them.
func (s *Set) All() []Token {
	if s == nil {
		return nil
	}
	return s.tokens
}

// Find returns the token with the text, nil when there is none that is good.
func (s *Set) Find(text string, now time.Time) *Token {
	if s == nil || len(s.tokens) == 0 {
		return nil
	}
	sum := SumOf(text)
	at := -1
	for i := range s.tokens { // to the end, wherever it is
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], s.tokens[i].Sum[:]), i, at)
	}
	if at < 0 || s.tokens[at].Expired(now) {
		return nil
	}
	return &s.tokens[at]
}

// Current returns what is known now of a token that was found before, nil when it is good no more. Unlike Find it is for sums
// that the server has, and not for what strangers send.
func (s *Set) Current(sum Sum, now time.Time) *Token {
	if s == nil {
		return nil
	}
	if t := s.bySum[sum]; t != nil && !t.Expired(now) {
		return t
	}
	return nil
}
