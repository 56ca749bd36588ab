package web

import (
	"bytes"
	"net/http"

	"killfeed"
)

const (
	// maxItems bounds the items of one insert, and so its results: 64 MiB could hold millions of empty ones.
	maxItems = 10_000
	// maxItem bounds one of them.
	maxItem = 8 << 20
)

// splitItems takes the body of an insert apart, by brackets and quotes alone: whether an item is good JSON is found out item
// by item, so that a bad one costs only itself.
//
// A body that begins with [ is one array, and refused as a whole when its end is missing: half of it must not be taken for
// all of it. Anything else is objects, one behind the other, with white space inside and between them as they please; or,
// when it does not come out even that way, lines, each an item, whatever is wrong with some of them.
func splitItems(body []byte) ([][]byte, error) {
	body = bytes.Trim(body, jsonSpace)
	if len(body) == 0 {
		return nil, killfeed.Invalid("body", "", "a killmail, a JSON array of killmails, or one killmail a line")
	}
	var items [][]byte
	if body[0] == '[' {
		var even bool
		if items, even = splitArray(body); !even {
			return nil, badBody("a whole JSON array of killmails, and its brackets do not match; nothing of it was taken")
		}
	} else if objects, even := splitObjects(body); even {
		items = objects
	} else {
		items = splitLines(body)
	}
	if len(items) > maxItems {
		return nil, refuse(http.StatusRequestEntityTooLarge, "there are too many killmails in one request: want at most %d", maxItems)
	}
	return items, nil
}

// The splitters stop soon behind maxItems.

func splitArray(body []byte) (items [][]byte, even bool) {
	i := pastSpace(body, 1)
	if i < len(body) && body[i] == ']' {
		return nil, i+1 == len(body)
	}
	for len(items) <= maxItems {
		end := valueEnd(body, i)
		if end <= i {
			return nil, false
		}
		items = append(items, body[i:end])
		if i = pastSpace(body, end); i == len(body) {
			return nil, false
		}
		switch body[i] {
		case ',':
			i = pastSpace(body, i+1)
		case ']':
			return items, i+1 == len(body)
		default:
			return nil, false
		}
	}
	return items, true
}

func splitObjects(body []byte) (items [][]byte, even bool) {
	for i := 0; i < len(body) && len(items) <= maxItems; {
		if body[i] != '{' {
			return nil, false
		}
		end := valueEnd(body, i)
		if end < 0 {
			return nil, false
		}
		items = append(items, body[i:end])
		i = pastSpace(body, end)
	}
	return items, true
}

func splitLines(body []byte) (items [][]byte) {
	for line := range bytes.Lines(body) {
		if line = bytes.Trim(line, jsonSpace); len(line) > 0 {
			items = append(items, line)
		}
		if len(items) > maxItems {
			break
		}
	}
	return items
}
