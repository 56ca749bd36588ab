"""Event streams (text/event-stream of the HTML standard), taken apart."""

import re
from dataclasses import dataclass

LONGEST = 16 << 20
"""What no message is longer than, in bytes: a killmail of 8 MiB, and what is around it."""

_END = re.compile(rb"\r\n?|\n")
_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Message:
    """One message. type is empty when none was told. data is None when there was none, as in a heartbeat; so is id."""

    type: str
    data: str | None
    id: str | None


class Parser:
    """Takes bytes in pieces of any size. Unlike a browser it tells of messages without data too, because heartbeats move the
    place to resume from."""

    def __init__(self) -> None:
        self.retry = 0.0
        """For how many seconds the server wants to be left alone before a reconnection; 0: it did not say."""
        self._rest: list[bytes] = []  # of a line whose end has not come
        self._after_cr = False  # a line feed that comes next belongs to the line that has ended
        self._first = True
        self._rest_size = self._data_size = 0
        self._data: list[str] = []
        self._type = ""
        self._id: str | None = None

    def push(self, piece: bytes) -> list[Message]:
        """Takes bytes, and returns the messages that they complete. ValueError: it is too much for one."""
        messages: list[Message] = []
        start = 0
        if piece and self._after_cr:
            start = int(piece[0] == 0x0A)
            self._after_cr = False
        for end in _END.finditer(piece, start):
            self._rest.append(piece[start : end.start()])
            self._line(b"".join(self._rest), messages)
            self._rest.clear()
            self._rest_size = 0
            start = end.end()
            self._after_cr = end[0] == b"\r" and start == len(piece)
        if start < len(piece):
            self._rest.append(piece[start:])
            self._rest_size += len(piece) - start
        if self._data_size + self._rest_size > LONGEST:
            raise ValueError(f"a message is longer than {LONGEST} bytes")
        return messages

    def _line(self, raw: bytes, messages: list[Message]) -> None:
        line = raw.decode("utf-8", "replace")
        if self._first:
            line = line.removeprefix("\ufeff")
            self._first = False
        if not line:
            if self._data or self._id is not None:
                messages.append(Message(self._type, "\n".join(self._data) if self._data else None, self._id))
            self._data, self._type, self._id, self._data_size = [], "", None, 0
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._data_size += len(raw)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and _DIGITS.fullmatch(value):
            self.retry = min(int(value[:12]), 3_600_000) / 1000
