"""Other hosts: network namespaces on one bridge of this one, each by a veth of its own, whose rate
may be limited. This host is .1, the others are .2, .3 … of the network's address."""

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess


@functools.cache
def impossible():
    """Why it cannot be done here, or None."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if not shutil.which("ip") or not shutil.which("tc"):
        return "there are no programs 'ip' and 'tc' (package iproute2)"
    name = f"pltry{os.getpid()}"
    for words in (["ip", "netns", "add", name],
                  ["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name],
                  ["ip", "link", "del", name]):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            break
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return f"no hosts of one's own here: {done.stderr.strip()}" if done.returncode else None


def ip(*words):
    subprocess.run(["ip", *map(str, words)], check=True)


CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def nothing_but_loopback():
    """This thread, and what it starts, in a network namespace of its own where that is possible: no
    address comes or goes there while other tests make and remove theirs."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net", "rb") as before:
        if libc.unshare(CLONE_NEWNET) != 0:
            yield
            return
        try:
            ip("link", "set", "lo", "up")
            yield
        finally:
            if libc.setns(before.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "the network namespace cannot be left")


class Network:
    """mbit: what each host's link carries in each direction, 10^6 bits a second; a list has one for
    each; None: no limit."""

    def __init__(self, hosts=1, mbit=None):
        self.name, self.n_hosts = f"pl{os.getpid()}", hosts
        self.net = f"10.213.{os.getpid() % 254}"
        self.address = f"{self.net}.1"
        try:
            ip("link", "add", self.name, "type", "bridge")
            ip("addr", "add", f"{self.address}/24", "dev", self.name)
            ip("link", "set", self.name, "up")
            for i in range(hosts):
                self.add(i)
            for i in range(hosts):
                if mbit:
                    self.limit(i, mbit[i] if isinstance(mbit, list) else mbit)
        except BaseException:
            self.close()
            raise

    def add(self, host):
        space = self.space(host)
        ip("netns", "add", space)
        ip("link", "add", self.link(host), "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", self.link(host), "master", self.name, "up")
        for words in (("addr", "add", f"{self.address_of(host)}/24", "dev", "eth0"),
                      ("link", "set", "eth0", "up"), ("link", "set", "lo", "up")):
            ip("-n", space, *words)

    def limit(self, host, mbit):
        """A small bucket, since a real link has none, and a queue of 50 ms, as a switch has it."""
        shape = ["root", "tbf", "rate", f"{mbit}mbit", "burst", str(max(int(mbit * 125), 16384)),
                 "latency", "50ms"]
        subprocess.run(["tc", "qdisc", "replace", "dev", self.link(host), *shape], check=True)
        subprocess.run(["tc", "-n", self.space(host), "qdisc", "replace", "dev", "eth0", *shape],
                       check=True)

    def plug(self, host, is_in=True):
        """Its cable. Without, what is sent is lost, and no side is told."""
        ip("link", "set", self.link(host), "up" if is_in else "down")

    def remove(self, host):
        """With its connections, of which nobody hears; its processes must have ended. add() makes a
        new one of the same address."""
        subprocess.run(["ip", "link", "del", self.link(host)], capture_output=True)
        subprocess.run(["ip", "netns", "del", self.space(host)], capture_output=True)

    def space(self, host):
        return f"{self.name}h{host + 1}"

    def link(self, host):
        """The end of its veth on this side."""
        return f"{self.name}v{host + 1}"

    def address_of(self, host):
        return f"{self.net}.{host + 2}"

    def runner(self, host, pinned=False):
        """What a command begins with that shall run there; on a core of its own, as far as there are
        such, where it is to be pinned: claims of cores do not reach across namespaces."""
        cores = sorted(os.sched_getaffinity(0))
        pin = ["taskset", "-c", str(cores[host % len(cores)])] if pinned else []
        return ["ip", "netns", "exec", self.space(host), *pin]

    def close(self):
        for host in range(self.n_hosts):
            self.remove(host)
        subprocess.run(["ip", "link", "del", self.name], capture_output=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()
