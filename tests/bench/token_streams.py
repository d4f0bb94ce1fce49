"""Clients that take as little of the machine as they can: one thread for all streams, which counts
events and notes when they came."""

import json
import selectors
import socket
import time


class Stream:
    """One answer on its way. times: when a token came, one entry for each event with text. keeps: its
    text is wanted in the end."""

    def __init__(self, cluster, body, path="/v1/completions", keeps=False):
        host, port = cluster.http.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = json.dumps({"temperature": 0, "ignore_eos": True, **body, "stream": True})
        key = f"Authorization: Bearer {cluster.key}\r\n" if cluster.key else ""
        # The first event of a chat tells the role alone.
        self.skip = 1 if "chat" in path else 0
        self.events = [] if keeps else None
        self.begin, self.times, self.rest, self.is_done = time.monotonic(), [], b"", False
        self.socket.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{key}Content-Length: {len(data)}"
                            f"\r\n\r\n{data}".encode())

    def read(self):
        part = self.socket.recv(1 << 16)
        now = time.monotonic()
        lines = (self.rest + part).split(b"\n")
        self.rest = lines.pop()
        for line in lines:
            if line.startswith(b"HTTP/") and b" 200 " not in line:
                raise RuntimeError(line.decode())
            if line == b"data: [DONE]":
                self.is_done = True
            elif line.startswith(b"data: ") and b'"finish_reason":null' in line:
                self.times.append(now)
                if self.events is not None:
                    self.events.append(line)
            elif line.startswith(b'data: {"error"'):
                raise RuntimeError(line.decode())
        if not part and not self.is_done:
            raise RuntimeError("the stream broke off")

    def text(self):
        """Of one choice."""
        return "".join(json.loads(line[6:])["choices"][0]["text"] for line in self.events)

    def close(self):
        self.socket.close()

    def first_s(self):
        return self.times[self.skip] - self.begin


def read_until(streams, condition, limit_s=300):
    """Reads what comes until the condition holds, which is asked after each part."""
    selector = selectors.DefaultSelector()
    for s in streams:
        if not s.is_done:
            selector.register(s.socket, selectors.EVENT_READ, s)
    end = time.monotonic() + limit_s
    with selector:
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError(f"after {limit_s} s still not done")
            for key, _ in selector.select(1):
                key.data.read()
                if key.data.is_done:
                    selector.unregister(key.fileobj)


def steady_rate(streams, skip_s=1):
    """Tokens per second of all together, while all of them run: from skip_s after the last one's
    first token until the first one's last."""
    read_until(streams, lambda: all(s.is_done for s in streams))
    begin = max(s.times[0] for s in streams) + skip_s
    end = min(s.times[-1] for s in streams)
    if end - begin < 1:
        raise RuntimeError(f"only {end - begin:.2f} s in which all streams ran: ask for more tokens")
    return sum(begin < t <= end for s in streams for t in s.times) / (end - begin)


def gaps(streams, begin, end):
    """Seconds between neighbours among the tokens of each stream that came in that time."""
    found = []
    for s in streams:
        times = [t for t in s.times if begin <= t <= end]
        found += [b - a for a, b in zip(times, times[1:])]
    return sorted(found)


def percentile(values, share):
    return values[min(int(share * len(values)), len(values) - 1)]
