"""A client of wanderer-kills' channel, as its example in Python has it: python3 wanderer.py BASE SYSTEM... BASE is such as
ws://localhost:4004. It asks for version 2.0.0 of the protocol, and speaks in objects all the same, as version 1.0.0 does. It joins
with nothing, then subscribes to the systems. When the connection is over it ends."""
import json
import sys

from lines import say
from websocket import Closed, WebSocket

base, systems = sys.argv[1], [int(one) for one in sys.argv[2:]]
socket = WebSocket(f"{base}/socket/websocket?vsn=2.0.0&client_identifier=python_example_client")


def push(event, payload, ref):
    socket.send(json.dumps({"topic": "killmails:lobby", "event": event, "payload": payload, "ref": ref}))


push("phx_join", {}, 1)
reply = json.loads(socket.recv())
if reply.get("event") != "phx_reply" or reply["payload"]["status"] != "ok":
    sys.exit(f"no join: {reply}")
say(on=reply["payload"]["response"]["status"])
push("subscribe_systems", {"systems": systems}, 2)
push("get_status", {}, 4)
try:
    while True:
        message = json.loads(socket.recv())
        event, payload = message.get("event"), message.get("payload", {})
        if event == "killmail_update":
            for kill in payload["killmails"]:
                blow = next(one for one in kill["attackers"] if one["final_blow"])
                say(on="killmail", killmail=kill["killmail_id"], hash=kill["zkb"]["hash"], system=payload["system_id"],
                    ship=kill["victim"]["ship_type_id"], blow=blow["ship_type_id"], time=kill["kill_time"],
                    preload=payload["preload"])
        elif event == "kill_count_update":
            say(channel="counts", on="count", system=payload["system_id"], count=payload["count"])
        elif event == "preload_complete":
            say(channel="preloads", on="preloaded", count=payload["total_kills"])
        elif event == "phx_reply":
            response = payload["response"]
            if payload["status"] != "ok":
                say(channel="replies", on="refused", reason=response["reason"])
            else:
                say(channel="replies", on={2: "subscribed", 4: "status"}[message["ref"]],
                    count=len(response["subscribed_systems"]))
except Closed:
    say(on="closed")
