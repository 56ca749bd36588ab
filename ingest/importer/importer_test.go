package importer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"killfeed"
	"killfeed/ingest/archive"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mail is a made-up killmail in ESI's shape. Its size varies, so that the chunks do too.
func mail(id int) []byte {
	return fmt.Appendf(nil, `{"attackers":[{"character_id":%d,"damage_done":470,"final_blow":true,"ship_type_id":17726}],`+
		`"killmail_id":%d,"killmail_time":"2026-11-22T18:%02d:00Z","solar_system_id":30000142,"victim":{"character_id":%d,`+
		`"corporation_id":98000001,"damage_taken":470,"items":[%s],"ship_type_id":670}}`,
		90000000+id, id, id%60, 91000000+id, strings.TrimSuffix(strings.Repeat(`{"flag":5,"item_type_id":3244},`, id%31*3), ","))
}

// mails is a source of killmails 1 to n; the ids in bad are no JSON.
func mails(n int, bad ...int) func(context.Context, func(archive.Item) error) error {
	return func(ctx context.Context, yield func(archive.Item) error) error {
		for id := 1; id <= n; id++ {
			item := archive.Item{Name: fmt.Sprint("m", id), Data: mail(id)}
			if slices.Contains(bad, id) {
				item.Data = []byte("{broken")
			}
			if err := yield(item); err != nil {
				return err
			}
		}
		return nil
	}
}

// log is a sink that keeps what it is given, once.
type log struct {
	ids   []int64
	seen  map[int64]bool
	sizes []int
}

func (l *log) insert(_ context.Context, killmails []*killfeed.Killmail) ([]Outcome, error) {
	if l.seen == nil {
		l.seen = map[int64]bool{}
	}
	l.sizes = append(l.sizes, len(killmails))
	outcomes := make([]Outcome, len(killmails))
	for i, k := range killmails {
		if outcomes[i].Duplicate = l.seen[k.ID]; !l.seen[k.ID] {
			l.ids = append(l.ids, k.ID)
		}
		l.seen[k.ID] = true
		if k.Hash == "" {
			outcomes[i].Err = errors.New("has no hash")
		}
	}
	return outcomes, nil
}

func TestOrderCountsAndRepeating(t *testing.T) {
	const n = 5000
	var l log
	var refused []string
	m := Import{Source: mails(n, 7, 700, 4999), Insert: l.insert, Bad: func(name string, err error) {
		refused = append(refused, name)
	}}
	if err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Counts{Read: n, Inserted: n - 3, Bad: 3}, m.Counts()); diff != "" {
		t.Error("counts (-want +got):\n", diff)
	}
	if diff := cmp.Diff([]string{"m7", "m700", "m4999"}, refused); diff != "" {
		t.Error("bad items (-want +got):\n", diff)
	}
	if !slices.IsSorted(l.ids) || len(l.ids) != n-3 {
		t.Errorf("%d killmails arrived, sorted: %v", len(l.ids), slices.IsSorted(l.ids))
	}
	for _, size := range l.sizes {
		if size > batchSize {
			t.Errorf("a batch of %d, the limit is %d", size, batchSize)
		}
	}

	again := Import{Source: mails(n), Insert: l.insert}
	if err := again.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Counts{Read: n, Inserted: 3, Duplicates: n - 3}, again.Counts()); diff != "" {
		t.Error("counts of the repetition (-want +got):\n", diff)
	}
}

func TestWhatCannotBeImported(t *testing.T) {
	broken := errors.New("broken member")
	failed := errors.New("the file ends early")
	source := func(_ context.Context, yield func(archive.Item) error) error {
		for _, item := range []archive.Item{
			{Name: "member", Err: broken},
			{Name: "number", Data: []byte("17")},
			{Name: "history", Data: []byte(`{"killmail_id":17,"hash":"0123456789012345678901234567890123456789"}`)},
			{Name: "wrong hash", Data: slices.Concat(mail(1)[:len(mail(1))-1],
				[]byte(`,"killmail_hash":"0123456789012345678901234567890123456789"}`))},
			{Name: "no time, so no hash", Data: []byte(`{"system_id":30000142,"killmail":{"killmail_id":5}}`)},
			{Name: "good", Data: mail(3)},
		} {
			if err := yield(item); err != nil {
				return err
			}
		}
		return failed
	}
	var l log
	bad := map[string]string{}
	m := Import{Source: source, Insert: l.insert, Bad: func(name string, err error) { bad[name] = err.Error() }}
	if err := m.Run(t.Context()); !errors.Is(err, failed) {
		t.Errorf("Run: %v, want the source's error", err)
	}
	if diff := cmp.Diff(Counts{Read: 6, Inserted: 1, Bad: 5}, m.Counts()); diff != "" {
		t.Error("counts (-want +got):\n", diff)
	}
	for name, part := range map[string]string{
		"member": "broken member", "number": "object", "history": "ESI", "wrong hash": "hash", "no time, so no hash": "has no hash",
	} {
		if !strings.Contains(bad[name], part) {
			t.Errorf("%s: told %q, want something with %q", name, bad[name], part)
		}
	}
}

func TestUpdatesAreDuplicates(t *testing.T) {
	m := Import{Source: mails(2), Insert: func(context.Context, []*killfeed.Killmail) ([]Outcome, error) {
		return []Outcome{{Update: true}, {}}, nil
	}}
	if err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Counts{Read: 2, Inserted: 1, Duplicates: 1, Updates: 1}, m.Counts()); diff != "" {
		t.Error("counts (-want +got):\n", diff)
	}
}

func TestSinkFails(t *testing.T) {
	full := errors.New("disk full")
	calls := 0
	m := Import{Source: mails(1 << 30), Insert: func(_ context.Context, ks []*killfeed.Killmail) ([]Outcome, error) {
		if calls++; calls == 3 {
			return nil, full
		}
		return make([]Outcome, len(ks)), nil
	}}
	if err := m.Run(t.Context()); !errors.Is(err, full) {
		t.Errorf("Run: %v, want the sink's error", err)
	}
	if calls != 3 {
		t.Errorf("%d calls of the sink, want 3", calls)
	}
}

// An interrupt lets the batch on its way end, counts it, and starts no other.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("interrupted")
	calls, inserted := 0, 0
	m := Import{Source: mails(1 << 30), Insert: func(ctx context.Context, ks []*killfeed.Killmail) ([]Outcome, error) {
		if calls++; calls == 2 {
			cancel(reason)
			if ctx.Err() != nil {
				t.Error("the batch on its way was cancelled")
			}
		}
		inserted += len(ks)
		return make([]Outcome, len(ks)), nil
	}}
	if err := m.Run(ctx); !errors.Is(err, reason) {
		t.Errorf("Run: %v, want %v", err, reason)
	}
	if c := m.Counts(); calls != 2 || c.Inserted != int64(inserted) || c.Read < c.Inserted {
		t.Errorf("%d calls, %d inserted, counts %+v", calls, inserted, c)
	}
}

// BenchmarkImport is the importer alone, without archive and log.
func BenchmarkImport(b *testing.B) {
	b.ReportAllocs()
	m := Import{Source: mails(b.N), Insert: func(_ context.Context, ks []*killfeed.Killmail) ([]Outcome, error) {
		return make([]Outcome, len(ks)), nil
	}}
	if err := m.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// TestRealDay reads a whole archive as published, when it is there.
func TestRealDay(t *testing.T) {
	const day = "../../../shared/data/killmails-2021-11-30.tar.bz2"
	if _, err := os.Stat(day); err != nil {
		t.Skip("no real day at hand: ", err)
	}
	r, err := archive.New(t.Context(), []string{day}, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var l log
	m := Import{Source: r.Read, Insert: l.insert, Bad: func(name string, err error) { t.Error(name, err) }}
	if err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Counts{Read: 11721, Inserted: 11721}, m.Counts()); diff != "" {
		t.Error("counts (-want +got):\n", diff)
	}
}
