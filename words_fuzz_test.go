package killfeed

import "testing"

// FuzzWords: what is taken for a topic, a cursor or a start is written in one way, which means the same.
func FuzzWords(f *testing.F) {
	for _, s := range []string{
		"system:30000142", "all", "label:loc:highsec", "kill:character:1", "ship:587", "17-0123abcd", "18446744073709551615-0123abcd", "17",
		"earliest", "latest", "2026-11-24T00:00:00Z", "9999999999999999999999", "-1", "", "label:\xff", "system:030000142", "1e3", "\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if topic, err := ParseTopic(s); err == nil {
			if again, err := ParseTopic(topic.String()); err != nil || again != topic {
				t.Errorf("%q is the topic %v, which is read as %v, %v", s, topic, again, err)
			}
		}
		if cursor, err := ParseCursor(s); err == nil {
			if again, err := ParseCursor(cursor.String()); err != nil || again != cursor {
				t.Errorf("%q is the cursor %v, which is read as %v, %v", s, cursor, again, err)
			}
		}
		if start, err := ParseStart("start", s); err == nil {
			if again, err := ParseStart("start", start.String()); err != nil || again.String() != start.String() {
				t.Errorf("%q is the start %v, which is read as %v, %v", s, start, again, err)
			}
		}
	})
}
