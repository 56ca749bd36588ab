import json
import unittest
from pathlib import Path

from killfeed._sse import Parser

CASES = json.loads((Path(__file__).parents[2] / "testdata" / "sse.json").read_text())


def parse(*pieces):
    parser = Parser()
    messages = [m for piece in pieces for m in parser.push(piece)]
    return round(parser.retry * 1000), [{"type": m.type, "data": m.data, "id": m.id} for m in messages]


class TestParser(unittest.TestCase):
    def test_cases(self):
        for case in CASES:
            with self.subTest(case["name"]):
                text = case["text"].encode()
                want = case["retry"], case["messages"]
                self.assertEqual(parse(text), want)
                self.assertEqual(parse(*(text[i : i + 1] for i in range(len(text)))), want)
                for i in range(len(text) + 1):
                    self.assertEqual(parse(text[:i], text[i:]), want, f"broken at {i}")

    def test_what_never_ends_is_given_up(self):
        for piece in (b"x" * (1 << 20), b"data: x\n" * (1 << 17)):
            parser = Parser()
            with self.assertRaises(ValueError):
                for _ in range(200):
                    parser.push(piece)
