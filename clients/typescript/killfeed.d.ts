/**
 * Client for killfeed, a self-hosted killmail feed for EVE Online tools.
 *
 * A stream gives every event that is on its topics, ascending by event id, across any number of lost connections: without a
 * gap, or with one that is told, and each once. With a client id the server keeps the place, and an event comes again unless
 * it was committed: at least once. Polls with `commit: "auto"` are at most once.
 */

/** A killmail as ESI gives it, with `zkb` when known. With `fields` anything may be missing. */
export interface Killmail {
  killmail_id?: number
  killmail_time?: string
  solar_system_id?: number
  victim?: Participant & { damage_taken?: number; items?: unknown[]; position?: { x: number; y: number; z: number } }
  attackers?: (Participant & {
    damage_done?: number
    final_blow?: boolean
    security_status?: number
    weapon_type_id?: number
  })[]
  zkb?: {
    hash?: string
    totalValue?: number
    points?: number
    npc?: boolean
    solo?: boolean
    awox?: boolean
    labels?: string[]
    [member: string]: unknown
  }
  [member: string]: unknown
}

export interface Participant {
  character_id?: number
  corporation_id?: number
  alliance_id?: number
  faction_id?: number
  ship_type_id?: number
}

/** A killmail in the log. The same `event_id` in the same epoch is the same event. */
export interface Event {
  event_id: number
  system_id: number
  /** When the log took it: RFC 3339, UTC. */
  received_at: string
  /** A newer or richer version of a killmail that is in the log already; only with `updates`. */
  update?: true
  /** Imported history. */
  backfill?: true
  killmail: Killmail
  /** What ids are called, with `names`. */
  names?: Record<string, unknown>
  /** The place behind this event, to be kept and given as `after`. Of streams only. */
  cursor?: string
}

/** Events that the reader has not had and cannot have any more. */
export interface Gap {
  /**
   * `retention`: they were removed. `damaged`: their records are. `epoch`: the cursor belongs to another log, of which
   * everything kept follows. `future`: it is past the head, from where reading goes on. `unknown`: an empty `next` tells
   * bounds and no reason.
   */
  reason: "retention" | "damaged" | "epoch" | "future" | "unknown"
  /** The lowest and the highest event id that may be lost; not with `epoch` and `future`. */
  from?: number
  to?: number
}

export interface Page {
  /** Oldest first; none: empty. */
  events: Event[]
  /** The last event id given out. */
  head: number
  /** Names the log. */
  epoch: string
  /** Call again at once. It may be true with no events, when a search passed over very many. */
  more: boolean
  gap?: Gap
  /** Without a client id: the cursor to go on with. */
  next?: string
}

/** What `next` found. */
export interface Next {
  /** null: there is nothing new. */
  event: Event | null
  gap?: Gap
  /** There was nothing because a search passed over very many: call again at once. */
  more: boolean
}

/** Where a client stands. */
export interface Place {
  client_id: string
  offsets: Record<string, number>
  /** Events that it has not had, counted to 10,000. */
  lag: number
  last_seen: string
}

/** A problem document (RFC 9457). The last three are there when one parameter is at fault. */
export interface Problem {
  type: string
  title: string
  status: number
  /** For people. Empty when it was no killfeed that answered. */
  detail: string
  parameter?: string
  value?: string
  accepted?: string
  [member: string]: unknown
}

export interface ClientOptions {
  /** Sent as bearer token. What reads needs none. */
  token?: string
  /** Who you are, as in `my-bot/1.0 (me@example.com)`. Browsers send their own instead. */
  userAgent?: string
  /** How many milliseconds a request may take besides what it is told to wait. Default 60,000. Streams have `silence`. */
  timeout?: number
  /** Instead of the global one. */
  fetch?: typeof globalThis.fetch
}

/** What to read. At least one system or topic is needed; several are a union. */
export interface Topics {
  /** Solar systems: ids, or names where the server has static data. */
  systems?: readonly (number | string)[]
  /** As in `all`, `character:2100000001`, `loss:alliance:99000001`, `region:The Forge`. */
  topics?: readonly string[]
}

export interface ReadOptions extends Topics {
  /** A name of your choice, under which the server keeps the place. One for each consumer. */
  clientId?: string
  /** A cursor: the last event handled. With `clientId` the client is moved there first. */
  after?: string | number
  /** The first event, of topics that the client uses for the first time, or without client and `after`. */
  start?: "earliest" | "latest" | number | Date | (string & {})
  /** Pass over killmails older than this: seconds, or as in `15m`. */
  maxAge?: number | string
  /** Deliver newer versions too. Default false. */
  updates?: boolean
  /** Deliver imported history. Default true of polls, false of streams. */
  backfill?: boolean
  /** Pass over what does not match, as in `isk>1b;npc=0`. */
  filter?: string
  /** Tell what ids are called. */
  names?: boolean
  /** Only these members of the killmail, as in `["killmail_id", "victim.ship_type_id"]`. */
  fields?: readonly string[]
}

export interface PollOptions extends ReadOptions {
  /** At most so many events, 1 to 1000. Default 500. Of `poll` only. */
  limit?: number
  /** When there is nothing, wait so many seconds for an event, 0 to 60. Default 0. */
  wait?: number
  /** `auto`, the default: what was answered counts as read. `manual`: it comes again until it is committed. */
  commit?: "auto" | "manual"
  signal?: AbortSignal
}

export interface StreamOptions extends ReadOptions {
  /**
   * With `clientId`. `handled`, the default: an event is committed when the loop comes back for the next one, within a second
   * and at the end. `manual`: only by `Stream.commit`. Both are at least once; what is not committed comes again on each new
   * connection, also of the same stream.
   */
  commit?: "handled" | "manual"
  /** Is told of each gap, before the events behind it. Default: a warning on the console. */
  onGap?: (gap: Gap) => void
  /** Is told of each loss and how many milliseconds will pass before the next attempt. Default: a warning on the console. */
  onRetry?: (error: KillfeedError, wait: number) => void
  /** So many milliseconds without a byte count as a loss. Default 60,000; the server says something every 20,000. */
  silence?: number
  /** Aborted, the loop ends with its reason as error. */
  signal?: AbortSignal
}

/** Talks to one server. Any number of calls may run at the same time. */
export class Client {
  /** @param server as in `http://127.0.0.1:4004`; a path in it stays. */
  constructor(server: string | URL, options?: ClientOptions)
  /** All events that the reader has not had, oldest first, each once. */
  poll(options: PollOptions): Promise<Page>
  /** The one event with the smallest id that the client has not had. */
  next(options: PollOptions & { clientId: string }): Promise<Next>
  /** Events as they come, for ever. It connects when it is iterated. */
  stream(options: StreamOptions): Stream
  /** Says that everything up to an event is handled. On disk when it returns; never moves back. Returns where the client is. */
  commit(clientId: string, eventId: number | string, on: Topics, options?: { signal?: AbortSignal }): Promise<Record<string, number>>
  /** Moves a client, back or forth: `to` is the first event to be delivered. Without topics all of the client's are moved. */
  seek(clientId: string, to: NonNullable<ReadOptions["start"]>, on?: Topics, options?: { signal?: AbortSignal }): Promise<Place>
  /** Where a client stands. An unknown one is a ProblemError of status 404. */
  place(clientId: string, options?: { signal?: AbortSignal }): Promise<Place>
}

/**
 * Events as they come. It is iterated once, by one loop. It reconnects by itself: after losses, silence, and refusals that
 * pass (429, 5xx), with growing pauses that are not the same for all. It ends with an error on other refusals and when a
 * newer connection takes the client id; without one after `close`.
 */
export interface Stream extends AsyncIterable<Event> {
  [Symbol.asyncIterator](): AsyncGenerator<Event, void, undefined>
  /**
   * The place behind the last event that the loop has come back from; empty before the first connection. An event that the
   * loop is left with, by `break` or an error, does not count, unless it is committed.
   */
  readonly cursor: string
  /** Commits everything that the loop was given, the event that it is at included. */
  commit(): Promise<void>
  /** Ends the loop, also while it waits. */
  close(): void
}

/** Every error of this package is one of these. */
export class KillfeedError extends Error {
  constructor(message: string, more?: { cause?: unknown; temporary?: boolean; retryAfter?: number })
  /** Whether the same may go better later. */
  temporary: boolean
  /** How many milliseconds the server wants to be left alone; 0 when it did not say. */
  retryAfter: number
}

/** There was no answer, or it broke off. */
export class ConnectionError extends KillfeedError {
  constructor(message: string, cause?: unknown)
}

/** The server refused. */
export class ProblemError extends KillfeedError {
  constructor(problem: Problem, retryAfter: number)
  problem: Problem
  status: number
}

/** A newer connection has taken the client id. */
export class ReplacedError extends KillfeedError {
  constructor(clientId: string)
}
