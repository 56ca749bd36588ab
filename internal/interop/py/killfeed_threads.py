"""What this project's own client for Python says: python3 killfeed_threads.py BASE calls, or BASE stream OPTIONS.

With calls each command is one, and its answer a line. A stream tells its events; where its options have step it waits behind each for
a command: go, commit, or leave."""
import json
import queue
import sys
import threading

from own import AGENT, fail, hooks, killfeed, next_of, page_of, place_of
from lines import say

base, mode, *given = sys.argv[1:]
feed = killfeed.Client(base, user_agent=AGENT)

CALLS = {
    "poll": lambda **options: page_of(feed.poll(**options)),
    "next": lambda **options: next_of(feed.next(**options)),
    "commit": lambda client_id, event_id, **on: {"offsets": feed.commit(client_id, event_id, **on)},
    "seek": lambda client_id, to, **on: place_of(feed.seek(client_id, to, **on)),
    "place": lambda client_id: place_of(feed.place(client_id)),
}

if mode == "calls":
    for text in sys.stdin:
        options = json.loads(text)
        name = options.pop("do")
        try:
            say(on=name, **CALLS[name](**options))
        except killfeed.KillfeedError as error:
            fail(error)
    sys.exit()

options = json.loads(given[0])
step = options.pop("step", False)
commands = queue.Queue()


def listen():
    for text in sys.stdin:
        name = json.loads(text)["do"]
        if name == "close":
            stream.close()
        else:
            commands.put(name)


try:
    with feed.stream(**options, **hooks()) as stream:
        threading.Thread(target=listen, daemon=True).start()
        for event in stream:
            say(on="event", event_id=event.event_id, cursor=event.cursor)
            name = commands.get() if step else "go"
            if name == "leave":
                break
            if name == "commit":
                stream.commit()
                say(on="committed")
    say(on="end")
except killfeed.KillfeedError as error:
    fail(error)
