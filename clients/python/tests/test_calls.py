import json
import unittest
from datetime import datetime, timezone
from urllib.parse import parse_qs, urlsplit

from killfeed import Client, Gap, KillfeedError, Next, ProblemError, _calls
from killfeed._http import Answer


class TestCalls(unittest.TestCase):
    def test_a_poll(self):
        call = _calls.poll({"systems": [30000142, "Amarr"], "topics": ["label:solo"], "start": datetime(2026, 11, 23, tzinfo=timezone.utc),
                            "wait": 1.5, "updates": True, "backfill": False, "fields": ["a", "b.c"], "filter": "isk>1b;npc=0"})
        self.assertEqual((call.method, call.body, call.wait), ("GET", None, 1.5))
        self.assertEqual(parse_qs(urlsplit(call.path).query), {
            "systems": ["30000142,Amarr"], "topics": ["label:solo"], "start": [datetime(2026, 11, 23, tzinfo=timezone.utc).astimezone().isoformat()],
            "wait": ["1.5"], "updates": ["1"], "backfill": ["0"], "fields": ["a,b.c"], "filter": ["isk>1b;npc=0"]})

    def test_long_lists_go_into_a_body(self):
        call = _calls.poll({"systems": range(30000001, 30001001), "limit": 3})
        self.assertEqual((call.method, call.path), ("POST", "/api/killfeed"))
        self.assertEqual(json.loads(call.body), {"systems": list(range(30000001, 30001001)), "limit": 3})

    def test_names_in_paths(self):
        for name, path in {"a/b ü": "a%2Fb%20%C3%BC", "..": "%2E%2E", ".a": ".a"}.items():
            self.assertEqual(_calls.place(name).path, "/api/clients/" + path)

    def test_an_unknown_option(self):
        with self.assertRaises(TypeError):
            _calls.poll({"system": 30000142})

    def test_refusals(self):
        with self.assertRaises(ProblemError) as raised:
            _calls.checked(Answer(400, {}, b'{"title":"Bad Request","status":400,"detail":"no","parameter":"limit","value":"x","accepted":"y"}'))
        error = raised.exception
        self.assertEqual((error.status, error.detail, error.parameter, error.value, error.accepted, error.temporary), (400, "no", "limit", "x", "y", False))
        for status, headers, body, temporary, after in ((503, {"retry-after": "7"}, b"{}", True, 7), (502, {}, b"<html>", True, 0),
                                                        (429, {"retry-after": "99999999999"}, b"[]", True, 3600)):
            with self.assertRaises(ProblemError) as raised:
                _calls.checked(Answer(status, headers, body))
            self.assertEqual((raised.exception.temporary, raised.exception.retry_after), (temporary, after))
        with self.assertRaisesRegex(ProblemError, "https://elsewhere.test"):
            _calls.checked(Answer(301, {"location": "https://elsewhere.test"}))

    def test_an_empty_next(self):
        for text, gap in {"": None, "3-7": Gap("unknown", 3, 7), "epoch": Gap("epoch")}.items():
            self.assertEqual(_calls.next_of(Answer(204, {"killfeed-gap": text, "killfeed-more": "1"})), Next(None, gap, True))

    def test_what_is_no_killfeed(self):
        for body in (b"<html>", b"[]", b"{}", b'{"events":[{}]}', b'{"events":3}'):
            with self.subTest(body), self.assertRaises(KillfeedError):
                _calls.page_of(Answer(200, {}, body))

    def test_servers(self):
        for server in ("127.0.0.1:4004", "ftp://a", "http://", "http://a/?b", "http://a/#b", "http://u:p@a/", "http://a/b c"):
            with self.subTest(server), self.assertRaises(ValueError):
                Client(server)
        with self.assertRaises(ValueError):
            Client("http://a", token="x\ny")
