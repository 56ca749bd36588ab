"""A client of wanderer-kills' REST API, as its integration guide has it: python3 wanderer_rest.py BASE SYSTEM KILLMAIL. BASE is such
as http://localhost:4004/api/v1."""
import datetime
import json
import sys
import urllib.error
import urllib.request

from lines import say

base, system, killmail = sys.argv[1:]


def call(path, body=None):
    """Returns what is in the envelope."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        answer = json.load(error)
        say(on="error", status=error.code, reason=answer["error"], code=answer["code"])
    datetime.datetime.fromisoformat(answer["timestamp"].replace("Z", "+00:00"))
    return answer.get("data")


def show(on, kill):
    say(on=on, killmail=kill["killmail_id"], hash=kill["zkb"]["hash"], system=kill["system_id"],
        ship=kill["victim"]["ship_type_id"], time=kill["kill_time"])


for kill in call(f"/kills/system/{system}?since_hours=24&limit=50")["kills"]:
    show("system", kill)
bulk = call("/kills/systems", {"system_ids": [int(system), 30000145], "since_hours": 24, "limit": 50})["systems_kills"]
for kill in bulk[system]:
    show("systems", kill)
assert bulk["30000145"] == [], bulk["30000145"]
for kill in call(f"/kills/cached/{system}")["kills"]:
    show("cached", kill)
say(on="count", count=call(f"/kills/count/{system}")["count"])
show("one", call(f"/killmail/{killmail}"))
call("/killmail/1")
call("/kills/system/Jita?since_hours=24")
