package r2z2

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"killfeed/ingest/history"
)

// Bounds of a place, which keep its text far below what a checkpoint may have.
const (
	maxHoles = 256
	maxAgain = 256
	maxOwed  = 62
)

// place is where the source is to go on. It is stored as JSON with the killmails behind which it stands.
type place struct {
	// URL is where the numbers are from: another server's mean nothing here.
	URL string `json:"url"`
	// Next is the next number in order.
	Next int64 `json:"next"`
	// At is when the last killmail that was taken was published, in Unix seconds, and Began when the source first began:
	// history from before is not its business.
	At    int64 `json:"at"`
	Began int64 `json:"began"`
	// Hold is until when the upstream wants to be left alone, in Unix seconds; it may be over.
	Hold int64 `json:"hold,omitempty"`
	// Holes are numbers below Next that were not there when their turn came, ascending.
	Holes []hole `json:"holes,omitempty"`
	// Again are numbers below Next whose file was written again.
	Again []int64 `json:"again,omitempty"`
	// Owed are days (YYYYMMDD), ascending, of which killmails were missed that history has.
	Owed []string `json:"owed,omitempty"`
}

// hole is a number and when it was given up waiting for, in Unix seconds.
type hole struct {
	Number int64 `json:"n"`
	Since  int64 `json:"since"`
}

func parsePlace(text string) (place, error) {
	var p place
	if text == "" {
		return p, nil
	}
	err := json.Unmarshal([]byte(text), &p)
	if err == nil && p.Next < 0 {
		err = fmt.Errorf("next number %d is not accepted: want 0 or more", p.Next)
	}
	if err != nil {
		return place{}, fmt.Errorf("stored place %.60q cannot be read: %w", text, err)
	}
	return p, nil
}

func (p *place) text() string {
	data, err := json.Marshal(p)
	if err != nil {
		panic(err) // numbers and texts
	}
	return string(data)
}

func (p *place) isHole(n int64) bool {
	return slices.ContainsFunc(p.Holes, func(h hole) bool { return h.Number == n })
}

// open adds a hole. It returns the oldest one instead of keeping too many.
func (p *place) open(n int64, now time.Time) (dropped *hole) {
	p.Holes = append(p.Holes, hole{n, now.Unix()})
	if len(p.Holes) > maxHoles {
		h := p.Holes[0]
		p.Holes = p.Holes[1:]
		return &h
	}
	return nil
}

func (p *place) close(n int64) {
	p.Holes = slices.DeleteFunc(p.Holes, func(h hole) bool { return h.Number == n })
}

// announce notes that a file was written again. When there are too many, the oldest is forgotten: an update is lost, no
// killmail.
func (p *place) announce(n int64) {
	if n < 1 || n >= p.Next || p.isHole(n) || slices.Contains(p.Again, n) {
		return
	}
	p.Again = append(p.Again, n)
	p.Again = p.Again[max(0, len(p.Again)-maxAgain):]
}

func (p *place) settle(n int64) {
	p.Again = slices.DeleteFunc(p.Again, func(m int64) bool { return m == n })
}

// owe notes that killmails of the days from one time to another are to be looked for in history; nothing from before the
// source began. It returns how many days it had to leave out.
func (p *place) owe(from, to time.Time) (left int) {
	if began := time.Unix(p.Began, 0); from.Before(began) {
		from = began
	}
	from = from.UTC().Truncate(24 * time.Hour)
	for day := from; !day.After(to); day = day.AddDate(0, 0, 1) {
		if key := history.Key(day); !slices.Contains(p.Owed, key) {
			p.Owed = append(p.Owed, key)
		}
	}
	slices.Sort(p.Owed)
	left = max(0, len(p.Owed)-maxOwed)
	p.Owed = p.Owed[left:]
	return left
}

func (p *place) paid(day string) {
	p.Owed = slices.DeleteFunc(p.Owed, func(d string) bool { return d == day })
}
