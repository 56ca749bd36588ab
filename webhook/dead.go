package webhook

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"killfeed"
)

// Dead is an event that could not be posted.
type Dead struct {
	EventID killfeed.EventID `json:"event_id"`
	// KillmailID is 0 when the killmail has none.
	KillmailID int64 `json:"killmail_id,omitempty"`
	// At is when it was given up.
	At time.Time `json:"at"`
	// Status is the HTTP status of the last answer, 0 when there was none.
	Status int `json:"status,omitempty"`
	// Reason says why it was given up.
	Reason string `json:"reason"`
	// Answer is how the answer began.
	Answer string `json:"answer,omitempty"`
}

const (
	// maxDead bounds a list. Beyond it the oldest are dropped, and counted.
	maxDead = 1000
	// maxDeadLine bounds a line of the file.
	maxDeadLine = 16 << 10
)

// deadList is the dead events of one webhook, by event id.
//
// Its file is a journal: a line for each event that came, and one for each that was posted after all. A line is synced before the
// webhook's place moves past its event, so that none is on neither. It is written anew when it has twice as many lines as may be.
type deadList struct {
	path string // empty: in memory only

	mu      sync.Mutex // guards the rest; held through a write to the disk
	all     []Dead     // ascending
	lines   int
	dropped uint64 // since the list was opened
}

// deadLine is a line of the file.
type deadLine struct {
	Dead
	// Gone: the event is dead no more.
	Gone bool `json:"gone,omitempty"`
}

// openDead reads the list. A last line that was cut off by a crash counts as not written: the webhook's place is before it.
func openDead(path string) (*deadList, error) {
	d := &deadList{path: path}
	if path == "" {
		return d, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("making the directory of dead events: %w", err)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the dead events: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(make([]byte, 0, maxDeadLine), len(text)+1)
	damaged := len(text) > 0 && text[len(text)-1] != '\n'
	for lines.Scan() {
		var l deadLine
		if json.Unmarshal(lines.Bytes(), &l) != nil || l.EventID == 0 {
			damaged = true // what else is in the file is as good as before
			continue
		}
		d.lines++
		if l.Gone {
			d.take(l.EventID)
		} else {
			d.put(l.Dead)
		}
	}
	if damaged || d.lines > 2*maxDead { // or the next line would be glued to the broken one
		if err := d.rewrite(); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// put notes an event, in the place of what was noted of it before. The caller holds mu, or is alone.
func (d *deadList) put(one Dead) {
	at, found := slices.BinarySearchFunc(d.all, one.EventID, byEvent)
	if found {
		d.all[at] = one
		return
	}
	d.all = slices.Insert(d.all, at, one)
	if len(d.all) > maxDead {
		d.all = slices.Delete(d.all, 0, 1)
		d.dropped++
	}
}

// take forgets an event. The caller holds mu, or is alone.
func (d *deadList) take(id killfeed.EventID) (found bool) {
	at, found := slices.BinarySearchFunc(d.all, id, byEvent)
	if found {
		d.all = slices.Delete(d.all, at, at+1)
	}
	return found
}

func byEvent(d Dead, id killfeed.EventID) int {
	switch {
	case d.EventID < id:
		return -1
	case d.EventID > id:
		return 1
	}
	return 0
}

// add notes dead events. They are on disk when it returns nil; else they are not in the list.
func (d *deadList) add(all []Dead) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := make([]deadLine, len(all))
	for i := range all {
		lines[i].Dead = all[i]
	}
	if err := d.write(lines); err != nil {
		return err
	}
	for i := range all {
		d.put(all[i])
	}
	d.shorten()
	return nil
}

// remove notes that an event is dead no more.
func (d *deadList) remove(id killfeed.EventID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.take(id) { // from the list in any case: it was posted, and shall not be again
		return nil
	}
	if err := d.write([]deadLine{{Dead: Dead{EventID: id, At: time.Now().UTC()}, Gone: true}}); err != nil {
		return err
	}
	d.shorten()
	return nil
}

// list returns the dead events, ascending by id.
func (d *deadList) list() []Dead {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Dead{}, d.all...)
}

// count is how many there are, and how many were dropped because there were too many.
func (d *deadList) count() (n int, dropped uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.all), d.dropped
}

// write appends lines and syncs them. The caller holds mu.
func (d *deadList) write(lines []deadLine) error {
	if d.path == "" {
		return nil
	}
	text, err := encodeDead(lines)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(d.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("writing dead events: %w", err)
	}
	before, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		_ = f.Truncate(before) // half a line would spoil the next one
		return fmt.Errorf("writing dead events: %w", errors.Join(err, f.Close()))
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("writing dead events: %w", err)
	}
	if d.lines == 0 { // the file is new, and its name has to last too
		if err := syncDir(filepath.Dir(d.path)); err != nil {
			return err
		}
	}
	d.lines += len(lines)
	return nil
}

// shorten writes the file anew when most of it is of no use any more. When that fails it is as good as before, and tried again
// with the next line. The caller holds mu.
func (d *deadList) shorten() {
	if d.path != "" && d.lines > 2*maxDead {
		_ = d.rewrite()
	}
}

// rewrite writes the file anew, whole or not at all. The caller holds mu, or is alone.
func (d *deadList) rewrite() error {
	lines := make([]deadLine, len(d.all))
	for i := range d.all {
		lines[i].Dead = d.all[i]
	}
	text, err := encodeDead(lines)
	if err != nil {
		return err
	}
	temp := d.path + ".new"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return fmt.Errorf("writing dead events anew: %w", err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, d.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(d.path))
	}
	if err != nil {
		return fmt.Errorf("writing dead events anew: %w", err)
	}
	d.lines = len(lines)
	return nil
}

func encodeDead(lines []deadLine) ([]byte, error) {
	var b bytes.Buffer
	to := json.NewEncoder(&b)
	to.SetEscapeHTML(false)
	for i := range lines {
		if err := to.Encode(&lines[i]); err != nil {
			return nil, fmt.Errorf("writing dead events: %w", err)
		}
	}
	return b.Bytes(), nil
}

// syncDir makes the names in a directory last. Where directories cannot be synced, as on Windows, they last anyway.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening the directory of dead events: %w", err)
	}
	defer f.Close()
	err = f.Sync()
	cannot := errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrInvalid)
	if err != nil && !cannot {
		return fmt.Errorf("syncing the directory of dead events: %w", err)
	}
	return nil
}
