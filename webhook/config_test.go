package webhook

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"killfeed"
	"killfeed/storetest"
)

func openFeed(t *testing.T) *killfeed.Feed {
	t.Helper()
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { feed.Close() })
	return feed
}

func TestConfig(t *testing.T) {
	const discord = "https://discord.com/api/webhooks/1/tOkEn"
	feed := openFeed(t)
	for name, c := range map[string]struct {
		change func(*Config)
		wants  string // in the error; empty: none
	}{
		"all right":            {func(*Config) {}, ""},
		"Discord by its host":  {func(c *Config) { c.URL = discord }, ""},
		"Discord, elsewhere":   {func(c *Config) { c.Format = Discord }, ""},
		"topics and filter":    {func(c *Config) { c.Topics, c.Filter = []string{"loss:alliance:99000001"}, "isk>1b" }, ""},
		"no name":              {func(c *Config) { c.Name = "" }, `webhook number 1: name ""`},
		"a path for a name":    {func(c *Config) { c.Name = "../x" }, `webhook "../x": name "../x" is not accepted`},
		"upper case":           {func(c *Config) { c.Name = "Losses" }, "a-z"},
		"no url":               {func(c *Config) { c.URL = " " }, `webhook "plain": url is missing`},
		"another scheme":       {func(c *Config) { c.URL = "ftp://tOkEn.example/" }, "http://"},
		"no host":              {func(c *Config) { c.URL = "https:///tOkEn" }, "and a host"},
		"no URL at all":        {func(c *Config) { c.URL = "http://a b/%tOkEn" }, "url is no URL"},
		"a fragment":           {func(c *Config) { c.URL = "http://a/#tOkEn" }, "fragment"},
		"another format":       {func(c *Config) { c.Format = "xml" }, `format "xml" is not accepted: want discord or json`},
		"JSON to Discord":      {func(c *Config) { c.URL, c.Format = discord, JSON }, `want format = "discord"`},
		"a secret for Discord": {func(c *Config) { c.URL, c.Secret = discord, "tOkEn" }, "secret_file is of no use"},
		"names for Discord":    {func(c *Config) { c.URL, c.Names = discord, true }, "names is of no use"},
		"too many embeds":      {func(c *Config) { c.URL, c.Batch = discord, 11 }, "batch 11"},
		"too fast for Discord": {func(c *Config) { c.URL, c.Rate = discord, 31 }, "rate 31"},
		"too large a batch":    {func(c *Config) { c.Batch = 501 }, "batch 501"},
		"too high a rate":      {func(c *Config) { c.Rate = 6001 }, "rate 6001"},
		"a negative age":       {func(c *Config) { c.MaxAge = -time.Second }, "max_age -1s"},
		"no patience":          {func(c *Config) { c.GiveUp = 0 }, "give_up 0s"},
		"an unknown topic":     {func(c *Config) { c.Topics = []string{"all", "ships"} }, `topics "ships" is not accepted`},
		"a place, unknown":     {func(c *Config) { c.Topics = []string{"region:The Forge"} }, "static data"},
		"a filter, broken":     {func(c *Config) { c.Filter = "isk>" }, `webhook "plain": filter`},
	} {
		_, err := New(feed, Options{Show: show}, []Config{plain(c.change)})
		switch {
		case c.wants == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.wants != "" && (err == nil || !strings.Contains(err.Error(), c.wants)):
			t.Errorf("%s: %v, want it to say %s", name, err, c.wants)
		case err != nil && strings.Contains(err.Error(), "tOkEn"):
			t.Errorf("%s: it shows the secret: %v", name, err)
		}
	}
	_, err := New(feed, Options{Show: show}, []Config{plain(), plain(func(c *Config) { c.Name = "X" }), plain()})
	if err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), `webhook "plain": there are two`) {
		t.Errorf("of three, two wrong: %v", err)
	}
	if _, err := New(feed, Options{}, []Config{plain()}); err == nil {
		t.Error("JSON is posted and nothing shows events")
	}
}

func someDead(from, to killfeed.EventID) (all []Dead) {
	for id := from; id <= to; id++ {
		all = append(all, Dead{EventID: id, KillmailID: int64(id) + 1000, At: time.Unix(1e9, 0).UTC(), Status: 400, Reason: "no", Answer: "<no>"})
	}
	return all
}

func TestDeadList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "webhooks", "x.dead.jsonl")
	open := func() *deadList {
		t.Helper()
		d, err := openDead(path)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	is := func(d *deadList, want []Dead) {
		t.Helper()
		if diff := cmp.Diff(want, d.list()); diff != "" {
			t.Errorf("the list (+) is not what is wanted (-):\n%s", diff)
		}
	}
	d := open()
	is(d, []Dead{})
	if err := d.add(someDead(1, 5)); err != nil {
		t.Fatal(err)
	}
	if err := d.remove(2); err != nil {
		t.Fatal(err)
	}
	if err := d.remove(77); err != nil {
		t.Fatal(err)
	}
	want := append(someDead(1, 1), someDead(3, 5)...)
	is(d, want)
	d = open()
	is(d, want)

	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"event_id":6,"reas`) // as a crash leaves it
	f.Close()
	d = open()
	is(d, want)
	if err := d.add(someDead(7, 7)); err != nil {
		t.Fatal(err)
	}
	want = append(want, someDead(7, 7)...)
	is(open(), want)

	if err := d.add(someDead(8, 8)); err != nil {
		t.Fatal(err)
	}
	again := someDead(8, 8)
	again[0].Reason = "still not"
	if err := d.add(again); err != nil {
		t.Fatal(err)
	}
	is(open(), append(want, again...))

	for range 3 {
		for from := killfeed.EventID(1); from <= 2*maxDead; from += 100 {
			if err := d.add(someDead(from, from+99)); err != nil {
				t.Fatal(err)
			}
		}
	}
	is(d, someDead(maxDead+1, 2*maxDead))
	is(open(), someDead(maxDead+1, 2*maxDead))
	if _, dropped := d.count(); dropped < maxDead {
		t.Errorf("%d dropped, want at least %d", dropped, maxDead)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Count(string(text), "\n") > 2*maxDead+100 {
		t.Errorf("the file has %d lines, %v", strings.Count(string(text), "\n"), err)
	}
}

// A list that cannot be written has nothing added, so that the event is tried again.
func TestDeadListOnABrokenDisk(t *testing.T) {
	dir := t.TempDir()
	d, err := openDead(filepath.Join(dir, "x.dead.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	d.path = filepath.Join(dir, "gone", "x.dead.jsonl")
	if err := d.add(someDead(1, 1)); err == nil || len(d.list()) != 0 {
		t.Errorf("%v, and %d events", err, len(d.list()))
	}
}
