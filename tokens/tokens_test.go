package tokens_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"killfeed/tokens"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func file(t *testing.T) string { return filepath.Join(t.TempDir(), tokens.FileName) }

func create(t *testing.T, path string, token tokens.Token) string {
	t.Helper()
	text, err := tokens.Create(path, token, now)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func load(t *testing.T, path string) *tokens.Set {
	t.Helper()
	s, err := tokens.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestCreate: what was created is found by its text and by no other, with all it allows, and the file has the text nowhere.
func TestCreate(t *testing.T) {
	path := file(t)
	if s := load(t, path); len(s.All()) != 0 || s.Find("", now) != nil || s.Find("x", now) != nil {
		t.Fatalf("a file that is not there has tokens: %v", s.All())
	}
	want := tokens.Token{
		Name: "fleet.bot-1_x", Scopes: tokens.Read | tokens.Publish, ClientPrefix: "fleet <é>.", Rate: 2.5, Created: now,
		Expires: now.Add(time.Hour),
	}
	text := create(t, path, want)
	other := create(t, path, tokens.Token{Name: "other", Scopes: tokens.Admin})
	if text == other || !tokens.LooksLike(text) || !tokens.LooksLike(other) {
		t.Errorf("the texts are %q and %q", text, other)
	}
	s := load(t, path)
	got := s.Find(text, now)
	if got == nil {
		t.Fatal("it is not found")
	}
	want.Sum = tokens.SumOf(text)
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Errorf("created (-), found (+):\n%s", diff)
	}
	for _, wrong := range []string{"", " ", text + " ", text[:len(text)-1], strings.ToUpper(text), "kf_"} {
		if s.Find(wrong, now) != nil {
			t.Errorf("%q is found", wrong)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(content), text) || strings.Contains(string(content), text[3:20]) {
		t.Errorf("the file tells the text: %s", content)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v; want 0600", info.Mode(), err)
	}
	if left, err := filepath.Glob(path + "?*"); err != nil || len(left) > 0 {
		t.Errorf("left beside the file: %v, %v", left, err)
	}
}

// TestExpiry: a token is good until it expires, and not from then on; its name is free then.
func TestExpiry(t *testing.T) {
	path := file(t)
	ends := now.Add(time.Hour)
	text := create(t, path, tokens.Token{Name: "a", Scopes: tokens.Read, Expires: ends})
	s := load(t, path)
	sum := tokens.SumOf(text)
	for at, good := range map[time.Time]bool{now: true, ends.Add(-time.Nanosecond): true, ends: false, ends.Add(time.Hour): false} {
		if (s.Find(text, at) != nil) != good || (s.Current(sum, at) != nil) != good {
			t.Errorf("at %v it is not %v", at, good)
		}
	}
	again := tokens.Token{Name: "a", Scopes: tokens.Publish}
	if _, err := tokens.Create(path, again, now); err == nil {
		t.Error("a name that is taken is given again")
	}
	if _, err := tokens.Rotate(path, "a", 0, ends); err == nil {
		t.Error("one that has expired is rotated")
	}
	if _, err := tokens.Create(path, again, ends); err != nil {
		t.Error(err)
	}
	if all := load(t, path).All(); len(all) != 1 || all[0].Scopes != tokens.Publish {
		t.Errorf("the file has %v", all)
	}
	if _, err := tokens.Create(path, tokens.Token{Name: "b", Scopes: tokens.Read, Expires: now}, now); err == nil {
		t.Error("one that has expired is made")
	}
}

// TestRotate: another text allows the same; the one before is good for the overlap, but no longer than the token, and only the last.
func TestRotate(t *testing.T) {
	path := file(t)
	ends := now.Add(time.Hour)
	first := create(t, path, tokens.Token{Name: "a", Scopes: tokens.Publish, ClientPrefix: "x", Rate: 3, Expires: ends})
	rotate := func(overlap time.Duration) string {
		t.Helper()
		text, err := tokens.Rotate(path, "a", overlap, now)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := func(text string, at time.Time, want bool) {
		t.Helper()
		found := load(t, path).Find(text, at)
		if (found != nil) != want {
			t.Errorf("it is good: %v, want %v", found != nil, want)
		}
		if found != nil && (found.Scopes != tokens.Publish || found.ClientPrefix != "x" || found.Rate != 3) {
			t.Errorf("it allows something else: %+v", found)
		}
	}
	second := rotate(time.Minute)
	good(first, now, true)
	good(first, now.Add(time.Minute), false)
	good(second, now.Add(time.Minute), true)
	good(second, ends, false)
	third := rotate(2 * time.Hour)
	good(first, now, false)
	good(second, ends.Add(-time.Second), true)
	good(second, ends, false) // the overlap is longer than the token
	fourth := rotate(0)
	good(third, now, false)
	good(second, now, false) // also what an overlap before had left
	good(fourth, now, true)
	if _, err := tokens.Rotate(path, "b", 0, now); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("an unknown one is rotated: %v", err)
	}
}

// TestRevoke: what is revoked is gone at once, with what a rotation left of it, and the others stay.
func TestRevoke(t *testing.T) {
	path := file(t)
	one := create(t, path, tokens.Token{Name: "one", Scopes: tokens.Read})
	two := create(t, path, tokens.Token{Name: "two", Scopes: tokens.Read})
	next, err := tokens.Rotate(path, "one", time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := tokens.Revoke(path, "one"); err != nil {
		t.Fatal(err)
	}
	s := load(t, path)
	if s.Find(one, now) != nil || s.Find(next, now) != nil || s.Find(two, now) == nil {
		t.Errorf("left are %v", s.All())
	}
	if err := tokens.Revoke(path, "one"); !errors.Is(err, tokens.ErrUnknown) {
		t.Errorf("revoked twice: %v", err)
	}
}

func TestRefused(t *testing.T) {
	path := file(t)
	for _, bad := range []tokens.Token{
		{Scopes: tokens.Read},
		{Name: "a b", Scopes: tokens.Read},
		{Name: "a/b", Scopes: tokens.Read},
		{Name: "é", Scopes: tokens.Read},
		{Name: strings.Repeat("a", 65), Scopes: tokens.Read},
		{Name: "a"},
		{Name: "a", Scopes: tokens.Read, Rate: -1},
		{Name: "a", Scopes: tokens.Read, Rate: 1e9},
		{Name: "a", Scopes: tokens.Read, ClientPrefix: "a\nb"},
		{Name: "a", Scopes: tokens.Read, ClientPrefix: " a"},
		{Name: "a", Scopes: tokens.Read, ClientPrefix: "\xff"},
		{Name: "a", Scopes: tokens.Read, ClientPrefix: strings.Repeat("a", 121)},
		{Name: "a", Scopes: tokens.Admin, ClientPrefix: "a"},
	} {
		if _, err := tokens.Create(path, bad, now); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file: %v", err)
	}
	for _, names := range [][]string{nil, {"reed"}, {"read", ""}, {"Read"}} {
		if _, err := tokens.ParseScopes(names); err == nil {
			t.Errorf("%q are scopes", names)
		}
	}
}

// TestLoadRefused: a file that is not understood to its end is no set: half of it might be one token less that was revoked, or
// one restriction less.
func TestLoadRefused(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	for name, text := range map[string]string{
		"nothing":                   ``,
		"half":                      `{"tokens":[{"name":"a"`,
		"two documents":             `{"tokens":[]}{}`,
		"an unknown member":         `{"tokens":[{"name":"a","sha256":"` + sum + `","scopes":["read"],"only_on_sundays":true}]}`,
		"an unknown scope":          `{"tokens":[{"name":"a","sha256":"` + sum + `","scopes":["read","fly"]}]}`,
		"no scope":                  `{"tokens":[{"name":"a","sha256":"` + sum + `","scopes":[]}]}`,
		"no sum":                    `{"tokens":[{"name":"a","scopes":["read"]}]}`,
		"half a sum":                `{"tokens":[{"name":"a","sha256":"abcd","scopes":["read"]}]}`,
		"the sum of no text":        `{"tokens":[{"name":"a","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","scopes":["admin"]}]}`,
		"one twice":                 `{"tokens":[{"name":"a","sha256":"` + sum + `","scopes":["read"]},{"name":"a","sha256":"` + sum + `","scopes":["read"]}]}`,
		"one before without an end": `{"tokens":[{"name":"a","sha256":"` + sum + `","scopes":["read"],"before":{"sha256":"` + sum + `"}}]}`,
		"an end in the year 1":      `{"tokens":[{"name":"a","sha256":"` + sum + `","scopes":["read"],"expires":"0001-01-01T00:00:00Z"}]}`,
		"a negative rate":           `{"tokens":[{"name":"a","sha256":"` + sum + `","scopes":["read"],"rate":-1}]}`,
	} {
		path := file(t)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := tokens.Load(path); err == nil {
			t.Errorf("%s: it is loaded as %v", name, s.All())
		}
		if _, err := tokens.Create(path, tokens.Token{Name: "new", Scopes: tokens.Read}, now); err == nil {
			t.Errorf("%s: it is written anew", name)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != text {
			t.Errorf("%s: it was changed to %s, %v", name, after, err)
		}
	}
}

// TestTwoCommands: of commands that change the file at once none undoes another: each has its way or is refused.
func TestTwoCommands(t *testing.T) {
	path := file(t)
	var (
		all  sync.WaitGroup
		mu   sync.Mutex
		made []string
	)
	for i := range 16 {
		all.Go(func() {
			text, err := tokens.Create(path, tokens.Token{Name: fmt.Sprint("t", i), Scopes: tokens.Read}, now)
			if err != nil {
				if !strings.Contains(err.Error(), "another command") {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			made = append(made, text)
			mu.Unlock()
		})
	}
	all.Wait()
	s := load(t, path)
	if len(s.All()) != len(made) || len(made) == 0 {
		t.Fatalf("%d were made, and there are %d", len(made), len(s.All()))
	}
	for _, text := range made {
		if s.Find(text, now) == nil {
			t.Error("one that was made is not there")
		}
	}
}

// TestCutOff: what a command left that was cut off is named, and is no reason to forget the tokens.
func TestCutOff(t *testing.T) {
	path := file(t)
	text := create(t, path, tokens.Token{Name: "a", Scopes: tokens.Read})
	if err := os.WriteFile(path+".new", []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tokens.Revoke(path, "a"); err == nil || !strings.Contains(err.Error(), path+".new") {
		t.Errorf("revoked beside another command: %v", err)
	}
	if load(t, path).Find(text, now) == nil {
		t.Error("the token is gone")
	}
}

// TestModel: whatever commands come in whatever order, those texts are good that a map would say.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		path := filepath.Join(dir, tokens.FileName)
		good := map[string]string{} // the text by name
		var bad []string            // texts that were good once
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		rt.Repeat(map[string]func(*rapid.T){
			"create": func(rt *rapid.T) {
				n := name.Draw(rt, "name")
				text, err := tokens.Create(path, tokens.Token{Name: n, Scopes: tokens.Read}, now)
				if _, taken := good[n]; taken != (err != nil) {
					rt.Fatalf("creating %s: %v", n, err)
				}
				if err == nil {
					good[n] = text
				}
			},
			"rotate": func(rt *rapid.T) {
				n := name.Draw(rt, "name")
				text, err := tokens.Rotate(path, n, 0, now)
				if _, there := good[n]; there != (err == nil) {
					rt.Fatalf("rotating %s: %v", n, err)
				}
				if err == nil {
					bad = append(bad, good[n])
					good[n] = text
				}
			},
			"revoke": func(rt *rapid.T) {
				n := name.Draw(rt, "name")
				err := tokens.Revoke(path, n)
				if _, there := good[n]; there != (err == nil) {
					rt.Fatalf("revoking %s: %v", n, err)
				}
				if err == nil {
					bad = append(bad, good[n])
					delete(good, n)
				}
			},
			"": func(rt *rapid.T) {
				s, err := tokens.Load(path)
				if err != nil {
					rt.Fatal(err)
				}
				for n, text := range good {
					if found := s.Find(text, now); found == nil || found.Name != n {
						rt.Fatalf("%s is found as %v", n, found)
					}
				}
				for _, text := range bad {
					if s.Find(text, now) != nil {
						rt.Fatal("one that is good no more is found")
					}
				}
			},
		})
	})
}

// FuzzLoad: no content of the file makes a token that its own check would refuse, nor a panic.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"tokens":[{"name":"a","sha256":"` + strings.Repeat("ab", 32) + `","scopes":["read"],"rate":1e3,"expires":"2026-11-25T12:00:00Z"}]}`))
	f.Add([]byte(`{"tokens":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := file(t)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := tokens.Load(path)
		if err != nil {
			return
		}
		for _, token := range s.All() {
			if token.Scopes == 0 || token.Name == "" || token.Rate < 0 || token.Sum == tokens.SumOf("") {
				t.Errorf("loaded: %+v", token)
			}
		}
		if s.Find("", now) != nil {
			t.Error("no text is a token")
		}
	})
}
