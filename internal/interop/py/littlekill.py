"""A listener of channels of zKillboard's websocket, as its wiki has it: python3 littlekill.py URL CHANNEL... One message subscribes
to one channel; a killmail that is on several of them comes on each."""
import json
import sys
import time

from lines import say
from websocket import Closed, WebSocket

connection = 0
while True:
    try:
        socket = WebSocket(sys.argv[1])
        connection += 1
        for channel in sys.argv[2:]:
            socket.send(json.dumps({"action": "sub", "channel": channel}))
        while True:
            kill = json.loads(socket.recv())
            say(on=kill["action"], connection=connection, channel=kill["channel"], killmail=kill["killID"], hash=kill["hash"],
                ship=kill["ship_type_id"], url=kill["url"])
    except (Closed, OSError):
        time.sleep(1)
