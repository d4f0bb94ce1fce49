"""Workers that die, hang and leave: requests go on with the text that they would have had."""

import json
import signal
import threading
import time

import pytest

from cluster import Cluster, free_port_pair, instruction_sets, model_path, wait_until

ISAS = instruction_sets()
MODEL = model_path("qwen2-tied-Q8_0")

# Long enough to be under way when a worker dies: thousands of tokens. Penalties, so that the counts
# of the tokens before have to be told anew; log-probabilities, to see the last bit.
STORY = {"prompt": "Once upon a time", "max_tokens": 500, "n": 6, "seed": 21, "temperature": 1.1,
         "repetition_penalty": 1.1, "frequency_penalty": 0.1, "presence_penalty": 0.1,
         "ignore_eos": True, "logprobs": 1, "return_token_ids": True}


@pytest.fixture(scope="module")
def undisturbed(home):
    with Cluster(home, MODEL, workers=1, isa=ISAS[-1]) as c:
        told = Story()
        for event in c.stream("/v1/completions", STORY):
            told.take(event)
    assert [len(ids) for ids in told.ids] == [500] * 6
    return told


class Story:
    """The six texts of a stream."""

    def __init__(self):
        self.ids, self.texts, self.finish = [[] for _ in range(6)], [""] * 6, [None] * 6
        self.logprobs = [[] for _ in range(6)]

    def take(self, event):
        assert "error" not in event, event
        for choice in event["choices"]:
            i = choice["index"]
            assert self.finish[i] is None
            self.texts[i] += choice["text"]
            self.ids[i] += choice.get("token_ids") or []
            if choice["logprobs"]:
                self.logprobs[i] += choice["logprobs"]["token_logprobs"]
            self.finish[i] = choice["finish_reason"]

    def __eq__(self, other):
        return vars(self) == vars(other)

    def tokens(self):
        return sum(map(len, self.ids))


def told_while(c, disturb, after_tokens=300):
    """Streams the story; calls disturb() once, when it is under way."""
    told, disturbed = Story(), False
    for event in c.stream("/v1/completions", STORY):
        told.take(event)
        if not disturbed and told.tokens() >= after_tokens:
            disturbed = True
            assert c.get("/cluster")[1]["running"], "the story was over too soon"
            disturb()
    assert disturbed
    return told


def kill(worker):
    def now():
        worker.popen.kill()
        worker.popen.wait()
    return now


def names(c):
    return [w["name"] for w in c.get("/cluster")[1]["workers"]]


@pytest.mark.parametrize("victim", [0, 1], ids=["first-stage", "last-stage"])
def test_killed_with_a_standby(home, undisturbed, victim):
    with Cluster(home, MODEL, workers=3, joined=3, cuts="2", isa=(ISAS * 3)[:3]) as c:
        cluster = c.get("/cluster")[1]
        assert [w["state"] for w in cluster["workers"]] == ["serving", "serving", "standby"]
        began = time.monotonic()
        assert told_while(c, kill(c.workers[victim])) == undisturbed
        assert time.monotonic() - began < 30
        after = c.get("/cluster")[1]
        assert after["epoch"] > cluster["epoch"] and after["stages"] == 2
        assert f"w{victim + 1}" not in names(c) and "w3" in names(c)
        assert f"w{victim + 1}" in c.coordinator.text()


def test_killed_and_the_survivor_takes_all(home, undisturbed):
    """Without cuts the plan is free: one worker can hold the model alone."""
    with Cluster(home, MODEL, workers=2) as c:
        assert c.get("/cluster")[1]["stages"] == 2
        assert told_while(c, kill(c.workers[1])) == undisturbed
        assert c.get("/cluster")[1]["stages"] == 1


def test_killed_and_a_new_one_joins(home, undisturbed):
    """Nobody is left: the story stands still until somebody comes."""
    with Cluster(home, MODEL, workers=1) as c:
        def disturb():
            kill(c.workers[0])()
            wait_until(lambda: c.get("/health")[0] == 503, 10, "/health says that it waits")
            assert "worker" in c.get("/health")[1]["error"]["message"]
            c.add_worker()
            c.wait_ready()
        assert told_while(c, disturb) == undisturbed


def test_a_death_is_noticed_by_the_connection(home, undisturbed):
    """Long before silence would tell."""
    with Cluster(home, MODEL, workers=2, options=["--worker-silence", "60000"]) as c:
        took = []

        def disturb():
            began = time.monotonic()
            kill(c.workers[1])()
            wait_until(lambda: names(c) == ["w1"], 20, "it is missed")
            took.append(time.monotonic() - began)
        assert told_while(c, disturb) == undisturbed
        assert took[0] < 10 and "closed its connection" in c.coordinator.text()


def test_several_die_one_after_the_other(home, undisturbed):
    with Cluster(home, MODEL, workers=4, joined=4) as c:
        deaths = iter(c.workers[:3])
        told, next_at = Story(), 200
        for event in c.stream("/v1/completions", STORY):
            told.take(event)
            if told.tokens() >= next_at and (worker := next(deaths, None)):
                kill(worker)()
                next_at = told.tokens() + 400
        assert told == undisturbed
        wait_until(lambda: names(c) == ["w4"], 10, "the third is missed, too")


def test_stopped_worker_is_left_out_and_comes_back(home, undisturbed):
    """SIGSTOP: it is silent, not gone. When it goes on it joins anew and harms nothing."""
    with Cluster(home, MODEL, workers=3, joined=3, cuts="2") as c:
        victim = c.workers[0]
        assert told_while(c, lambda: victim.signal(signal.SIGSTOP)) == undisturbed
        assert "w1" not in names(c)
        victim.signal(signal.SIGCONT)
        wait_until(lambda: "w1" in names(c), 15, "it has joined again")
        assert victim.is_alive()
        again = Story()
        for event in c.stream("/v1/completions", STORY):
            again.take(event)
        assert again == undisturbed


def test_worker_that_leaves_in_order(home, undisturbed):
    with Cluster(home, MODEL, workers=3, joined=3, cuts="2") as c:
        def leave():
            began = time.monotonic()
            assert c.workers[1].stop() == 0
            assert time.monotonic() - began < 10
        assert told_while(c, leave) == undisturbed
        assert "w2 left" in c.coordinator.text()


def test_killed_while_others_ask(home, undisturbed):
    """Prompts half read, choices that wait, probes, cancelled streams: all at once."""
    with Cluster(home, MODEL, workers=3, joined=3, cuts="3") as c:
        ids = [(5 * i + i * i) % 480 for i in range(600)]
        logits, prompt = c.logits(ids), {"prompt": ids, "max_tokens": 20, "temperature": 0}
        scores = c.post("/v1/probe", {"tokens": ids})[1]["logprobs"]
        text = c.post("/v1/completions", prompt)[1]["choices"]
        stop, wrong = threading.Event(), []

        def ask(question, want):
            while not stop.is_set():
                try:
                    if question() != want:
                        wrong.append("another answer")
                except Exception as e:  # pylint: disable=broad-except
                    wrong.append(repr(e))

        questions = [
            (lambda: c.post("/v1/completions", prompt)[1]["choices"], text),
            (lambda: c.post("/v1/probe", {"tokens": ids})[1]["logprobs"], scores),
        ]
        threads = [threading.Thread(target=ask, args=q) for q in questions for _ in range(2)]
        for t in threads:
            t.start()
        try:
            told = told_while(c, kill(c.workers[1]))
        finally:
            stop.set()
            for t in threads:
                t.join()
        assert told == undisturbed and not wrong, wrong[:3]
        assert c.logits(ids) == logits
        wait_until(lambda: c.running() == 0, 10, "nothing runs any more")
        cluster = c.get("/cluster")[1]
        assert cluster["kv_blocks_free"] == cluster["kv_blocks"]


def test_probe_survives_too(home):
    """Rows of logits that were delivered are not delivered twice."""
    ids = [(3 * i + 7) % 480 for i in range(1000)]
    with Cluster(home, MODEL, workers=3, joined=3, cuts="2") as c:
        want = c.logits(ids)
        for _ in range(2):
            got = []
            reader = threading.Thread(target=lambda: got.append(c.logits(ids)))
            epoch = c.get("/cluster")[1]["epoch"]
            victim = next(w for i, w in enumerate(c.workers) if w.is_alive() and
                          f"w{i + 1}" == names(c)[1])
            reader.start()
            victim.popen.kill()
            victim.popen.wait()
            reader.join(60)
            assert got == [want]
            c.add_worker()
            wait_until(lambda: c.get("/cluster")[1]["epoch"] > epoch, 10, "a new plan")
            c.wait_ready()


def test_cancelled_while_nobody_serves(home):
    """A client that leaves during the pause is forgotten."""
    with Cluster(home, MODEL, workers=1, options=["--concurrency", "4"]) as c:
        stream = c.stream("/v1/completions", STORY)
        next(stream)
        kill(c.workers[0])()
        wait_until(lambda: c.get("/health")[0] == 503, 10, "/health says that it waits")
        assert c.get("/cluster")[1]["running"] == 4
        stream.close()
        wait_until(lambda: c.get("/cluster")[1]["running"] == 0, 5, "the request is forgotten")
        c.add_worker()
        c.wait_ready()
        assert c.post("/v1/completions", {"prompt": "x", "max_tokens": 2})[0] == 200


# ---- the coordinator ----

def test_drain_finishes_what_runs(home, undisturbed):
    """SIGTERM: the stream is told to its end, new requests are refused, then all is over."""
    with Cluster(home, MODEL, workers=2) as c:
        def drain():
            c.coordinator.signal(signal.SIGTERM)
            wait_until(lambda: c.request("GET", "/health")[0] == 503, 10, "/health says so")
            status, headers, body = c.request("POST", "/v1/completions", body=b'{"prompt":"x"}')
            assert status == 503 and "retry-after" in headers
            assert "shutting down" in json.loads(body)["error"]["message"]
        told, disturbed = Story(), False
        for event in c.stream("/v1/completions", STORY):
            told.take(event)
            if not disturbed and told.tokens() > 100:
                disturbed = True
                drain()
        assert disturbed and told == undisturbed
        assert c.coordinator.wait(10) == 0


def test_second_signal_stops_at_once(home):
    with Cluster(home, MODEL, workers=1) as c:
        stream = c.stream("/v1/completions", {**STORY, "n": 16})
        next(stream)
        c.coordinator.signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in c.coordinator.text(), 5, "it stops")
        c.coordinator.signal(signal.SIGTERM)
        assert c.coordinator.wait(5) == 128 + signal.SIGTERM
        with pytest.raises(Exception):
            list(stream)


def test_restarted_coordinator_finds_its_workers(home, undisturbed):
    """The workers outlive it, knock again, and serve the new one."""
    port = free_port_pair()
    options = ["--cluster", f"127.0.0.1:{port}"]
    with Cluster(home, MODEL, workers=2, options=options) as c:
        c.coordinator.popen.kill()
        c.coordinator.popen.wait()
        with Cluster(home, MODEL, workers=0, joined=2, options=options) as again:
            again.wait_ready()
            assert sorted(names(again)) == ["w1", "w2"]
            # Nothing was loaded again: what the workers had was what they were asked for.
            assert [w["load_total"] for w in again.get("/cluster")[1]["workers"]] == [0, 0]
            assert all("no word from" not in w.text() for w in c.workers)
            told = Story()
            for event in again.stream("/v1/completions", STORY):
                told.take(event)
            assert told == undisturbed
        assert all(w.is_alive() for w in c.workers)
