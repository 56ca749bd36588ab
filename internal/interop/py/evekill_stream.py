"""A listener of EVE-KILL's stream: python3 evekill_stream.py BASE TOPICS. It reads Server-Sent Events line by line, and resumes with
the id of the last one."""
import json
import sys
import time
import urllib.request

from lines import say

base, topics = sys.argv[1:]
last = None
while True:
    headers = {"Accept": "text/event-stream"}
    if last is not None:
        headers["Last-Event-ID"] = last
    request = urllib.request.Request(f"{base}/feed/stream?topics={topics}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as stream:
            say(on="open")
            event = {}
            for line in stream:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    event[name] = value
                    continue
                if event.get("event") == "killmail":
                    mail = json.loads(event["data"])
                    say(on="killmail", killmail=mail["killmail_id"], hash=mail["killmail_hash"],
                        system=mail["solar_system_id"], ship=mail["victim"]["ship_type_id"])
                    last = event["id"]
                event = {}
    except OSError as error:
        say(on="error", reason=str(error))
    time.sleep(1)
