"""What a client of WebSocket needs at least, for the scripts here: text of any length, pings answered, and no extensions. It stands
for websocket-client and websockets, which the standard library does not have."""
import base64
import os
import socket
import struct
import urllib.parse


class Closed(Exception):
    """The connection is over."""


class WebSocket:
    def __init__(self, url):
        url = urllib.parse.urlsplit(url)
        self.conn = socket.create_connection((url.hostname, url.port), timeout=60)
        self.file = self.conn.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        target = url.path + ("?" + url.query if url.query else "")
        self.conn.sendall((f"GET {target} HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        status = self.file.readline()
        while self.file.readline() not in (b"\r\n", b""):
            pass
        if b" 101 " not in status:
            raise ConnectionError(f"no upgrade: {status!r}")

    def send(self, text, opcode=1):
        data, mask = text if isinstance(text, bytes) else text.encode(), os.urandom(4)
        if len(data) < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | len(data))
        else:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, len(data))
        self.conn.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def recv(self):
        """Returns the next message."""
        message = b""
        while True:
            first, length = self._read(2)
            if length == 126:
                length, = struct.unpack("!H", self._read(2))
            elif length == 127:
                length, = struct.unpack("!Q", self._read(8))
            data, opcode = self._read(length), first & 0x0F
            if opcode == 8:
                self.send(data, 8)
                self.conn.close()
                raise Closed(data[:2])
            if opcode == 9:
                self.send(data, 10)
            elif opcode < 8:
                message += data
                if first & 0x80:
                    return message.decode()

    def _read(self, n):
        data = self.file.read(n)
        if len(data) < n:
            raise Closed
        return data
