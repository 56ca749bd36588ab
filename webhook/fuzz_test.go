package webhook

import "testing"

// FuzzReadKillmail: a killmail may be any object, and what is read of it is never worse than nothing.
func FuzzReadKillmail(f *testing.F) {
	for _, s := range []string{
		`{"killmail_id":1,"victim":{"character_id":2},"attackers":[{"final_blow":true}],"zkb":{"totalValue":1e308}}`,
		`{"victim":[],"attackers":{},"zkb":"x"}`, `{"attackers":[null,1,{"character_id":"x"}]}`, `{`, ``, `null`, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		k := readKillmail(text)
		if blow := k.finalBlow(); blow != nil && len(k.Attackers) == 0 {
			t.Error("a final blow of nobody")
		}
	})
}
