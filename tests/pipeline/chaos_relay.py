"""A relay that stands before one machine of the chaos test and misbehaves when it is told to.

    python chaos_relay.py LISTEN=TARGET ...        each a HOST:PORT

Lines on standard input are a word and, where it is not meant for all pairs, the number of one of them.
`delay20`: what comes from now on is held for so many milliseconds; `stall`: nothing is passed on, and new
connections are left to themselves; `flow`: all as before; `reset`: each connection ends at once, with a
reset; `close`: in order; `half`: the far side is reset, the near one hears nothing of it and nothing else
either, until `flow` resets it too; `flah`: the other way round. It says `ready`, and ends with its
standard input."""

import asyncio
import os
import socket
import struct
import sys


class End:
    """One of the two connections of a link."""

    def __init__(self, streams):
        self.reader, self.writer = streams
        self.is_forgotten = False  # it stays open, and nobody is behind it

    def reset(self):
        own = self.writer.get_extra_info("socket")
        if own.fileno() >= 0:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Link:
    def __init__(self, way, near, far):
        self.way, self.near, self.far = way, near, far

    async def run(self):
        await asyncio.gather(self.take(self.near, self.far), self.take(self.far, self.near))
        self.near.writer.close()
        self.far.writer.close()

    async def take(self, source, target):
        """Reads until the source ends, which the target is told."""
        pieces = asyncio.Queue(64)
        passing = asyncio.ensure_future(self.pass_on(pieces, target))
        clock = asyncio.get_running_loop().time
        try:
            while data := await source.reader.read(1 << 16):
                await pieces.put((clock() + self.way.delay_s, data))
            await pieces.put((clock() + self.way.delay_s, b""))
        except OSError:
            await pieces.put((0, None))
        await passing

    async def pass_on(self, pieces, target):
        clock, works = asyncio.get_running_loop().time, True
        while True:
            due, data = await pieces.get()
            if due > clock():
                await asyncio.sleep(due - clock())
            await self.way.flowing.wait()
            if works and not target.is_forgotten:
                works = await self.give(data, target)
            if not data:
                return

    async def give(self, data, target):
        """false: it takes no more."""
        try:
            if data is None:
                target.reset()
            elif data:
                target.writer.write(data)
                await target.writer.drain()
            else:
                target.writer.write_eof()
            return True
        except OSError:
            for end in (self.near, self.far):
                if not end.is_forgotten:
                    end.reset()
            return False

    @staticmethod
    def halve(gone, left):
        left.is_forgotten = True
        gone.reset()


class Way:
    """From one address that it listens on to another."""

    def __init__(self):
        self.delay_s, self.links = 0, set()
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def listen(self, own, target):
        async def accept(*near):
            await self.flowing.wait()
            try:
                far = await asyncio.open_connection(*target)
            except OSError:
                near[1].transport.abort()
                return
            link = Link(self, End(near), End(far))
            self.links.add(link)
            try:
                await link.run()
            except OSError:
                pass
            self.links.discard(link)
        await asyncio.start_server(accept, *own)

    def obey(self, word):
        if word.startswith("delay"):
            self.delay_s = float(word[5:]) / 1000
        elif word == "stall":
            self.flowing.clear()
        elif word == "flow":
            self.delay_s = 0
            self.flowing.set()
        for link in list(self.links):
            ends = (link.near, link.far)
            if word == "half":
                link.halve(link.far, link.near)
            elif word == "flah":
                link.halve(link.near, link.far)
            elif word == "close":
                for end in ends:
                    end.writer.close()
            elif word == "reset" or word == "flow" and any(end.is_forgotten for end in ends):
                for end in ends:
                    end.reset()


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


async def main():
    ways, words = [Way() for _ in sys.argv[1:]], asyncio.StreamReader()
    for way, pair in zip(ways, sys.argv[1:]):
        own, target = pair.split("=")
        await way.listen(address(own), address(target))
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(words), sys.stdin)
    print("ready", flush=True)
    while line := await words.readline():
        word, *which = line.decode().split()
        for way in [ways[int(which[0])]] if which else ways:
            way.obey(word)
    os._exit(0)  # whatever is under way


if __name__ == "__main__":
    asyncio.run(main())
