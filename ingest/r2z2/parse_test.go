package r2z2

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"killfeed/storetest"
)

func TestPointer(t *testing.T) {
	for text, want := range map[string]int64{
		`{"sequence": 96976850}`: 96976850, `{"sequence_id":5}`: 5, "7": 7, " 7\n": 7, `{"sequence":0}`: 0,
		`{}`: -1, `null`: -1, `-1`: -1, `"5"`: -1, `{"sequence":"5"}`: -1, `[5]`: -1, ``: -1, `{"sequence":5`: -1, `1e30`: -1,
		`9223372036854775807`: -1,
	} {
		got, err := parsePointer([]byte(text))
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("pointer %s: %d, %v", text, got, err)
		}
	}
}

// fileOf is a file of R2Z2 with a made-up killmail.
func fileOf(number int64) (string, int64) {
	mail := storetest.NewMaker(storetest.MakerOptions{Seed: 1, Attackers: 1}).NextMail()
	hash := mail.Hash()
	mail.NoHash, mail.ZKB, mail.Labels = true, false, nil
	return fmt.Sprintf(`{"killmail_id":%d,"hash":"%s","esi":%s,"zkb":{"hash":"%s","labels":["pvp"]},"uploaded_at":1771700000,`+
		`"sequence_id":%d,"sequence_updated":%d}`, mail.ID, hash, mail.AppendJSON(nil), hash, number, number-9), mail.ID
}

func TestFile(t *testing.T) {
	body, id := fileOf(50)
	f, err := parseFile(50, []byte(body))
	if err != nil || f.number != 50 || f.updated != 41 || f.killmail.ID != id || f.killmail.Hash == "" || f.uploaded.Unix() != 1771700000 {
		t.Fatalf("%+v, %v", f, err)
	}
	for i := 1; i < len(body); i += 7 {
		if _, err := parseFile(50, []byte(body[:i])); err == nil {
			t.Errorf("cut at %d it is accepted", i)
		}
	}
	for _, c := range [][2]string{
		{`"sequence_id":50`, `"sequence_id":51`},
		{fmt.Sprintf(`{"killmail_id":%d`, id), `{"killmail_id":4`},
		{fmt.Sprintf(`{"killmail_id":%d,`, id), `{`},
		{`"hash":"`, `"hash":"0`},
		{f.killmail.Hash, "0000000000000000000000000000000000000000"},
	} {
		other := strings.Replace(body, c[0], c[1], 1)
		if other == body {
			t.Fatalf("%s is not there", c[0])
		}
		if _, err := parseFile(50, []byte(other)); err == nil {
			t.Errorf("with %s it is accepted", c[1])
		}
	}
}

func FuzzFile(f *testing.F) {
	body, _ := fileOf(50)
	f.Add([]byte(body))
	f.Add([]byte(`{"sequence_id":50,"killmail_id":1,"hash":"x","esi":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if file, err := parseFile(50, data); err == nil && (file.killmail.ID < 1 || file.killmail.Hash == "" || file.number != 50) {
			t.Errorf("%+v", file)
		}
		_, _ = parsePointer(data)
		if p, err := parsePlace(string(data)); err == nil {
			if again, err := parsePlace(p.text()); err != nil || again.text() != p.text() {
				t.Errorf("place %s does not survive: %v", p.text(), err)
			}
		}
	})
}

// TestPlaceIsBounded: however much goes wrong, the place stays far below what a checkpoint may have.
func TestPlaceIsBounded(t *testing.T) {
	now := time.Now()
	p := place{URL: "https://r2z2.zkillboard.com", Next: 1 << 60, Began: now.AddDate(-3, 0, 0).Unix()}
	for i := range int64(10_000) {
		p.open(1<<59+i, now)
		p.announce(1<<58 + i)
	}
	if left := p.owe(now.AddDate(-2, 0, 0), now); left == 0 || len(p.Owed) != maxOwed {
		t.Errorf("%d days are left out, %d kept", left, len(p.Owed))
	}
	if n := len(p.text()); n > 32<<10 {
		t.Errorf("%d bytes", n)
	}
	if n := len(p.Holes); n != maxHoles || p.Holes[0].Number != 1<<59+10_000-maxHoles {
		t.Errorf("%d holes from %d", n, p.Holes[0].Number)
	}
}

func TestOweNothingFromBefore(t *testing.T) {
	began := time.Date(2026, 11, 20, 15, 0, 0, 0, time.UTC)
	p := place{Began: began.Unix()}
	p.owe(began.AddDate(0, 0, -3), began.AddDate(0, 0, 1))
	if fmt.Sprint(p.Owed) != "[20261120 20261121]" {
		t.Errorf("owed %v", p.Owed)
	}
}
