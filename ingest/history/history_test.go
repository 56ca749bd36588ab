package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/ingest/archive"
	"killfeed/ingest/importer"
	"killfeed/ingest/standin"
	"killfeed/ingest/upstream"
	"killfeed/storetest"
)

// wire calls a handler where a network would be.
type wire struct{ handler http.Handler }

func (w wire) RoundTrip(req *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	cut := false
	func() {
		defer func() {
			if p := recover(); p == http.ErrAbortHandler {
				cut = true
			} else if p != nil {
				panic(p)
			}
		}()
		w.handler.ServeHTTP(rec, req)
	}()
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if cut && !rec.Flushed {
		return nil, io.ErrUnexpectedEOF
	}
	res := rec.Result()
	res.Request = req
	if cut {
		res.Body = io.NopCloser(io.MultiReader(res.Body, cutBody{}))
	}
	return res, nil
}

type cutBody struct{}

func (cutBody) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func clientOf(t *testing.T, h http.Handler) *upstream.Client {
	t.Helper()
	c, err := upstream.New(upstream.Config{Version: "test", Contact: "test@example.com", Transport: wire{h}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const perDay, days = 200, 3

var first = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// server publishes three days at once. It lives in a bubble, whose clock is set behind those days.
func server(t *testing.T, faults standin.Faults) *standin.Server {
	t.Helper()
	time.Sleep(time.Until(first.AddDate(0, 0, days+2)))
	m := storetest.NewMaker(storetest.MakerOptions{Start: first, Every: 24 * time.Hour / perDay, Attackers: 2})
	mails := make([]standin.Mail, days*perDay)
	for i := range mails {
		mail := m.NextMail()
		mail.ZKB, mail.Labels, mail.NoHash = false, nil, true
		mails[i] = standin.Mail{ESI: mail.AppendJSON(nil)}
	}
	s, err := standin.New(standin.Config{Mails: mails, Before: len(mails), Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sink is a log with the place of the backfill in it.
func sink(t *testing.T, b *Backfill) *killfeed.Feed {
	t.Helper()
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.Insert = func(ctx context.Context, ks []*killfeed.Killmail) ([]importer.Outcome, error) {
		results, err := feed.InsertAll(ctx, ks, killfeed.MarkBackfill)
		outcomes := make([]importer.Outcome, len(results))
		for i, r := range results {
			outcomes[i] = importer.Outcome{Duplicate: r.Duplicate, Update: r.Update}
		}
		return outcomes, err
	}
	source := "backfill:" + b.Archive.Name()
	b.Place = func() (string, error) { return feed.Checkpoint(source) }
	b.Remember = func(ctx context.Context, place string) error {
		_, err := feed.InsertFrom(ctx, nil, 0, killfeed.Checkpoint{Source: source, Place: place})
		return err
	}
	return feed
}

// TestBackfill: three days with faults, interrupted twice, are complete; a second run inserts nothing.
func TestBackfill(t *testing.T) {
	for name, faults := range map[string]standin.Faults{
		"good": nil,
		"bad": {standin.Cut: {Chance: 0.2}, standin.Truncated: {Chance: 0.2}, standin.ServerError: {Chance: 0.2},
			standin.HTML: {Chance: 0.1}, standin.InvalidJSON: {Chance: 0.1}, standin.TooMany: {Chance: 0.1, RetryAfter: 5 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := server(t, faults)
				defer s.Close()
				b := &Backfill{From: first, To: first.AddDate(0, 0, days-1), Tries: 30,
					Archive: &ZKillboard{Client: clientOf(t, s.Handler()), URL: "http://upstream"}}
				feed := sink(t, b)
				defer feed.Close()
				insert := b.Insert
				for _, batches := range []int{1, 2} {
					ctx, cancel := context.WithCancel(t.Context())
					b.Insert = func(ctx context.Context, ks []*killfeed.Killmail) ([]importer.Outcome, error) {
						if batches--; batches == 0 {
							cancel()
						}
						return insert(ctx, ks)
					}
					if _, err := b.Run(ctx); !errors.Is(err, context.Canceled) {
						t.Errorf("an interrupted run: %v", err)
					}
				}
				b.Insert = insert
				var last Progress
				b.Progress = func(p Progress) { last = p }
				reports, err := b.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range reports {
					if r.Problem != "" || r.Total != perDay || !r.Skipped && r.Counts.Inserted+r.Counts.Duplicates != perDay {
						t.Errorf("report %+v", r)
					}
				}
				if last.Done != days || last.Total != days*perDay || last.Killmails != days*perDay {
					t.Errorf("progress %+v", last)
				}
				if n := feed.Stats().Inserted; n != days*perDay {
					t.Errorf("%d inserted, want %d", n, days*perDay)
				}
				for _, forget := range []bool{false, true} { // by its memory, and without one
					if forget {
						b.Place = nil
					}
					reports, err := b.Run(t.Context())
					for _, r := range reports {
						if r.Problem != "" || r.Skipped == forget || r.Counts.Inserted > 0 {
							t.Errorf("second run: %+v", r)
						}
					}
					if n := feed.Stats().Inserted; err != nil || n != days*perDay {
						t.Errorf("after the second run %d are inserted, %v", n, err)
					}
				}
				st := s.Stats()
				if st.PeakByService[standin.ServiceR2Z2] > 10 || st.BeforeRetryAfter > 0 || st.NoContact > 0 {
					t.Errorf("manners: %+v", st)
				}
			})
		})
	}
}

// TestDay: the raw file may lack killmails, be missing, and have others than were asked for.
func TestDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server(t, nil)
		defer s.Close()
		raw := http.StatusOK
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/raw/") && raw != http.StatusOK {
				w.WriteHeader(raw)
				return
			}
			s.Handler().ServeHTTP(w, r)
		})
		asked := 0
		z := &ZKillboard{Client: clientOf(t, h), URL: "http://upstream"}
		body := func(_ context.Context, id int64, hash string) ([]byte, error) {
			if asked++; asked == 1 {
				return nil, errors.New("no such killmail")
			}
			return fmt.Appendf(nil, `{"killmail_id":%d}`, id), nil
		}
		collect := func(want func(int64) bool) (Day, []int64) {
			t.Helper()
			var ids []int64
			d, err := z.Day(t.Context(), first, want, func(item archive.Item) error {
				id := int64(0)
				if _, err := fmt.Sscanf(string(item.Data), `{"killmail_id":%d`, &id); err != nil {
					t.Errorf("item %s: %v", item.Name, err)
				}
				ids = append(ids, id)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return d, ids
		}
		if d, ids := collect(nil); d.Listed != perDay || d.Yielded != perDay || d.Missing != 0 || !slices.IsSorted(ids) {
			t.Errorf("all: %+v", d)
		}
		odd := func(id int64) bool { return id%2 == 1 }
		if d, ids := collect(odd); d.Yielded != perDay/2 || slices.ContainsFunc(ids, func(id int64) bool { return !odd(id) }) {
			t.Errorf("half: %+v", d)
		}
		z.Body = body
		if d, ids := collect(func(id int64) bool { return id%100 == 1 }); d.Yielded != 1 || d.Missing != 1 || len(ids) != 1 || asked != 2 {
			t.Errorf("two, by their ids: %+v", d)
		}
		raw, asked = http.StatusNotFound, 0
		if d, _ := collect(nil); d.Yielded != perDay-1 || d.Missing != 1 || d.MissingErr == nil {
			t.Errorf("without raw: %+v", d)
		}
		if d, _ := collect(func(int64) bool { return false }); d != (Day{Listed: perDay}) {
			t.Errorf("none: %+v", d)
		}
	})
}

// TestStrangeFiles: empty days are [] there; what is no such file is an error.
func TestStrangeFiles(t *testing.T) {
	body := ""
	z := &ZKillboard{URL: "http://upstream", Client: clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, body)
	}))}
	for text, want := range map[string]int{"[]": 0, " [ ] ": 0, "{}": 0, `{"20261101":5}`: 1, `{"2026-11-01":5,"2026-11-02":6}`: 2,
		`{"x":5}`: -1, `{"20261101":-5}`: -1, `{"20261101":"5"}`: -1, `{"20261101":5`: -1, "": -1, "<html>": -1} {
		body = text
		totals, err := z.Totals(t.Context())
		if (err != nil) != (want < 0) || err == nil && len(totals) != want {
			t.Errorf("totals %s: %v, %v", text, totals, err)
		}
	}
	hash := strings.Repeat("0a", 20)
	for text, want := range map[string]int{"[]": 0, `{"5":"` + hash + `"}`: 1, `{"0":"` + hash + `"}`: -1, `{"5":"x"}`: -1, `{"5":5}`: -1} {
		body = text
		hashes, err := z.Hashes(t.Context(), first)
		if (err != nil) != (want < 0) || err == nil && len(hashes) != want {
			t.Errorf("hashes %s: %v, %v", text, hashes, err)
		}
	}
}

// TestEveRef: a captured day archive, by its totals.
func TestEveRef(t *testing.T) {
	if testing.Short() {
		t.Skip("reading a whole day takes a while")
	}
	const dir = "../../../shared/data"
	if _, err := os.Stat(dir + "/killmails-2021-11-30.tar.bz2"); err != nil {
		t.Skip("the captured day archive is not here")
	}
	s, err := standin.New(standin.Config{ArchiveDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	day := time.Date(2021, 11, 30, 0, 0, 0, 0, time.UTC)
	b := &Backfill{From: day, To: day.AddDate(0, 0, 1), Archive: &EveRef{Client: clientOf(t, s.Handler()), URL: "http://everef"}}
	feed := sink(t, b)
	defer feed.Close()
	for run := range 2 {
		reports, err := b.Run(t.Context())
		if err != nil || len(reports) != 2 {
			t.Fatalf("%v, %v", reports, err)
		}
		if r := reports[0]; r.Problem != "" || r.Skipped != (run == 1) || run == 0 && r.Counts.Inserted != int64(r.Total) {
			t.Errorf("run %d: %+v", run, r)
		}
		if r := reports[1]; r.Problem == "" || r.Total != -1 {
			t.Errorf("a day that is not there: %+v", r)
		}
	}
}
