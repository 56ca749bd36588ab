"""A poller of EVE-KILL's feed: python3 evekill_poll.py BASE. The first call only tells where the feed is; then it follows next, at
once while there is more and else once a second."""
import json
import sys
import time
import urllib.request

from lines import say

base, path = sys.argv[1], "/feed/poll?after=0"
while True:
    try:
        with urllib.request.urlopen(base + path, timeout=10) as response:
            page = json.load(response)
    except OSError as error:
        say(on="error", reason=str(error))
        time.sleep(1)
        continue
    if path.endswith("after=0"):
        say(on="head")
    for entry in page["data"]:
        mail = entry["data"]
        say(on="killmail", killmail=entry["killmail_id"], hash=entry["killmail_hash"], system=mail["solar_system_id"],
            ship=mail["victim"]["ship_type_id"])
    path = page["next"]
    if not page["hasMore"]:
        time.sleep(1)
