import unittest
from urllib.parse import urlsplit

from killfeed._http import HTTPError, Reader, request


def read(*pieces, ends=False):
    reader = Reader()
    body = b"".join(reader.push(piece) for piece in pieces if piece)
    if ends:
        reader.push(b"")
    return reader.answer and reader.answer.status, body, reader.done


class TestReader(unittest.TestCase):
    def test_answers(self):
        cases = {
            "with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", (200, b"abc", True)),
            "without a body": (b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", (204, b"", True)),
            "of length 0": (b"HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", (404, b"", True)),
            "in chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\n\n\r\nA \r\n0123456789\r\n0\r\n\r\n",
                          (200, b"abc\n0123456789", True)),
            "in chunks with a trailer": (b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\r\n\r\n0\r\nX: y\r\n\r\n", (200, b"\r\n", True)),
            "to the end": (b"HTTP/1.0 200 OK\nX: y\n\nabc", (200, b"abc", False)),
            "behind others": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
                              (200, b"a", True)),
        }
        for name, (text, want) in cases.items():
            with self.subTest(name):
                self.assertEqual(read(text), want)
                self.assertEqual(read(*(text[i : i + 1] for i in range(len(text)))), want)
                for i in range(len(text) + 1):
                    self.assertEqual(read(text[:i], text[i:]), want, f"broken at {i}")

    def test_the_end_ends_what_has_no_length(self):
        self.assertEqual(read(b"HTTP/1.1 200 OK\r\n\r\nabc", ends=True), (200, b"abc", True))

    def test_what_breaks_off(self):
        for text in (b"", b"HTTP/1.1 200 OK\r\nX", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
                     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"):
            with self.subTest(text), self.assertRaises(HTTPError):
                read(text, ends=True)

    def test_what_is_no_http(self):
        for text in (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
                     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", b"x" * 70000):
            with self.subTest(text[:40]), self.assertRaises(HTTPError):
                read(text)


class TestRequest(unittest.TestCase):
    def test_request(self):
        base = urlsplit("http://[::1]:4004/feed/")
        self.assertEqual(request(base, "GET", "/api", {"User-Agent": "x"}, None),
                         b"GET /feed/api HTTP/1.1\r\nHost: [::1]:4004\r\nConnection: close\r\nUser-Agent: x\r\n\r\n")

    def test_headers_stay_one(self):
        with self.assertRaises(ValueError):
            request(urlsplit("http://a"), "GET", "/", {"User-Agent": "x\r\nCookie: y"}, None)
