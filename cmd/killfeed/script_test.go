package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"killfeed/internal/sdesim"
)

// The scripts in testdata/script run the real main; each reads as documentation of what users see.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"killfeed": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			for _, kv := range os.Environ() { // the tester's own settings are not the script's
				if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "KILLFEED_") {
					e.Setenv(name, "")
				}
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"sdearchive": sdeArchive,
			"await":      await,
			"dashboards": dashboards,
			"killmails":  killmails,
			"natsserver": natsserver,
			"post":       post,
			"receiver":   receiver,
			"until":      until,
		},
	})
}

// await FILE [ENV] waits until another process has written the file, and puts its one line into the variable.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: await file [variable]")
	}
	path := ts.MkAbs(args[0])
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(path)
		if err != nil || !strings.HasSuffix(string(text), "\n") {
			continue
		}
		if len(args) == 2 {
			ts.Setenv(args[1], strings.TrimSpace(string(text)))
		}
		return
	}
	ts.Fatalf("%s did not appear within 30 seconds", args[0])
}

// until PATTERN COMMAND... repeats a command, or a GET of a URL, until it succeeds and what it prints matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until pattern command...")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if strings.HasPrefix(args[1], "http://") {
			res, err := http.Get(args[1])
			ts.Check(err)
			text, err := io.ReadAll(res.Body)
			ts.Check(err)
			res.Body.Close()
			if res.StatusCode == http.StatusOK && pattern.Match(text) {
				return
			}
		} else if ts.Exec(args[1], args[2:]...) == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%s: nothing like %s within 30 seconds", strings.Join(args[1:], " "), args[0])
}

// post FILE inserts killmails into the server $KILLFEED_SERVER as a live source does: what import inserts is history.
func post(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: post file")
	}
	r, err := http.NewRequest(http.MethodPost, ts.Getenv("KILLFEED_SERVER")+"/api/killmails", strings.NewReader(ts.ReadFile(args[0])))
	ts.Check(err)
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile("killfeed-data/"+tokenFileName)))
	res, err := http.DefaultClient.Do(r)
	ts.Check(err)
	defer res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		ts.Fatalf("inserting %s: %s", args[0], res.Status)
	}
}

// killmails FILE FIRST LAST writes made-up killmails in ESI's shape with these ids, one a line.
func killmails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: killmails file first last")
	}
	first, err := strconv.Atoi(args[1])
	ts.Check(err)
	last, err := strconv.Atoi(args[2])
	ts.Check(err)
	var b strings.Builder
	for id := first; id <= last; id++ {
		b.WriteString(madeUp(id))
		b.WriteByte('\n')
	}
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o777))
	ts.Check(os.WriteFile(path, []byte(b.String()), 0o666))
}

// sdearchive FILE BUILD writes an archive of made-up static data.
func sdeArchive(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sdearchive file build")
	}
	build, err := strconv.Atoi(args[1])
	ts.Check(err)
	data, err := sdesim.MadeUp(build).Archive()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o666))
}

// madeUp is a killmail that never was, in ESI's shape: odd ids in Jita, even ones in Amarr.
func madeUp(id int) string {
	system := 30002187
	if id%2 == 1 {
		system = 30000142
	}
	return strings.NewReplacer("ID", strconv.Itoa(id), "SYSTEM", strconv.Itoa(system)).Replace(
		`{"attackers":[{"character_id":900ID,"corporation_id":98000001,"damage_done":470,"final_blow":true,` +
			`"security_status":-0.3,"ship_type_id":17726,"weapon_type_id":3049}],"killmail_id":ID,` +
			`"killmail_time":"2026-11-22T18:00:00Z","solar_system_id":SYSTEM,"victim":{"character_id":910ID,` +
			`"corporation_id":98000002,"damage_taken":470,"items":[{"flag":5,"item_type_id":3244,` +
			`"quantity_destroyed":1,"singleton":0}],"position":{"x":1.5,"y":-2.25,"z":3e9},"ship_type_id":670}}`)
}
