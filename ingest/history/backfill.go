package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"killfeed"
	"killfeed/ingest/archive"
	"killfeed/ingest/importer"
	"killfeed/ingest/upstream"
)

// Backfill brings days of killmails into a log. Interrupted and repeated it goes on where it was, and inserts nothing twice.
type Backfill struct {
	// From and To are the first and last day, both included.
	From, To time.Time
	Archive  Archive
	// Insert stores killmails, with the backfill mark; see importer.Import.
	Insert func(ctx context.Context, killmails []*killfeed.Killmail) ([]importer.Outcome, error)
	// Place returns and Remember stores which days are done, as a text of at most 64 KiB. They may be nil: then every day is
	// read again, which is slower and no less right.
	Place    func() (string, error)
	Remember func(ctx context.Context, place string) error
	// Progress is told after each batch and each day; Bad of each killmail that was refused. Both may be nil.
	Progress func(Progress)
	Bad      func(name string, err error)
	// Tries is how often a day is tried before Run gives up; 0 means 6.
	Tries int
}

// Progress is how far a Backfill has come.
type Progress struct {
	// Day is being read; Days is how many there are, Done how many of them are done, Skipped of those were done before.
	Day                 time.Time
	Days, Done, Skipped int
	// Counts are those of all days together; a day that is tried again counts again.
	Counts importer.Counts
	// Killmails is how many are done and Total how many there are in all the days, by the upstream's totals; Total is 0 when
	// those are not known.
	Killmails, Total int64
}

// DayReport is what became of a day.
type DayReport struct {
	Day time.Time `json:"day"`
	// Skipped: it was done before, and upstream has not changed it since by its totals.
	Skipped bool `json:"skipped,omitempty"`
	// Total is how many killmails the day has by the upstream's totals, -1 when it does not say.
	Total int `json:"total"`
	// Counts are of the try that went through.
	Counts importer.Counts `json:"counts"`
	// Missing have no body anywhere.
	Missing int `json:"missing,omitempty"`
	// Problem says in what the day is not as the totals say; empty: it is complete.
	Problem string `json:"problem,omitempty"`
}

// Run brings the days, oldest first. It returns what became of each that was dealt with; the error is that of Insert, the
// cause of ctx, or an upstream's that did not go away.
func (b *Backfill) Run(ctx context.Context) ([]DayReport, error) {
	from, to := b.From.UTC().Truncate(24*time.Hour), b.To.UTC().Truncate(24*time.Hour)
	if to.Before(from) {
		return nil, fmt.Errorf("backfilling from %s to %s: the last day is before the first", from.Format(time.DateOnly),
			to.Format(time.DateOnly))
	}
	done, err := b.done()
	if err != nil {
		return nil, err
	}
	var totals map[string]int
	err = b.retry(ctx, func() (err error) { totals, err = b.Archive.Totals(ctx); return err })
	if err != nil && !errors.Is(err, upstream.ErrNotFound) {
		return nil, fmt.Errorf("reading the totals of %s: %w", b.Archive.Name(), err)
	}

	p := Progress{Days: int(to.Sub(from)/(24*time.Hour)) + 1}
	for day := from; !day.After(to); day = day.AddDate(0, 0, 1) {
		p.Total += int64(totals[Key(day)])
	}
	var reports []DayReport
	for day := from; !day.After(to); day = day.AddDate(0, 0, 1) {
		r := DayReport{Day: day, Total: -1}
		if n, ok := totals[Key(day)]; ok {
			r.Total = n
		}
		p.Day = day
		if n, ok := done[Key(day)]; ok && n == r.Total {
			r.Skipped = true
			p.Skipped++
		} else if err := b.day(ctx, &r, &p); err != nil {
			return reports, err
		} else if r.Problem == "" && r.Total >= 0 && time.Now().After(Over(day)) {
			done[Key(day)] = r.Total
			if err := b.remember(ctx, done); err != nil {
				return reports, err
			}
		}
		reports = append(reports, r)
		p.Done++
		p.Killmails += int64(max(r.Total, 0))
		b.progress(p)
	}
	return reports, nil
}

// day brings one day, trying again when the upstream fails.
func (b *Backfill) day(ctx context.Context, r *DayReport, p *Progress) error {
	var d Day
	err := b.retry(ctx, func() error {
		var m *importer.Import
		total := p.Counts
		m = &importer.Import{
			Source: func(ctx context.Context, yield func(archive.Item) error) (err error) {
				d, err = b.Archive.Day(ctx, r.Day, nil, yield)
				return err
			},
			Insert: func(ctx context.Context, ks []*killfeed.Killmail) ([]importer.Outcome, error) {
				outcomes, err := b.Insert(ctx, ks)
				if err != nil {
					return nil, sinkError{err}
				}
				now := *p
				now.Counts = sum(total, m.Counts())
				now.Killmails += m.Counts().Read
				b.progress(now)
				return outcomes, nil
			},
			Bad: b.Bad,
		}
		err := m.Run(ctx)
		r.Counts = m.Counts()
		p.Counts = sum(total, r.Counts)
		return err
	})
	if errors.Is(err, upstream.ErrNotFound) {
		if r.Problem = "upstream has no file of the day"; r.Total == 0 {
			r.Problem = ""
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("backfilling %s from %s: %w", r.Day.Format(time.DateOnly), b.Archive.Name(), err)
	}
	r.Missing = d.Missing
	stored := int(r.Counts.Inserted + r.Counts.Duplicates)
	switch {
	case d.Missing > 0:
		r.Problem = fmt.Sprintf("%d killmails have no body, as %v", d.Missing, d.MissingErr)
	case r.Counts.Bad > 0:
		r.Problem = fmt.Sprintf("%d killmails were refused", r.Counts.Bad)
	case r.Total >= 0 && stored != r.Total:
		r.Problem = fmt.Sprintf("the day has %d killmails, and the totals say %d", stored, r.Total)
	case d.Listed >= 0 && stored != d.Listed:
		r.Problem = fmt.Sprintf("the day has %d killmails, and its list says %d", stored, d.Listed)
	}
	return nil
}

func sum(a, b importer.Counts) importer.Counts {
	return importer.Counts{
		Read: a.Read + b.Read, Inserted: a.Inserted + b.Inserted, Duplicates: a.Duplicates + b.Duplicates, Bad: a.Bad + b.Bad,
		Updates: a.Updates + b.Updates,
	}
}

func (b *Backfill) progress(p Progress) {
	if b.Progress != nil {
		b.Progress(p)
	}
}

// sinkError is an error of Insert, which trying again does not mend here.
type sinkError struct{ error }

func (e sinkError) Unwrap() error { return e.error }

// retry does something until it goes well, is not found, or has failed often.
func (b *Backfill) retry(ctx context.Context, do func() error) error {
	tries := b.Tries
	if tries <= 0 {
		tries = 6
	}
	backoff := upstream.Backoff{Least: 2 * time.Second}
	for {
		err := do()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, sink := errors.AsType[sinkError](err); err == nil || sink || errors.Is(err, upstream.ErrNotFound) {
			return err
		}
		wait := backoff.Next(upstream.RetryAfter(err))
		if errors.Is(err, upstream.ErrForbidden) {
			wait = max(wait, time.Duration(backoff.Failures())*time.Minute) // asking again soon makes a ban longer
		}
		if backoff.Failures() >= tries {
			return fmt.Errorf("given up after %d tries: repeat it later, it goes on from here: %w", tries, err)
		}
		if err := upstream.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// maxDone bounds the days that are remembered, so that they fit the place. The newest stay.
const maxDone = 3000

// done reads which days are done, and how many killmails each had: "20261101=15234 20261102=…".
func (b *Backfill) done() (map[string]int, error) {
	days := map[string]int{}
	if b.Place == nil {
		return days, nil
	}
	text, err := b.Place()
	if err != nil {
		return nil, fmt.Errorf("reading which days of %s are done: %w", b.Archive.Name(), err)
	}
	for field := range strings.FieldsSeq(text) {
		day, count, _ := strings.Cut(field, "=")
		if n, err := strconv.Atoi(count); err == nil {
			days[day] = n // what cannot be read is done again
		}
	}
	return days, nil
}

func (b *Backfill) remember(ctx context.Context, done map[string]int) error {
	if b.Remember == nil {
		return nil
	}
	days := make([]string, 0, len(done))
	for day, n := range done {
		days = append(days, day+"="+strconv.Itoa(n))
	}
	slices.Sort(days)
	if err := b.Remember(ctx, strings.Join(days[max(0, len(days)-maxDone):], " ")); err != nil {
		return fmt.Errorf("noting which days of %s are done: %w", b.Archive.Name(), err)
	}
	return nil
}
