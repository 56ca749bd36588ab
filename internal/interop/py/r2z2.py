"""A poller of R2Z2, as its published examples have it: python3 r2z2.py BASE [history]. It begins at the pointer and asks for one
number after the other: a tenth of a second after a file, 6 s after a 404. With "history" it reads all days instead."""
import gzip
import json
import sys
import time
import urllib.error
import urllib.request

from lines import say

base = sys.argv[1]


def get(path):
    """Returns a file, or None when it is not there."""
    headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "example (pilot@example.com)"}
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(base + path, headers=headers), timeout=10) as response:
                body = response.read()
                if response.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                return json.loads(body)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            if error.code not in (429, 503):
                raise
        except OSError as error:
            say(on="error", reason=str(error))
        time.sleep(2)


def poll():
    sequence = get("/ephemeral/sequence.json")["sequence_id"]
    say(on="pointer", sequence=sequence)
    while True:
        file = get(f"/ephemeral/{sequence}.json")
        if file is None:
            time.sleep(6)
            continue
        assert file["sequence_id"] == sequence, (file["sequence_id"], sequence)
        esi = file["esi"]
        say(on="killmail", killmail=file["killmail_id"], hash=file["zkb"]["hash"], system=esi["solar_system_id"],
            ship=esi["victim"]["ship_type_id"])
        sequence += 1
        time.sleep(0.1)


def history():
    """Prints each killmail that the days have, when its body is there too."""
    for day, count in get("/history/totals.json").items():
        hashes = get(f"/history/{day}.json")
        assert len(hashes) == count, (day, len(hashes), count)
        bodies = get(f"/history/raw/{day}.json")
        for killmail, hash in hashes.items():
            body = bodies[killmail]
            assert str(body["killmail_id"]) == killmail, (body["killmail_id"], killmail)
            say(on="killmail", killmail=body["killmail_id"], hash=hash, system=body["solar_system_id"],
                ship=body["victim"]["ship_type_id"])
    say(on="end")


history() if sys.argv[2:] == ["history"] else poll()
