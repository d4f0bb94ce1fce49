"""What links carry: probed when a worker joins, seen in steps once it has a neighbour."""

import json
import pathlib
import sys

import pytest

import hosts
from cluster import Cluster, model_path, run, wait_until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import random_model  # noqa: E402

# A row of activations is 4 KiB.
SHAPE = random_model.Shape(hidden=1024, inner=256, layers=4, heads=16, kv_heads=4, vocabulary=4096)
MBIT = [20, 10]


@pytest.fixture
def network():
    reason = hosts.impossible()
    if reason:
        pytest.skip(reason)
    with hosts.Network(len(MBIT), MBIT) as n:
        yield n


def is_rate(value, mbit):
    """A busy machine makes it less, and nothing makes it more."""
    return value and 0.3 < value / (mbit * 1e6 / 8) < 1.3


def workers(c):
    return c.get("/cluster")[1]["workers"]


def test_links(tmp_path, network):
    model = tmp_path / "random.gguf"
    random_model.make(model_path("qwen2-tied-Q8_0"), model, SHAPE.layers, shape=SHAPE)
    with Cluster(tmp_path, model, workers=2, cuts="2", network=network) as c:
        wait_until(lambda: all(w["link_bytes_per_second"] for w in workers(c)), 30, c.logs())
        for w, mbit in zip(workers(c), MBIT):
            assert is_rate(w["link_bytes_per_second"], mbit), workers(c)
        assert [w["next_hop"] for w in workers(c)] == [None, None]
        code, out, err = run("paceline", "workers", "--url", c.url, home=c.home)
        assert code == 0 and out.count(b"MB/s, ") == 2, (out, err)
        # A long prompt: between the two the slower link counts.
        status, said = c.post("/v1/completions", {"prompt": [7] * 600, "max_tokens": 8,
                                                  "ignore_eos": True})
        assert status == 200, said
        hop = wait_until(lambda: workers(c)[0]["next_hop"], 10, "the hop is seen")
        wait_until(lambda: is_rate(workers(c)[0]["next_hop"]["bytes_per_second"], min(MBIT)), 10,
                   json.dumps(workers(c), indent=1))
        assert hop["least_us"] is None or hop["least_us"] > 0
        assert workers(c)[1]["next_hop"] is None
        metrics = c.request("GET", "/metrics")[2].decode()
        assert metrics.count("\npaceline_worker_link_bytes_per_second{") == 2


def test_near(tmp_path):
    """On this machine there is nothing to probe."""
    with Cluster(tmp_path, model_path("qwen2-tied-Q8_0")) as c:
        assert workers(c)[0]["link_bytes_per_second"] is None
