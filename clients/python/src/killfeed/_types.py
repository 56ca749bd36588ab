"""What is asked and what is answered."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypedDict

from ._errors import KillfeedError


@dataclass(frozen=True, slots=True)
class Event:
    """A killmail in the log. The same event_id in the same epoch is the same event."""

    event_id: int
    system_id: int
    received_at: datetime
    """When the log took it."""
    killmail: dict[str, Any]
    """As ESI gives it, with zkb when known. With fields anything may be missing."""
    update: bool = False
    """A newer or richer version of a killmail that is in the log already; only with updates."""
    backfill: bool = False
    """Imported history."""
    names: dict[str, Any] | None = None
    """What ids are called, with names."""
    cursor: str = ""
    """The place behind this event, to be kept and given as after. Of streams only."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Events that the reader has not had and cannot have any more.

    reason is "retention": they were removed; "damaged": their records are; "epoch": the cursor belongs to another log, of
    which everything kept follows; "future": it is past the head, from where reading goes on; "unknown": an empty next tells
    bounds and no reason. from_id and to_id are the lowest and the highest event id that may be lost; not with epoch and
    future.
    """

    reason: str
    from_id: int | None = None
    to_id: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The answer of a poll."""

    events: list[Event]
    """Oldest first."""
    head: int
    """The last event id given out."""
    epoch: str
    """Names the log."""
    more: bool
    """Call again at once. It may be true with no events, when a search passed over very many."""
    gap: Gap | None = None
    next: str | None = None
    """Without a client id: the cursor to go on with."""


@dataclass(frozen=True, slots=True)
class Next:
    """What next found. event is None: there is nothing new; with more a search passed over very many: call again at once."""

    event: Event | None
    gap: Gap | None = None
    more: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client stands. lag is how many events it has not had, counted to 10,000."""

    client_id: str
    offsets: dict[str, int]
    lag: int
    last_seen: datetime


class ReadOptions(TypedDict, total=False):
    """What to read. At least one system or topic is needed; several are a union."""

    systems: Iterable[int | str]
    """Solar systems: ids, or names where the server has static data."""
    topics: Iterable[str]
    """As in "all", "character:2100000001", "loss:alliance:99000001", "region:The Forge"."""
    client_id: str
    """A name of your choice, under which the server keeps the place. One for each consumer."""
    after: str | int
    """A cursor: the last event handled. With client_id the client is moved there first."""
    start: str | int | datetime
    """The first event, of topics that the client uses for the first time, or without client and after: "earliest", "latest",
    an event id, or a time (one without a time zone is the local one's)."""
    max_age: int | str
    """Pass over killmails older than this: seconds, or as in "15m"."""
    updates: bool
    """Deliver newer versions too. Default False."""
    backfill: bool
    """Deliver imported history. Default True of polls, False of streams."""
    filter: str
    """Pass over what does not match, as in "isk>1b;npc=0"."""
    names: bool
    """Tell what ids are called."""
    fields: Iterable[str]
    """Only these members of the killmail, as in ["killmail_id", "victim.ship_type_id"]."""


class PollOptions(ReadOptions, total=False):
    """What poll and next take."""

    limit: int
    """At most so many events, 1 to 1000. Default 500. Of poll only."""
    wait: float
    """When there is nothing, wait so many seconds for an event, 0 to 60. Default 0."""
    commit: Literal["auto", "manual"]
    """auto, the default: what was answered counts as read. manual: it comes again until it is committed."""


class StreamOptions(ReadOptions, total=False):
    """What streams take."""

    commit: Literal["handled", "manual"]
    """With client_id. handled, the default: an event is committed when the loop comes back for the next one, within a second
    and at the end. manual: only by commit of the stream. Both are at least once; what is not committed comes again on each
    new connection, also of the same stream."""
    on_gap: Callable[[Gap], None]
    """Is told of each gap, before the events behind it. Default: a warning to the logger "killfeed"."""
    on_retry: Callable[[KillfeedError, float], None]
    """Is told of each loss and how many seconds will pass before the next attempt. Default: a warning to the logger."""
    silence: float
    """So many seconds without a byte count as a loss. Default 60; the server says something every 20."""
