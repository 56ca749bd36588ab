"""Client for killfeed, a self-hosted killmail feed for EVE Online tools.

A stream gives every event that is on its topics, ascending by event id, across any number of lost connections: without a
gap, or with one that is told, and each once. With a client id the server keeps the place, and an event comes again unless it
was committed: at least once. Polls with commit="auto" are at most once.

Client is for threads, killfeed.aio.Client for asyncio. They have the same methods.
"""

from ._errors import ConnectionError, KillfeedError, ProblemError, ReplacedError
from ._types import Event, Gap, Next, Page, Place, PollOptions, ReadOptions, StreamOptions
from .client import Client, Stream

__all__ = [
    "Client", "ConnectionError", "Event", "Gap", "KillfeedError", "Next", "Page", "Place", "PollOptions", "ProblemError",
    "ReadOptions", "ReplacedError", "Stream", "StreamOptions",
]
