package web

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	"killfeed"
)

const (
	// maxFields bounds the paths of one projection, and maxFieldDepth the members of one path.
	maxFields     = 64
	maxFieldDepth = 8
)

const wantFields = "members of the killmail, separated by commas, as in killmail_id,zkb.hash,attackers.character_id"

// fields are the members of a killmail that are shown. The others are left out; what stays keeps its place and its text.
type fields struct {
	// text is the same for all that show the same.
	text string
	root field
}

// field is a member that paths lead to.
type field struct {
	whole   bool              // it is shown as it is
	members map[string]*field // else these of its own, or of each of its elements
}

// parseFields reads a list of paths. The error is an *InvalidError.
func parseFields(text string) (*fields, error) {
	f := &fields{}
	n := 0
	for path := range strings.SplitSeq(text, ",") {
		path = strings.TrimSpace(path)
		names := strings.Split(path, ".")
		switch n++; {
		case n > maxFields:
			return nil, killfeed.Invalid("fields", text, "at most "+strconv.Itoa(maxFields)+" members")
		case len(names) > maxFieldDepth:
			return nil, killfeed.Invalid("fields", path, "at most "+strconv.Itoa(maxFieldDepth)+" names, one in the other, in a path")
		case slices.Contains(names, "") || strings.ContainsFunc(path, unicode.IsControl):
			return nil, killfeed.Invalid("fields", path, wantFields)
		}
		at := &f.root
		for _, name := range names {
			next := at.members[name]
			if next == nil {
				next = &field{}
				if at.members == nil {
					at.members = map[string]*field{}
				}
				at.members[strings.Clone(name)] = next // text may be part of a request
			}
			at = next
		}
		at.whole = true
	}
	f.text = strings.Join(f.root.paths(nil, ""), ",")
	return f, nil
}

// paths appends the paths to all that is shown whole, in the order of their names.
func (f *field) paths(all []string, before string) []string {
	names := make([]string, 0, len(f.members))
	for name := range f.members {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if m := f.members[name]; m.whole {
			all = append(all, before+name)
		} else {
			all = m.paths(all, before+name+".")
		}
	}
	return all
}

// appendTo appends what is shown of a killmail, which is an object without insignificant white space.
func (f *fields) appendTo(b, killmail []byte) []byte {
	b, _ = f.root.project(b, killmail, 0)
	return b
}

// project appends what is shown of the object or array that begins at text[i], and returns where that ends.
func (f *field) project(b, text []byte, i int) ([]byte, int) {
	if text[i] == '[' {
		return f.projectArray(b, text, i)
	}
	b = append(b, '{')
	begin := len(b)
	for i++; text[i] != '}'; {
		if text[i] == ',' {
			i++
		}
		name := i
		value := stringEnd(text, name) + 1
		member := f.member(text[name : value-1])
		switch {
		case member == nil, !member.whole && text[value] != '{' && text[value] != '[':
			i = valueEnd(text, value)
			continue
		case len(b) > begin:
			b = append(b, ',')
		}
		if member.whole {
			i = valueEnd(text, value)
			b = append(b, text[name:i]...)
			continue
		}
		b, i = member.project(append(b, text[name:value]...), text, value)
	}
	return append(b, '}'), i + 1
}

// projectArray appends what is shown of each element; those that have no members are left out.
func (f *field) projectArray(b, text []byte, i int) ([]byte, int) {
	b = append(b, '[')
	begin := len(b)
	for i++; text[i] != ']'; {
		if text[i] == ',' {
			i++
		}
		if text[i] != '{' && text[i] != '[' {
			i = valueEnd(text, i)
			continue
		}
		if len(b) > begin {
			b = append(b, ',')
		}
		b, i = f.project(b, text, i)
	}
	return append(b, ']'), i + 1
}

// member is the one that has the name, which comes in quotes; nil: it is not shown.
func (f *field) member(quoted []byte) *field {
	name := quoted[1 : len(quoted)-1]
	if m := f.members[string(name)]; m != nil || !slices.Contains(name, '\\') {
		return m
	}
	return f.members[unquote(quoted)]
}
