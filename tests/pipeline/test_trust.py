"""Invites, keys and the list of workers: who gets in, who does not and learns nothing, who is put
out."""

import contextlib
import json
import re
import socket
import stat
import threading
import time

import pytest

from cluster import (Cluster, Process, environment, free_port_pair, model_path, run,
                     the_sentence, wait_until)

MODEL = model_path("qwen2-tied-Q8_0")
QUESTION = {"prompt": "Trust is good and keys are better", "max_tokens": 24, "seed": 3,
            "logprobs": 1}


@pytest.fixture
def place(tmp_path):
    """A home of its own: keys and lists of one test are no other's."""
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture(scope="module")
def plain_answer(home):
    with Cluster(home, MODEL, workers=2, cuts="3") as c:
        return answer(c)


def answer(c):
    status, said = c.post("/v1/completions", QUESTION)
    assert status == 200, said
    return said["choices"]


def guarded(home, **how):
    return Cluster(home, MODEL, workers=0, wait=False,
                   options=["--encryption", "on", *how.pop("options", [])], **how)


def invite(home, *options):
    code, out, err = run("paceline", "invite", *options, home=home)
    assert code == 0, err
    assert re.fullmatch(rb"paceline1:[\w.]+:\d+:[\w-]{43}:[\w-]{43}:\d+\n", out), out
    return out.decode().strip()


def enroll(c, place, number, *options, line=None):
    """One more worker with keys of its own."""
    return c.add_worker("--trust", place / f"trust-{number}", "--join", line or invite(c.home),
                        *options)


def listed(c):
    code, out, err = run("paceline", "workers", "--json", "--url", c.url, home=c.home)
    assert code == 0, err
    return json.loads(out)


def stranger(place, folder, *options, name=None):
    """A worker's process outside any cluster's book-keeping."""
    return Process("paceline-worker",
                   ["--config", "/dev/null", "--threads", 1, "--memory", "1GiB", "--trust",
                    place / folder, "--name", name or folder, *options],
                   place / f"{folder}.log", environment(place))


@contextlib.contextmanager
def running(*processes):
    try:
        yield processes
    finally:
        for p in processes:
            p.popen.kill()
            p.popen.wait()


# ---- in ----

def test_invited(place, plain_answer):
    with guarded(place, joined=2, options=["--cuts", "3"]) as c:
        first, second = invite(place), invite(place, "--expires", "5m")
        assert first != second
        short = invite(place, "--expires", "1s")
        enroll(c, place, 1, line=first)
        enroll(c, place, 2, line=second)
        c.wait_ready()
        assert answer(c) == plain_answer
        # Nobody but the owner can read what is secret.
        for folder in ("home/trust", "trust-1", "trust-2"):
            folder = place.parent / folder if "/" in folder else place / folder
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            for file in folder.iterdir():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        rows = listed(c)
        assert rows["reachable"]
        assert [(w["name"], w["enrolled_as"], w["state"]) for w in rows["workers"]] == [
            ("w1", "w1", "serving"), ("w2", "w2", "serving")]
        keys = {w["key"] for w in c.get("/cluster")[1]["workers"]}
        assert keys == {w["key"] for w in rows["workers"]} and len(keys) == 2
        code, out, _ = run("paceline", "workers", "--url", c.url, home=place)
        assert code == 0 and out.count(b"serving") == 2
        # From now on nothing but the program's name is needed, and a used line does no harm.
        for more in ([], ["--join", first]):
            c.workers[0].stop()
            wait_until(lambda: len(c.get("/cluster")[1]["workers"]) == 1, 10, "w1 has left")
            again = stranger(place, "trust-1", *more)
            with running(again):
                wait_until(lambda: len(c.get("/cluster")[1]["workers"]) == 2, 20, again.text())
                c.wait_ready()
                assert {w["name"] for w in c.get("/cluster")[1]["workers"]} == {"w1", "w2"}
                assert answer(c) == plain_answer
                again.stop()
        # A token opens nothing when it was used by another, was invented, or is over though the
        # line says otherwise.
        forged = first.split(":")
        forged[4] = invite(place.parent).split(":")[4]
        longer = f"{short.rsplit(':', 1)[0]}:{int(time.time()) + 3600}"
        with running(stranger(place, "late", "--join", first),
                     stranger(place, "forger", "--join", ":".join(forged)),
                     stranger(place, "liar", "--join", longer)) as late:
            for p in late:
                assert p.wait() == 4
                assert "no answer" in p.text() and "used already" in p.text()
        assert [w["name"] for w in listed(c)["workers"]] == ["w1", "w2"]
        assert c.coordinator.text().count("unknown keys were refused") <= 1


def test_one_name(place):
    with guarded(place, joined=2) as c:
        for number in (1, 2):
            c.workers.append(stranger(place, f"trust-{number}", "--join", invite(place),
                                      name="desk"))
        c.wait_ready()
        names = sorted(w["name"] for w in c.get("/cluster")[1]["workers"])
        assert names == ["desk", "desk-2"]
        # A name stays with its key, whatever the worker calls itself later.
        owner = {w["key"]: w["name"] for w in listed(c)["workers"]}
        for worker in c.workers:
            worker.stop()
        for number in (1, 2):
            c.workers.append(stranger(place, f"trust-{number}", name="desk-2"))
            wait_until(lambda: len(c.get("/cluster")[1]["workers"]) == number, 20, "it is back")
        assert {w["key"]: w["name"] for w in listed(c)["workers"]} == owner


# ---- out ----

def test_revoked(place, plain_answer):
    with guarded(place, joined=2, options=["--cuts", "3"]) as c:
        enroll(c, place, 1)
        enroll(c, place, 2)
        c.wait_ready()
        story = {**QUESTION, "max_tokens": 200, "n": 6, "ignore_eos": True}
        alone = c.post("/v1/completions", story)[1]["choices"]
        told, done = [], threading.Event()

        def listen():  # one after the other, so that one is under way when it happens
            while not done.is_set():
                told.append(c.post("/v1/completions", story))
        listener = threading.Thread(target=listen)
        listener.start()
        wait_until(lambda: c.running(), 10, "a story is under way")
        code, out, err = run("paceline", "workers", "revoke", "w1", home=place)
        end = time.monotonic() + 2
        assert code == 0 and b"w1" in out, err
        wait_until(lambda: [w["name"] for w in c.get("/cluster")[1]["workers"]] == ["w2"],
                   end - time.monotonic(), "w1 is out")
        c.wait_ready()
        done.set()
        listener.join(60)
        assert told and all(said == alone for status, said in
                            ((s, a.get("choices")) for s, a in told) if status != 503)
        assert told[0][0] == 200
        assert answer(c) == plain_answer
        # It is told, and stays out, also when it begins anew; its name is no reason to doubt the
        # others.
        assert c.workers[0].wait(20) == 4
        assert "its key was revoked" in the_sentence(c.workers[0].text())
        again = stranger(place, "trust-1")
        with running(again):
            time.sleep(1.5)
            assert [w["name"] for w in c.get("/cluster")[1]["workers"]] == ["w2"]
        code, _, err = run("paceline", "workers", "revoke", "w1", home=place)
        assert code == 1 and "w1" in the_sentence(err)
        assert [w["name"] for w in listed(c)["workers"]] == ["w2"]
        # Another invite is another decision.
        with running(stranger(place, "trust-1", "--join", invite(place))) as (back,):
            wait_until(lambda: len(c.get("/cluster")[1]["workers"]) == 2, 20, back.text())


def test_without_coordinator(place):
    """Invites and lists are files: the coordinator need not run."""
    line = invite(place, "--coordinator", "192.0.2.7:7470", "--expires", "1s")
    assert line.startswith("paceline1:192.0.2.7:7470:")
    expiry = int(line.rsplit(":", 1)[1])
    assert abs(expiry - time.time()) < 30
    code, out, err = run("paceline", "workers", "--url", "http://127.0.0.1:9", "--json", home=place)
    assert code == 0 and json.loads(out) == {"reachable": False, "workers": []}, err
    time.sleep(max(0, expiry - time.time()) + 0.1)
    code, _, err = run("paceline-worker", "--config", "/dev/null", "--join", line, home=place)
    assert code == 2 and "good until" in the_sentence(err)


# ---- not at all ----

def test_plain_strangers(place):
    """Who has no key sees ZeroMQ's greeting, which says nothing of us, and then the end."""
    with guarded(place) as c:
        enroll(c, place, 1)
        c.wait_ready()
        http = int(c.http.rsplit(":", 1)[1])
        ports = c.coordinator.listening_ports() - {http} | c.workers[0].listening_ports()
        assert len(ports) == 5  # control, results, weights; steps, weights
        for port in sorted(ports):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
                s.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") +
                          bytes(32))
                seen = b""
                with contextlib.suppress(ConnectionError):
                    while data := s.recv(4096):
                        seen += data
                assert len(seen) <= 64, (port, seen)  # no more than the greeting
        # A worker without keys waits, and says what may be the matter.
        with running(stranger(place, "plain", "--coordinator", c.cluster)) as (plain,):
            time.sleep(1)
            assert len(c.get("/cluster")[1]["workers"]) == 1 and plain.is_alive()
        answer(c)


def sentences(*results):
    for code, _, err in results:
        yield code, the_sentence(err)


def test_refusals(place):
    bare = ["--config", "/dev/null"]
    far = ["--coordinator", "192.0.2.1:7470"]
    serve = [*bare, "--model", MODEL, "--http", "127.0.0.1:0", "--cluster", "0.0.0.0:0"]
    answers = list(sentences(
        run("paceline-worker", *bare, *far, home=place),
        run("paceline-worker", *bare, "--data", "0.0.0.0:0", home=place),
        run("paceline-worker", *bare, "--encryption", "on", home=place),
        run("paceline-worker", *bare, *far, "--encryption", "off", home=place),
        run("paceline-coordinator", *serve, "--encryption", "off", home=place),
        run("paceline-worker", *bare, "--join", "paceline1:cut", home=place),
        run("paceline-worker", *bare, "--join", "hello", home=place),
        run("paceline", "invite", "--expires", "soon", home=place),
        run("paceline", "workers", "remove", "w1", home=place)))
    words = ["paceline invite", "paceline invite", "paceline invite", "insecure", "insecure",
             "paceline1:", "paceline1:", "1h", "revoke NAME"]
    for (code, sentence), word in zip(answers, words):
        assert code in (1, 2) and word in sentence, sentence
    invite(place, "--coordinator", "127.0.0.1:1")
    (place / "trust" / "coordinator.key").chmod(0o644)
    for code, sentence in sentences(
            run("paceline-coordinator", *serve, home=place), run("paceline", "invite", home=place)):
        assert code == 2 and "chmod 600" in sentence, sentence


# ---- on this machine ----

def test_up(place, plain_answer):
    up = Process("paceline", ["up", MODEL, "--config", "/dev/null", "--http", "127.0.0.1:0",
                              "--cuts", "3", "--threads", 1, "--encryption", "on"],
                 place / "up.log", environment(place))
    with running(up):
        ready = wait_until(lambda: re.search(r"ready http://(\S+)", up.text()), 60, up.text())
        c = Cluster.__new__(Cluster)
        c.http, c.key, c.tls = ready[1], None, None
        assert answer(c) == plain_answer
        workers = c.get("/cluster")[1]["workers"]
        assert {w["name"] for w in workers} == {"worker-1", "worker-2"}
        assert all(w["key"] for w in workers)
        assert up.stop() == 0
    assert not list((place / "logs").glob("*/trust")), "keys of a run are left behind"


# ---- beacons ----

def beacons_work(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        ear.bind(("", port))
        ear.settimeout(1)
        mouth.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try:
            mouth.sendto(b"x", ("127.255.255.255", port))
            return ear.recv(16) == b"x"
        except OSError:
            return False


def test_moved(place):
    """A worker follows its coordinator, and no other one."""
    port = free_port_pair()
    if not beacons_work(port):
        pytest.skip("no UDP broadcast on the loopback interface here")
    beacon = ["--beacon-port", port]
    with guarded(place, options=beacon) as c:
        enroll(c, place, 1, *beacon)
        c.workers[0].stop()
    other = place / "other"
    with guarded(other, options=[*beacon, "--cluster-name", "lab"]) as foreign:
        worker = stranger(place, "trust-1", *beacon)
        with running(worker):
            wait_until(lambda: '"lab"' in worker.text(), 20, "the foreign one is heard")
            with guarded(place, options=beacon) as c:
                wait_until(lambda: len(c.get("/cluster")[1]["workers"]) == 1, 20, worker.text())
                c.wait_ready()
                answer(c)
                address = (place / "trust-1" / "cluster").read_text().split()[0]
                assert address == c.cluster
                worker.stop()
        assert foreign.get("/cluster")[1]["workers"] == []
        assert worker.text().count('"lab"') == 1
        assert "unknown keys" not in foreign.coordinator.text()
