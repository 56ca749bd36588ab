package web

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"

	"killfeed"
)

const (
	// maxBody bounds the body of everything but an insert.
	maxBody = 1 << 20
	// bodyTime is how long such a body may take, and insertTime that of an insert: 64 MiB over a slow line.
	bodyTime   = 30 * time.Second
	insertTime = 5 * time.Minute
)

// body reads the request's body, unpacks it, and bounds both to limit. The result is only good until x.buf is used.
func (x *exchange) body(limit int64, within time.Duration) ([]byte, error) {
	if x.r.ContentLength > limit {
		return nil, &http.MaxBytesError{Limit: limit} // without having it sent
	}
	// The server has no ReadTimeout, because that would end long polls. Errors mean a connection without deadlines, as in
	// tests.
	control := http.NewResponseController(x.w)
	if control.SetReadDeadline(time.Now().Add(within)) == nil {
		defer control.SetReadDeadline(time.Time{})
	}
	var from io.Reader = http.MaxBytesReader(x.w, x.r.Body, limit)
	switch encoding := x.r.Header.Get("Content-Encoding"); strings.ToLower(encoding) {
	case "", "identity":
	case "gzip", "x-gzip":
		unpacked, err := gzip.NewReader(from)
		if err != nil {
			return nil, bodyError(err, within)
		}
		defer unpacked.Close()
		from = http.MaxBytesReader(nil, unpacked, limit) // a small body can unpack to a thousand times its size
	default:
		x.w.Header().Set("Accept-Encoding", "gzip, identity")
		return nil, &problem{Status: http.StatusUnsupportedMediaType, Parameter: "Content-Encoding", Value: shorten(encoding),
			Accepted: "gzip or identity", Detail: "the body's Content-Encoding is not known here: want gzip, or none"}
	}
	b := bytes.NewBuffer(x.buf[:0])
	_, err := b.ReadFrom(from)
	x.buf = b.Bytes()
	if err != nil {
		return nil, bodyError(err, within)
	}
	return bytes.TrimPrefix(x.buf, []byte("\uFEFF")), nil // some shells of Windows put a byte order mark before what they send
}

func bodyError(err error, within time.Duration) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(http.StatusRequestTimeout, "the body did not arrive within %s", within)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return refuse(http.StatusBadRequest, "the body is not what its Content-Encoding gzip says: %s", err)
	}
	return refuse(http.StatusBadRequest, "the body could not be read to its end")
}

// members reads a body that is a JSON object and calls f with every member. No body at all is an object without members
// where optional.
func (x *exchange) members(optional bool, f func(name string, value []byte) error) error {
	text, err := x.body(maxBody, bodyTime)
	if err != nil {
		return err
	}
	if len(bytes.Trim(text, jsonSpace)) == 0 {
		if optional {
			return nil
		}
		return killfeed.Invalid("body", "", "one JSON object")
	}
	if err := object(text); err != nil {
		return err
	}
	return eachMember(text, f)
}

// setJSON takes a member of a body as set takes a parameter: a scalar for itself, null as if it were not there, and an array
// of scalars for a list.
func setJSON(set func(name, value string) error, name string, value []byte) error {
	switch {
	case isNull(value):
		return nil
	case value[0] == '[':
		empty := true
		err := eachElement(value, func(element []byte) error {
			empty = false
			text, ok := scalar(element)
			if !ok {
				return killfeed.Invalid(name, string(element), "numbers and strings in the array")
			}
			return set(name+"[]", text)
		})
		if err == nil && empty {
			err = set(name+"[]", "")
		}
		if bad := (*killfeed.InvalidError)(nil); errors.As(err, &bad) && bad.Param == name+"[]" {
			bad.Param, bad.Want = name, "one value: it is not a list" // it was given without brackets
		}
		return err
	}
	text, ok := scalar(value)
	if !ok {
		return killfeed.Invalid(name, string(value), "a string or a number")
	}
	return set(name, text)
}
