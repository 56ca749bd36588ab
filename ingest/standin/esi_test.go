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

func TestESI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: []standin.Mail{mail1()}, Pace: standin.Pace{Hold: true}})
		good := "/killmails/134435757/" + hash1
		for _, path := range []string{good, good + "/", "/latest" + good + "/", "/v1" + good + "/"} {
			r := s.wantBody(compact1(), path) // though it is not published
			if r.header.Get("Content-Type") != "application/json" || r.header.Get("Etag") == "" {
				t.Errorf("header %v", r.header)
			}
			s.want(http.StatusNotModified, path, "If-None-Match", r.header.Get("Etag"))
		}
		tests := []struct {
			status int
			path   string
		}{
			{404, "/killmails/134435758/" + hash1 + "/"},
			{422, "/killmails/134435757/" + "f" + hash1[1:] + "/"},
			{422, "/killmails/134435757/" + hash1[1:] + "/"},
			{422, "/killmails/134435757/x/"},
			{400, "/killmails/x/" + hash1 + "/"},
			{404, "/v2" + good}, {404, "/killmails/134435757"}, {404, good + "/x"}, {404, "/latest/history/totals.json"},
		}
		for _, test := range tests {
			r := s.want(test.status, test.path)
			if test.status != 404 || test.path == tests[0].path {
				var e struct{ Error string }
				if decode(t, r.body, &e); e.Error == "" {
					t.Errorf("%s: body %s", test.path, r.body)
				}
			}
		}
	})
}

func TestESICompatibilityDate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(30 * 366 * 24 * time.Hour)
		now := time.Now()
		s := open(t, standin.Config{Mails: []standin.Mail{mail1()}})
		path := "/killmails/134435757/" + hash1
		day := func(d time.Duration) string { return now.Add(d).Format(time.DateOnly) }
		for date, want := range map[string]int{
			"": 200, "2025-12-16": 200, day(-11 * time.Hour): 200, day(13 * time.Hour): 400, "2025-12-1": 400, "today": 400,
		} {
			if r := s.get(path, "X-Compatibility-Date", date); r.status != want {
				t.Errorf("date %q: status %d, want %d: %s", date, r.status, want, r.body)
			} else if got := r.header.Get("X-Compatibility-Date"); want == 200 && date != "" && got != date {
				t.Errorf("date %q is answered with %q", date, got)
			}
		}
		s.want(http.StatusBadRequest, path+"?compatibility_date=x")
		s.want(http.StatusOK, path+"?compatibility_date=2025-12-16")
		if n := s.Stats().ESI.NoCompatibilityDate; n != 1 {
			t.Errorf("%d requests without a date are counted, want 1", n)
		}
	})
}

func TestESITokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{
			Mails: []standin.Mail{mail1()}, ESI: standin.ESIConfig{Tokens: 10, Window: 15 * time.Minute},
		})
		good := "/killmails/134435757/" + hash1 + "/"
		check := func(r response, status, used, remaining int, retry string) {
			t.Helper()
			want := []string{strconv.Itoa(status), "killmail", "10/15m", strconv.Itoa(used), strconv.Itoa(remaining), retry}
			got := []string{strconv.Itoa(r.status)}
			for _, name := range []string{"Group", "Limit", "Used", "Remaining"} {
				got = append(got, r.header.Get("X-Ratelimit-"+name))
			}
			got = append(got, r.header.Get("Retry-After"))
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("got %q, want %q", got, want)
			}
			if r.header.Get("X-Esi-Error-Limit-Remain") != "" {
				t.Fatal("both kinds of limits have headers")
			}
		}
		check(s.get(good), 200, 2, 8, "") // at 0 s
		time.Sleep(time.Minute)
		check(s.get(good, "If-None-Match", s.get(good).header.Get("Etag")), 304, 1, 5, "") // 2 and 1 at 60 s
		s.set(standin.ServerError, standin.Strike{Next: 1})
		if r := s.get(good); r.status < 500 || r.header.Get("X-Ratelimit-Used") != "0" {
			t.Fatalf("5xx: %+v", r)
		}
		s.set(standin.TooMany, standin.Strike{Next: 1})
		check(s.get(good), 429, 0, 5, "")
		time.Sleep(time.Second)
		check(s.get("/killmails/1/"+hash1), 404, 5, 0, "") // 5 at 61 s
		check(s.get(good), 429, 0, 0, "839")               // would have cost 2; the next token comes at 900 s
		time.Sleep(838*time.Second + 500*time.Millisecond)
		check(s.get(good), 429, 0, 0, "1") // again 2
		time.Sleep(500 * time.Millisecond)
		check(s.get("/killmails/1/"+hash1), 404, 5, 0, "") // 3 more than there are
		want := standin.ESIStats{Spent: 2 + 2 + 1 + 5 + 5, MostUsed: 13, Overspent: 2 + 2 + 3, Refused: 2, NoCompatibilityDate: 9}
		if got := s.Stats().ESI; got != want {
			t.Errorf("accounts\n got %+v\nwant %+v", got, want)
		}
		s.ResetStats()
		if got := s.Stats().ESI; got != (standin.ESIStats{MostUsed: 13}) {
			t.Errorf("accounts after a reset: %+v", got)
		}
		time.Sleep(15 * time.Minute)
		check(s.get(good), 200, 2, 8, "")
	})
}

func TestESIErrorLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{
			Mails: []standin.Mail{mail1()}, ESI: standin.ESIConfig{Limit: standin.LimitErrors, Errors: 3},
		})
		good, bad := "/killmails/134435757/"+hash1+"/", "/killmails/134435757/f"+hash1[1:]+"/"
		check := func(path string, status int, remain, reset string) {
			t.Helper()
			r := s.want(status, path)
			h := r.header
			if h.Get("X-Esi-Error-Limit-Remain") != remain || h.Get("X-Esi-Error-Limit-Reset") != reset {
				t.Fatalf("header %v, want %s and %s", h, remain, reset)
			}
			if h.Get("X-Ratelimit-Remaining") != "" {
				t.Fatal("both kinds of limits have headers")
			}
		}
		time.Sleep(15500 * time.Millisecond)
		check(good, 200, "3", "45")
		check(bad, 422, "2", "45")
		s.set(standin.ServerError, standin.Strike{Next: 1, Status: 504})
		check(good, 504, "1", "45")
		check(bad, 422, "0", "45")
		check(good, 420, "0", "45")
		time.Sleep(44 * time.Second)
		check("/latest"+good, 420, "0", "1")
		time.Sleep(500 * time.Millisecond)
		check(good, 200, "3", "60")
		st := s.Stats()
		if st.ESI.Refused != 2 || st.ESI.Errors != 3 || st.Requests[standin.KindESI][420] != 2 {
			t.Errorf("accounts %+v, requests %v", st.ESI, st.Requests)
		}
		if st.After429.Count != 2 || st.After429.Least != 500*time.Millisecond {
			t.Errorf("after 420: %+v", st.After429)
		}
	})
}

func TestESIWithoutLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{ESI: standin.ESIConfig{Limit: standin.LimitNone}})
		r := s.want(http.StatusNotFound, "/killmails/1/"+hash1)
		if r.header.Get("X-Ratelimit-Limit") != "" || r.header.Get("X-Esi-Error-Limit-Remain") != "" {
			t.Errorf("header %v", r.header)
		}
	})
}
