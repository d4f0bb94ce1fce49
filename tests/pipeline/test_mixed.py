"""Thousands of mixed requests at once, in a KV pool that is too small for them: every answer is that
of the same request alone on one process, and nothing is left behind. PACELINE_MIXED_REQUESTS: how
many (1500)."""

import os
import pathlib
import re

import pytest

from cluster import Cluster, model_path, wait_until
from mixed_load import LONGEST, Load, answer_alone, make_templates, with_stop_strings

MODEL = model_path("qwen2-tied-Q8_0")
REQUESTS = int(os.environ.get("PACELINE_MIXED_REQUESTS", "1500"))
GROWTH_KIB = 8 << 10  # of anonymous memory, over the last four fifths of the requests
KEYS = ("k1", "k2", "k3", "k4")


@pytest.fixture(scope="module")
def templates(home):
    made = make_templates(100)
    with Cluster(home, MODEL, options=["--context", LONGEST, "--prefix-cache", "off",
                                       "--concurrency", "1"]) as c:
        answer_alone(c, made)
        stopping = with_stop_strings([t for t in made if t.name != "too long"])
        answer_alone(c, stopping)
    assert sum(x["finish"] == "stop" for t in stopping for x in t.answer.values()) > 10
    return made + stopping


def anonymous_kib(c):
    return [int(re.search(r"^Anonymous: +(\d+) kB",
                          pathlib.Path(f"/proc/{p.pid}/smaps_rollup").read_text(), re.M).group(1))
            for p in (c.coordinator, *c.workers)]


def descriptors(c):
    return [len(os.listdir(f"/proc/{p.pid}/fd")) for p in (c.coordinator, *c.workers)]


def at_rest(c):
    """What the cluster tells once nothing runs any more."""
    def look():
        about = c.get("/cluster")[1]
        is_idle = not about["running"] and not about["waiting"]
        return about if is_idle and about["kv_blocks"] == about["kv_blocks_free"] else None
    about = wait_until(look, 10, "all blocks are back and nobody runs or waits")
    assert all(t["running"] == t["waiting"] == 0 for t in about["tenants"])
    assert about["ready"] and about["epoch"] == c.first_epoch  # it has been in service all the time
    return about


@pytest.mark.parametrize("workers, threads", [(2, 1), (1, 2)])
def test_every_answer_is_the_one_alone(home, tmp_path, templates, workers, threads):
    keys = tmp_path / "keys"
    keys.write_text("k1 one\nk2 two 3\nk3 three 0.5\nk4 one\n")
    keys.chmod(0o600)
    options = ["--context", LONGEST, "--kv-tokens", 2 * LONGEST, "--concurrency", 16,
               "--api-key-file", keys]
    with Cluster(home, MODEL, workers=workers, threads=threads, options=options, wait=False) as c:
        c.key = KEYS[0]
        c.wait_ready()
        c.first_epoch = c.get("/cluster")[1]["epoch"]
        opened = descriptors(c)
        early = REQUESTS // 5
        Load(c, templates, KEYS, 0, early).run(600)
        at_rest(c)
        before = anonymous_kib(c)
        Load(c, templates, KEYS, early, REQUESTS - early).run(3000)
        about = at_rest(c)
        after = anonymous_kib(c)
        told = ("preemptions", "prefix_cache_query_tokens", "prefix_cache_hit_tokens")
        print({k: about[k] for k in told}, f"anonymous KiB: {before}, at the end {after}")
        assert about["preemptions"] > 0
        assert 0 < about["prefix_cache_hit_tokens"] < about["prefix_cache_query_tokens"]
        assert all(a <= b + GROWTH_KIB for a, b in zip(after, before))
        # The sockets of clients that have just gone may still be open for a moment.
        wait_until(lambda: all(a <= b for a, b in zip(descriptors(c), opened)), 10,
                   f"no more descriptors than {opened}: {descriptors(c)}")
