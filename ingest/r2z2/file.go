package r2z2

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"killfeed"
)

// file is the file of a number.
type file struct {
	number   int64
	killmail *killfeed.Killmail
	// uploaded is when it was written, zero when it does not say.
	uploaded time.Time
	// updated is a number whose file was written again; 0: none.
	updated int64
}

// parseFile reads the file that came for a number, and refuses it unless it is that number's.
func parseFile(number int64, body []byte) (*file, error) {
	var head struct {
		KillmailID      int64  `json:"killmail_id"`
		Hash            string `json:"hash"`
		SequenceID      int64  `json:"sequence_id"`
		SequenceUpdated int64  `json:"sequence_updated"`
		UploadedAt      int64  `json:"uploaded_at"`
		ZKB             struct {
			Hash string `json:"hash"`
		} `json:"zkb"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return nil, fmt.Errorf("file of number %d cannot be read: %w", number, err)
	}
	switch {
	case head.SequenceID != number:
		return nil, fmt.Errorf("file of number %d says that it is that of %d", number, head.SequenceID)
	case head.KillmailID < 1 || head.Hash == "" && head.ZKB.Hash == "":
		return nil, fmt.Errorf("file of number %d has no killmail_id or no hash", number)
	}
	k, err := killfeed.ParseItem(body) // it verifies the hash
	if err != nil {
		return nil, fmt.Errorf("file of number %d: %w", number, err)
	}
	if k.ID != head.KillmailID {
		return nil, fmt.Errorf("file of number %d is of killmail %d and has killmail %d in it", number, head.KillmailID, k.ID)
	}
	f := &file{number: number, killmail: k, updated: head.SequenceUpdated}
	if head.UploadedAt > 0 {
		f.uploaded = time.Unix(head.UploadedAt, 0)
	}
	return f, nil
}

// parsePointer reads sequence.json: {"sequence":1}, {"sequence_id":1} or 1.
func parsePointer(body []byte) (int64, error) {
	var bare *int64
	var n int64
	if json.Unmarshal(body, &bare) == nil && bare != nil {
		n = *bare
	} else {
		var o struct {
			Sequence   *int64 `json:"sequence"`
			SequenceID *int64 `json:"sequence_id"`
		}
		if err := json.Unmarshal(body, &o); err != nil {
			return 0, fmt.Errorf("pointer cannot be read: %w", err)
		}
		switch {
		case o.Sequence != nil:
			n = *o.Sequence
		case o.SequenceID != nil:
			n = *o.SequenceID
		default:
			return 0, errors.New("pointer has no number")
		}
	}
	if n < 0 || n > 1<<62 {
		return 0, fmt.Errorf("pointer %d is no number of a file", n)
	}
	return n, nil
}
