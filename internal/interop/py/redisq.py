"""A reader of RedisQ, as bots have it: python3 redisq.py URL QUEUE. The URL is the whole address, such as
https://zkillredisq.stream/listen.php. One request after the other, forever; a package or null."""
import json
import sys
import time
import urllib.parse
import urllib.request

from lines import say

url, queue = sys.argv[1:]
params = urllib.parse.urlencode({"queueID": queue, "ttw": 1})

while True:
    request = urllib.request.Request(f"{url}?{params}", headers={"User-Agent": "example (pilot@example.com)"})
    try:
        with urllib.request.urlopen(request, timeout=15) as response:  # anything but a 2xx is an error
            package = json.load(response)["package"]
    except (OSError, ValueError, KeyError) as error:
        say(on="error", reason=str(error))
        time.sleep(1)
        continue
    if package is None:
        say(on="nothing")
        continue
    killmail, zkb = package["killmail"], package["zkb"]
    say(on="killmail", killmail=package["killID"], hash=zkb["hash"], system=killmail["solar_system_id"],
        ship=killmail["victim"]["ship_type_id"], value=f"{zkb['totalValue']:,}")
