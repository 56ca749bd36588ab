package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"killfeed"
)

// maxInsert bounds the body of an insert, as sent and unpacked.
const maxInsert = 64 << 20

// completeTime bounds the fetching of bodies for one request.
const completeTime = time.Minute

// insert stores the killmails of the body, the good ones in one group: all of them, or none.
func (a *API) insert(x *exchange) error {
	var marks killfeed.Marks
	err := eachPair(x.r.URL.RawQuery, func(name, value string) error {
		if name != "backfill" {
			return nil
		}
		backfill, err := parseFlag(name, value)
		if backfill {
			marks = killfeed.MarkBackfill
		}
		return err
	})
	if err != nil {
		return err
	}
	body, err := x.body(maxInsert, insertTime)
	if err != nil {
		return err
	}
	items, err := splitItems(body)
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return killfeed.Invalid("body", "[]", "at least one killmail in the array")
	}
	fetching, cancel := context.WithTimeout(x.r.Context(), completeTime) // of all items together
	defer cancel()
	killmails := make([]*killfeed.Killmail, 0, len(items))
	faults := make([]string, len(items)) // what is wrong with an item, empty when nothing is
	for i, item := range items {
		k, err := parseItem(item)
		if errors.Is(err, killfeed.ErrNeedsESI) && a.config.Complete != nil {
			k, err = a.complete(fetching, item)
		}
		if err != nil {
			faults[i] = a.fault(err)
			continue
		}
		killmails = append(killmails, k)
	}
	results, err := a.feed.InsertAll(x.settled(), killmails, marks)
	if err != nil {
		return err
	}
	status, body := appendResults(nil, faults, results)
	if status == http.StatusBadRequest {
		return nothingGood(faults, body)
	}
	x.send(status, valueJSON, append(append([]byte(`{"results":`), body...), '}'))
	return nil
}

// complete has a killmail fetched of which the item only has id and hash.
func (a *API) complete(ctx context.Context, item []byte) (*killfeed.Killmail, error) {
	k, err := a.config.Complete(ctx, item)
	if err != nil {
		return nil, &incompleteError{err}
	}
	return k, nil
}

// incompleteError is a killmail that could not be fetched. Its cause is for the caller to read: it says what ESI said.
type incompleteError struct{ error }

func (e *incompleteError) Unwrap() error { return e.error }

func parseItem(item []byte) (*killfeed.Killmail, error) {
	if len(item) > maxItem {
		return nil, killfeed.Invalid("killmail", strconv.Itoa(len(item))+" bytes", "at most "+bytesText(maxItem))
	}
	return killfeed.ParseItem(item)
}

// fault is what a caller is told of an item that is not taken.
func (a *API) fault(err error) string {
	var (
		bad        *killfeed.InvalidError
		incomplete *incompleteError
	)
	switch {
	case errors.As(err, &incomplete):
		return "the killmail's body could not be fetched from ESI: " + incomplete.Error()
	case errors.As(err, &bad):
		return bad.Error()
	case errors.Is(err, killfeed.ErrNeedsESI):
		return killfeed.ErrNeedsESI.Error()
	}
	a.log.Error("a killmail could not be read", "err", err)
	return internal
}

// appendResults appends the results in item order, as a JSON array, and tells the status that they make.
func appendResults(b []byte, faults []string, results []killfeed.InsertResult) (status int, _ []byte) {
	status = http.StatusBadRequest
	b = append(b, '[')
	for i, fault := range faults {
		if i > 0 {
			b = append(b, ',')
		}
		if fault != "" {
			text, _ := marshal(fault) // a string can always be written
			b = append(append(append(b, `{"error":`...), text...), '}')
			continue
		}
		r := results[0]
		results = results[1:]
		b = append(b, `{"event_id":`...)
		b = strconv.AppendUint(b, uint64(r.EventID), 10)
		switch {
		case r.Duplicate:
			b = append(b, `,"duplicate":true`...)
			if status == http.StatusBadRequest {
				status = http.StatusOK
			}
		case r.Update:
			b = append(b, `,"update":true`...)
			status = http.StatusCreated
		default:
			status = http.StatusCreated
		}
		b = append(b, '}')
	}
	return status, append(b, ']')
}

// nothingGood is the answer when no item could be taken.
func nothingGood(faults []string, results []byte) error {
	p := refuse(http.StatusBadRequest, "%s", faults[0])
	if len(faults) > 1 {
		p.Detail = "none of the " + strconv.Itoa(len(faults)) + " killmails can be taken; results says why, the first: " + faults[0]
	}
	p.Results = json.RawMessage(results)
	return p
}
