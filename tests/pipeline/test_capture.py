"""What a listener between the machines sees: everything without keys, and nothing with them."""

import pathlib
import struct

import pytest

import hosts
import zmtp
from cluster import Cluster, Process, environment, model_path, run, wait_until
from listener import Listener, found, pieces

MODEL = model_path("qwen2-tied-Q8_0")
QUESTION = "Who keeps the ledgers of the village, and under which of the three old lime trees?"


def enroll(c, place, number, *options, runner=()):
    """A worker with keys of its own, which joins with a fresh invite."""
    code, line, err = run("paceline", "invite", home=c.home)
    assert code == 0, err
    return start(c, place, f"w{number}", "--trust", place / f"trust-{number}", "--join",
                 line.decode().strip(), *options, runner=runner)


def start(c, place, name, *options, runner=()):
    """A worker with a home of its own, so that it shares no cache."""
    worker = Process("paceline-worker",
                     ["--config", "/dev/null", "--threads", 1, "--memory", "1GiB", "--name", name,
                      *options], c.folder / f"{name}.log", environment(place / name), runner=runner)
    c.workers.append(worker)
    return worker


# ---- on one machine: steps and results ----

def ask(c):
    """The answer, and what passes on the loopback interface meanwhile."""
    http = int(c.http.rsplit(":", 1)[1])
    ports = c.coordinator.listening_ports() - {http}
    for w in c.workers:
        ports |= w.listening_ports()
    listener = Listener("lo", ports)
    try:
        status, said = c.post("/v1/completions", {"prompt": QUESTION, "max_tokens": 24, "seed": 3,
                                                  "logprobs": 1})
    finally:
        flows = listener.stop()
    assert status == 200, said
    return said["choices"], flows


def all_pieces(flows):
    """Without ZeroMQ's greeting."""
    return set().union(*(pieces(flow[64:]) for flow in flows))


def test_steps(tmp_path):
    with Cluster(tmp_path / "a", MODEL, workers=2, cuts="3") as c:
        plain, flows = ask(c)
    secrets = all_pieces(flows)
    assert len(secrets) > 1000  # activations above all
    with Cluster(tmp_path / "b", MODEL, workers=2, cuts="3") as c:
        _, flows = ask(c)
    # The same question brings the same bytes again, so this listener would find them ...
    assert len(found(secrets, flows)) > len(secrets) / 4
    with Cluster(tmp_path / "c", MODEL, workers=0, joined=2, wait=False,
                 options=["--cuts", "3", "--encryption", "on"]) as c:
        enroll(c, tmp_path, 1)
        enroll(c, tmp_path, 2)
        c.wait_ready()
        said, flows = ask(c)
    assert said == plain
    assert sum(map(len, flows)) > 10000
    assert not found(secrets, flows)  # ... if they were there.


# ---- between two machines: weights, prompts and answers ----

def talk(c):
    """A chat, and its tokens again as a prompt, as after the loss of a worker: so the answer passes
    in one piece too. Tokens of prompt and answer, and the answer's text."""
    status, said = c.post("/v1/chat/completions",
                          {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 40,
                           "seed": 5, "ignore_eos": True, "return_token_ids": True})
    assert status == 200, said
    choice = said["choices"][0]
    tokens = choice["prompt_token_ids"], choice["token_ids"]
    status, said = c.post("/v1/completions",
                          {"prompt": sum(tokens, []), "max_tokens": 1, "cache_prompt": False})
    assert status == 200, said
    return *tokens, choice["message"]["content"]


def forms(tokens):
    """How a row of tokens may look on the wire: as protobuf has it, and as plain numbers."""
    yield b"".join(map(zmtp.varint, tokens))
    yield struct.pack(f"<{len(tokens)}I", *tokens)


def of_tokens(tokens):
    return set().union(*map(pieces, forms(tokens)))


def serve(place, network, with_keys):
    """The first worker is beside the coordinator, the second one on the other host: its weights come
    from the coordinator, steps from the first worker, results go back. Nobody has a model file.
    What was said, and what passed."""
    trust = ["--encryption", "on"] if with_keys else ["--insecure"]
    listener = Listener(network.link(0))
    flows = None
    try:
        with Cluster(place / "home", MODEL, workers=0, joined=2, wait=False, cuts="2",
                     options=["--cluster", f"{network.address}:0", *trust]) as c:
            for number, runner in ((1, ()), (2, network.runner(0))):
                how = ["--no-model-files"]
                if with_keys:
                    enroll(c, place, number, *how, runner=runner)
                else:
                    start(c, place, f"w{number}", "--coordinator", c.cluster, *trust, *how,
                          runner=runner)
                wait_until(lambda: f"w{number} joined" in c.coordinator.text(), 30, c.logs())
            c.wait_ready()
            said = talk(c)
            fetched = c.get("/cluster")[1]["workers"][1]["fetch_total"]
        assert "layers 2 to 4" in c.workers[1].text()
    finally:
        flows = listener.stop()
    assert fetched > 100000 and sum(map(len, flows)) > fetched
    return said, flows


@pytest.fixture
def network():
    reason = hosts.impossible()
    if reason:
        pytest.skip(reason)
    with hosts.Network() as n:
        yield n


def test_weights_and_chats(tmp_path, network):
    weights = pieces(pathlib.Path(MODEL).read_bytes(), step=16)
    said, flows = serve(tmp_path / "plain", network, with_keys=False)
    prompt, answer, text = said
    # All that can be looked for is there to be found ...
    assert len(found(weights, flows)) > len(weights) / 3
    assert found(of_tokens(prompt), flows) and found(of_tokens(answer), flows)
    same, flows = serve(tmp_path / "keys", network, with_keys=True)
    assert same == said
    # ... and with keys nothing of it is.
    secrets = weights | of_tokens(prompt) | of_tokens(answer)
    assert not found(secrets | pieces(QUESTION.encode()) | pieces(text.encode()), flows)
