"""What the chaos test does to a cluster: a schedule that follows from a seed, and each kind of fault."""

import random
import signal
import threading
import time
import traceback

from chaos_machines import DATA_WAY
from cluster import wait_until

LIMIT_S = 60


class Fault:
    """at_s: after the beginning. dice: its own, so that nothing but the seed decides."""

    def __init__(self, kind, at_s, seed):
        self.kind, self.at_s, self.dice = kind, at_s, random.Random(seed)
        self.begun_s = self.ended_s = None
        self.what = kind  # with the machine

    def between(self, least, most):
        return self.dice.uniform(least, most)


# ---- what happens to a machine ----

def kill(f, m):
    """kill -9: its connections end, it is started again."""
    m.kill()
    time.sleep(f.between(0.1, 2))
    m.start()


def leave(f, m):
    """SIGTERM: it hands over and ends in order."""
    wait_until(m.is_here, LIMIT_S, f"{m.name} has joined")  # who has just begun ends by the signal
    code = m.leave()
    assert code == 0, f"{m.name} ended with {code}"
    time.sleep(f.between(0.1, 1))
    m.start()


def slow(f, m):
    """It stands still for less time than makes a loss."""
    m.worker.signal(signal.SIGSTOP)
    time.sleep(f.between(0.2, 0.6) * m.place.silence_s)
    m.worker.signal(signal.SIGCONT)


def freeze(f, m):
    """It stands still, is taken for lost, and goes on where it was."""
    m.worker.signal(signal.SIGSTOP)
    time.sleep(f.between(1.3, 3) * m.place.silence_s)
    m.worker.signal(signal.SIGCONT)


def partition(f, m):
    """Its link is down, both sides live."""
    m.place.network.plug(m.number, False)
    time.sleep(f.between(1.3, 4) * m.place.silence_s)
    m.place.network.plug(m.number)


def partition_10_s(_, m):
    m.place.network.plug(m.number, False)
    time.sleep(10)
    m.place.network.plug(m.number)


def power(f, m):
    """It is switched off: no connection of it ends for the others."""
    m.switch_off()
    time.sleep(f.between(0.5, 3))
    m.switch_on()


def full_cache(f, m):
    """No room for the weights that it has to fetch."""
    m.disk.fill()
    m.forget_weights()
    m.disk.fill()
    kill(f, m)
    time.sleep(f.between(2, 4))
    m.disk.free()


# ---- what happens on the way to a machine with a relay ----

def misdirect(f, m, words, least_s, most_s):
    """One of the words; for all that passes, or for the steps that come to it alone."""
    m.tell_relay(f"{f.dice.choice(words)} {f.dice.choice(['', DATA_WAY])}")
    time.sleep(f.between(least_s, most_s))
    m.tell_relay("flow")


def delay(f, m):
    misdirect(f, m, ["delay20", "delay80", "delay250"], 1, 4)


def stall(f, m):
    """Nothing comes through for a while; then all of it does."""
    misdirect(f, m, ["stall"], 0.3, 4)


def cut(f, m):
    """Connections end."""
    misdirect(f, m, ["reset", "close"], 0.1, 0.5)


def half_open(f, m):
    """One side is gone, the other is not told."""
    misdirect(f, m, ["half", "flah"], 1, 4)


# ---- what happens to the coordinator ----

def coordinator_kill(f, place):
    place.restart_coordinator(signal.SIGKILL, f.between(0, 1.5))


def coordinator_stop(f, place):
    code = place.restart_coordinator(signal.SIGTERM, f.between(0, 1.5))
    assert code == 0, f"the coordinator ended with {code}"


def full_journal(f, place):
    """What cannot be written now is written when there is room again."""
    place.disk.fill()
    time.sleep(f.between(1, 3))
    place.disk.free()
    wait_until(lambda: place.state().get("journal", {}).get("state") == "on", LIMIT_S,
               "the journal is written again")


MACHINE = {f.__name__: f for f in (kill, leave, slow, freeze, partition, partition_10_s, power,
                                   full_cache)}
RELAY = {f.__name__: f for f in (delay, stall, cut, half_open)}
COORDINATOR = {f.__name__: f for f in (coordinator_kill, coordinator_stop, full_journal)}
ENDS_COORDINATOR = {"coordinator_kill", "coordinator_stop"}
ENDS_WORKER = {"kill", "leave", "power", "full_cache"}
OFTEN = ["kill", "cut", "partition", "half_open"]


def schedule(count, gap_s, seed):
    """Each kind about equally often, some twice so, in an order that the seed decides. The second half
    lets the coordinator and the first machine's worker live, so that what would pile up in them does."""
    dice = random.Random(seed)
    kinds = [*MACHINE, *RELAY, *COORDINATOR, *OFTEN]
    made, at_s = [], 0
    while len(made) < count:
        dice.shuffle(kinds)
        for kind in kinds:
            if len(made) >= count / 2 and kind in ENDS_COORDINATOR:
                continue
            at_s += dice.uniform(0.5, 1.5) * gap_s
            made.append(Fault(kind, at_s, dice.getrandbits(64)))
    return made[:count]


class Trouble:
    """Runs a schedule. Faults of different machines overlap; those of one wait for each other."""

    def __init__(self, place, faults):
        self.place, self.faults, self.threads, self.failures = place, faults, [], []

    def run(self, tell):
        began = time.monotonic()
        for i, f in enumerate(self.faults):
            time.sleep(max(began + f.at_s - time.monotonic(), 0))
            target = self.target(f, spares_first=i >= len(self.faults) / 2)
            thread = threading.Thread(target=self.one, args=(f, target), daemon=True)
            thread.start()
            self.threads.append(thread)
            tell(f"{i + 1}/{len(self.faults)} {f.what}")
        for f, t in zip(self.faults, self.threads):
            t.join(2 * LIMIT_S)
            if t.is_alive():
                self.failures.append(f"{f.what} does not end")

    def target(self, f, spares_first):
        if f.kind in COORDINATOR:
            return self.place
        able = [m for m in self.place.machines if f.kind in MACHINE or m.has_relay]
        if spares_first and f.kind in ENDS_WORKER:
            able = able[1:]
        m = f.dice.choice(able)
        f.what = f"{f.kind} {m.name}"
        return m

    def one(self, f, target):
        do = {**MACHINE, **RELAY, **COORDINATOR}[f.kind]
        with target.lock:
            f.begun_s = time.monotonic()
            try:
                do(f, target)
            except Exception:  # pylint: disable=broad-except
                self.failures.append(f"{f.what}: {traceback.format_exc()}")
            f.ended_s = time.monotonic()
