"""What the scripts of this project's own client for Python have in common."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "clients" / "python" / "src"))

import killfeed  # noqa: E402
from lines import say  # noqa: E402

AGENT = "interop/1 (tests)"


def gap_of(gap):
    if gap is None:
        return None
    return {name: value for name, value in (("reason", gap.reason), ("from", gap.from_id), ("to", gap.to_id)) if value is not None}


def page_of(page):
    return {"ids": [e.event_id for e in page.events], "first": page.events[0].killmail if page.events else None, "head": page.head,
            "epoch": page.epoch, "more": page.more, "gap": gap_of(page.gap), "next": page.next}


def next_of(found):
    return {"ids": [found.event.event_id] if found.event else [], "gap": gap_of(found.gap), "more": found.more}


def place_of(place):
    return {"client_id": place.client_id, "offsets": place.offsets, "lag": place.lag}


def fail(error):
    if isinstance(error, killfeed.ReplacedError):
        say(on="replaced")
    elif isinstance(error, killfeed.ProblemError):
        say(on="problem", status=error.status, detail=error.detail, parameter=error.parameter, value=error.value, accepted=error.accepted)
    else:
        say(on="error", reason=repr(error))


def hooks():
    return {"on_gap": lambda gap: say(on="gap", **gap_of(gap)), "on_retry": lambda error, wait: say(on="retry", reason=str(error))}
