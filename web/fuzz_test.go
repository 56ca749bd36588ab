package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"killfeed"
)

// FuzzQuery holds the query reader to net/url: where both accept, they find the same values; and what net/url refuses is
// refused, but for semicolons.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"", "&&", "=", "a", "a=", "=b", "a=b&a=c", "systems[]=1&systems%5B%5D=2", "a=%zz", "a=%", "a=%4", "a=+b%2B", "a;b=c",
		"client_id=%ff", "a=b=c", "%C3%A9=é", "a=%00", "systems=1,2&topics=all", "\xff=1", "topics%5B%5D=%61", "systems%5b%5d=1", "systems%5B%5D%5B%5D=1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got := url.Values{}
		err := eachPair(raw, func(name, value string) error {
			if !utf8.ValidString(name) || !utf8.ValidString(value) {
				t.Errorf("%q: %q=%q is not UTF-8", raw, name, value)
			}
			got[name] = append(got[name], value)
			return nil
		})
		want, wantErr := url.ParseQuery(raw)
		var bad *killfeed.InvalidError
		switch {
		case err != nil && !errors.As(err, &bad):
			t.Errorf("%q: %v is no InvalidError", raw, err)
		case err == nil && wantErr != nil && !strings.Contains(raw, ";"):
			t.Errorf("%q is accepted, net/url says %v", raw, wantErr)
		case err != nil && wantErr == nil && validValues(want):
			t.Errorf("%q is refused (%v), net/url accepts it", raw, err)
		case err == nil && wantErr == nil && fmt.Sprint(got) != fmt.Sprint(want):
			t.Errorf("%q: got %v, net/url has %v", raw, got, want)
		}
	})
}

func validValues(v url.Values) bool {
	for name, values := range v {
		if !utf8.ValidString(name) || slices.ContainsFunc(values, func(s string) bool { return !utf8.ValidString(s) }) {
			return false
		}
	}
	return true
}

// FuzzRead: whatever the query and the body of a read say, it is a read within the limits or a refusal that can be shown.
func FuzzRead(f *testing.F) {
	for _, seed := range [][2]string{
		{"client_id=a&systems=1,2&limit=5", ""}, {"", `{"client_id":"a","systems":[1,"2"],"topics":["all"]}`},
		{"client_id=a", `{"systems":[1],"wait":2.5,"start":"latest","unknown":{"a":[1,{"b":"]}"}]}}`},
		{"", `{"client_id":"\ud800","systems":["\u0031"]}`}, {"", `{"a":"\\","systems":[]}`}, {"", "\uFEFF{}"}, {"", `[1]`},
		{"after=1-00000000&topics=label:solo&filter=isk%3E1b;(npc%3D0,solo%3D1)", `{"max_age":"15m","names":true}`},
		{"after=0&topics=kill:ship:Rifter&fields=a.b,c", `{"filter":"label=\"a,b\"","fields":"a..b"}`}, {"", `{ "client_id" : "a" , "systems" : [ 1 , 2 ] } `},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, query, body string) {
		for _, form := range []form{formPoll, formNext} {
			r := httptest.NewRequest("POST", "/api/killfeed", strings.NewReader(body))
			r.URL.RawQuery = query
			x := &exchange{w: httptest.NewRecorder(), r: r}
			read, _, err := x.readRequest(form)
			if err != nil {
				p := problemOf(err)
				text, marshalErr := marshal(p)
				if p.Status != 400 || p.Detail == "" || marshalErr != nil || !json.Valid(text) || len(text) > 4096 {
					t.Errorf("%q, %q: refused with %d %s (%v)", query, body, p.Status, text, marshalErr)
				}
				continue
			}
			if n := len(read.Topics); n == 0 || read.Limit > maxLimit || read.Wait < 0 || read.Wait > maxWait || read.MaxAge < 0 {
				t.Errorf("%q, %q: read %+v", query, body, read)
			}
			if x.params.given[paramClient] && killfeed.CheckClientName(x.client()) != nil {
				t.Errorf("%q, %q: client %q", query, body, x.client())
			}
		}
	})
}

// FuzzJSON holds the walker to encoding/json: the members of an object and the elements of an array are the same.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1}`, `{"a":{"b":[1,"}"]},"c":"\"","d":null}`, ` { "a" : [ ] , "b" : -1.5e3 } `, `{"\u0061":"\\"}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if object([]byte(text)) != nil {
			return
		}
		got := map[string]any{}
		if err := eachMember([]byte(text), func(name string, value []byte) error {
			var v any
			if err := json.Unmarshal(value, &v); err != nil {
				return fmt.Errorf("member %q: %q: %w", name, value, err)
			}
			if value[0] == '[' {
				elements := []any{}
				if err := eachElement(value, func(element []byte) error {
					var e any
					err := json.Unmarshal(element, &e)
					elements = append(elements, e)
					return err
				}); err != nil {
					return err
				}
				if fmt.Sprint(elements) != fmt.Sprint(v) {
					return fmt.Errorf("elements of %s: %v", value, elements)
				}
			}
			if s, ok := scalar(value); ok && value[0] == '"' && s != v {
				return fmt.Errorf("%s is read as %q", value, s)
			}
			got[name] = v
			return nil
		}); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var want map[string]any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	})
}

// FuzzSplitItems: a body that is good JSON is split as encoding/json would; any other one into parts of itself, in order,
// with nothing but separators left out.
func FuzzSplitItems(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[{},{}]`, "{}\n{}", "{\n}\n{\n}", `[{"a":"]"},1,null]`, "{\"a\":1\n{\"b\":2}", "x\n\ny", "[", "[]", "[,]", "[{}]]", "{}}\n{}",
		`{"a":"` + "\n" + `"}`, " \r\n\t", `[{"a":1} {"b":2}]`, "\"\n\"", `[1`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		body := []byte(text)
		items, err := splitItems(body)
		var array []json.RawMessage
		if json.Unmarshal(body, &array) == nil && array != nil && len(array) <= maxItems {
			if err != nil || len(items) != len(array) {
				t.Fatalf("%q: %d items (%v), want %d", text, len(items), err, len(array))
			}
			for i := range array {
				if !bytes.Equal(items[i], array[i]) {
					t.Fatalf("%q: item %d is %q, want %q", text, i, items[i], array[i])
				}
			}
			return
		}
		if err != nil {
			if len(items) != 0 {
				t.Errorf("%q: refused, but has items", text)
			}
			return
		}
		if strings.HasPrefix(strings.Trim(text, jsonSpace), "{") && json.Valid(body) && len(items) != 1 {
			t.Errorf("%q is one object, and was split into %d", text, len(items))
		}
		rest := body
		for _, item := range items {
			at := bytes.Index(rest, item)
			if len(item) == 0 || at < 0 || strings.Trim(string(rest[:at]), jsonSpace+"[],") != "" {
				t.Fatalf("%q: item %q left out %q before it", text, item, rest)
			}
			rest = rest[at+len(item):]
		}
		if strings.Trim(string(rest), jsonSpace+"[],") != "" {
			t.Errorf("%q: %q was left out", text, rest)
		}
	})
}
