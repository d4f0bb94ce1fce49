"""As much of ZeroMQ's wire protocol (ZMTP 3, mechanism NULL) and of protobuf as a stranger needs
to knock at a port, to talk well, or to talk nonsense."""

import ctypes
import pathlib
import re
import socket
import struct
import time

XXH3 = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
XXH3.argtypes, XXH3.restype = (ctypes.c_char_p, ctypes.c_size_t), ctypes.c_uint64

GREETING = (b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" +
            bytes(31))
MORE, LONG, COMMAND = 1, 2, 4


def frame(body, flags=0):
    if len(body) > 255:
        return struct.pack(">BQ", flags | LONG, len(body)) + body
    return struct.pack(">BB", flags, len(body)) + body


def ready(kind, identity=b""):
    body = b"\x05READY"
    for name, value in ((b"Socket-Type", kind), (b"Identity", identity)):
        body += bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
    return frame(body, COMMAND)


class Peer:
    """One connection: to a port of this machine, or one that was accepted."""

    def __init__(self, port=None, kind=b"DEALER", identity=b"", accepted=None):
        self.socket = accepted or socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.settimeout(10)
        self.socket.sendall(GREETING + ready(kind, identity))
        self.read(64)
        self.frame()  # its READY

    def read(self, count):
        data = b""
        while len(data) < count:
            block = self.socket.recv(count - len(data))
            if not block:
                raise ConnectionError("closed")
            data += block
        return data

    def frame(self):
        flags, = self.read(1)
        length, = struct.unpack(">Q", self.read(8)) if flags & LONG else self.read(1)
        return flags, self.read(length)

    def receive(self, limit_s=10):
        """The next message, a list of parts; pings are answered meanwhile."""
        end, parts = time.monotonic() + limit_s, []
        while time.monotonic() < end:
            flags, body = self.frame()
            if flags & COMMAND:
                if body.startswith(b"\x04PING"):
                    self.raw(frame(b"\x04PONG" + body[7:], COMMAND))
                continue
            parts.append(body)
            if not flags & MORE:
                return parts
        raise TimeoutError("no message")

    def send(self, *parts):
        self.raw(b"".join(frame(p, MORE if i + 1 < len(parts) else 0)
                          for i, p in enumerate(parts)))

    def send_data(self, envelope, body):
        """A step or a result, with the checksums that plain links want."""
        sums = struct.pack("<QQ", *(XXH3(part, len(part)) for part in (envelope, body)))
        self.send(envelope, body, sums)

    def raw(self, data):
        self.socket.sendall(data)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# ---- protobuf ----

def varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


class Fixed64(int):
    """An integer of protobuf's type fixed64."""


def message(fields):
    """{number: int, float, bytes, str, or a list of these} -> bytes"""
    out = b""
    for number, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, Fixed64):
                out += varint(number << 3 | 1) + struct.pack("<Q", value)
            elif isinstance(value, int):
                out += varint(number << 3) + varint(value)
            elif isinstance(value, float):
                out += varint(number << 3 | 5) + struct.pack("<f", value)
            else:
                data = value.encode() if isinstance(value, str) else value
                out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def parse(data):
    """bytes -> {number: last value}"""
    fields, at = {}, 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = number()
        if key & 7 == 0:
            fields[key >> 3] = number()
            continue
        length = {1: 8, 5: 4}.get(key & 7) or number()
        assert at + length <= len(data)
        fields[key >> 3] = data[at:at + length]
        at += length
    return fields


# The union of Control in proto/cluster.proto.
HELLO, WELCOME, REFUSE, HEARTBEAT, LOAD, PROGRESS, READY, FAILED, UNLOAD, LEAVE = range(1, 11)


def control(kind, fields):
    return message({kind: message(fields)})


def known_answer():
    """Of the self-test's first round."""
    source = pathlib.Path(__file__).resolve().parents[2] / "proto" / "known_answers.c"
    return int(re.search(r"0x[0-9a-f]+", source.read_text())[0], 16)


PROTOCOL = 6  # PACELINE_PROTOCOL_VERSION


def hello(protocol=PROTOCOL, numerics=1, version="9.9.9", name="stranger", threads=1, isa="scalar",
          memory=1 << 30, endpoint="tcp://127.0.0.1:9", incarnation=77):
    answer = message({1: Fixed64(known_answer()), 2: 1})
    return control(HELLO, {1: protocol, 2: numerics, 3: version, 4: name, 5: threads, 6: isa,
                           7: memory, 8: endpoint, 9: incarnation, 52: message({1: 0, 2: answer})})
