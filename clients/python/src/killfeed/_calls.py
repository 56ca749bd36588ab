"""Requests made and answers read: what both clients share."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, cast
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from ._errors import KillfeedError, ProblemError
from ._http import Answer, request
from ._types import Event, Gap, Next, Page, Place, PollOptions, ReadOptions

LONGEST_URL = 8000
"""What a URL is not longer than; a longer list goes into a body. Proxies take 8 KiB, killfeed itself 64."""


class Call(NamedTuple):
    """A request. wait is how many seconds the server is told to wait."""

    method: str
    path: str
    body: bytes | None = None
    wait: float = 0


class Server:
    """Where requests go and what stands in each."""

    def __init__(self, server: str, token: str | None, user_agent: str) -> None:
        self.base: SplitResult = urlsplit(server)
        if self.base.scheme not in ("http", "https") or not self.base.hostname or self.base.query or self.base.fragment \
                or "@" in self.base.netloc or " " in server:
            raise ValueError(f"server {server!r}: want scheme, host and path, as in http://127.0.0.1:4004")
        self.host = self.base.hostname
        self.tls = self.base.scheme == "https"
        self.port = self.base.port or (443 if self.tls else 80)
        self._headers = {"User-Agent": user_agent}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self.encode(Call("GET", "/"))  # a header that cannot be sent is seen now

    def encode(self, call: Call, accept: str = "application/json") -> bytes:
        return request(self.base, call.method, call.path, {**self._headers, "Accept": accept}, call.body)

    def __str__(self) -> str:
        return self.base.geturl()


def _list(values: Iterable[int | str]) -> list[int | str]:
    if isinstance(values, str):
        raise TypeError(f"{values!r} is one text: want a list of them")
    return list(values)


def _position(to: str | int | datetime) -> str | int:
    return to.astimezone().isoformat() if isinstance(to, datetime) else to


def _same(value: Any) -> Any:
    return value


_QUERY: dict[str, Callable[[Any], Any]] = {
    "systems": _list, "topics": _list, "client_id": _same, "after": _same, "start": _position, "max_age": _same,
    "updates": int, "backfill": int, "filter": _same, "names": int, "fields": lambda fields: ",".join(fields),
}
_POLL = {**_QUERY, "limit": _same, "wait": _same, "commit": _same}


def _query(options: Mapping[str, Any], known: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    query: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"there is no option {name!r}: want {', '.join(known)}")
        if value is not None:
            query[name] = known[name](value)
    return query


def read_query(options: ReadOptions | Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that say what to read and how."""
    return _query(options, _QUERY)


def get(path: str, query: Mapping[str, Any]) -> Call:
    flat = {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in query.items()}
    return Call("GET", f"{path}?{urlencode(flat)}")


def post(path: str, body: Mapping[str, Any]) -> Call:
    return Call("POST", path, json.dumps(body).encode())


def _read(path: str, options: PollOptions) -> Call:
    query = _query(options, _POLL)
    call = get(path, query)
    if len(call.path) > LONGEST_URL:
        call = post(path, query)
    return call._replace(wait=float(options.get("wait") or 0))


def poll(options: PollOptions) -> Call:
    return _read("/api/killfeed", options)


def next_one(options: PollOptions) -> Call:
    return _read("/api/killfeed/next", options)


def _on(systems: Iterable[int | str], topics: Iterable[str]) -> dict[str, Any]:
    on = {"systems": _list(systems), "topics": _list(topics)}
    return {name: value for name, value in on.items() if value}


def commit(client_id: str, event_id: int | str, systems: Iterable[int | str], topics: Iterable[str]) -> Call:
    return post("/api/killfeed/commit", {"client_id": client_id, "event_id": event_id, **_on(systems, topics)})


def _client(client_id: str) -> str:
    # Dots alone would be tidied away.
    return "/api/clients/" + (quote(client_id, safe="") if client_id.strip(".") else client_id.replace(".", "%2E"))


def seek(client_id: str, to: str | int | datetime, systems: Iterable[int | str], topics: Iterable[str]) -> Call:
    return post(_client(client_id) + "/seek", {"to": _position(to), **_on(systems, topics)})


def place(client_id: str) -> Call:
    return Call("GET", _client(client_id))


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise KillfeedError("the server answers with what is no JSON object: is it a killfeed?")
    return cast(dict[str, Any], value)


def checked(answer: Answer) -> Answer:
    """The answer when it is a success."""
    if 200 <= answer.status < 300:
        return answer
    try:
        problem = _object(answer.body)
    except KillfeedError:
        problem = {}  # a proxy's page says nothing that its status does not
    problem = {"title": "", "detail": "", **problem, "status": answer.status}
    if 300 <= answer.status < 400:
        problem["detail"] = f"it redirects to {answer.headers.get('location', 'nowhere')}: use that as server"
    # Retry-After may be a date too, but neither a killfeed nor the proxies before one write that.
    after = answer.headers.get("retry-after", "")
    raise ProblemError(answer.status, problem, min(int(after[:9]), 3600) if after.isascii() and after.isdigit() else 0)


def event_of(text: str | bytes | dict[str, Any]) -> Event:
    o = text if isinstance(text, dict) else _object(text)
    try:
        return Event(
            o["event_id"], o["system_id"], datetime.fromisoformat(o["received_at"]), o["killmail"], o.get("update", False),
            o.get("backfill", False), o.get("names"), o.get("cursor", ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise KillfeedError(f"the server answers with what is no event: {error!r}: is it a killfeed?") from None


def gap_of(o: Any) -> Gap | None:
    return Gap(o["reason"], o.get("from"), o.get("to")) if o else None


def gap_of_text(text: str | None) -> Gap | None:
    return gap_of(_object(text or ""))


def open_of(text: str | None) -> tuple[str, str, Gap | None]:
    """The epoch, the cursor and the gap that a stream begins with."""
    o = _object(text or "")
    if not isinstance(o.get("cursor"), str) or not isinstance(o.get("epoch"), str):
        raise KillfeedError("the stream does not say where it begins: is it a killfeed?")
    return o["epoch"], o["cursor"], gap_of(o.get("gap"))


def page_of(answer: Answer) -> Page:
    o = _object(answer.body)
    try:
        return Page([event_of(e) for e in o["events"]], o["head"], o["epoch"], o["more"], gap_of(o.get("gap")), o.get("next"))
    except (KeyError, TypeError) as error:
        raise KillfeedError(f"the server answers with what is no page: {error!r}: is it a killfeed?") from None


def next_of(answer: Answer) -> Next:
    if answer.status != 204:
        o = _object(answer.body)
        return Next(event_of(o), gap_of(o.get("gap")))
    text = answer.headers.get("killfeed-gap", "")
    first, bounds, last = text.partition("-")
    gap = Gap("unknown", int(first), int(last)) if bounds else Gap(text) if text else None
    return Next(None, gap, answer.headers.get("killfeed-more") == "1")


def offsets_of(answer: Answer) -> dict[str, int]:
    offsets: dict[str, int] = _object(answer.body).get("offsets", {})
    return offsets


def place_of(answer: Answer) -> Place:
    o = _object(answer.body)
    return Place(o["client_id"], o["offsets"], o["lag"], datetime.fromisoformat(o["last_seen"]))
