"""As much of HTTP/1.1 as a client needs that sends one request over each connection: no input and output of its own, so that
threads and asyncio share it."""

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult

_MAX_HEAD = 64 << 10
_MAX_LINE = 16 << 10
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: .*)?")
_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")


class HTTPError(ValueError):
    """What came is no HTTP."""


@dataclass(slots=True)
class Answer:
    """What came back. The names of headers are in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=lambda: {})
    body: bytes = b""


def request(base: SplitResult, method: str, path: str, headers: dict[str, str], body: bytes | None) -> bytes:
    """The bytes of a request. ValueError: a header would become two."""
    lines = [f"{method} {base.path.rstrip('/')}{path} HTTP/1.1", f"Host: {base.netloc}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    for line in lines:
        if any(c < " " for c in line):
            raise ValueError(f"{line!r} cannot be sent: it has control characters")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


class Reader:
    """Takes the bytes of one answer in pieces of any size and gives those of its body."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        """The head, once it has come. Its body stays empty."""
        self.done = False
        """The answer has come whole."""
        self._buffer = bytearray()
        self._left: int | None = None  # of the body, or of a chunk; None: until the connection ends
        self._chunked = False
        self._trailer = False

    def push(self, piece: bytes) -> bytes:
        """Takes bytes, and returns those of the body among them. No bytes: the connection has ended. HTTPError: it is none,
        or ended before its time."""
        if not piece:
            if self.answer is None or not self.done and (self._chunked or self._left is not None):
                raise HTTPError("the answer broke off")
            self.done = True
            return b""
        self._buffer += piece
        if self.answer is None and not self._head():
            return b""
        if self.done:
            return b""
        if not self._chunked:
            return self._take()
        body = bytearray()
        while not self.done:
            if self._left:
                part = self._take()
                if not part:
                    break
                body += part
            elif not self._chunk():
                break
        return bytes(body)

    def _take(self) -> bytes:
        count = len(self._buffer) if self._left is None else min(self._left, len(self._buffer))
        part = bytes(self._buffer[:count])
        del self._buffer[:count]
        if self._left is not None:
            self._left -= count
            self.done = self._left == 0 and not self._chunked
        return part

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > _MAX_LINE:
                raise HTTPError("a line is too long")
            return None
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return line

    def _chunk(self) -> bool:
        """Reads what is between chunks. False: more has to come."""
        line = self._line()
        if line is None:
            return False
        if self._trailer:
            self.done = not line
        elif line or self._left is None:  # the empty one ends the chunk before
            size = line.partition(b";")[0].strip()
            if not _HEX.fullmatch(size):
                raise HTTPError("a chunk has no size")
            self._left = int(size, 16)
            self._trailer = self._left == 0
        return True

    def _head(self) -> bool:
        while True:
            end = re.search(rb"\r?\n\r?\n", self._buffer)
            if end is None:
                if len(self._buffer) > _MAX_HEAD:
                    raise HTTPError("the head of the answer is too long")
                return False
            lines = bytes(self._buffer[: end.start()]).split(b"\n")
            del self._buffer[: end.end()]
            status = _STATUS.fullmatch(lines[0].rstrip(b"\r"))
            if status is None:
                raise HTTPError(f"what answers is no HTTP: {bytes(lines[0][:40])!r}")
            if status[1].startswith(b"1"):
                continue  # another one follows
            break
        answer = Answer(int(status[1]))
        for line in lines[1:]:
            name, colon, value = line.decode("latin-1").partition(":")
            if colon:
                answer.headers[name.strip().lower()] = value.strip()
        self.answer = answer
        if answer.status in (204, 304):
            self._left, self.done = 0, True
        elif "chunked" in answer.headers.get("transfer-encoding", "").lower():
            self._chunked = True
        elif "content-length" in answer.headers:
            length = answer.headers["content-length"]
            if not re.fullmatch(r"[0-9]{1,15}", length):
                raise HTTPError(f"the length {length!r} is none")
            self._left = int(length)
            self.done = self._left == 0
        return True
