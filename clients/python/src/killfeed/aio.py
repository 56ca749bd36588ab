"""The client for asyncio. It has the methods of killfeed.Client."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from datetime import datetime
from types import TracebackType
from typing import Self, Unpack

from . import _calls
from ._calls import Call, Server
from ._errors import ConnectionError, KillfeedError, ProblemError
from ._follower import COMMIT_AT_END, Follower
from ._http import Answer, HTTPError, Reader
from ._types import Event, Next, Page, Place, PollOptions, StreamOptions

__all__ = ["Client", "Stream"]

PIECE = 64 << 10


class Client:
    """Talks to one server. Any number of tasks may use it at the same time. Its options are those of killfeed.Client."""

    def __init__(self, server: str, *, token: str | None = None, user_agent: str = "killfeed-python/0.1", timeout: float = 60,
                 context: ssl.SSLContext | None = None) -> None:
        self._server = Server(server, token, user_agent)
        self._timeout = timeout
        self._context = context or ssl.create_default_context() if self._server.tls else None

    async def poll(self, **options: Unpack[PollOptions]) -> Page:
        """All events that the reader has not had, oldest first, each once."""
        return _calls.page_of(await self._call(_calls.poll(options)))

    async def next(self, **options: Unpack[PollOptions]) -> Next:
        """The one event with the smallest id that the client has not had. client_id is needed."""
        return _calls.next_of(await self._call(_calls.next_one(options)))

    def stream(self, **options: Unpack[StreamOptions]) -> "Stream":
        """Events as they come, for ever. It connects when it is iterated."""
        return Stream(self, options)

    async def commit(self, client_id: str, event_id: int | str, *, systems: Iterable[int | str] = (),
                     topics: Iterable[str] = ()) -> dict[str, int]:
        """Says that everything up to an event is handled. On disk when it returns; never moves back. Returns where the
        client is on these topics."""
        return _calls.offsets_of(await self._call(_calls.commit(client_id, event_id, systems, topics)))

    async def seek(self, client_id: str, to: str | int | datetime, *, systems: Iterable[int | str] = (),
                   topics: Iterable[str] = ()) -> Place:
        """Moves a client, back or forth: to is the first event to be delivered. Without topics all of the client's move."""
        return _calls.place_of(await self._call(_calls.seek(client_id, to, systems, topics)))

    async def place(self, client_id: str) -> Place:
        """Where a client stands. An unknown one is a ProblemError of status 404."""
        return _calls.place_of(await self._call(_calls.place(client_id)))

    async def _call(self, call: Call, timeout: float | None = None) -> Answer:
        try:
            async with asyncio.timeout((self._timeout if timeout is None else timeout) + call.wait):
                async with _Connection(self._server, self._context, call, "application/json") as connection:
                    body = bytearray()
                    while not connection.reader.done:
                        body += await connection.read()
                    answer = connection.head
                    answer.body = bytes(body)
        except TimeoutError as error:
            raise ConnectionError(f"{self._server} did not answer in time") from error
        return _calls.checked(answer)


class _Connection:
    """One request and its answer. Errors are ConnectionErrors, but a TimeoutError is the caller's."""

    def __init__(self, server: Server, context: ssl.SSLContext | None, call: Call, accept: str) -> None:
        self.reader = Reader()
        self._server, self._context = server, context
        self._request = server.encode(call, accept)

    async def __aenter__(self) -> Self:
        try:
            self._from, self._to = await asyncio.open_connection(self._server.host, self._server.port, ssl=self._context)
        except TimeoutError:
            raise
        except OSError as error:
            raise ConnectionError(f"{self._server} cannot be reached: {error}") from error
        self._to.write(self._request)  # some kilobytes: no need to wait until they are sent
        return self

    async def __aexit__(self, *_: object) -> None:
        self._to.transport.abort()  # there is nothing left to be sent, and a wait for the other end may be long

    @property
    def head(self) -> Answer:
        if self.reader.answer is None:
            raise HTTPError("the head has not come")
        return self.reader.answer

    async def read(self) -> bytes:
        """Reads something, and returns what of it is of the body."""
        return self.parse(await self.receive())

    async def receive(self) -> bytes:
        try:
            return await self._from.read(PIECE)
        except OSError as error:
            raise ConnectionError(f"the answer of {self._server} broke off: {error}") from error

    def parse(self, piece: bytes) -> bytes:
        try:
            return self.reader.push(piece)
        except HTTPError as error:
            raise ConnectionError(f"the answer of {self._server} broke off: {error}") from error


class Stream:
    """Events as they come: iterate it, once, in an async with statement, which closes it.

    It reconnects by itself: after losses, silence, and refusals that pass (429, 5xx), with growing pauses that are not the
    same for all. It ends with an error on other refusals and when a newer connection takes the client id (ReplacedError). To
    end it from outside, cancel its task.
    """

    def __init__(self, client: Client, options: StreamOptions) -> None:
        self._client = client
        self._follower = Follower(options)
        self._events = self._follow()

    @property
    def cursor(self) -> str:
        """The place behind the last event that the loop has come back from; empty before the first connection. An event that
        the loop is left with, by break or an exception, does not count, unless it is committed."""
        return self._follower.handled

    async def commit(self) -> None:
        """Commits everything that the loop was given, the event that it is at included. For the task of the loop."""
        call = self._follower.commit_given()
        if call:
            await self._client._call(call)
            self._follower.committed()

    async def aclose(self) -> None:
        """Ends the loop. For its own task."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await anext(self._events)

    async def _follow(self) -> AsyncGenerator[Event, None]:
        try:
            while True:
                wait = 0.0
                try:
                    async with contextlib.aclosing(self._connect()) as events:
                        async for event in events:
                            yield event
                except KillfeedError as error:
                    wait = self._follower.failed(error)
                await asyncio.sleep(wait)
        finally:
            if self._follower.unfinished():
                try:
                    await self._client._call(self._follower.commit_handled(), COMMIT_AT_END)
                    self._follower.committed()
                except KillfeedError:
                    pass  # it comes again, as everything does that is not committed

    async def _connect(self) -> AsyncGenerator[Event, None]:
        """Follows one connection to its end, which is always an error."""
        follower, client = self._follower, self._client
        before = follower.commit_before()
        if before:
            await self._commit(before)
        connection = _Connection(client._server, client._context, follower.connect(), "text/event-stream")
        piece = b""
        async with contextlib.AsyncExitStack() as stack:
            async with self._silence():
                await stack.enter_async_context(connection)
                while connection.reader.answer is None:
                    piece = await connection.read()
                answer = connection.head
                if not 200 <= answer.status < 300:
                    body = bytearray(piece)
                    while not connection.reader.done:
                        body += await connection.read()
                    answer.body = bytes(body)
            follower.connected(_calls.checked(answer))
            while True:
                for event in follower.take(piece):
                    yield event
                    follower.came_back()
                    await self._commit_due()
                if connection.reader.done:
                    raise ConnectionError("the server ended the stream")
                piece = connection.parse(await self._receive(connection))

    async def _receive(self, connection: _Connection) -> bytes:
        """Reads something, and meanwhile commits what is due."""
        due = self._follower.due_in()
        async with self._silence():
            if due is None:
                return await connection.receive()
            reading = asyncio.ensure_future(connection.receive())
            reading.add_done_callback(lambda r: r.cancelled() or r.exception())  # it is awaited below, or not at all
            try:
                await asyncio.wait({reading}, timeout=due)
                if not reading.done():
                    await self._commit_now()  # whatever the clock says: timers may be early
                return await reading
            finally:
                reading.cancel()

    @contextlib.asynccontextmanager
    async def _silence(self) -> AsyncGenerator[None, None]:
        try:
            async with asyncio.timeout(self._follower.silence):
                yield
        except TimeoutError as error:
            raise ConnectionError(f"{self._client._server} said nothing for {self._follower.silence} s") from error

    async def _commit_due(self) -> None:
        if self._follower.due_in() == 0:
            await self._commit_now()

    async def _commit_now(self) -> None:
        try:
            if not await self._commit(self._follower.commit_handled()):
                raise ConnectionError("the log is another one")
        except ProblemError as error:
            if not error.temporary:
                raise
            self._follower.put_off()

    async def _commit(self, call: Call) -> bool:
        """Commits what was handled. False: there is no such place in the server's log."""
        try:
            await self._client._call(call)
        except ProblemError as error:
            self._follower.refused(error)
            return False
        self._follower.committed()
        return True
