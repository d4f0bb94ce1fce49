"""A machine that has become slow - its owner computes too - gets fewer layers, by what its steps
take; what it tells meanwhile is not changed by that."""

import pathlib
import sys
import threading
import time

import pytest

from cluster import Cluster, model_path, wait_until
from slowed import slow_down

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import random_model  # noqa: E402

# Large enough to be measured; its steps are long beside the pauses of the slowed worker.
SHAPE = random_model.Shape(hidden=1024, inner=4096, layers=16, heads=16, kv_heads=4, vocabulary=4096)
ASKED = {"prompt": [7, 8, 9, 10], "max_tokens": 60, "seed": 5, "temperature": 1.0, "ignore_eos": True,
         "return_token_ids": True, "cache_prompt": False}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("random") / "random.gguf"
    random_model.make(model_path("qwen2-tied-Q8_0"), path, SHAPE.layers, shape=SHAPE)
    yield path
    path.unlink()


def answer(c):
    status, body = c.post("/v1/completions", ASKED, limit_s=120)
    assert status == 200, body
    return body["choices"][0]["token_ids"]


def layers(c):
    return {w["name"]: w["layers"][1] - w["layers"][0] if w["stage"] is not None else 0
            for w in c.get("/cluster")[1]["workers"]}


class Traffic(threading.Thread):
    """Asks the same again and again; keeps what differs."""

    def __init__(self, c, expected):
        super().__init__()
        self.c, self.expected, self.n, self.wrong, self.ended = c, expected, 0, [], False
        self.start()

    def run(self):
        while not self.ended:
            got = answer(self.c)
            self.n += 1
            if got != self.expected:
                self.wrong.append(got)

    def stop(self):
        self.ended = True
        self.join()


def test_a_slow_machine_gets_fewer_layers(home, model):
    with Cluster(home, model, workers=2, threads=1,
                 options=["--replan-after", 1, "--context", 512, "--objective", "latency"]) as c:
        expected, before = answer(c), layers(c)
        slowed = max(before, key=before.get)
        assert before[slowed] >= 8
        worker = c.workers[int(slowed[1:]) - 1]
        traffic, slow = Traffic(c, expected), slow_down(worker.pid, 0.25)
        try:
            wait_until(lambda: layers(c)[slowed] < before[slowed], 90, "it has fewer layers")
            asked = traffic.n
            wait_until(lambda: traffic.n > asked + 3, 60, "it goes on")
            time.sleep(3)
            # Nor does it get them back as soon as nobody sees it work.
            assert layers(c)[slowed] < before[slowed]
        finally:
            traffic.stop()
            if hasattr(slow, "join"):  # a quota ends with the process
                slow.stop()
        assert "by observed times another plan is" in c.coordinator.text()
        assert traffic.wrong == [] and "planning anew" not in c.coordinator.text()
