"""Bytes that change on links and in memory, and arithmetic that is wrong: told, named, made good."""

import pathlib
import re
import shutil
import sys

import pytest

from cluster import ROOT, Cluster, Process, environment, free_port_pair, model_path, run, wait_until
from damaging_relay import DamagingRelay
from test_metrics import metrics, one

sys.path.insert(0, str(ROOT / "tests" / "bench"))
import gguf_file  # pylint: disable=wrong-import-position

MODEL = model_path("qwen2-tied-Q8_0")
FAST = ["--scrub-gb-per-hour", "1000000"]
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


# ---- memory ----

def tensor_in_file(path, name):
    """(where it is in the file, its bytes)"""
    reader = gguf_file.Reader(path)
    tensor = next(t for t in reader.tensors if t.name == name)
    data = pathlib.Path(path).read_bytes()
    return reader.data + tensor.offset, data[reader.data + tensor.offset:][:tensor.bytes]


def anonymous_memory(pid):
    """(address, bytes) of all that a process has written into memory of its own."""
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, _, _, inode = line.split()[:5]
            if inode != "0" or not rights.startswith("rw"):
                continue
            begin, end = (int(x, 16) for x in span.split("-"))
            if end - begin > 1 << 28:  # a sanitizer's
                continue
            memory.seek(begin)
            yield begin, memory.read(end - begin)


def flip_in_memory(pid, pattern):
    """A bit of the last byte of each place in memory that holds these bytes, from outside. True."""
    places = [begin + match.start() for begin, data in anonymous_memory(pid)
              for match in re.finditer(re.escape(pattern), data)]
    assert places, "the tensor is nowhere in memory"
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        for at in places:
            memory.seek(at + len(pattern) - 1)
            byte, = memory.read(1)
            memory.seek(at + len(pattern) - 1)
            memory.write(bytes([byte ^ 0x20]))
    return True


def told_of(c, tensor):
    """The worker that has found it changed, as its log and the coordinator's say."""
    text = f"tensor {tensor} is damaged in"
    wait_until(lambda: any(text in w.text() for w in c.workers), 20, f"{tensor} is named")
    return wait_until(lambda: re.search(rf"worker (w\d): {re.escape(text)}", c.coordinator.text()), 20,
                      "the coordinator names the worker")[1]


@pytest.mark.parametrize("tensor", ["blk.3.attn_norm.weight", "blk.4.ffn_norm.weight"])
def test_a_damaged_tensor_is_loaded_again(home, undisturbed, tensor):
    """A bit of a weight changes in the memory of the second worker."""
    _, pattern = tensor_in_file(MODEL, tensor)
    with Cluster(home, MODEL, workers=2, worker_options=FAST, cuts="2") as c:
        epoch = c.get("/cluster")[1]["epoch"]
        flip_in_memory(c.workers[1].pid, pattern)
        assert told_of(c, tensor) == "w2"
        wait_until(lambda: c.get("/cluster")[1]["epoch"] > epoch, 20, "a new plan")
        c.wait_ready()
        workers = {w["name"]: w for w in c.get("/cluster")[1]["workers"]}
        assert set(workers) == {"w1", "w2"}
        # It has what it had before, as it was before.
        assert any(pattern in data for _, data in anonymous_memory(c.workers[1].pid))
        assert told_while(c, lambda: None) == undisturbed
        assert one(metrics(c), "paceline_worker_damaged_tensors_total", 'worker="w2"') == 1
        assert one(metrics(c), "paceline_worker_damaged_tensors_total", 'worker="w1"') == 0
        assert one(metrics(c), "paceline_worker_scrubbed_bytes_total", 'worker="w1"') > 0
        assert c.workers[0].text().count("is damaged") == 0


def test_requests_go_on_when_weights_are_damaged(home):
    """They are replayed, not failed; what was told before cannot be taken back."""
    _, pattern = tensor_in_file(MODEL, "blk.0.attn_norm.weight")
    with Cluster(home, MODEL, workers=2, worker_options=FAST) as c:
        lengths, is_damaged = [0] * 8, False
        for event in c.stream("/v1/completions", {**STORY, "n": 8, "max_tokens": 950}):
            assert "error" not in event, event
            for choice in event["choices"]:
                lengths[choice["index"]] += len(choice.get("token_ids") or [])
            if not is_damaged:
                is_damaged = flip_in_memory(c.workers[0].pid, pattern)
        assert lengths == [950] * 8
        assert told_of(c, "blk.0.attn_norm.weight") == "w1"
        assert one(metrics(c), "paceline_replays_total") > 0


def test_an_embedding_that_changes_on_disk_is_noticed(home, tmp_path, undisturbed):
    """It is read where the file has it. The worker's own copy of the file changes; what differs is
    fetched from the coordinator then, whose copy is gone from the disk and still mapped."""
    ours, theirs = tmp_path / "coordinator" / MODEL.name, tmp_path / "worker" / MODEL.name
    for path in (ours, theirs):
        path.parent.mkdir()
        shutil.copy(MODEL, path)
    with Cluster(home, ours, workers=0, joined=1) as c:
        ours.unlink()
        c.add_worker("--models", theirs.parent, *FAST)
        c.wait_ready()
        at, content = tensor_in_file(theirs, "token_embd.weight")
        with open(theirs, "r+b") as file:
            file.seek(at + len(content) // 2)
            file.write(bytes([content[len(content) // 2] ^ 1]))
        assert told_of(c, "token_embd.weight") == "w1"
        wait_until(lambda: "what differs is fetched" in c.workers[0].text(), 20, "it is fetched")
        c.wait_ready()
        assert told_while(c, lambda: None) == undisturbed


def test_nothing_is_scrubbed_that_should_not_be(home):
    with Cluster(home, MODEL, workers=1, worker_options=["--scrub-gb-per-hour", "0"]) as c:
        _, pattern = tensor_in_file(MODEL, "blk.0.attn_norm.weight")
        flip_in_memory(c.workers[0].pid, pattern)
        assert c.post("/v1/completions", {"prompt": "x", "max_tokens": 50})[0] == 200
        assert one(metrics(c), "paceline_worker_scrubbed_bytes_total", 'worker="w1"') == 0
        assert "is damaged" not in c.workers[0].text()


def test_a_second_damage_is_no_chance(home):
    """The worker is expelled and named; with nobody else, /health says why."""
    first, second = "blk.1.attn_norm.weight", "blk.2.attn_norm.weight"
    with Cluster(home, MODEL, workers=1, worker_options=FAST) as c:
        epoch = c.get("/cluster")[1]["epoch"]
        flip_in_memory(c.workers[0].pid, tensor_in_file(MODEL, first)[1])
        assert told_of(c, first) == "w1"
        wait_until(lambda: c.get("/cluster")[1]["epoch"] > epoch, 20, "a new plan")
        c.wait_ready()
        flip_in_memory(c.workers[0].pid, tensor_in_file(MODEL, second)[1])
        wait_until(lambda: states(c) == {"w1": "expelled"}, 20, "it is expelled")
        why = wait_until(lambda: c.get("/health")[1].get("error"), 20, "it is out of service")
        assert "2 tensors have changed in its memory" in why["message"]
        assert second in why["message"]
        assert second in c.get("/cluster")[1]["workers"][0]["expelled"]


# ---- arithmetic ----

def states(c):
    return {w["name"]: w["state"] for w in c.get("/cluster")[1]["workers"]}


def start_faulty(c, name, fault_file, threads=1):
    """A worker that computes wrongly while that file is there."""
    worker = Process("paceline-worker-faulty",
                     ["--config", "/dev/null", "--coordinator", c.cluster, "--threads", threads,
                      "--memory", "1GiB", "--name", name], c.folder / f"worker-{name}.log",
                     environment(c.home, FAULT_FILE=str(fault_file)))
    c.workers.append(worker)
    wait_until(lambda: f"joined 127.0.0.1:{c.cluster.rsplit(':', 1)[1]} as {name}" in worker.text(),
               20, "it has joined")
    return worker


def test_who_computes_wrongly_at_first_is_never_used(home, undisturbed, tmp_path):
    fault = tmp_path / "fault"
    fault.touch()
    with Cluster(home, MODEL, workers=0, joined=2) as c:
        worker = start_faulty(c, "bad", fault, threads=2)
        wait_until(lambda: states(c) == {"bad": "expelled"}, 20, "it is expelled")
        wait_until(lambda: "has expelled this worker: its arithmetic is wrong" in worker.text(), 20,
                   "it is told")
        assert "its arithmetic is wrong" in c.get("/health")[1]["error"]["message"]
        for _ in range(2):
            c.add_worker()
        c.wait_ready()
        assert told_while(c, lambda: None) == undisturbed
        workers = {w["name"]: w for w in c.get("/cluster")[1]["workers"]}
        assert workers["bad"]["layers"] is None and workers["bad"]["steps"] == 0
        assert re.search(r"2 of 2 threads answered self-test \d+ with \w+ where \w+ is right, the "
                         r"first of them on processor \d+$", workers["bad"]["expelled"])
        assert workers["w2"]["expelled"] is None


def test_who_begins_to_compute_wrongly_is_expelled(home, undisturbed, tmp_path):
    fault = tmp_path / "fault"
    with Cluster(home, MODEL, workers=1, joined=2, wait=False,
                 options=["--self-test-every", "1"]) as c:
        start_faulty(c, "later", fault)
        c.wait_ready()
        assert states(c) == {"w1": "serving", "later": "serving"}
        assert told_while(c, lambda: None) == undisturbed
        wait_until(lambda: one(metrics(c), "paceline_worker_self_tests_total", 'worker="later"') > 2,
                   20, "it passes")
        fault.touch()
        wait_until(lambda: states(c)["later"] == "expelled", 20, "it is expelled")
        assert re.search(r"error +paceline-coordinator: worker later is expelled: its arithmetic is "
                         r"wrong: .*; what it computed in the last \d+ s may be wrong",
                         c.coordinator.text())
        c.wait_ready()
        assert told_while(c, lambda: None) == undisturbed
        code, out, _ = run("paceline", "workers", "--url", c.url, "--trust", tmp_path / "trust",
                           home=home)
        assert code == 0
        assert re.search(rb"^later +expelled .*\n +its arithmetic is wrong: ", out, re.M), out
        assert one(metrics(c), "paceline_worker_info", 'worker="later"', 'state="expelled"') == 1
        # Repaired, it is welcome.
        assert c.workers[-1].stop() == 0
        fault.unlink()
        start_faulty(c, "later", fault)
        wait_until(lambda: set(states(c).values()) <= {"serving", "standby"}, 20, "it is back")


def test_self_tests_only_at_first(home):
    with Cluster(home, MODEL, workers=1, options=["--self-test-every", "0"]) as c:
        assert c.post("/v1/completions", {"prompt": "x", "max_tokens": 20})[0] == 200
        assert one(metrics(c), "paceline_worker_self_tests_total", 'worker="w1"') == 1
