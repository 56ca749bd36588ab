package sde

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"killfeed/ingest/upstream"
)

const (
	maxLatest = 64 << 10
	// maxTries is how often in a row upstream may fail. A try that brought enough begins the count anew.
	maxTries  = 6
	enough    = 1 << 20
	leastWait = time.Second
	mostWait  = 30 * time.Second
	// maxAsked is the longest pause that is made because upstream asks for one. A person may be waiting.
	maxAsked = 2 * time.Minute
)

// tries counts what fails and makes the pauses in between.
type tries struct {
	backoff upstream.Backoff
	failed  func(err error, wait time.Duration)
}

func (o *Options) newTries() *tries {
	return &tries{upstream.Backoff{Least: leastWait, Most: mostWait}, o.Failed}
}

// again waits after a failure that may pass, and returns nil to try once more. Else it returns why not.
func (t *tries) again(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	asked := upstream.RetryAfter(err)
	passing := errors.Is(err, upstream.ErrNetwork) || errors.Is(err, upstream.ErrServer) || errors.Is(err, upstream.ErrTooMany) ||
		errors.Is(err, upstream.ErrNotJSON)
	if !passing || asked > maxAsked {
		return err
	}
	wait := t.backoff.Next(asked)
	if n := t.backoff.Failures(); n >= maxTries {
		return fmt.Errorf("%w (tried %d times)", err, n)
	}
	t.failed(err, wait)
	return upstream.Sleep(ctx, wait)
}

// latest asks upstream for its latest build.
func (o *Options) latest(ctx context.Context) (release, error) {
	address := o.URL + "/latest.jsonl"
	for t := o.newTries(); ; {
		ans, err := o.Client.Get(ctx, address, maxLatest)
		if err == nil {
			var r release
			if r, err = readLatest(ans.Body); err == nil {
				return r, nil
			}
			err = &upstream.Error{Class: upstream.ErrNotJSON, URL: address, Status: http.StatusOK, Err: err}
		}
		if err := t.again(ctx, err); err != nil {
			return release{}, err
		}
	}
}

// readLatest finds the build in the lines of latest.jsonl.
func readLatest(body []byte) (r release, err error) {
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		var one record
		if err := json.Unmarshal(line, &one); err != nil {
			return release{}, err
		}
		r.read(&one)
	}
	if r.build == 0 {
		return release{}, errors.New("no record of it is called sde and has a buildNumber")
	}
	return r, nil
}

// download is that of one archive. It is for one goroutine.
type download struct {
	*Options
	address   string
	part, tag string // files
	// came is what came now, resumed what was there when it began.
	came, resumed int64
	// furthest is as much as there ever was of the archive, less what did not count as enough.
	furthest int64
}

func (o *Options) download(build int) *download {
	base := filepath.Join(staticDir(o.Dir), strconv.Itoa(build)+".zip")
	return &download{Options: o, address: o.URL + "/" + archiveName(build), part: base + ".part", tag: base + ".tag"}
}

// run brings the whole archive. What there is of it stays when it does not succeed.
func (d *download) run(ctx context.Context) error {
	if err := d.removeParts(d.part); err != nil {
		return err
	}
	d.furthest, _, _ = d.have()
	t := d.newTries()
	for first := true; ; first = false {
		came, err := d.try(ctx, first)
		d.came += came
		if err == nil {
			return nil
		}
		// Only what had never come before counts: an upstream whose file changes all the time begins anew for ever.
		if now, _, _ := d.have(); now >= d.furthest+enough {
			d.furthest = now
			t.backoff.Reset()
		}
		if err := t.again(ctx, err); err != nil {
			return err
		}
	}
}

// try asks for what is missing, and returns how much of it came.
func (d *download) try(ctx context.Context, first bool) (came int64, err error) {
	have, tag, err := d.have()
	if err != nil {
		return 0, err
	}
	body, err := d.Client.OpenFrom(ctx, d.address, have, tag, maxArchive+1-have)
	if e, ok := errors.AsType[*upstream.Error](err); ok && e.Status == http.StatusRequestedRangeNotSatisfiable {
		if upstream.Length(e.Header) == have { // nothing is missing
			d.note(first, have)
			return 0, nil
		}
		// What is there is not of this file, though it has its name. The next try begins anew.
		e.Class = upstream.ErrNetwork
		return 0, errors.Join(err, d.remove())
	}
	if err != nil {
		return 0, err
	}
	defer body.Close()
	if body.Total > maxArchive {
		return 0, fmt.Errorf("the archive %s has %d bytes, more than %d", d.address, body.Total, maxArchive)
	}
	d.note(first, body.From)
	if body.From == 0 { // also when there was a part: of an older version, or nobody knows of which
		if err := d.remove(); err != nil {
			return 0, err
		}
		if err := replace(d.tag, []byte(body.Tag)); err != nil { // before there is anything that it is the version of
			return 0, fmt.Errorf("writing %s: %w", d.tag, err)
		}
	}
	return d.append(body)
}

func (d *download) note(first bool, have int64) {
	if first {
		d.resumed = have
	}
}

// append writes what comes behind what is there.
func (d *download) append(body *upstream.Part) (came int64, err error) {
	f, err := os.OpenFile(d.part, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return 0, fmt.Errorf("writing the archive: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Seek(body.From, io.SeekStart); err != nil {
		return 0, fmt.Errorf("writing the archive: %w", err)
	}
	for buf := make([]byte, 64<<10); ; {
		d.Progress(Progress{Downloading, body.From + came, max(body.Total, 0)})
		n, err := body.Read(buf)
		if _, err := f.Write(buf[:n]); err != nil {
			return came, fmt.Errorf("writing the archive: %w", err)
		}
		came += int64(n)
		switch {
		case err == io.EOF && body.Total >= 0 && body.From+came != body.Total:
			return came, &upstream.Error{Class: upstream.ErrNetwork, URL: d.address, Status: http.StatusOK,
				Err: fmt.Errorf("%d bytes came of %d", body.From+came, body.Total)}
		case err == io.EOF:
			d.Progress(Progress{Downloading, body.From + came, body.From + came})
			return came, nil
		case err != nil:
			return came, err
		}
	}
}

// have is how much there is of the archive, and of which version.
func (d *download) have() (size int64, tag string, err error) {
	text, _, err := readFile(d.tag, 1<<10)
	if err == nil && len(text) > 0 && !bytes.ContainsAny(text, "\r\n\x00") {
		var info fs.FileInfo
		if info, err = os.Stat(d.part); err == nil {
			return info.Size(), string(text), nil
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, "", fmt.Errorf("looking for what was downloaded before: %w", err)
	}
	return 0, "", nil
}

// remove removes what there is, the archive before its version: that must not be there alone with another file's bytes.
func (d *download) remove() error {
	for _, name := range []string{d.part, d.tag} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing what was downloaded: %w", err)
		}
	}
	return nil
}

// removeParts removes what was downloaded, but for the archive with this name and its version.
func (o *Options) removeParts(but string) error {
	entries, err := os.ReadDir(staticDir(o.Dir))
	if err != nil {
		return fmt.Errorf("looking for what was downloaded before: %w", err)
	}
	for _, e := range entries {
		base, part := strings.CutSuffix(e.Name(), ".zip.part")
		if !part {
			base, part = strings.CutSuffix(e.Name(), ".zip.tag")
		}
		if !part || base+".zip.part" == filepath.Base(but) {
			continue
		}
		if err := os.Remove(filepath.Join(staticDir(o.Dir), e.Name())); err != nil {
			return fmt.Errorf("removing what was downloaded before: %w", err)
		}
	}
	return nil
}

// Partial is what there is of an archive whose download was interrupted.
type Partial struct {
	Build int   `json:"build"`
	Bytes int64 `json:"bytes"`
}

// Interrupted tells of the download in a data directory that the next update goes on with, if there is one.
func Interrupted(dir string) (Partial, bool) {
	entries, err := os.ReadDir(staticDir(dir))
	if err != nil {
		return Partial{}, false
	}
	for _, e := range entries {
		base, part := strings.CutSuffix(e.Name(), ".zip.part")
		if build, err := strconv.Atoi(base); part && err == nil {
			if info, err := e.Info(); err == nil {
				return Partial{build, info.Size()}, true
			}
		}
	}
	return Partial{}, false
}
