"""What a stream knows and decides: without input and output, so that threads and asyncio share it."""

import logging
import random
import time
from collections.abc import Iterator
from typing import Any

from . import _calls
from ._calls import Call
from ._errors import ConnectionError, KillfeedError, ProblemError, ReplacedError
from ._http import Answer
from ._sse import Message, Parser
from ._types import Event, Gap, StreamOptions

# Seconds. The waits before another connection double from what the server's retry says, or the least, to the most.
LEAST_WAIT, MOST_WAIT = 0.5, 30.0
COMMIT_EVERY = 1.0
COMMIT_AT_END = 5.0
SILENCE = 60.0

log = logging.getLogger("killfeed")


class OtherLog(ConnectionError):
    """Another connection is needed, at once."""


class Follower:
    """The place of a stream. It belongs to one loop."""

    def __init__(self, options: StreamOptions) -> None:
        given: dict[str, Any] = dict(options)
        self.on_gap = given.pop("on_gap", None) or self._log_gap
        self.on_retry = given.pop("on_retry", None) or self._log_retry
        self.silence: float = given.pop("silence", SILENCE)
        mode = given.pop("commit", None)
        self.query = _calls.read_query(given)
        self.client_id: str | None = self.query.get("client_id")
        if mode not in (None, "handled", "manual"):
            raise ValueError(f"commit {mode!r} is not accepted: want handled or manual")
        if mode is not None and self.client_id is None:
            raise TypeError("commit needs a client_id")
        self.manual = mode == "manual"

        self.handled = ""  # the cursor behind the last event that the loop has come back from
        self._epoch = ""  # of the connection before; empty before the first
        self._given = ""  # the cursor behind the event that the loop was given last
        self._committed = ""  # the cursor committed last, or where the stream began
        self._dirty_since: float | None = None  # when handled went past committed
        self._by_cursor = False  # the next connection begins at a cursor although there is a client
        self._began_at: str | int | None = None  # the cursor that the connection began at
        self._retry = 0.0  # what the server said
        self._failures = 0
        self._parser = Parser()

    def _log_gap(self, gap: Gap) -> None:
        log.warning("events are lost: %s", gap)

    def _log_retry(self, error: KillfeedError, wait: float) -> None:
        log.warning("%s; trying again in %.1f s", error, wait)

    def failed(self, error: KillfeedError) -> float:
        """Returns how long to wait before the next attempt, or raises the error when none may go better."""
        if isinstance(error, OtherLog):
            return 0
        if not error.temporary:
            if isinstance(error, ReplacedError):
                self._dirty_since = None  # the name is another one's now
            raise error
        grown = min((self._retry or LEAST_WAIT) * 2 ** min(self._failures, 10), MOST_WAIT)
        self._failures += 1
        # All who lost a server at the same time do not come back at the same time.
        wait = max(error.retry_after, grown) * random.uniform(1, 1.2)
        self.on_retry(error, wait)
        return wait

    # Connections.

    def commit_before(self) -> Call | None:
        """What has to be committed before the next connection."""
        if self._epoch and not self._by_cursor and self._dirty_since is not None:
            return self.commit_handled()
        return None

    def refused(self, error: ProblemError) -> None:
        """Takes it that a commit of what was handled was refused, or raises. A place that is none in the server's log says
        that the log is another one: then the server is asked, by cursor, what became of it."""
        if error.status != 400:
            raise error
        self._by_cursor = True

    def connect(self) -> Call:
        """The request of the next connection."""
        query = dict(self.query)
        if self.client_id is not None:
            query["commit"] = "manual"  # the server's automatic commit counts what is only on its way
        if self._epoch:
            query.pop("after", None)
            # With a client, a cursor wins over its offsets on all topics: those on which it was ahead would go back.
            if self.client_id is None or self._by_cursor:
                self._dirty_since = None  # what was handled is told by the cursor
                query.pop("start", None)
                query["after"] = self._committed if self.manual else self.handled
        self._by_cursor = False
        self._began_at = query.get("after")
        self._parser = Parser()
        return _calls.get("/api/killfeed/stream", query)

    def connected(self, answer: Answer) -> None:
        kind = answer.headers.get("content-type", "")
        if answer.status != 200 or kind.partition(";")[0].strip().lower() != "text/event-stream":
            raise KillfeedError(f"the server answers with {kind!r} instead of a stream: is it a killfeed?")

    def take(self, piece: bytes) -> Iterator[Event]:
        """Takes bytes and gives the events that they complete."""
        try:
            messages = self._parser.push(piece)
        except ValueError as error:
            raise KillfeedError(f"the server sends what is no stream of killmails: {error}") from None
        self._retry = self._parser.retry
        for message in messages:
            if message.type == "open":
                self._open(message)
                continue
            if message.type == "replaced":
                raise ReplacedError(self.client_id or "")
            self._failures = 0  # and not by a stream that only begins and breaks
            if message.type == "new_killmail":
                event = _calls.event_of(message.data or "")
                self._given = event.cursor
                yield event
            elif message.type == "gap":
                gap = _calls.gap_of_text(message.data)
                if gap:
                    self.on_gap(gap)
                if message.id and gap and gap.reason != "damaged":  # that may be told before events that precede it
                    self._pass(message.id)
            elif message.data is None and message.id:
                self._pass(message.id)  # a heartbeat

    def _open(self, message: Message) -> None:
        epoch, cursor, gap = _calls.open_of(message.data)
        if self._epoch and self._epoch != epoch and self._began_at is None:
            # The log was replaced, and the client is new in it. Begun at the old place, the server tells so and leaves
            # nothing out.
            self._by_cursor = True
            raise OtherLog("the log is another one")
        same, self._epoch = self._epoch == epoch, epoch
        if gap:
            self.on_gap(gap)
        if same and self.manual:
            return  # what is not committed comes again, and its commit is the caller's
        self._given = self.handled = self._committed = cursor
        self._dirty_since = None

    def came_back(self) -> None:
        """The loop has handled the event that it was given."""
        self._handle(self._given)

    def _pass(self, id: str) -> None:
        # Everything up to there needs no handling. The id of a durable stream's message has a third part.
        self._given = "-".join(id.split("-")[:2])
        self._handle(self._given)

    def _handle(self, cursor: str) -> None:
        self.handled = cursor
        if self.client_id is not None and not self.manual and cursor != self._committed and self._dirty_since is None:
            self._dirty_since = time.monotonic()

    # Commits.

    def due_in(self) -> float | None:
        """In how many seconds a commit is due, 0 when it is; None: there is nothing to commit."""
        if self._dirty_since is None:
            return None
        return max(0.0, self._dirty_since + COMMIT_EVERY - time.monotonic())

    def put_off(self) -> None:
        """The server cannot commit at the moment: the next one does it."""
        self._dirty_since = time.monotonic()

    def commit_handled(self) -> Call:
        return self._commit(self.handled)

    def commit_given(self) -> Call | None:
        """The commit of everything that the loop was given."""
        if self.client_id is None:
            raise TypeError("without a client_id there is nothing to commit: keep cursor")
        if not self._given:
            return None
        self.handled = self._given
        return self._commit(self.handled)

    def _commit(self, cursor: str) -> Call:
        return _calls.commit(self.client_id or "", cursor, self.query.get("systems", ()), self.query.get("topics", ()))

    def committed(self) -> None:
        """Takes it that what was handled is committed."""
        self._committed = self.handled
        self._dirty_since = None

    def unfinished(self) -> bool:
        """There is something to commit at the end."""
        return self._dirty_since is not None
