package standin_test

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/standin"
)

func TestHistory(t *testing.T) {
	// Two days, one without any, and the last one, into the day on which the bubble's clock begins.
	mails := madeUp(30, time.Date(1999, 12, 28, 20, 0, 0, 0, time.UTC), 10*time.Minute) // 24 and 6
	mails = append(mails, standinAt(mails, time.Date(1999, 12, 31, 23, 0, 0, 0, time.UTC), 20)...)
	hour := time.Hour
	day := func(d string, n int) string { return `"` + d + `":` + strconv.Itoa(n) }
	a, b, c, d := day("19991228", 24), day("19991229", 6), day("19991231", 12), day("20000101", 8)
	tests := []struct {
		mode  standin.HistoryMode
		after time.Duration
		want  string
	}{
		{standin.HistoryAtOnce, 0, a + "," + b},
		{standin.HistoryAtOnce, 5*hour + 59*time.Minute, a + "," + b},
		{standin.HistoryAtOnce, 6 * hour, a + "," + b + "," + c},
		{standin.HistoryAtOnce, 30 * hour, a + "," + b + "," + c + "," + d},
		{standin.HistoryDaily, 0, ""},
		{standin.HistoryDaily, 6 * hour, a + "," + b + "," + c},
		{standin.HistoryDaily, 29 * hour, a + "," + b + "," + c},
		{standin.HistoryDaily, 30 * hour, a + "," + b + "," + c + "," + d},
		{standin.HistoryToday, 0, a + "," + b + "," + c + "," + d},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.mode, test.after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, standin.Config{Mails: mails, History: test.mode})
				time.Sleep(test.after)
				if test.want == "" {
					s.wantBody("[]", "/history/totals.json")
					s.want(http.StatusNotFound, "/history/19991228.json")
					return
				}
				totals := map[string]int{}
				decode(t, s.wantBody("{"+test.want+"}", "/history/totals.json").body, &totals)
				for _, name := range []string{"19991228", "19991229", "19991230", "19991231", "20000101", "20000102", "19991227"} {
					s.checkDay(name, totals)
				}
			})
		})
	}
}

// What comes late for a day long over is written with the next daily run: that of six o'clock, not of midnight.
func TestHistoryDaily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{
			Mails: madeUp(2, epoch.Add(-72*time.Hour), time.Second), History: standin.HistoryDaily, Pace: standin.Pace{Hold: true},
		})
		s.mustPublish()
		time.Sleep(3 * time.Hour)
		s.mustPublish()
		time.Sleep(3*time.Hour - 1)
		s.wantBody("[]", "/history/totals.json")
		time.Sleep(time.Nanosecond)
		s.wantBody(`{"19991229":2}`, "/history/totals.json")
	})
}

// standinAt are n further killmails, every 5 minutes from a time on, with ids of their own.
func standinAt(before []standin.Mail, start time.Time, n int) []standin.Mail {
	all := madeUp(len(before)+n, start.Add(-time.Duration(len(before))*5*time.Minute), 5*time.Minute)
	return all[len(before):]
}

// checkDay compares both files of a day with totals.json and with each other.
func (s *site) checkDay(name string, totals map[string]int) {
	s.t.Helper()
	hashes, raw := s.get("/history/"+name+".json"), s.get("/history/raw/"+name+".json")
	n, known := totals[name]
	if !known {
		between := name > "19991228" && totals["19991231"] > 0 && name < "19991231"
		if between && (hashes.body != "[]" || raw.body != "[]") || !between && (hashes.status != 404 || raw.status != 404) {
			s.t.Errorf("day %s, not in totals: %d %q, %d %q", name, hashes.status, hashes.body, raw.status, raw.body)
		}
		return
	}
	if got := hashes.header.Get("Cache-Control"); got != "public, max-age=31536000" {
		s.t.Errorf("Cache-Control %q", got)
	}
	ids, bodies := objectOf(s.t, hashes.body), objectOf(s.t, raw.body)
	if len(ids) != n || len(bodies) != n {
		s.t.Fatalf("day %s: %d hashes, %d bodies, %d in totals", name, len(ids), len(bodies), n)
	}
	for i := range ids {
		var b struct {
			KillmailID int64 `json:"killmail_id"`
			Time       time.Time
		}
		decode(s.t, string(bodies[i].value), &b)
		if ids[i].name != bodies[i].name || strconv.FormatInt(b.KillmailID, 10) != ids[i].name {
			s.t.Errorf("day %s: %s, %s and %d are one killmail", name, ids[i].name, bodies[i].name, b.KillmailID)
		}
		if i > 0 && ids[i].name <= ids[i-1].name { // all have eight digits
			s.t.Errorf("day %s: %s comes after %s", name, ids[i].name, ids[i-1].name)
		}
		var hash string
		decode(s.t, string(ids[i].value), &hash)
		if s.get("/killmails/"+ids[i].name+"/"+hash+"/").body != string(bodies[i].value) {
			s.t.Errorf("day %s: ESI does not give the raw body for the hash of %s", name, ids[i].name)
		}
	}
}
