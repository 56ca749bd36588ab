package web_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"killfeed"
)

// TestScripts runs testdata/*.txt, which show the API's behaviour as a conversation. Each file has a server of its own,
// which may do everything with the token, keeps nothing that all clients have read, and removes nothing by itself.
//
//	insert SYSTEM…          puts a made-up killmail into each of the systems
//	METHOD TARGET           begins a request; $epoch stands for the log's epoch
//	  admin                 sends it with the admin token
//	  send NAME: VALUE      sends it with a header
//	  body TEXT             sends it with a body; several lines are joined
//	STATUS                  makes the request, and wants that status
//	  events ID…            wants these event ids
//	  json {…}              wants these members, whatever others there are
//	  exactly TEXT          wants this body
//	  detail TEXT           wants this text in the problem's detail
//	  header NAME: VALUE    wants this header; without a value: wants none
//	# …                     is a comment
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p := &script{server: newServer(t)}
			for i, line := range strings.Split(string(text), "\n") {
				if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
					continue
				}
				line = strings.ReplaceAll(line, "$epoch", string(p.feed.State().Epoch))
				if err := p.step(line); err != nil {
					t.Fatalf("%s:%d: %s: %v", file, i+1, line, err)
				}
			}
		})
	}
}

type script struct {
	*server
	method, target, body string
	headers              []string
	answer               *answer
}

func (p *script) step(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "insert":
		for _, field := range strings.Fields(rest) {
			id, ok := killfeed.ParseID(field)
			if !ok {
				return fmt.Errorf("%q is no system", field)
			}
			p.insert(id)
		}
		return nil
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS":
		p.method, p.target, p.body, p.headers, p.answer = word, rest, "", nil, nil
		return nil
	case "admin":
		p.headers = append(p.headers, "Authorization", "Bearer "+adminToken)
		return nil
	case "send":
		name, value, _ := strings.Cut(rest, ": ")
		p.headers = append(p.headers, name, value)
		return nil
	case "body":
		p.body += rest + "\n"
		return nil
	}
	if status, err := strconv.Atoi(word); err == nil && rest == "" {
		p.answer = p.do(p.method, p.target, p.body, p.headers...)
		if p.answer.status != status {
			return fmt.Errorf("got status %d: %s", p.answer.status, p.answer.body)
		}
		return nil
	}
	if p.answer == nil {
		return fmt.Errorf("there is no answer yet, or no such command")
	}
	return p.expect(word, rest)
}

func (p *script) expect(word, rest string) error {
	switch word {
	case "events":
		want := []killfeed.EventID{}
		for _, field := range strings.Fields(rest) {
			id, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				return err
			}
			want = append(want, killfeed.EventID(id))
		}
		if got := p.answer.poll().ids(); !slices.Equal(got, want) {
			return fmt.Errorf("got events %v", got)
		}
	case "json":
		var got, want any
		if err := json.Unmarshal([]byte(rest), &want); err != nil {
			return err
		}
		if err := json.Unmarshal(p.answer.body, &got); err != nil {
			return err
		}
		if !contains(got, want) {
			return fmt.Errorf("got %s", p.answer.body)
		}
	case "exactly":
		if string(p.answer.body) != rest {
			return fmt.Errorf("got %s", p.answer.body)
		}
	case "detail":
		if got := p.answer.problem(p.answer.status).Detail; !strings.Contains(got, rest) {
			return fmt.Errorf("got %q", got)
		}
	case "header":
		name, value, _ := strings.Cut(rest, ":")
		if got := strings.Join(p.answer.header.Values(name), " | "); got != strings.TrimSpace(value) {
			return fmt.Errorf("got %q", got)
		}
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}

// contains tells whether got has everything that want has; null wants a member to be absent.
func contains(got, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		got, ok := got.(map[string]any)
		if !ok {
			return false
		}
		for name, w := range want {
			if g, has := got[name]; has == (w == nil) || has && !contains(g, w) {
				return false
			}
		}
		return true
	case []any:
		got, ok := got.([]any)
		if !ok || len(got) != len(want) {
			return false
		}
		for i := range want {
			if !contains(got[i], want[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(got, want)
}
