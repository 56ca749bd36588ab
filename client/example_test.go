package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"killfeed/client"
)

// A loop over killmails whose place the server keeps. The server here has one, and then says that the name is another's.
func ExampleStream() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "event: open\ndata: {\"epoch\":\"5f3a9c01\",\"cursor\":\"16-5f3a9c01\"}\n\n"+
			"event: new_killmail\ndata: {\"event_id\":17,\"system_id\":30000142,\"killmail\":{},\"cursor\":\"17-5f3a9c01\"}\n\n"+
			"event: replaced\ndata: {}\n\n")
	}))
	defer server.Close()

	feed, err := client.New(server.URL, client.Options{UserAgent: "my-bot/1.0 (me@example.com)"})
	if err != nil {
		fmt.Println(err)
		return
	}
	o := client.StreamOptions{Read: client.Read{ClientID: "my-bot", Start: "earliest"}}
	o.Topics = []string{"region:The Forge"}
	for event, err := range feed.Stream(o).Events(context.Background()) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.ID, event.SystemID)
	}
	// Output:
	// 17 30000142
	// a newer connection has taken the client's name: give each reader its own
}
