package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	neturl "net/url"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"killfeed"
	"killfeed/ingest/demo"
	"killfeed/ingest/upstream"
	"killfeed/sde"
	"killfeed/supervise"
)

func (a *app) sdeCmd() *cobra.Command {
	return group(&cobra.Command{
		Use:   "sde",
		Short: "Install the game's static data: names, regions, groups",
		Long: `Static data tells which region a solar system is in, which group a ship belongs to, and what all of them are called. CCP
publishes it with every build of the game. With it installed, topics and filters can be about constellations, regions,
kinds of space and groups, names can be used instead of ids, and --names puts names into what is printed.

It is kept in <data>/static, about 1 MB. A server may run meanwhile: it takes up a new build within 30 seconds, or at once
on SIGHUP.`,
	}, a.sdeUpdateCmd(), a.sdeShowCmd(), a.sdeStatusCmd())
}

func (a *app) sdeUpdateCmd() *cobra.Command {
	var (
		from, url string
		asJSON    bool
	)
	c := &cobra.Command{
		Use:   "update",
		Short: "Download the latest static data and install it",
		Long: `Ask CCP for the latest build of static data, and download (about 100 MB) and install it, unless it is installed already.
What there is stays in use until the new one is whole; an archive that is broken changes nothing. When it is interrupted,
the next one goes on where it was. As with other upstreams, it needs to say who asks: --contact.

With --from it installs what is in an archive that is there already (eve-online-static-data-<build>-jsonl.zip), also an
older one, and asks nobody.`,
		Example: `  killfeed sde update --contact you@example.com
  killfeed sde update --data /var/lib/killfeed --from eve-online-static-data-3569502-jsonl.zip`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&from, "from", "", "install from this archive, a `file` in CCP's JSON Lines format")
	f.StringVar(&url, "url", sde.DefaultURL, "base `URL` of the archives, where it is a mirror")
	f.BoolVar(&asJSON, "json", false, "end standard output with one JSON object of what is installed")
	return a.command(c, []string{"contact", "data"}, func(ctx context.Context, _ []string) error {
		return a.sdeUpdate(ctx, from, strings.TrimSuffix(url, "/"), asJSON)
	})
}

// stallTime is how long a download may bring nothing before it is begun anew where it was.
const stallTime = 30 * time.Second

func (a *app) sdeUpdate(ctx context.Context, from, url string, asJSON bool) error {
	show := a.sdeProgress()
	o := sde.Options{Dir: a.settings.data, URL: url, Progress: show.update, Failed: show.failed}
	var (
		result sde.Result
		err    error
	)
	if from != "" {
		result, err = sde.Import(ctx, o, from)
	} else {
		if a.settings.contact == "" {
			return usageError{hint(errors.New("contact is missing: the upstream wants to know whom to write to"),
				"give --contact you@example.com, or a URL; or get %s/eve-online-static-data-latest-jsonl.zip by other means, and give it with --from",
				strings.TrimSuffix(sde.DefaultURL, "/tranquility"))}
		}
		if u, err := neturl.Parse(url); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return usagef("url %q is not accepted: want a URL as %s", url, sde.DefaultURL)
		}
		if o.Client, err = a.upstream(nil, upstream.Config{Timeout: stallTime}); err != nil {
			return err
		}
		defer o.Client.Close()
		result, err = sde.Update(ctx, o)
	}
	show.end()
	switch {
	case ctx.Err() != nil && err != nil:
		if from == "" {
			return hint(errInterrupted, "repeat the command to go on: what was downloaded is kept")
		}
		return errInterrupted
	case errors.Is(err, killfeed.ErrLocked):
		return hint(err, "another update of it is under way; wait until it is done")
	case err != nil:
		return err
	}
	text := "installed " + sdeText(result.Info)
	if !result.Changed {
		text = "nothing to do: the latest static data is installed, " + sdeText(result.Info)
	}
	if !asJSON {
		_, err = fmt.Fprintln(a.stdout, text)
		return err
	}
	fmt.Fprintln(a.stderr, text)
	return writeJSON(a.stdout, result)
}

// sdeText is what is installed, in a line.
func sdeText(i sde.Info) string {
	build := "a build that it does not tell"
	if i.Build > 0 {
		build = "build " + strconv.Itoa(i.Build)
	}
	if i.Released != nil {
		build += " of " + i.Released.Format(time.DateOnly)
	}
	return fmt.Sprintf("%s: %d solar systems, %d types in %d groups, %d factions and %d corporations of NPCs; %s in %s",
		build, i.Systems, i.Types, i.Groups, i.Factions, i.Corporations, megabytes(i.Bytes), i.File)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// sdeShow shows how an update goes: a bar on a terminal, else a line now and then. One goroutine uses it.
type sdeShow struct {
	out      io.Writer
	terminal bool
	bar      *progressbar.ProgressBar // of the stage; nil before the first
	stage    sde.Stage
	begun    time.Time // when the stage began, and how far it was then
	offset   int64
	last     time.Time
}

func (a *app) sdeProgress() *sdeShow {
	return &sdeShow{out: a.stderr, terminal: isTerminal(a.stderr)}
}

func (s *sdeShow) update(p sde.Progress) {
	if p.Stage != s.stage {
		s.end()
		s.stage, s.begun, s.offset, s.last = p.Stage, time.Now(), p.Done, time.Now()
		if s.terminal {
			total := p.Total
			if total == 0 {
				total = -1 // not known
			}
			s.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(s.out), progressbar.OptionSetDescription(string(p.Stage)),
				progressbar.OptionShowBytes(true), progressbar.OptionThrottle(barEvery), progressbar.OptionSetPredictTime(true),
				progressbar.OptionSetSpinnerChangeInterval(0), progressbar.OptionClearOnFinish())
		}
	}
	switch {
	case s.bar != nil && p.Total == 0: // nothing can be a part of nothing
		s.bar.Describe(s.line(p))
	case s.bar != nil:
		_ = s.bar.Set64(p.Done)
	case time.Since(s.last) >= plainEvery:
		s.last = time.Now()
		fmt.Fprintln(s.out, s.line(p))
	}
}

// line is the progress in words.
func (s *sdeShow) line(p sde.Progress) string {
	took, came := time.Since(s.begun), p.Done-s.offset
	if p.Total == 0 || came <= 0 {
		return fmt.Sprintf("%s: %s", p.Stage, megabytes(p.Done))
	}
	left := time.Duration(float64(took) * float64(p.Total-p.Done) / float64(came))
	return fmt.Sprintf("%s: %d%%, %s of %s, %s left", p.Stage, p.Done*100/p.Total, megabytes(p.Done), megabytes(p.Total), left.Round(time.Second))
}

// failed tells of a try that failed.
func (s *sdeShow) failed(err error, wait time.Duration) {
	if s.bar != nil {
		_ = s.bar.Clear()
	}
	fmt.Fprintf(s.out, "%v; trying again in %s\n", err, wait.Round(time.Second))
}

func (s *sdeShow) end() {
	if s.bar != nil {
		_ = s.bar.Clear()
		s.bar = nil
	}
}

func (a *app) sdeStatusCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "status",
		Short:   "Tell what static data is installed",
		Long:    "Tell what static data is installed in the data directory. It asks nobody. Without any, the exit code is 1.",
		Example: "  killfeed sde status --json | jq .build",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return a.command(c, []string{"data"}, func(context.Context, []string) error {
		partial, interrupted := sde.Interrupted(a.settings.data)
		if interrupted && !asJSON {
			fmt.Fprintf(a.stderr, "a download of build %d was interrupted after %s; killfeed sde update goes on with it\n",
				partial.Build, megabytes(partial.Bytes))
		}
		_, info, err := sde.Load(a.settings.data)
		if err != nil {
			return sdeHint(err)
		}
		if !asJSON {
			_, err := fmt.Fprintf(a.stdout, "%s, installed %s\n", sdeText(info), info.Installed.Format(time.RFC3339))
			return err
		}
		status := struct {
			sde.Info
			Partial *sde.Partial `json:"interrupted,omitempty"`
		}{Info: info}
		if interrupted {
			status.Partial = &partial
		}
		return writeJSON(a.stdout, status)
	})
}

// sdeHint says how to get static data when there is none.
func sdeHint(err error) error {
	if errors.Is(err, sde.ErrNone) {
		return hint(err, "killfeed sde update gets it")
	}
	return err
}

func (a *app) sdeShowCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show NAME|ID...",
		Short: "Tell what has a name or an id",
		Long: `Tell which solar systems, constellations, regions, types, groups, and factions and corporations of NPCs have a name or an
id, in upper or lower case. For a name that nothing has, it says which are near, and the exit code is 1.`,
		Example: `  killfeed sde show Jita 587 "the forge"
  killfeed sde show --json Rifter | jq .id`,
		Args: cobra.MinimumNArgs(1),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return a.command(c, []string{"data"}, func(_ context.Context, args []string) error {
		u, _, err := sde.Load(a.settings.data)
		if err != nil {
			return sdeHint(err)
		}
		var missing []error
		for _, arg := range args {
			found := lookUp(u, arg)
			if len(found) == 0 {
				missing = append(missing, fmt.Errorf("nothing is called %q or has it as its id%s", arg, nearNames(u, arg)))
			}
			for _, e := range found {
				if asJSON {
					err = writeJSON(a.stdout, e)
				} else {
					_, err = fmt.Fprintln(a.stdout, e.text())
				}
				if err != nil {
					return err
				}
			}
		}
		return errors.Join(missing...)
	})
}

// named is a name or id of something, in JSON.
type named struct {
	ID   uint32 `json:"id"`
	Name string `json:"name"`
}

// entity is what static data knows of something.
type entity struct {
	// Kind is as in topics, but for types, which are not all ships.
	Kind string `json:"kind"`
	named
	Ticker        string      `json:"ticker,omitempty"`
	Security      json.Number `json:"security,omitempty"`
	Space         string      `json:"space,omitempty"`
	Constellation *named      `json:"constellation,omitempty"`
	Region        *named      `json:"region,omitempty"`
	Group         *named      `json:"group,omitempty"`
	Category      uint32      `json:"category_id,omitempty"`
	Systems       int         `json:"systems,omitempty"`
	Types         int         `json:"types,omitempty"`
}

// text is an entity in a line.
func (e *entity) text() string {
	line := fmt.Sprintf("%s %d: %s", e.Kind, e.ID, e.Name)
	add := func(format string, args ...any) { line += fmt.Sprintf(", "+format, args...) }
	if e.Ticker != "" {
		line += " [" + e.Ticker + "]"
	}
	if e.Space != "" {
		add("security %s (%s)", e.Security, e.Space)
	}
	for _, in := range []struct {
		what  string
		named *named
	}{{"constellation", e.Constellation}, {"region", e.Region}, {"group", e.Group}} {
		if in.named != nil {
			add("%s %s (%d)", in.what, in.named.Name, in.named.ID)
		}
	}
	if e.Systems > 0 {
		add("%s", counted(e.Systems, "solar system"))
	}
	if e.Types > 0 {
		add("%s", counted(e.Types, "type"))
	}
	return line
}

// watchStaticData gives the feed the static data that is installed, and each that is installed later. A demo that has none plays
// with its own.
func (a *app) watchStaticData(feed *killfeed.Feed, tree *supervise.Tree, log *slog.Logger) (*sde.Watch, error) {
	w := sde.NewWatch(a.settings.data, feed.SetUniverse, log)
	if !w.Look() && a.settings.demo {
		u, err := demo.Universe()
		if err != nil {
			return nil, err
		}
		feed.SetUniverse(u)
	}
	tree.Add("static data", w.Run)
	return w, nil
}

func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// shownKinds are the kinds of what can be looked up, in the order in which they are shown.
func shownKinds() []killfeed.TopicKind {
	return []killfeed.TopicKind{
		killfeed.KindSystem, killfeed.KindConstellation, killfeed.KindRegion, killfeed.KindShip, killfeed.KindGroup, killfeed.KindFaction,
		killfeed.KindCorporation,
	}
}

// lookUp finds what has a name or id.
func lookUp(u *killfeed.Universe, text string) (found []*entity) {
	for _, kind := range shownKinds() {
		id, err := u.Find("name", kind, text)
		if err != nil {
			continue
		}
		if e := describe(u, kind, id); e != nil {
			found = append(found, e)
		}
	}
	return found
}

// describe tells of one thing; nil: there is none with the id.
func describe(u *killfeed.Universe, kind killfeed.TopicKind, id uint32) *entity {
	constellation := func(id uint32) *named {
		if c, ok := u.Constellation(id); ok {
			return &named{c.ID, c.Name}
		}
		return nil
	}
	region := func(id uint32) *named {
		if r, ok := u.Region(id); ok {
			return &named{r.ID, r.Name}
		}
		return nil
	}
	switch kind {
	case killfeed.KindSystem:
		if s, ok := u.System(id); ok {
			return &entity{Kind: "system", named: named{s.ID, s.Name}, Security: json.Number(strconv.FormatFloat(s.ShownSecurity(), 'f', 1, 64)),
				Space: s.Space().String(), Constellation: constellation(s.Constellation), Region: region(s.Region)}
		}
	case killfeed.KindConstellation:
		if c, ok := u.Constellation(id); ok {
			return &entity{Kind: "constellation", named: named{c.ID, c.Name}, Region: region(c.Region),
				Systems: len(u.Systems(killfeed.Topic{Kind: kind, ID: id}))}
		}
	case killfeed.KindRegion:
		if r, ok := u.Region(id); ok {
			return &entity{Kind: "region", named: named{r.ID, r.Name}, Systems: len(u.Systems(killfeed.Topic{Kind: kind, ID: id}))}
		}
	case killfeed.KindShip:
		if t, ok := u.Type(id); ok {
			of := &entity{Kind: "type", named: named{t.ID, t.Name}}
			if g, ok := u.Group(t.Group); ok {
				of.Group, of.Category = &named{g.ID, g.Name}, g.Category
			}
			return of
		}
	case killfeed.KindGroup:
		if g, ok := u.Group(id); ok {
			return &entity{Kind: "group", named: named{g.ID, g.Name}, Category: g.Category, Types: len(u.Types(id))}
		}
	case killfeed.KindFaction:
		if f, ok := u.Faction(id); ok {
			return &entity{Kind: "faction", named: named{f.ID, f.Name}}
		}
	case killfeed.KindCorporation:
		if c, ok := u.Corporation(id); ok {
			return &entity{Kind: "corporation", named: named{c.ID, c.Name}, Ticker: c.Ticker}
		}
	}
	return nil
}

// nearNames asks whether something like it was meant.
func nearNames(u *killfeed.Universe, text string) string {
	var names []string
	for _, m := range u.Near(text, 3, shownKinds()...) {
		names = append(names, fmt.Sprintf("%s (%d)", m.Name, m.ID))
	}
	if len(names) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(names, ", ") + "?"
}
