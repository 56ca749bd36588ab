package archive_test

import (
	"context"
	"fmt"
	"strings"

	"killfeed/ingest/archive"
)

func ExampleReader_Read() {
	ctx := context.Background()
	input := strings.NewReader(`{"killmail_id":97030352,"solar_system_id":30003309}
{"killmail_id":97030353,"solar_sys
{"killmail_id":97030354,"solar_system_id":30000142}
`)
	r, err := archive.New(ctx, []string{"-"}, archive.Options{Stdin: input})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = r.Read(ctx, func(item archive.Item) error {
		if item.Err != nil {
			fmt.Println(item.Name, "is unreadable:", item.Err)
			return nil
		}
		fmt.Printf("%s: %s\n", item.Name, item.Data)
		return nil
	})
	fmt.Println(r.Progress().Items, "documents, error:", err)
	// Output:
	// standard input:1: {"killmail_id":97030352,"solar_system_id":30003309}
	// standard input:2: {"killmail_id":97030353,"solar_sys
	// standard input:3: {"killmail_id":97030354,"solar_system_id":30000142}
	// 3 documents, error: <nil>
}
