"""Peers that speak another version, or nonsense: refused in words or logged, and everything that
served before serves on, with the same bits."""

import json
import random
import re
import socket
import struct
import time

import pytest

import zmtp
from cluster import Cluster, Process, environment, model_path, the_sentence, wait_until

QUESTION = {"prompt": "A stranger came", "max_tokens": 30, "seed": 5, "logprobs": 1}


@pytest.fixture(scope="module")
def town(home):
    """A cluster of two workers, and what it says when it is left alone."""
    with Cluster(home, model_path("qwen2-tied-Q8_0"), workers=2, options=["--verbose"]) as c:
        status, answer = c.post("/v1/completions", QUESTION)
        assert status == 200
        c.answer = answer["choices"]
        c.control_port = int(c.cluster.rsplit(":", 1)[1])
        addresses = [w["address"] for w in c.get("/cluster")[1]["workers"]]
        c.data_ports = [int(a.rsplit(":", 1)[1]) for a in addresses]
        http = int(c.http.rsplit(":", 1)[1])
        c.results_port, = c.coordinator.listening_ports() - {c.control_port, http, c.content_port}
        c.epoch = c.get("/cluster")[1]["epoch"]
        yield c


@pytest.fixture(autouse=True)
def serves_on(request):
    yield
    if "town" not in request.fixturenames:
        return
    c = request.getfixturevalue("town")
    c.wait_ready()
    status, answer = c.post("/v1/completions", QUESTION)
    assert status == 200 and answer["choices"] == c.answer
    assert c.coordinator.is_alive() and all(w.is_alive() for w in c.workers)
    cluster = c.get("/cluster")[1]
    assert [w["name"] for w in cluster["workers"]] == ["w1", "w2"]
    assert cluster["running"] == 0


def logged(process, pattern, after=0):
    return wait_until(lambda: re.search(pattern, process.text()[after:]), 10,
                      f"{pattern} is in the log:\n{process.text()[after:]}")


# ---- other versions ----

@pytest.mark.parametrize("what, words", [
    ({"protocol": 99}, ["protocol version 99", f"version {zmtp.PROTOCOL}", "9.9.9", "same release"]),
    ({"protocol": 0}, ["protocol version 0"]),
    ({"numerics": 7}, ["numerics", "version 7", "same release"]),
    ({"endpoint": "ipc:///run/x"}, ["data endpoint", "tcp://"]),
    ({"endpoint": "tcp://" + "x" * 1000}, ["data endpoint"]),
    ({"threads": 0}, ["0 threads"]), ({"threads": 1 << 31}, ["threads"]),
    ({"memory": -5}, ["-5 bytes"]),
], ids=lambda v: str(v)[:30] if isinstance(v, dict) else "")
def test_worker_that_does_not_fit(town, what, words):
    before = len(town.coordinator.text())
    with zmtp.Peer(town.control_port) as peer:
        peer.send(zmtp.hello(**what))
        part, = peer.receive()
        reason = zmtp.parse(zmtp.parse(part)[zmtp.REFUSE])[1].decode()
        for word in words:
            assert word in reason, reason
    logged(town.coordinator, r"refused: .*" + re.escape(words[0]), before)


def fake_coordinator(home, tmp_path, answer, *options):
    """Starts a worker, reads its hello, gives it `answer`; the worker and the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        worker = Process("paceline-worker", ["--config", "/dev/null", "--coordinator",
                                             f"127.0.0.1:{listener.getsockname()[1]}", *options],
                         tmp_path / "worker.log", environment(home))
        peer = zmtp.Peer(accepted=listener.accept()[0], kind=b"ROUTER")
    part, = peer.receive()
    greeting = zmtp.parse(zmtp.parse(part)[zmtp.HELLO])
    assert greeting[1] == zmtp.PROTOCOL and greeting[8].startswith(b"tcp://127.0.0.1:")
    for message in answer:
        peer.send(message)
    return worker, peer


def test_refused_worker_says_why(home, tmp_path):
    why = "it speaks protocol version 5 and the coordinator version 6: install the same release"
    worker, peer = fake_coordinator(home, tmp_path, [zmtp.control(zmtp.REFUSE, {1: why})])
    with peer:
        assert worker.wait(10) == 4
    assert why in the_sentence(worker.text())


def test_worker_survives_a_mad_coordinator(home, tmp_path):
    """Random bytes, and loads that make no sense: each of those is answered with Failed."""
    rng = random.Random(4)
    model = str(model_path("qwen2-tied-Q8_0"))
    sane = {1: 1, 2: 1, 3: model, 4: "m.gguf", 5: 0, 6: 5, 7: 16, 8: 0, 9: 1, 10: 64, 11: 64,
            12: 32, 13: "tcp://127.0.0.1:9", 15: 0, 16: 1}
    loads = [{3: "/nowhere/x.gguf"}, {3: "", 4: "../../etc/passwd"}, {6: 0}, {6: 6},
             {5: 4, 6: 2}, {5: 1 << 31}, {8: 9}, {7: 0xffffffff, 10: 0xffffffff}, {7: 0}, {9: 0},
             {10: 0}, {11: 0}, {11: 0xffffffff}, {12: 0}, {12: 0xffffffff}, {9: 0xffffffff},
             {13: "nonsense"}, {13: ""}, {3: str(tmp_path)}]
    worker, peer = fake_coordinator(home, tmp_path, [
        zmtp.control(zmtp.WELCOME, {1: "w", 2: 100}),
        *(rng.randbytes(rng.randrange(200)) for _ in range(200))])
    try:
        with peer:
            for i, change in enumerate(loads):
                peer.send(zmtp.control(zmtp.LOAD, {**sane, 2: i + 10, **change}))
                end = time.monotonic() + 20
                while time.monotonic() < end:
                    # Our own sign of life, as the worker would take silence for an end.
                    peer.send(zmtp.control(zmtp.HEARTBEAT, {1: 1}))
                    fields = zmtp.parse(peer.receive()[-1])
                    assert zmtp.READY not in fields, f"{change} was taken"
                    if zmtp.FAILED in fields:
                        failed = zmtp.parse(fields[zmtp.FAILED])
                        assert len(failed[4]) > 10
                        break
                else:
                    raise AssertionError(f"{change}: no answer\n{worker.text()}")
            assert worker.is_alive()
        assert "not ours" in worker.text()
    finally:
        assert worker.stop() == 0


def wait_for_word(peer, kind):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        peer.send(zmtp.control(zmtp.HEARTBEAT, {1: 1}))
        if kind in zmtp.parse(peer.receive()[-1]):
            return
    raise AssertionError(f"no word {kind}")


def test_resting_worker_takes_no_load(home, tmp_path):
    """It was on its way when the worker's owner came back."""
    owner = tmp_path / "owner"
    worker, peer = fake_coordinator(home, tmp_path, [zmtp.control(zmtp.WELCOME, {1: "w", 2: 100})],
                                    "--policy", "idle", "--idle-load", "100", "--idle-after", "1",
                                    "--idle-probe", f"test ! -e {owner}")
    try:
        with peer:
            owner.touch()
            wait_for_word(peer, zmtp.LEAVE)
            peer.send(zmtp.control(zmtp.LOAD, {1: 1, 2: 77, 6: 5, 9: 1}))
            owner.unlink()
            wait_for_word(peer, zmtp.HELLO)
        assert "epoch 77" not in worker.text()
    finally:
        assert worker.stop() == 0


# ---- noise at the ports ----

NOISE = [random.Random(i).randbytes(n) for i, n in enumerate([1, 9, 64, 65, 300, 5000, 100000])]
NOISE += [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff" * 1000, zmtp.GREETING, zmtp.GREETING[:30],
          zmtp.GREETING + random.Random(7).randbytes(500), bytes(1000)]


def every_port(town):
    return [town.control_port, town.results_port, *town.data_ports]


def test_random_bytes_at_every_port(town):
    for port in every_port(town):
        for noise in NOISE:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
                try:
                    s.sendall(noise)
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(4096):
                        pass
                except OSError:
                    pass


def test_frames_too_large_for_any_memory(town):
    """A length of exabytes is announced: the connection ends, nothing is allocated."""
    for port, kind in ((town.control_port, b"DEALER"), (town.results_port, b"PUSH"),
                       (town.data_ports[0], b"PUSH"), (town.data_ports[1], b"PUSH")):
        for size in (1 << 62, (1 << 63) - 1, 1 << 40, (512 << 20) + 1):
            with zmtp.Peer(port, kind) as peer:
                with pytest.raises((ConnectionError, TimeoutError)):
                    peer.raw(struct.pack(">BQ", zmtp.LONG, size) + b"x" * 1000)
                    peer.receive(3)


def test_connections_that_stay_silent(town):
    idle = [socket.create_connection(("127.0.0.1", port)) for port in every_port(town)
            for _ in range(30)]
    assert town.post("/v1/completions", QUESTION)[1]["choices"] == town.answer
    for s in idle:
        s.close()


def mutations(data, count, rng):
    """Cut, changed, repeated: what a protobuf reader must survive."""
    for _ in range(count):
        mutated = bytearray(data)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(mutated)) if mutated else 0
            what = rng.randrange(4)
            if what == 0 and mutated:
                mutated[at] = rng.randrange(256)
            elif what == 1:
                del mutated[at:at + rng.randrange(1, 9)]
            elif what == 2:
                mutated[at:at] = rng.randbytes(rng.randrange(1, 9))
            else:
                mutated += mutated[at:at + 20]
        yield bytes(mutated)


def test_malformed_control_messages(town):
    """The sender is named "a stranger", for it has not joined."""
    rng, before = random.Random(1), len(town.coordinator.text())
    real = [zmtp.hello(),
            zmtp.control(zmtp.READY, {1: 1, 2: town.epoch, 3: 5, 4: "k"}),
            zmtp.control(zmtp.FAILED, {1: 1, 2: town.epoch, 3: -3, 4: "I lie"}),
            zmtp.control(zmtp.PROGRESS, {1: 1, 2: town.epoch, 3: 1 << 62, 4: 1, 5: "x"}),
            zmtp.control(zmtp.HEARTBEAT, {1: town.epoch, 2: 3, 3: 4, 4: 5}),
            zmtp.control(zmtp.LEAVE, {1: "bye"})]
    with zmtp.Peer(town.control_port) as peer:
        for noise in NOISE[:6] + [b"", b"\x0a", b"\xff" * 20, bytes(50)]:
            peer.send(noise)
        for data in real[1:]:
            peer.send(data)
        for data in mutations(b"".join(real[1:]), 300, rng):
            peer.send(data)
        peer.send(b"one", b"two", b"three")
        peer.send(real[1], real[2])
        peer.send(b"x" * (17 << 20))
    logged(town.coordinator, r"warning .*from a stranger: a control message of \d+ bytes", before)


def test_stranger_with_a_long_name(town):
    for identity in (b"x" * 255, b"\x00nul", b"w" + bytes(8)):
        try:
            with zmtp.Peer(town.control_port, identity=identity) as peer:
                peer.send(zmtp.hello(protocol=99))
                peer.send(b"noise")
        except ConnectionError:
            pass


def step(epoch, rows=3, sequence=0, position=0, tokens=None, blocks=(0,), outputs=(), number=1):
    tokens = tokens if tokens is not None else [1] * rows
    return zmtp.message({1: 1, 2: epoch, 3: number,
                         4: zmtp.message({1: sequence, 2: position, 3: rows, 4: 0,
                                          5: b"".join(map(zmtp.varint, blocks))}),
                         5: b"".join(map(zmtp.varint, tokens)), 6: list(outputs)})


def test_malformed_data_messages(town):
    """At the workers' ports: no envelope, no frame, no protobuf, or another epoch's."""
    rng = random.Random(2)
    for port, worker in zip(town.data_ports, town.workers):
        before = len(worker.text())
        with zmtp.Peer(port, b"PUSH") as peer:
            for noise in NOISE[:6] + [b"", b"\xff" * 20]:
                peer.send(noise)
                peer.send(noise, noise)
                peer.send(noise, noise, noise)
            for epoch in (0, town.epoch + 1, (1 << 64) - 1):
                peer.send_data(step(epoch), b"")
                peer.send_data(step(epoch), b"x" * 1000)
            for data in mutations(step(town.epoch + 1), 300, rng):
                peer.send_data(data, rng.randbytes(16))
        logged(worker, r"warning .*data plane: a message that is not an envelope and a frame",
               before)


def sample(row=0, sequence=0, **sampling):
    """An output that samples; further fields of Sampling as f10=..."""
    fields = {3: 1.0, 4: 1.0, 7: 1.0, **{int(k[1:]): v for k, v in sampling.items()}}
    return zmtp.message({1: row, 2: sequence, 4: zmtp.message(fields), 6: 3})


def due(town, index, peer):
    """The number of the step that this worker waits for, as it says when an older one comes."""
    before = len(town.workers[index].text())
    peer.send_data(step(town.get("/cluster")[1]["epoch"], number=0), b"")
    return int(logged(town.workers[index], r"step 0 once more, step (\d+) is due", before)[1])


def test_forged_step_of_the_past(town):
    """It is left aside: nothing is computed, and the plan stays."""
    before = town.get("/cluster")[1]
    with zmtp.Peer(town.data_ports[0], b"PUSH") as peer:
        due(town, 0, peer)
    after = town.get("/cluster")[1]
    assert after["epoch"] == before["epoch"]
    assert [w["steps"] for w in after["workers"]] == [w["steps"] for w in before["workers"]]


NAN, BIG = float("nan"), (1 << 32) - 1


@pytest.mark.parametrize("bad", [
    dict(rows=100000), dict(sequence=99), dict(sequence=BIG), dict(position=1 << 31),
    dict(position=1020, rows=10), dict(tokens=[512] * 3), dict(tokens=[1]), dict(tokens=[1] * 9),
    dict(blocks=(99999,)), dict(blocks=tuple(range(200))), dict(rows=0), dict(rows=-1),
    dict(position=500, blocks=()), dict(outputs=[sample(99)]), dict(outputs=[sample(0, 77)]),
    dict(outputs=[zmtp.message({1: 0, 3: 9})]), dict(outputs=[sample(0)] * 100),
    dict(outputs=[sample(2), sample(1)]), dict(outputs=[zmtp.message({1: 0, 3: 2, 5: 99999})]),
    dict(outputs=[zmtp.message({1: 0})]), dict(outputs=[sample(f3=-1.0)]),
    dict(outputs=[sample(f3=NAN)]), dict(outputs=[sample(f4=NAN)]), dict(outputs=[sample(f5=5.0)]),
    dict(outputs=[sample(f7=0.0)]), dict(outputs=[sample(f8=float("inf"))]),
    dict(outputs=[sample(f13=1, f14=1 << 30)]), dict(outputs=[sample(f15=zmtp.varint(BIG))]),
    dict(outputs=[sample(f10=zmtp.message({1: BIG, 2: 1.0}))]),
    dict(outputs=[sample(f10=zmtp.message({1: 5, 2: NAN}))]),
    dict(outputs=[sample(f12=zmtp.message({1: BIG, 2: 1}))]),
], ids=lambda v: str(v)[:50])
def test_forged_steps(town, bad):
    """A stranger that knows the epoch: what it sends is refused, and the plan may be made anew."""
    before = len(town.workers[0].text())
    with zmtp.Peer(town.data_ports[0], b"PUSH") as peer:
        number = due(town, 0, peer)
        before = len(town.workers[0].text())
        peer.send_data(step(town.get("/cluster")[1]["epoch"], number=number, **bad), b"")
        logged(town.workers[0], r" (error|warning) .*", before)
    town.wait_ready()


def test_forged_activations(town):
    """The second stage gets a sound step and too few, or too many, or unusable numbers."""
    for size in (0, 1, 64 * 4 * 3 - 1, 64 * 4 * 3 + 1, 64 * 4 * 4, 1 << 20):
        with zmtp.Peer(town.data_ports[1], b"PUSH") as peer:
            number = due(town, 1, peer)
            before = len(town.workers[1].text())
            peer.send_data(step(town.get("/cluster")[1]["epoch"], outputs=[sample(2)], number=number),
                      bytes(size))
            logged(town.workers[1], r" (error|warning) .*bytes of activations", before)
        town.wait_ready()
    with zmtp.Peer(town.data_ports[1], b"PUSH") as peer:
        for value in (NAN, float("inf"), 3e38):
            number = due(town, 1, peer)
            peer.send_data(step(town.get("/cluster")[1]["epoch"], outputs=[sample(2)], number=number),
                      struct.pack("<f", value) * 192)
            town.wait_ready()


def test_malformed_results(town):
    rng, before = random.Random(3), len(town.coordinator.text())
    result = zmtp.message({1: 1, 2: town.epoch + 1, 3: 1,
                           4: zmtp.message({1: 0, 2: 0, 3: 0, 4: 5})})
    with zmtp.Peer(town.results_port, b"PUSH") as peer:
        for noise in NOISE[:6] + [b"", b"\xff" * 20]:
            peer.send(noise)
            peer.send(noise, noise)
            peer.send(noise, noise, noise)
        for data in [result, *mutations(result, 300, rng)]:
            peer.send_data(data, rng.randbytes(16))
    logged(town.coordinator, r"warning .*results: ", before)


def test_forged_results(town):
    """Results for a step that is not under way, or that lie about it, are left aside."""
    epoch = town.get("/cluster")[1]["epoch"]
    with zmtp.Peer(town.results_port, b"PUSH") as peer:
        for number in (0, 1, 2, 1000, (1 << 64) - 1):
            for fields in ({4: 1 << 31}, {2: 99}, {3: 1}, {3: 7},
                           {6: [zmtp.message({1: 1 << 31})] * 30}):
                peer.send_data(zmtp.message({1: 1, 2: epoch, 3: number, 4: zmtp.message(fields)}), b"")


# ---- workers that lie ----

def test_worker_that_joins_and_says_nothing_more(town):
    """It is on standby, then taken for lost; whoever serves is not disturbed."""
    before = len(town.coordinator.text())
    with zmtp.Peer(town.control_port) as peer:
        peer.send(zmtp.hello(name="sleepy\n\x1b[2J\xe9", isa="\x01" * 100))
        part, = peer.receive()
        assert zmtp.WELCOME in zmtp.parse(part)
        names = [w["name"] for w in town.get("/cluster")[1]["workers"]]
        assert len(names) == 3 and "\n" not in names[2] and "\x1b" not in names[2]
        logged(town.coordinator, r"sleepy\S* .*silent", before)
    assert "\x1b" not in town.coordinator.text()


def test_first_worker_that_lies(home):
    """It takes part in the plan and fails at once: the coordinator ends in words; or never gets
    ready: it is taken for lost, and real workers do the work."""
    with Cluster(home, model_path("qwen2-tied-Q8_0"), workers=0) as c:
        port = int(c.cluster.rsplit(":", 1)[1])
        with zmtp.Peer(port) as peer:
            peer.send(zmtp.hello())
            while zmtp.LOAD not in zmtp.parse(peer.receive()[0]):
                pass
            assert "stranger" in json.dumps(c.get("/cluster")[1])
        c.add_worker()
        c.wait_ready()
        assert [w["name"] for w in c.get("/cluster")[1]["workers"]] == ["w1"]
        assert c.post("/v1/completions", QUESTION)[0] == 200
