"""Bytes that change on links and in memory, and arithmetic that is wrong: told, named, made good."""

import re

import pytest

from cluster import Cluster, free_port_pair, model_path, wait_until
from damaging_relay import DamagingRelay
from test_metrics import metrics, one

MODEL = model_path("qwen2-tied-Q8_0")
STORY = {"prompt": "Once upon a time", "max_tokens": 300, "n": 3, "seed": 21, "temperature": 1.1,
         "ignore_eos": True, "logprobs": 1, "return_token_ids": True}


@pytest.fixture(scope="module")
def undisturbed(home):
    with Cluster(home, MODEL) as c:
        return told_while(c, lambda: None)


def told_while(c, disturb, after_events=60):
    """The story, choice by choice; disturb() is called once, when it is under way."""
    told, n = [([], []) for _ in range(3)], 0
    for event in c.stream("/v1/completions", STORY):
        assert "error" not in event, event
        for choice in event["choices"]:
            ids, logprobs = told[choice["index"]]
            ids += choice.get("token_ids") or []
            logprobs += (choice["logprobs"] or {}).get("token_logprobs", [])
        n += 1
        if n == after_events:
            disturb()
    return told


# ---- links ----

@pytest.mark.parametrize("part, what", [(0, "envelope"), (1, "frame"), (2, "envelope")],
                         ids=["envelope", "activations", "checksum"])
def test_a_damaged_step_is_computed_again(home, undisturbed, part, what):
    port = free_port_pair(1)
    with DamagingRelay(port) as relay, Cluster(home, MODEL, joined=2, wait=False) as c:
        c.add_worker("--data", f"127.0.0.1:{port}", "--advertise", f"127.0.0.1:{relay.port}")
        c.wait_ready()
        assert told_while(c, lambda: relay.damage(part, 1)) == undisturbed
        assert relay.damaged == 1
        # The link is named by both its ends.
        assert re.search(r"worker w2: the link from w1 to this worker damages what it carries: "
                         rf"the checksum of {what} ", c.coordinator.text()), c.coordinator.text()
        wait_until(lambda: one(metrics(c), "paceline_worker_damaged_messages_total",
                               'worker="w2"') == 1, 10, "it is counted")
        assert one(metrics(c), "paceline_plans_lost_total") == 1
        assert told_while(c, lambda: None) == undisturbed


def test_damage_that_goes_on_comes_to_an_end(home):
    """A link that damages every message: the requests fail in words, nothing hangs."""
    port = free_port_pair(1)
    with DamagingRelay(port) as relay, Cluster(home, MODEL, joined=2, wait=False) as c:
        c.add_worker("--data", f"127.0.0.1:{port}", "--advertise", f"127.0.0.1:{relay.port}")
        c.wait_ready()
        relay.change = lambda part, body: bytes(len(body)) if part == 1 else body
        status, answer = c.post("/v1/completions", {"prompt": "x", "max_tokens": 5})
        assert status == 500 and "plans in a row" in answer["error"]["message"]
        del relay.change
        c.wait_ready()
        assert c.post("/v1/completions", {"prompt": "x", "max_tokens": 5})[0] == 200
