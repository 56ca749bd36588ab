package standin

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Config says what a Server serves and how. The zero value works: a service without killmails, without faults.
type Config struct {
	// Mails are published in this order. The same killmail may come several times, as it does upstream.
	Mails []Mail
	// More is asked for another killmail when Mails are used up and the next one is due; nil or false: there is none, and it
	// is not asked again. It is called by one goroutine at a time, and must not call the Server. It needs a Pace that has an
	// end at every moment, so not the zero one.
	More func() (Mail, bool)

	// FirstSequence is the number of the first killmail; 0 means DefaultFirstSequence.
	FirstSequence int64
	// Before is how many of the first Mails were published before the Server was made: each at its own time, but none
	// before the one ahead of it and none in the future. Above len(Mails) it means all.
	Before int
	// Pace is the pace at which the others are published. The zero value publishes all at once.
	Pace Pace

	// PointerLag is how far sequence.json may be behind the newest number: it is rewritten when it would be further behind.
	// 0 means 51, as upstream; negative means never behind.
	PointerLag int
	// Retention is how long a file of R2Z2 stays after it was written; 0 means 24 h, negative for ever.
	Retention time.Duration
	// History says when killmails show in the history files.
	History HistoryMode
	// R2Z2PerSecond is how many requests to R2Z2 in any second are answered; those beyond get a 429 without Retry-After.
	// 0 answers all. (The true limit is said to be 15 or 20.)
	R2Z2PerSecond int

	ESI ESIConfig
	// Named is what ESI knows of characters, corporations and so on; false: there is no such id. nil means MadeUp. It is called by
	// several goroutines at a time.
	Named  func(id uint32) (Named, bool)
	RedisQ RedisQConfig

	// ArchiveDir is the directory with EVE Ref's day archives, killmails-YYYY-MM-DD.tar.bz2, in it or in directories of the
	// year's name. Empty: there are none. (Go cannot write bzip2, so they cannot be made of Mails.)
	ArchiveDir string

	// StaticData are files with CCP's archives of static data, in the order of their builds; the last is the latest. Each has
	// its build number in it.
	StaticData []string

	// Faults are switched on from the start.
	Faults Faults
	// Seed decides everything that is left to chance.
	Seed uint64
	// Clock tells the time; nil means that of package time.
	Clock Clock
}

// DefaultFirstSequence is where numbering begins when Config does not say.
const DefaultFirstSequence = 96_100_001

// Pace is how fast killmails are published. At most one field is set; the zero value publishes all at once.
type Pace struct {
	// Rate is killmails a second, evenly, the first one at once.
	Rate float64
	// Speed publishes killmails as far apart as they happened, divided by Speed: 1 is as it was, 60 a minute a second. The
	// first one comes at once.
	Speed float64
	// Hold publishes nothing but what Publish is told to.
	Hold bool
}

func (p Pace) validate(endless bool) error {
	switch {
	case !(p.Rate >= 0 && p.Rate <= 1e6): // NaN too
		return fmt.Errorf("pace: rate %v is not accepted: want 0 to 1000000 killmails a second", p.Rate)
	case !(p.Speed >= 0 && p.Speed <= 1e9):
		return fmt.Errorf("pace: speed %v is not accepted: want 0 to 1000000000", p.Speed)
	case p.Rate > 0 && p.Speed > 0, p.Hold && p.Rate+p.Speed > 0:
		return errors.New("pace: rate, speed and hold exclude each other: give one of them")
	case endless && p == Pace{}:
		return errors.New("pace: killmails without end cannot be published all at once: give a rate, a speed or hold")
	}
	return nil
}

// HistoryMode says when a killmail shows in the history files.
type HistoryMode int

const (
	// HistoryAtOnce shows it as soon as it is published, in the files of days that are over. As upstream, a day is over six
	// hours after its end, and until then it has no files.
	HistoryAtOnce HistoryMode = iota
	// HistoryDaily writes all files once a day, at 06:00 UTC, as upstream: nothing published since then is in them.
	HistoryDaily
	// HistoryToday is HistoryAtOnce with the present day.
	HistoryToday
)

// ESIConfig is how ESI limits its callers.
type ESIConfig struct {
	// Limit chooses the kind of limit.
	Limit ESILimit
	// Tokens are in the bucket of LimitTokens, and come back one Window after they were spent; 0 means 3600 and 15 min.
	// Window is in whole minutes.
	Tokens int
	Window time.Duration
	// Errors is how many answers of 4xx and 5xx LimitErrors allows in a minute; 0 means 100.
	Errors int
}

// ESILimit is a kind of rate limit.
type ESILimit int

const (
	// LimitTokens is the present one: a bucket of tokens for killmails, one for names and one for the rest. An answer of 2xx costs 2, 3xx 1, 4xx 5, 5xx
	// and 429 nothing; with an empty bucket it is 429 with Retry-After. The headers are X-Ratelimit-*.
	LimitTokens ESILimit = iota
	// LimitErrors is the old one: after so many errors in a minute every ESI route answers 420 until the minute is over. The
	// headers are X-Esi-Error-Limit-*.
	LimitErrors
	// LimitNone limits nothing and sends no such headers.
	LimitNone
)

// RedisQConfig is how RedisQ answers.
type RedisQConfig struct {
	// Redirect answers listen.php with a 302 to object.php, as the original did; otherwise with the package itself.
	Redirect bool
	// NoKillmail leaves the ESI body out of packages, as the original did from December 2025.
	NoKillmail bool
}

// Clock is where a Server has its time from.
type Clock interface {
	Now() time.Time
	// Timer returns a channel that gets one value when d has passed, and what to call when that is not wanted any more.
	Timer(d time.Duration) (fired <-chan time.Time, stop func())
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) Timer(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// withDefaults fills in what is not set.
func (c Config) withDefaults() Config {
	if c.FirstSequence == 0 {
		c.FirstSequence = DefaultFirstSequence
	}
	c.Before = min(c.Before, len(c.Mails))
	switch {
	case c.PointerLag == 0:
		c.PointerLag = 51
	case c.PointerLag < 0:
		c.PointerLag = 0
	}
	switch {
	case c.Retention == 0:
		c.Retention = 24 * time.Hour
	case c.Retention < 0:
		c.Retention = math.MaxInt64
	}
	if c.ESI.Tokens == 0 {
		c.ESI.Tokens = 3600
	}
	if c.ESI.Window == 0 {
		c.ESI.Window = 15 * time.Minute
	}
	if c.ESI.Errors == 0 {
		c.ESI.Errors = 100
	}
	if c.Named == nil {
		c.Named = MadeUp
	}
	if c.Clock == nil {
		c.Clock = systemClock{}
	}
	return c
}

// validate tells everything that is wrong, after withDefaults.
func (c *Config) validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.FirstSequence < 1 || c.FirstSequence > 1<<62 {
		bad("first sequence %d is not accepted: want 1 to %d", c.FirstSequence, int64(1<<62))
	}
	if c.Before < 0 {
		bad("number of killmails published before %d is not accepted: want 0 or more", c.Before)
	}
	if err := c.Pace.validate(c.More != nil); err != nil {
		errs = append(errs, err)
	}
	if c.History < HistoryAtOnce || c.History > HistoryToday {
		bad("history mode %d is not accepted: want one of the constants", c.History)
	}
	if c.R2Z2PerSecond < 0 {
		bad("requests a second to R2Z2 %d are not accepted: want 1 or more, or 0 for no limit", c.R2Z2PerSecond)
	}
	if c.ESI.Limit < LimitTokens || c.ESI.Limit > LimitNone {
		bad("kind of ESI limit %d is not accepted: want one of the constants", c.ESI.Limit)
	}
	if c.ESI.Tokens < 0 || c.ESI.Errors < 0 {
		bad("ESI's limits of %d tokens and %d errors are not accepted: want 1 or more, or 0 for the default", c.ESI.Tokens,
			c.ESI.Errors)
	}
	if c.ESI.Window < time.Minute || c.ESI.Window%time.Minute != 0 {
		bad("window of ESI's tokens %v is not accepted: want whole minutes", c.ESI.Window)
	}
	for fault, strike := range c.Faults {
		if _, err := strike.armed(fault); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
