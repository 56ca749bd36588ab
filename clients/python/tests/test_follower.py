"""The decisions of a stream, without a server."""

import json
import unittest
from unittest import mock
from urllib.parse import parse_qs, urlsplit

from killfeed import ConnectionError, Gap, KillfeedError, ProblemError, ReplacedError
from killfeed._follower import Follower, OtherLog
from killfeed._http import Answer

EPOCH = "0123abcd"


def begin(after, epoch=EPOCH, **more):
    data = json.dumps({"head": 9, "epoch": epoch, "start": after + 1, "cursor": f"{after}-{epoch}", **more})
    return f"retry: 2000\nid: {after}-{epoch}-nonce\nevent: open\ndata: {data}\n\n".encode()


def kill(id, epoch=EPOCH):
    data = json.dumps({"event_id": id, "system_id": 30000142, "received_at": "2026-11-23T18:00:00.000Z", "killmail": {},
                       "cursor": f"{id}-{epoch}"})
    return f"id: {id}-{epoch}-nonce\nevent: new_killmail\ndata: {data}\n\n".encode()


def lost(reason, to):
    return f'id: {to}-{EPOCH}\nevent: gap\ndata: {{"reason":"{reason}","from":2,"to":{to}}}\n\n'.encode()


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class TestFollower(unittest.TestCase):
    def setUp(self):
        self.clock = Clock()
        patch = mock.patch("time.monotonic", self.clock)
        patch.start()
        self.addCleanup(patch.stop)
        self.gaps, self.waits = [], []

    def follower(self, **options):
        return Follower({"topics": ["all"], "on_gap": self.gaps.append, "on_retry": lambda _, wait: self.waits.append(wait), **options})

    def connect(self, follower):
        query = parse_qs(urlsplit(follower.connect().path).query)
        del query["topics"]
        return {name: values[0] for name, values in query.items()}

    def take(self, follower, *pieces, last=None):
        ids = []
        for piece in pieces:
            for event in follower.take(piece):
                ids.append(event.event_id)
                if event.event_id == last:
                    return ids
                follower.came_back()
        return ids

    def test_resumes_by_cursor(self):
        f = self.follower(start="earliest")
        self.assertEqual(self.connect(f), {"start": "earliest"})
        f.failed(ConnectionError("nobody is there"))
        self.assertEqual(self.connect(f), {"start": "earliest"})
        self.assertEqual(self.take(f, begin(0), kill(1) + kill(2), kill(3)[:40]), [1, 2])
        f.failed(ConnectionError("it broke off"))
        self.assertEqual(self.connect(f), {"after": f"2-{EPOCH}"})
        f.failed(ProblemError(503, {}, 7))
        self.connect(f)
        self.take(f, begin(2))
        f.failed(ConnectionError("it broke off"))
        self.connect(f)
        self.assertEqual(self.take(f, begin(2), kill(3), f": heartbeat\nid: 8-{EPOCH}\n\n".encode()), [3])
        f.failed(ConnectionError("it broke off"))
        self.assertEqual(self.connect(f), {"after": f"8-{EPOCH}"})
        for wait, least in zip(self.waits, [0.5, 2, 7, 8, 2], strict=True):
            self.assertTrue(least <= wait <= 1.2 * least, f"{wait}, want {least} and up to a fifth more")

    def test_commits_what_was_handled(self):
        f = self.follower(client_id="bot", start="earliest")
        same = {"client_id": "bot", "start": "earliest", "commit": "manual"}
        self.assertEqual(self.connect(f), same)
        self.take(f, begin(0))
        self.assertIsNone(f.due_in())
        self.take(f, kill(1) + kill(2) + kill(3), last=3)
        self.assertEqual(f.due_in(), 1)
        self.clock.now += 5
        self.assertEqual(f.due_in(), 0)
        f.put_off()
        self.assertEqual(f.due_in(), 1)
        self.assertEqual(json.loads(f.commit_before().body), {"client_id": "bot", "event_id": f"2-{EPOCH}", "topics": ["all"]})
        f.committed()
        self.assertIsNone(f.commit_before())
        self.assertFalse(f.unfinished())
        self.assertEqual(self.connect(f), same)
        self.assertEqual(json.loads(f.commit_given().body)["event_id"], f"3-{EPOCH}")

    def test_manual(self):
        f = self.follower(client_id="bot", commit="manual", after=0)
        self.assertEqual(self.connect(f), {"client_id": "bot", "after": "0", "commit": "manual"})
        self.take(f, begin(0), kill(1), kill(2))
        self.clock.now += 5
        self.assertIsNone(f.due_in())
        self.assertIsNone(f.commit_before())
        self.assertFalse(f.unfinished())
        self.assertEqual(self.connect(f), {"client_id": "bot", "commit": "manual"})
        self.assertEqual(self.take(f, begin(0), kill(1)), [1])

    def test_another_log(self):
        for options in ({}, {"commit": "manual"}):
            with self.subTest(options):
                self.gaps.clear()
                f = self.follower(client_id="bot", **options)
                self.connect(f)
                self.take(f, begin(4))
                self.connect(f)
                with self.assertRaises(OtherLog) as raised:
                    self.take(f, begin(9, "ffffffff"))
                self.assertEqual(f.failed(raised.exception), 0)
                self.assertEqual(self.connect(f), {"client_id": "bot", "commit": "manual", "after": f"4-{EPOCH}"})
                self.assertEqual(self.take(f, begin(0, "ffffffff", gap={"reason": "epoch"}), kill(1, "ffffffff")), [1])
                self.assertEqual(self.gaps, [Gap("epoch")])

    def test_a_commit_that_is_no_place_any_more(self):
        f = self.follower(client_id="bot")
        self.connect(f)
        self.take(f, begin(4), kill(5))
        f.refused(ProblemError(400, {}, 0))
        self.assertIsNone(f.commit_before())
        self.assertEqual(self.connect(f)["after"], f"5-{EPOCH}")
        with self.assertRaises(ProblemError):
            f.refused(ProblemError(403, {}, 0))

    def test_gaps(self):
        f = self.follower()
        self.connect(f)
        self.take(f, begin(1, gap={"reason": "retention", "from": 1, "to": 1}), lost("retention", 3), lost("damaged", 7))
        self.assertEqual(self.gaps, [Gap("retention", 1, 1), Gap("retention", 2, 3), Gap("damaged", 2, 7)])
        self.assertEqual(self.connect(f), {"after": f"3-{EPOCH}"})

    def test_ends(self):
        f = self.follower(client_id="bot")
        self.connect(f)
        with self.assertRaises(ReplacedError) as raised:
            self.take(f, begin(0), kill(1), b"event: replaced\ndata: {}\n\n")
        with self.assertRaises(ReplacedError):
            f.failed(raised.exception)
        self.assertFalse(f.unfinished())  # the name is another one's
        for error in (ProblemError(400, {}, 0), ProblemError(404, {}, 0), KillfeedError("no stream")):
            with self.assertRaises(type(error)):
                f.failed(error)
        for piece in (b"event: open\ndata: {\n\n", b"event: open\ndata: {}\n\n", b"event: new_killmail\ndata: {}\n\n"):
            f = self.follower()
            self.connect(f)
            with self.assertRaises(KillfeedError):
                self.take(f, piece)
        with self.assertRaises(KillfeedError):
            f.connected(Answer(200, {"content-type": "application/json"}))

    def test_options(self):
        for options in ({"commit": "manual"}, {"limit": 3}, {"systems": "Jita"}):
            with self.subTest(options), self.assertRaises(TypeError):
                self.follower(**options)
        with self.assertRaises(ValueError):
            self.follower(client_id="bot", commit="auto")
        with self.assertRaises(TypeError):
            self.follower().commit_given()
