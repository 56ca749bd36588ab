package killfeed_test

import (
	"context"
	"fmt"
	"log"

	"killfeed"
	"killfeed/pebblestore"
)

// A program keeps the feed in itself: killmails go in with Insert, and each client gets exactly what it has not had.
func Example() {
	store, err := pebblestore.Open("", pebblestore.Options{Memory: true}) // or a directory
	if err != nil {
		log.Fatal(err)
	}
	feed, err := killfeed.Open(store, killfeed.Options{Retention: killfeed.DefaultRetention()})
	if err != nil {
		log.Fatal(err)
	}
	defer feed.Close() // and run feed.Run beside it: it collects every minute

	ctx := context.Background()
	const jita, perimeter = 30000142, 30000144
	for _, killmail := range []struct {
		system uint32
		json   string
	}{
		{jita, `{"killmail_id": 1, "solar_system_id": 30000142, "victim": {"ship_type_id": 587}}`},
		{perimeter, `{"killmail_id": 2, "solar_system_id": 30000144, "victim": {"ship_type_id": 670}}`},
		{jita, `{"killmail_id": 3, "solar_system_id": 30000142, "victim": {"ship_type_id": 670}}`},
		{jita, `{"killmail_id": 1, "solar_system_id": 30000142, "victim": {"ship_type_id": 587}}`},
	} {
		result, err := feed.Insert(ctx, killmail.system, []byte(killmail.json)) // on disk when it returns
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("inserted as", result.EventID, "duplicate:", result.Duplicate)
	}

	systems := []killfeed.Topic{killfeed.System(jita), killfeed.System(perimeter)}
	answer, err := feed.Fetch(ctx, "my-map", killfeed.Read{Topics: systems, Limit: 2})
	if err != nil {
		log.Fatal(err)
	}
	for _, event := range answer.Events {
		fmt.Println("fetched", event.ID, string(event.Killmail))
	}
	fmt.Println("more:", answer.More)

	// The next call goes on where that one ended. With Read.Manual it would begin there again, until Commit.
	answer, err = feed.Next(ctx, "my-map", killfeed.Read{Topics: systems})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("next is", answer.Events[0].ID)

	// A reader that keeps its own place needs no client. Topics are more than systems.
	ship := killfeed.Topic{Kind: killfeed.KindShip, ID: 670}
	answer, err = feed.ReadAfter(ctx, killfeed.Cursor{}, killfeed.Read{Topics: []killfeed.Topic{ship}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ship 670 died", len(answer.Events), "times, up to event", answer.Next.After)

	// Output:
	// inserted as 1 duplicate: false
	// inserted as 2 duplicate: false
	// inserted as 3 duplicate: false
	// inserted as 1 duplicate: true
	// fetched 1 {"killmail_id":1,"solar_system_id":30000142,"victim":{"ship_type_id":587}}
	// fetched 2 {"killmail_id":2,"solar_system_id":30000144,"victim":{"ship_type_id":670}}
	// more: true
	// next is 3
	// ship 670 died 2 times, up to event 3
}

// What every client has read, and what is too old, is removed by Collect. Who lost something by that is told.
func ExampleFeed_Collect() {
	store, err := pebblestore.Open("", pebblestore.Options{Memory: true})
	if err != nil {
		log.Fatal(err)
	}
	feed, err := killfeed.Open(store, killfeed.Options{}) // the zero Retention: what every client has read goes, at once
	if err != nil {
		log.Fatal(err)
	}
	defer feed.Close()

	ctx := context.Background()
	jita := killfeed.System(30000142)
	for id := range 3 {
		if _, err := feed.Insert(ctx, jita.ID, fmt.Appendf(nil, `{"killmail_id": %d}`, id+1)); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := feed.Commit(ctx, "my-map", map[killfeed.Topic]killfeed.EventID{jita: 2}); err != nil {
		log.Fatal(err)
	}
	collected, err := feed.Collect(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("removed %d, kept are %d to %d\n", collected.Removed, collected.First, collected.Head)

	answer, err := feed.Fetch(ctx, "too-late", killfeed.Read{Topics: []killfeed.Topic{jita}, Start: killfeed.StartAt(1)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("first is", answer.Events[0].ID, "and lost are", answer.Gap)

	// Output:
	// removed 2, kept are 3 to 3
	// first is 3 and lost are 1-2
}
