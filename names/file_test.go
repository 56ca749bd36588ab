package names

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"killfeed"
)

// fill makes a file with n records and returns its path.
func fill(t *testing.T, n int) (dir, path string) {
	t.Helper()
	dir = t.TempDir()
	b, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	all := map[uint32]Entry{}
	for _, id := range span(90_000_000, n) {
		all[id] = Entry{Category: Character, Name: "somebody with a name of some length"}
	}
	b.Learn(all)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, fileName)
}

// A file that is damaged anywhere is set aside with a warning, or reads as it was: names are never wrong, and the process lives.
func TestDamage(t *testing.T) {
	const n = 3000
	dir, path := fill(t, n)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string]func(data []byte) []byte{
		"empty but there":  func([]byte) []byte { return []byte("\n") },
		"text":             func([]byte) []byte { return []byte(strings.Repeat("this is no file of names\n", 4000)) },
		"zeros":            func(data []byte) []byte { return make([]byte, len(data)) },
		"the head is gone": func(data []byte) []byte { return append(make([]byte, 8192), data[8192:]...) },
		"the end is gone":  func(data []byte) []byte { return data[:len(data)/2] },
		"only heads":       func(data []byte) []byte { return data[:8192] },
		"a part is overwritten": func(data []byte) []byte {
			return append(append(bytes.Clone(data[:16384]), bytes.Repeat([]byte{0xa5}, 8192)...), data[24576:]...)
		},
	}
	for at := 8192 + 5; at < len(whole); at += len(whole) / 40 {
		damage["bits at "+string(rune('0'+at%10))+strings.Repeat("+", at*40/len(whole))] = func(data []byte) []byte {
			data = bytes.Clone(data)
			for i := at; i < min(at+64, len(data)); i++ {
				data[i] ^= 0x41
			}
			return data
		}
	}
	aside := 0
	for name, spoil := range damage {
		t.Run(name, func(t *testing.T) {
			os.Remove(path + ".damaged")
			if err := os.WriteFile(path, spoil(whole), 0o600); err != nil {
				t.Fatal(err)
			}
			var log logged
			b, err := Open(dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path + ".damaged"); err == nil {
				aside++
				if log.count("damaged and set aside") != 1 || b.Status().Known != 0 {
					t.Errorf("log %s, status %+v", log.text.String(), b.Status())
				}
			} else if s := b.Status(); s.Known != n {
				t.Errorf("not set aside: %+v", s)
			}
			for _, id := range span(90_000_000, n) {
				if e, state := b.Get(id); state == Known && e.Name != "somebody with a name of some length" {
					t.Fatalf("%d is %+v", id, e)
				}
			}
			b.Learn(map[uint32]Entry{7: {Category: Type, Name: "new"}})
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if b, err = Open(dir, Options{}); err != nil {
				t.Fatal(err)
			}
			if e, state := b.Get(7); state != Known || e.Name != "new" {
				t.Errorf("what was learned then is %+v (%d)", e, state)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
	if aside < 10 {
		t.Errorf("only %d of %d were set aside", aside, len(damage))
	}
}

// A file that goes bad while it is open is given up, and the process lives.
func TestDamageWhileOpen(t *testing.T) {
	dir, path := fill(t, 3000)
	var log logged
	b, err := Open(dir, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 8192); err != nil {
		t.Fatal(err)
	}
	for _, id := range span(90_000_000, 3000) {
		if e, state := b.Get(id); state == Known && e.Name != "somebody with a name of some length" {
			t.Fatalf("%d is %+v", id, e)
		}
	}
	if s := b.Status(); s.File == "" || log.count("cannot be read") != 1 {
		t.Errorf("%+v, log %s", s, log.text.String())
	}
	b.Learn(map[uint32]Entry{7: {Category: Type, Name: "new"}})
	if e, state := b.Get(7); state != Known || e.Name != "new" {
		t.Errorf("%+v (%d)", e, state)
	}
	b.Close() // whether that works is not promised
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, fileName), 0o700); err != nil {
		t.Fatal(err)
	}
	if b, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "opening the names") {
		t.Errorf("%v, %v", b, err)
	}
}

// TestMain lets TestTwoProcesses have another one.
func TestMain(m *testing.M) {
	if dir := os.Getenv("NAMES_TEST_DIR"); dir != "" {
		_, err := Open(dir, Options{})
		if errors.Is(err, killfeed.ErrLocked) && strings.Contains(err.Error(), fileName) {
			os.Exit(42)
		}
		println("opening:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestTwoProcesses(t *testing.T) {
	dir, _ := fill(t, 1)
	b, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "NAMES_TEST_DIR="+dir)
	out, err := cmd.CombinedOutput()
	if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 42 {
		t.Errorf("the second process: %v, %s", err, out)
	}
}

func TestFileIsBounded(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(dir, Options{Entries: 50, Cache: 10})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(40) {
		all := map[uint32]Entry{}
		for _, id := range span(90_000_000+i*10, 10) {
			all[id] = Entry{Category: Character, Name: "x"}
		}
		b.Learn(all)
		b.save()
		if n := b.Status().Known; n != int64(min(50, (i+1)*10)) {
			t.Fatalf("%d known after %d", n, (i+1)*10)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err = Open(dir, Options{}); err != nil || b.Status().Known != 50 {
		t.Errorf("%v, %+v", err, b.Status())
	}
	b.Close()
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := record{
			Entry: Entry{
				Category: Category(rapid.IntRange(0, int(Region)).Draw(t, "category")), Name: rapid.String().Draw(t, "name"),
				Ticker: rapid.String().Draw(t, "ticker"), Constellation: rapid.Uint32().Draw(t, "constellation"),
				Region: rapid.Uint32().Draw(t, "region"), Security: rapid.Float64().Draw(t, "security"),
			},
			fetched: rapid.Int64().Draw(t, "fetched"), detailed: rapid.Int64().Draw(t, "detailed"),
		}
		id := rapid.Uint32().Draw(t, "id")
		data := r.encode([]byte("before"), id)[len("before"):]
		got, err := decode(id, data)
		if diff := cmp.Diff(r, got, cmp.AllowUnexported(record{})); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
		at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
		data[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
		if _, err := decode(id, data); err == nil {
			t.Fatal("damage is not noticed")
		}
		data[at] ^= 1
		if _, err := decode(id+1, data); err == nil {
			t.Fatal("the record of another id is taken")
		}
	})
}

// The checksum is made right, so that what is behind it is tried.
func FuzzDecode(f *testing.F) {
	r := record{Entry: Entry{Category: System, Name: "Jita", Constellation: 20_000_020, Security: 0.9459}, fetched: math.MaxInt32, detailed: 7}
	whole := r.encode(nil, 30_000_142)
	f.Add(whole[:len(whole)-4])
	f.Add([]byte{})
	f.Add([]byte{1, 0, 0, 200, 1, 'x'})
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := checksum(7, body)
		data := append(bytes.Clone(body), byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
		got, err := decode(7, data)
		if err != nil {
			return
		}
		if again, err := decode(7, got.encode(nil, 7)); err != nil || again.Name != got.Name || again.Category != got.Category {
			t.Errorf("%x became %+v, and that %+v, %v", body, got, again, err)
		}
	})
}
