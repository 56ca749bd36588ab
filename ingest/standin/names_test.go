package standin_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/standin"
)

// ask asks for names.
func (s *site) ask(body string) (status int, text string) {
	s.t.Helper()
	q, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://standin/universe/names/", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	q.Header.Set("User-Agent", agent)
	res, err := s.client.Do(q)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Named: func(id uint32) (standin.Named, bool) {
			n, ok := standin.MadeUp(id)
			return n, ok && id != 90_000_002
		}})
		const one = `[{"category":"inventory_type","id":587,"name":"inventory_type 587"}]`
		for _, test := range []struct {
			body, want string
			status     int
		}{
			{`[587]`, one, 200}, {` [ 587 ] `, one, 200},
			{`[587,90000002]`, "", 404}, {`[587,700000]`, "", 404}, {`[0]`, "", 404},
			{`[587,587]`, "", 400}, {`[]`, "", 400}, {`{}`, "", 400}, {`[-1]`, "", 400}, {`["587"]`, "", 400}, {``, "", 400},
			{`[1` + strings.Repeat(",1", 1000) + `]`, "", 400},
		} {
			status, text := s.ask(test.body)
			if status != test.status || status == 200 && text != test.want {
				t.Errorf("%.40s: %d %s", test.body, status, text)
			}
		}
		s.want(http.StatusMethodNotAllowed, "/universe/names/")
		s.wantBody(`{"name":"alliance 99000001","ticker":"A1"}`, "/alliances/99000001/")
		s.wantBody(`{"name":"alliance 99000001","ticker":"A1"}`, "/latest/alliances/99000001")
		for _, path := range []string{"/alliances/98000001/", "/corporations/90000001/", "/universe/systems/1/", "/universe/constellations/30000142/"} {
			s.want(http.StatusNotFound, path)
		}
		s.want(http.StatusBadRequest, "/corporations/x/")
		s.set(standin.WrongNames, standin.Strike{Next: 1})
		if status, text := s.ask(`[587]`); status != 200 || strings.Contains(text, "587") {
			t.Errorf("wrong names: %d %s", status, text)
		}
		st := s.Stats()
		if got := st.ESI; got.NamesAsked != 8 || got.NamesTold != 3 || got.NamesAgain != 2 {
			t.Errorf("%+v", got)
		}
		if n := st.Requests[standin.KindNames]; n[200] != 3 || n[404] != 3 || n[400] != 7 || n[405] != 1 {
			t.Errorf("requests %v", n)
		}
	})
}

// Each kind of ESI's requests has a bucket of its own, and a Retry-After of its own.
func TestNamesHaveTheirBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: []standin.Mail{mail1()}, ESI: standin.ESIConfig{Tokens: 4, Window: 15 * time.Minute}})
		for i, want := range []int{200, 200, 429} {
			if status, text := s.ask(`[587]`); status != want {
				t.Errorf("request %d: %d %s", i, status, text)
			}
		}
		if r := s.want(http.StatusOK, "/alliances/99000001/"); r.header.Get("X-Ratelimit-Group") != "details" || r.header.Get("X-Ratelimit-Remaining") != "2" {
			t.Errorf("header %v", r.header)
		}
		s.want(http.StatusOK, "/killmails/134435757/"+hash1)
		if n := s.Stats().BeforeRetryAfter; n != 0 {
			t.Errorf("%d requests too early, want none: the others have buckets of their own", n)
		}
		s.ask(`[587]`)
		if n := s.Stats().BeforeRetryAfter; n != 1 {
			t.Errorf("%d requests too early, want 1", n)
		}
	})
}
