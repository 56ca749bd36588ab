// Package standin serves what killfeed's upstreams serve, from killmails that it is given: zKillboard's R2Z2 files and history,
// its RedisQ and its websocket, ESI's killmails and names, EVE Ref's archives, and CCP's static data (from archives of it). It is for
// tests, for development without a network, and for seeing how a client takes it when an upstream misbehaves.
//
// # What it promises
//
// Shape: every answer has the members, types and order of the captured originals, and the ESI part and a given zkb pass
// through byte for byte (white space aside).
//
// Order: killmails are published in the order given, with dense sequence numbers. A moment has one truth: R2Z2, history,
// RedisQ and websocket show the same publication, and what is published stays published.
//
// Repeatability: whatever is left to chance is drawn from Config.Seed and from what it is about: a sequence number, or the
// n-th request for a path. So two runs in which a client asks for the same things fare the same, in whatever order requests
// for different paths arrive.
//
// Counts: Stats is exact. Each request is counted once, when it arrives, with a time taken under the same lock as the
// count; what is measured from an answer is measured from before its first byte leaves. So a client that keeps its manners
// by its own clock after an answer keeps them by these counts; but one that sends exactly at a limit should leave a margin,
// for the network moves requests closer together.
//
// Concurrency: everything may be called by any number of goroutines. The package starts none but one for each websocket,
// which ends with it; Close ends everything that waits, and waits for the websockets.
//
// # What it is not
//
// It is no copy of those services' insides, and it makes no claim on what is not known of them: the true limits of R2Z2, how
// long its files stay, and the bodies of error pages are chosen here. There are no accounts, no filters
// for RedisQ, and no channels for regions, constellations and ship groups, which need static data. All callers are one: rates
// and tokens are not kept by address. It keeps every killmail for as long as it lives. It trusts who reaches it, the control
// endpoint included, so it belongs on the loopback interface.
//
// # How
//
//	mails, err := standin.Load(ctx, "killmails.jsonl.gz")
//	s, err := standin.New(standin.Config{Mails: mails, Pace: standin.Pace{Rate: 10}})
//	defer s.Close()
//	http.Serve(listener, s.Handler())
//
// One base URL serves for all of them:
//
//	/ephemeral/sequence.json  /ephemeral/{seq}.json                       R2Z2
//	/history/{YYYYMMDD}.json  /history/raw/{YYYYMMDD}.json  /history/totals.json
//	/killmails/{id}/{hash}/   also behind /latest and /v1                 ESI
//	/universe/names/  /corporations/{id}/  /alliances/{id}/  /universe/systems/{id}/  /universe/constellations/{id}/
//	/listen.php  /object.php                                              RedisQ
//	/websocket/                                                           zKillboard's websocket
//	/killmails/totals.json  /killmails/{YYYY}/  /killmails/{YYYY}/killmails-{YYYY-MM-DD}.tar.bz2 (.md5)   EVE Ref
//	/static-data/tranquility/latest.jsonl  /static-data/tranquility/eve-online-static-data-{build}-jsonl.zip
//	/static-data/eve-online-static-data-latest-jsonl.zip                  CCP's static data
//	/standin/stats  /standin/control  /standin/files                      its own: see control.go
//
// Time comes from Config.Clock, by default from package time, whose clock is false inside a bubble of testing/synctest. Real
// sockets keep that clock from moving: connect client and stand-in by a Pipe there.
package standin
