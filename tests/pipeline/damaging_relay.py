"""A relay between two processes that speak ZMTP without CURVE. It changes a byte of a message when it
is told to; lengths and flags stay as they were, so that the connection lives on."""

import contextlib
import socket
import struct
import threading

from zmtp import COMMAND, LONG, MORE


class DamagingRelay:
    """Listens on a free port of this machine and forwards to `port`."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.armed = None  # (part, offset): 0 is the envelope, 1 the frame, 2 the checksums
        self.damaged = 0
        self.sockets = [self.listener]
        threading.Thread(target=self.accept, daemon=True).start()

    def damage(self, part, offset=0):
        """A byte of the next message that comes through, at this place of this part."""
        self.armed = part, offset

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.target))
                self.sockets += [client, server]
                for pump in (self.forward, client, server), (self.back, server, client):
                    threading.Thread(target=pump[0], args=pump[1:], daemon=True).start()

    def back(self, server, client):
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)

    def forward(self, client, server):
        with contextlib.suppress(OSError, ValueError):
            stream, part = client.makefile("rb"), 0
            for _ in range(64):  # a greeting comes in pieces that wait for each other
                server.sendall(self.exactly(stream, 1))
            while True:
                head = self.exactly(stream, 1)
                head += self.exactly(stream, 8 if head[0] & LONG else 1)
                length, = struct.unpack(">Q", head[1:]) if head[0] & LONG else head[1:]
                body = self.exactly(stream, length)
                if not head[0] & COMMAND:
                    body = self.change(part, body)
                    part = part + 1 if head[0] & MORE else 0
                server.sendall(head + body)

    def change(self, part, body):
        if not self.armed or self.armed[0] != part or not body:
            return body
        at = self.armed[1] % len(body)
        self.armed = None
        self.damaged += 1
        return body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1:]

    @staticmethod
    def exactly(stream, count):
        data = stream.read(count)
        if len(data) < count:
            raise ValueError("the client has closed")
        return data

    def close(self):
        for s in self.sockets:
            s.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
