"""What the scripts here have in common: a line of JSON goes out for everything that happens. Scripts decide nothing."""
import json


def say(**line):
    print(json.dumps(line), flush=True)
