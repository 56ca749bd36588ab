package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/template"
	"time"
	"unicode"
)

// eventTemplate prints events by a template of the user's.
type eventTemplate struct {
	t *template.Template
	// clean: control characters in the events' texts are replaced, for they could be commands to the terminal.
	clean bool
}

func parseTemplate(text string, clean bool) (*eventTemplate, error) {
	t, err := template.New("--template").Funcs(template.FuncMap{
		"json": templateJSON, "time": templateTime, "number": templateNumber,
	}).Parse(text)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "template: "))
	}
	return &eventTemplate{t, clean}, nil
}

func (e *eventTemplate) format(event []byte) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(event))
	d.UseNumber()
	var fields map[string]any
	if err := d.Decode(&fields); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := e.t.Execute(&b, e.tidy(fields)); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "template: "))
	}
	return b.Bytes(), nil
}

// tidy makes decoded JSON fit for templates: whole numbers become int64, which print and compare as people expect; other
// numbers keep their text; a null is as if it were not there, because a template may ask for a member of what is missing, and
// not of null.
func (e *eventTemplate) tidy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if member == nil {
				delete(v, name)
			} else {
				v[name] = e.tidy(member)
			}
		}
	case []any:
		for i := range v {
			v[i] = e.tidy(v[i])
		}
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n
		}
	case string:
		if e.clean {
			return strings.Map(func(r rune) rune {
				if unicode.IsControl(r) {
					return unicode.ReplacementChar
				}
				return r
			}, v)
		}
	}
	return v
}

// templateJSON is the value as JSON. Members of objects are in the order of their names.
func templateJSON(v any) (string, error) {
	var b strings.Builder
	err := writeJSON(&b, v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// templateTime writes a time of the event in UTC by a layout of Go's, as in {{.received_at | time "15:04:05"}}. What is
// missing is empty.
func templateTime(layout string, v any) (string, error) {
	if v == nil {
		return "", nil
	}
	text, _ := v.(string)
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return "", fmt.Errorf("%v is no time: want one as in 2026-11-23T18:00:00Z", v)
	}
	return t.UTC().Format(layout), nil
}

// templateNumber is for comparing: {{if gt (number .killmail.zkb.totalValue) 1e9}}. What is missing counts as 0.
func templateNumber(v any) (float64, error) {
	switch v := v.(type) {
	case nil:
		return 0, nil
	case int64:
		return float64(v), nil
	case json.Number:
		return v.Float64()
	}
	return 0, fmt.Errorf("%v is no number", v)
}
