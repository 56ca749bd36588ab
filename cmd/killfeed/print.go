package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/pflag"

	"killfeed"
)

// output holds the flags that say how events are printed.
type output struct {
	json, text bool
	template   string // of tail only
}

func (o *output) addFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.json, "json", false, "print one JSON object a line (default when standard output is no terminal)")
	fs.BoolVar(&o.text, "text", false, "print one line of text an event (default on a terminal)")
}

// printer prints events on standard output, each on a line of its own.
type printer struct {
	out    io.Writer
	names  bool // what ids are called is shown where it is known
	format func(event []byte) ([]byte, error)
}

func (a *app) newPrinter(o output) (*printer, error) {
	p := &printer{out: a.stdout}
	terminal := isTerminal(a.stdout)
	switch {
	case o.json && o.text:
		return nil, usagef("--json and --text exclude each other")
	case o.template != "" && (o.json || o.text):
		return nil, usagef("--template excludes --json and --text")
	case o.template != "":
		t, err := parseTemplate(o.template, terminal)
		if err != nil {
			return nil, usageError{err}
		}
		p.format = t.format
	case o.text || terminal && !o.json:
		p.names = true
		c := colours(terminal && wantsColours(a.env))
		p.format = func(event []byte) ([]byte, error) { return describeEvent(event, c), nil }
	default:
		p.format = func(event []byte) ([]byte, error) { return event, nil }
	}
	return p, nil
}

// print prints one event in one write. It says whether there was anything to print: a template may choose to be silent.
func (p *printer) print(event []byte) (printed bool, err error) {
	line, err := p.format(event)
	if err != nil || len(line) == 0 {
		return false, err
	}
	if line[len(line)-1] != '\n' {
		line = append(slices.Clip(line), '\n') // clipped: the event may be part of a larger buffer
	}
	if _, err := p.out.Write(line); err != nil {
		return false, &outputError{err}
	}
	return true, nil
}

// outputError is a failure of standard output itself.
type outputError struct{ error }

func (e *outputError) Unwrap() error { return e.error }

func (a *app) tellGap(g *killfeed.Gap) {
	switch g.Reason {
	case killfeed.GapEpoch:
		fmt.Fprintln(a.stderr, "gap: the cursor is of another log; everything that this one keeps follows")
	case killfeed.GapFuture:
		fmt.Fprintln(a.stderr, "gap: the cursor is past the end of the log; reading goes on from the end")
	case killfeed.GapDamaged:
		fmt.Fprintf(a.stderr, "gap: events %d to %d are damaged on the server and cannot be read\n", g.From, g.To)
	default:
		fmt.Fprintf(a.stderr, "gap: events %d to %d were removed before they were read (%s)\n", g.From, g.To, g.Reason)
	}
}

// eventNames is what the ids of an event are called. Members that are missing are not known.
type eventNames struct {
	System struct {
		thing
		Region thing `json:"region"`
	} `json:"system"`
	Types        map[int64]thing `json:"types"`
	Characters   map[int64]thing `json:"characters"`
	Corporations map[int64]thing `json:"corporations"`
	Alliances    map[int64]thing `json:"alliances"`
}

type thing struct {
	Name   string `json:"name"`
	Ticker string `json:"ticker"`
}

// String is the name as it may be printed.
func (t thing) String() string {
	name := t.Name
	if t.Ticker != "" {
		name += " [" + t.Ticker + "]"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
}

// describeEvent is an event as one line of text. A killmail may be any JSON object: what cannot be told is left out. Nothing
// in it but numbers and times is the killmail's, and names have nothing that cannot be printed, so that nobody can play tricks
// with a terminal.
func describeEvent(event []byte, c colours) []byte {
	var e struct {
		EventID    uint64          `json:"event_id"`
		SystemID   uint32          `json:"system_id"`
		ReceivedAt time.Time       `json:"received_at"`
		Update     bool            `json:"update"`
		Backfill   bool            `json:"backfill"`
		Killmail   json.RawMessage `json:"killmail"`
		Names      json.RawMessage `json:"names"`
	}
	if err := json.Unmarshal(event, &e); err != nil {
		return event
	}
	var k struct {
		ID     int64     `json:"killmail_id"`
		Time   time.Time `json:"killmail_time"`
		Victim struct {
			Character   int64 `json:"character_id"`
			Corporation int64 `json:"corporation_id"`
			Alliance    int64 `json:"alliance_id"`
			Ship        int64 `json:"ship_type_id"`
		} `json:"victim"`
		Attackers []struct{} `json:"attackers"`
	}
	_ = json.Unmarshal(e.Killmail, &k) // fills what has the right type
	var called eventNames
	_ = json.Unmarshal(e.Names, &called) // so does this, and nothing when nobody asked

	parts := []string{
		c.paint(dim, fmt.Sprintf("%7d", e.EventID)),
		c.paint(dim, e.ReceivedAt.UTC().Format(time.DateTime)),
	}
	if !k.Time.IsZero() {
		parts = append(parts, "killed "+k.Time.UTC().Format(time.DateTime))
	}
	where := fmt.Sprint("system ", e.SystemID)
	if s := called.System; s.Name != "" {
		where = s.String()
		if s.Region.Name != "" {
			where += " (" + s.Region.String() + ")"
		}
	}
	parts = append(parts, c.paint(cyan, where))
	tell := func(name string, id int64, called map[int64]thing, with colour) {
		switch {
		case called[id].Name != "":
			parts = append(parts, c.paint(with, called[id].String()))
		case id > 0:
			parts = append(parts, c.paint(with, fmt.Sprint(name, " ", id)))
		}
	}
	tell("ship", k.Victim.Ship, called.Types, yellow)
	tell("character", k.Victim.Character, called.Characters, plain)
	tell("corporation", k.Victim.Corporation, called.Corporations, plain)
	tell("alliance", k.Victim.Alliance, called.Alliances, plain)
	tell("by", int64(len(k.Attackers)), nil, plain)
	if k.ID > 0 {
		parts = append(parts, c.paint(dim, fmt.Sprintf("https://zkillboard.com/kill/%d/", k.ID)))
	}
	if e.Update {
		parts = append(parts, c.paint(magenta, "update"))
	}
	if e.Backfill {
		parts = append(parts, c.paint(magenta, "backfill"))
	}
	return []byte(strings.Join(parts, "  "))
}

// colour is a terminal's code for one; plain is none.
type colour string

const (
	plain   colour = ""
	dim     colour = "2"
	yellow  colour = "33"
	magenta colour = "35"
	cyan    colour = "36"
)

// colours says whether there are any. Four codes do not need a library: the usual ones bring a renderer for whole screens.
type colours bool

func (c colours) paint(with colour, text string) string {
	if !c || with == plain {
		return text
	}
	return "\x1b[" + string(with) + "m" + text + "\x1b[0m"
}

// wantsColours tells whether a terminal is to be given colours: not when NO_COLOR says so (https://no-color.org), when the
// terminal has none, or on Windows, where older consoles print the codes as they are.
func wantsColours(env []string) bool {
	for _, kv := range env {
		switch name, value, _ := strings.Cut(kv, "="); {
		case name == "NO_COLOR" && value != "", name == "TERM" && value == "dumb":
			return false
		}
	}
	return runtime.GOOS != "windows"
}
