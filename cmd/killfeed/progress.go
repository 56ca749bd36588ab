package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"killfeed/ingest/archive"
	"killfeed/ingest/importer"
)

// progress shows how an import goes: a bar on a terminal, else a plain line every few seconds. Only Run writes; Bad may be
// called meanwhile.
type progress struct {
	out      io.Writer
	terminal bool
	counts   func() importer.Counts
	files    func() archive.Progress
	started  time.Time

	mu      sync.Mutex // guards what follows; held for an append or a swap
	bad     []string   // to be told
	badSeen int
}

const (
	barEvery   = 100 * time.Millisecond
	plainEvery = 5 * time.Second
	// badTold bounds the bad items that are named. An archive of something else would name a million.
	badTold = 10
)

// Bad notes a bad item; the first few are named.
func (p *progress) Bad(name string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.badSeen++; p.badSeen <= badTold {
		p.bad = append(p.bad, fmt.Sprintf("bad: %s: %v", name, err))
	}
	if p.badSeen == badTold {
		p.bad = append(p.bad, "bad: further ones are only counted")
	}
}

func (p *progress) takeBad() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := p.bad
	p.bad = nil
	return lines
}

// Run shows progress until ctx ends, and leaves the cursor at the beginning of an empty line.
func (p *progress) Run(ctx context.Context) {
	every, show, finish := plainEvery, p.plain, func() {}
	if p.terminal {
		every, show, finish = barEvery, nil, nil
		show, finish = p.bar()
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			finish()
			for _, line := range p.takeBad() {
				fmt.Fprintln(p.out, line)
			}
			return
		case <-tick.C:
			show()
		}
	}
}

// bar returns what draws the bar and what removes it.
func (p *progress) bar() (show, finish func()) {
	total := p.files().Total
	if total == 0 {
		total = -1 // unknown, as when a pipe is read: nothing can be a part of nothing
	}
	b := progressbar.NewOptions64(total,
		progressbar.OptionSetSpinnerChangeInterval(0), // else it starts a goroutine that nobody stops
		progressbar.OptionSetWriter(p.out),
		progressbar.OptionSetWidth(24),
		progressbar.OptionSetPredictTime(total > 0),
		progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionSetRenderBlankState(true),
		progressbar.OptionClearOnFinish(),
	)
	show = func() {
		if lines := p.takeBad(); len(lines) > 0 {
			_ = b.Clear()
			for _, line := range lines {
				fmt.Fprintln(p.out, line)
			}
		}
		b.Describe(p.text())
		if total > 0 {
			_ = b.Set64(min(p.files().Bytes, total-1)) // the full bar would end itself, and a few killmails be on their way
		} else {
			_ = b.Add64(1)
		}
	}
	return show, func() { _ = b.Clear() }
}

// plain prints one line.
func (p *progress) plain() {
	for _, line := range p.takeBad() {
		fmt.Fprintln(p.out, line)
	}
	f := p.files()
	var share string
	if f.Total > 0 && f.Bytes > 0 {
		elapsed := time.Since(p.started)
		left := time.Duration(float64(elapsed) * float64(f.Total-f.Bytes) / float64(f.Bytes))
		share = fmt.Sprintf("%d%%, %s left: ", f.Bytes*100/f.Total, max(left, 0).Round(time.Second))
	}
	fmt.Fprintf(p.out, "importing: %s%s\n", share, p.text())
}

// text is the counts and the rate.
func (p *progress) text() string {
	c := p.counts()
	rate := float64(c.Read) / max(time.Since(p.started).Seconds(), 0.001)
	return fmt.Sprintf("%s, %.0f/s", countsText(c), rate)
}

// countsText is the counts in words.
func countsText(c importer.Counts) string {
	return fmt.Sprintf("%d read, %d inserted, %d duplicates, %d bad", c.Read, c.Inserted, c.Duplicates, c.Bad)
}
