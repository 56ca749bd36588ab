"""A listener of zKillboard's websocket, as bots with websocket-client have it: python3 killstream.py URL. Each message of the
killstream is a killmail of ESI with zkb in it. It comes back by itself."""
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
        socket.send(json.dumps({"action": "sub", "channel": "killstream"}))
        while True:
            kill = json.loads(socket.recv())
            zkb = kill["zkb"]
            say(on="killmail", connection=connection, killmail=kill["killmail_id"], hash=zkb["hash"],
                system=kill["solar_system_id"], ship=kill["victim"]["ship_type_id"], url=zkb["url"])
    except (Closed, OSError):
        time.sleep(1)
