"""The client for threads."""

import selectors
import socket
import ssl
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Self, Unpack

from . import _calls
from ._calls import Call, Server
from ._errors import ConnectionError, KillfeedError, ProblemError
from ._follower import COMMIT_AT_END, Follower
from ._http import Answer, HTTPError, Reader
from ._types import Event, Next, Page, Place, PollOptions, StreamOptions

PIECE = 64 << 10


class Client:
    """Talks to one server. Any number of threads may use it at the same time.

    server is as in "http://127.0.0.1:4004"; a path in it stays. token is sent as bearer token; what reads needs none.
    user_agent says who you are, as in "my-bot/1.0 (me@example.com)". timeout is how many seconds a request may take besides
    what it is told to wait; streams have silence instead. context is for https, by default the system's.

    Methods raise KillfeedError.
    """

    def __init__(self, server: str, *, token: str | None = None, user_agent: str = "killfeed-python/0.1", timeout: float = 60,
                 context: ssl.SSLContext | None = None) -> None:
        self._server = Server(server, token, user_agent)
        self._timeout = timeout
        self._context = context or ssl.create_default_context() if self._server.tls else None

    def poll(self, **options: Unpack[PollOptions]) -> Page:
        """All events that the reader has not had, oldest first, each once."""
        return _calls.page_of(self._call(_calls.poll(options)))

    def next(self, **options: Unpack[PollOptions]) -> Next:
        """The one event with the smallest id that the client has not had. client_id is needed."""
        return _calls.next_of(self._call(_calls.next_one(options)))

    def stream(self, **options: Unpack[StreamOptions]) -> "Stream":
        """Events as they come, for ever. It connects when it is iterated."""
        return Stream(self, options)

    def commit(self, client_id: str, event_id: int | str, *, systems: Iterable[int | str] = (),
               topics: Iterable[str] = ()) -> dict[str, int]:
        """Says that everything up to an event is handled. On disk when it returns; never moves back. Returns where the
        client is on these topics."""
        return _calls.offsets_of(self._call(_calls.commit(client_id, event_id, systems, topics)))

    def seek(self, client_id: str, to: str | int | datetime, *, systems: Iterable[int | str] = (),
             topics: Iterable[str] = ()) -> Place:
        """Moves a client, back or forth: to is the first event to be delivered. Without topics all of the client's move."""
        return _calls.place_of(self._call(_calls.seek(client_id, to, systems, topics)))

    def place(self, client_id: str) -> Place:
        """Where a client stands. An unknown one is a ProblemError of status 404."""
        return _calls.place_of(self._call(_calls.place(client_id)))

    def _call(self, call: Call, timeout: float | None = None) -> Answer:
        end = time.monotonic() + (self._timeout if timeout is None else timeout) + call.wait
        with _Connection(self._server, self._context, call, "application/json", end - time.monotonic()) as connection:
            body = bytearray()
            while not connection.reader.done:
                body += connection.read(end - time.monotonic())
            answer = connection.head
            answer.body = bytes(body)
        return _calls.checked(answer)


class _Connection:
    """One request and its answer. Errors are ConnectionErrors."""

    def __init__(self, server: Server, context: ssl.SSLContext | None, call: Call, accept: str, timeout: float) -> None:
        self.reader = Reader()
        self._server = server
        try:
            self.socket = socket.create_connection((server.host, server.port), timeout)
        except OSError as error:
            raise ConnectionError(f"{server} cannot be reached: {error}") from error
        try:
            if context:
                self.socket = context.wrap_socket(self.socket, server_hostname=server.host)
            self.socket.sendall(server.encode(call, accept))
        except OSError as error:
            self.close()
            raise ConnectionError(f"{server} cannot be reached: {error}") from error

    @property
    def head(self) -> Answer:
        if self.reader.answer is None:
            raise HTTPError("the head has not come")
        return self.reader.answer

    def read(self, timeout: float) -> bytes:
        """Reads something, and returns what of it is of the body."""
        try:
            if timeout <= 0:
                raise TimeoutError("timed out")
            self.socket.settimeout(timeout)
            return self.reader.push(self.socket.recv(PIECE))
        except TimeoutError as error:
            raise ConnectionError(f"{self._server} did not answer in time") from error
        except (OSError, HTTPError) as error:
            raise ConnectionError(f"the answer of {self._server} broke off: {error}") from error

    def readable(self, timeout: float) -> bool:
        """Waits until a read need not, or for so long."""
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            return bool(selector.select(timeout))

    def shut(self) -> None:
        """Has a read in another thread return."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is not connected any more

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream:
    """Events as they come: iterate it, once, in a with statement, which closes it.

    It reconnects by itself: after losses, silence, and refusals that pass (429, 5xx), with growing pauses that are not the
    same for all. It ends with an error on other refusals and when a newer connection takes the client id (ReplacedError);
    without one after close.
    """

    def __init__(self, client: Client, options: StreamOptions) -> None:
        self._client = client
        self._follower = Follower(options)
        self._events = self._follow()
        self._closed = threading.Event()
        self._loop: int | None = None  # the thread that iterates
        self._mutex = threading.Lock()  # guards what follows
        self._connection: _Connection | None = None

    @property
    def cursor(self) -> str:
        """The place behind the last event that the loop has come back from; empty before the first connection. An event that
        the loop is left with, by break or an exception, does not count, unless it is committed."""
        return self._follower.handled

    def commit(self) -> None:
        """Commits everything that the loop was given, the event that it is at included. For the thread of the loop."""
        call = self._follower.commit_given()
        if call:
            self._client._call(call)
            self._follower.committed()

    def close(self) -> None:
        """Ends the loop, at once when it waits. Other threads may call it: then an event that the loop is at still counts, once
        the loop has come back from it."""
        self._closed.set()
        with self._mutex:
            if self._connection:
                self._connection.shut()
        if self._loop in (None, threading.get_ident()):
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        self._loop = threading.get_ident()
        return next(self._events)

    def _follow(self) -> Generator[Event, None, None]:
        try:
            while not self._closed.is_set():
                try:
                    yield from self._connect()
                except KillfeedError as error:
                    if self._closed.is_set():
                        return
                    self._closed.wait(self._follower.failed(error))
        finally:
            if self._follower.unfinished():
                try:
                    self._client._call(self._follower.commit_handled(), COMMIT_AT_END)
                    self._follower.committed()
                except KillfeedError:
                    pass  # it comes again, as everything does that is not committed

    def _connect(self) -> Generator[Event, None, None]:
        """Follows one connection to its end."""
        follower, client = self._follower, self._client
        before = follower.commit_before()
        if before:
            self._commit(before)
        with _Connection(client._server, client._context, follower.connect(), "text/event-stream", follower.silence) as connection:
            with self._mutex:
                self._connection = connection
            piece = b""
            try:
                while connection.reader.answer is None:
                    piece = connection.read(follower.silence)
                answer = connection.head
                if not 200 <= answer.status < 300:
                    body = bytearray(piece)
                    while not connection.reader.done:
                        body += connection.read(follower.silence)
                    answer.body = bytes(body)
                follower.connected(_calls.checked(answer))
                while not self._closed.is_set():
                    for event in follower.take(piece):
                        yield event
                        follower.came_back()
                        if self._closed.is_set():
                            return
                        self._commit_due()
                    if connection.reader.done:
                        raise ConnectionError("the server ended the stream")
                    due = follower.due_in()
                    if due is not None and not connection.readable(due):
                        self._commit_now()  # whatever the clock says: timers may be early
                    piece = connection.read(follower.silence)
            finally:
                with self._mutex:
                    self._connection = None

    def _commit_due(self) -> None:
        if self._follower.due_in() == 0:
            self._commit_now()

    def _commit_now(self) -> None:
        try:
            if not self._commit(self._follower.commit_handled()):
                raise ConnectionError("the log is another one")
        except ProblemError as error:
            if not error.temporary:
                raise
            self._follower.put_off()

    def _commit(self, call: Call) -> bool:
        """Commits what was handled. False: there is no such place in the server's log."""
        try:
            self._client._call(call)
        except ProblemError as error:
            self._follower.refused(error)
            return False
        self._follower.committed()
        return True
