"""Weights that arrive by themselves: workers without the model's file, and what may go wrong."""
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import hosts
from cluster import Cluster, Process, environment, free_port_pair, model_path, wait_until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import random_model  # noqa: E402

MODEL = model_path("qwen2-tied-Q8_0")
EMBEDDING = 34816  # bytes of it
BODY = {"prompt": "A line of riders", "max_tokens": 12, "temperature": 0, "return_token_ids": True}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """What a worker with the file answers."""
    with Cluster(tmp_path_factory.mktemp("local"), MODEL) as c:
        assert c.get("/cluster")[1]["workers"][0]["fetch_total"] == 0
        return answer(c)


def answer(c):
    status, body = c.post("/v1/completions", BODY)
    assert status == 200, body
    return body["choices"][0]["token_ids"]


def fetched(c):
    """Bytes of each worker, in the pipeline's order."""
    workers = c.get("/cluster")[1]["workers"]
    assert all(w["fetch_done"] == w["fetch_total"] for w in workers)
    return [w["fetch_total"] for w in workers]


def loaded(c):
    return [w["load_total"] for w in c.get("/cluster")[1]["workers"]]


WITHOUT_FILE = ["--no-model-files"]


def test_only_the_own_layers(tmp_path, tokens):
    with Cluster(tmp_path, MODEL, workers=2, cuts="3", worker_options=WITHOUT_FILE) as c:
        assert answer(c) == tokens
        # Both use one folder, and both have the tied embedding: who is later may find it there.
        missed = [a - b for a, b in zip(loaded(c), fetched(c))]
        assert missed in ([0, 0], [EMBEDDING, 0], [0, EMBEDDING])
        assert "of weights were fetched" in c.workers[1].text()
    # Everything is in the folder now: other cuts, nothing to fetch.
    with Cluster(tmp_path, MODEL, workers=2, cuts="2", worker_options=WITHOUT_FILE) as c:
        assert answer(c) == tokens
        assert fetched(c) == [0, 0]


def test_without_a_cache(tmp_path, tokens):
    for _ in range(2):
        with Cluster(tmp_path, MODEL, worker_options=[*WITHOUT_FILE, "--cache", "0"]) as c:
            assert answer(c) == tokens
            assert fetched(c) == loaded(c)
    assert not (tmp_path / "content").exists()


def test_damaged_cache(tmp_path, tokens):
    with Cluster(tmp_path, MODEL, worker_options=WITHOUT_FILE):
        pass
    files = sorted((tmp_path / "content").iterdir(), key=lambda f: f.stat().st_size)
    data = bytearray(files[-1].read_bytes())
    data[len(data) // 2] ^= 1
    files[-1].write_bytes(data)
    with files[-2].open("ab") as f:
        f.truncate(100)
    damaged = files[-1].stat().st_size
    with Cluster(tmp_path, MODEL, worker_options=WITHOUT_FILE) as c:
        assert answer(c) == tokens
        assert damaged < fetched(c)[0] < loaded(c)[0]
        assert "is damaged in the cache" in c.workers[0].text()


def test_a_cache_that_is_bounded(tmp_path, tokens):
    with Cluster(tmp_path, MODEL, worker_options=[*WITHOUT_FILE, "--cache", "100K"]) as c:
        assert answer(c) == tokens
        assert "has no room for" in c.workers[0].text()
    sizes = [f.stat().st_blocks * 512 for f in (tmp_path / "content").iterdir()]
    assert sizes and sum(sizes) <= 100 * 1024


def test_a_disk_that_takes_nothing(tmp_path, tokens):
    """A limit of file sizes, which root meets as well as anybody."""
    with Cluster(tmp_path, MODEL, workers=0, joined=1) as c:
        worker = Process("paceline-worker", ["--config", "/dev/null", "--coordinator", c.cluster,
                                             "--threads", 1, *WITHOUT_FILE], tmp_path / "log",
                         environment(tmp_path), runner=["prlimit", "--fsize=20000"])
        try:
            c.wait_ready()
            assert answer(c) == tokens
            assert "they go through memory" in worker.text()
        finally:
            assert worker.stop() == 0


def a_page_of_disk(folder):
    """What a command begins with that sees a file system of one page there."""
    folder.mkdir()
    runner = ["unshare", "--mount", "sh", "-c",
              f"mount -t tmpfs -o size=4k none '{folder}' && exec \"$@\"", "sh"]
    if subprocess.run([*runner, "true"], capture_output=True).returncode:
        pytest.skip("no file systems of one's own here")
    return runner


def test_a_coordinator_whose_disk_is_full(tmp_path, tokens):
    """It hashes once more each time, and says so."""
    with Cluster(tmp_path, MODEL, worker_options=WITHOUT_FILE,
                 runner=a_page_of_disk(tmp_path / "manifests")) as c:
        assert answer(c) == tokens
        assert re.search(r"digests cannot be kept: No space left.* hashes the model again",
                         c.coordinator.text())


def test_a_coordinator_that_may_not_write(tmp_path, tokens):
    (tmp_path / "manifests").write_text("no folder")
    for _ in range(2):
        with Cluster(tmp_path, MODEL) as c:
            assert answer(c) == tokens
            assert "digests cannot be kept" in c.coordinator.text()


def test_a_coordinator_that_was_killed(tmp_path, tokens):
    """Its worker loads again for the next one, out of what it has."""
    port = free_port_pair(3)
    options = ["--cluster", f"127.0.0.1:{port}"]
    c = Cluster(tmp_path, MODEL, worker_options=WITHOUT_FILE, options=options)
    worker = c.workers[0]
    try:
        assert answer(c) == tokens
        c.coordinator.popen.kill()
        c.coordinator.wait()
        with Cluster(tmp_path, MODEL, workers=0, options=options) as again:
            again.wait_ready()
            assert answer(again) == tokens
            assert fetched(again) == [0]
    finally:
        assert worker.stop() == 0


# 14 MB, of which a tensor is at most a quarter; over 32 Mbit/s it takes some seconds.
SLOW = random_model.Shape(hidden=1024, inner=256, layers=4, heads=16, kv_heads=4, vocabulary=4096)


def coming(c):
    """Bytes that have come to the worker, and all that come."""
    workers = c.get("/cluster")[1]["workers"]
    return (workers[0]["fetch_done"], workers[0]["fetch_total"]) if workers else (0, 0)


def test_a_coordinator_that_was_killed_while_it_gave(tmp_path):
    """What had come by then does not come again."""
    if hosts.impossible():
        pytest.skip(hosts.impossible())
    model = tmp_path / "random.gguf"
    random_model.make(MODEL, model, SLOW.layers, shape=SLOW)
    with hosts.Network(1, 32) as network:
        options = ["--cluster", f"{network.address}:{free_port_pair(3)}"]
        c = Cluster(tmp_path, model, wait=False, options=options, network=network,
                    worker_options=WITHOUT_FILE)
        worker = c.workers[0]
        try:
            wait_until(lambda: coming(c)[0] > coming(c)[1] / 3 > 0, 60, c.logs())
            done, total = coming(c)
            c.coordinator.popen.kill()
            c.coordinator.wait()
            assert done < total
            with Cluster(tmp_path, model, workers=0, options=options, network=network) as again:
                again.wait_ready()
                wait_until(lambda: coming(again)[1], 10, "what came again is told")
                assert coming(again)[0] == coming(again)[1] <= total - done
                assert answer(again)
        finally:
            assert worker.stop() == 0


def other_content(tmp_path, *worker_options):
    """The coordinator's file is gone from its path; the worker's has another byte."""
    path, models = tmp_path / "model.gguf", tmp_path / "models"
    models.mkdir()
    shutil.copy(MODEL, path)
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    (models / "model.gguf").write_bytes(data)
    c = Cluster(tmp_path, path, workers=0)
    path.rename(tmp_path / "elsewhere")
    c.add_worker("--models", models, *worker_options)
    return c


def test_what_differs_is_fetched(tmp_path, tokens):
    with other_content(tmp_path) as c:
        c.wait_ready()
        assert answer(c) == tokens
        assert 0 < fetched(c)[0] < loaded(c)[0]
        assert "what differs is fetched" in c.workers[0].text()


def test_a_worker_that_comes_gets_it_from_one_that_is_here(tmp_path, tokens):
    """The first worker has all; when it makes room for a second one with a folder of its own, the
    coordinator names it as a source."""
    with Cluster(tmp_path / "a", MODEL, worker_options=WITHOUT_FILE) as c:
        wait_until(lambda: c.get("/health")[0] == 200, 10, "in service")
        ready = c.workers[0]
        other = Process("paceline-worker", ["--config", "/dev/null", "--coordinator", c.cluster,
                                            "--threads", 1, "--name", "late", *WITHOUT_FILE], tmp_path / "log",
                        environment(tmp_path / "b"))
        try:
            wait_until(lambda: "late joined" in c.coordinator.text(), 10, "it has joined")
            ready.popen.kill()  # the late one takes its place
            ready.wait()
            wait_until(lambda: re.search(r"ready for epoch", other.text()), 20, "it serves")
            c.wait_ready()
            assert answer(c) == tokens
        finally:
            assert other.stop() == 0
