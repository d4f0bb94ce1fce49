"""Too few workers are left, after the model has been served: nobody is refused, everybody waits."""

import threading

from cluster import Cluster, wait_until
from test_recovery import MODEL, STORY, Story, kill, told_while, undisturbed  # noqa: F401

QUESTION = {"prompt": "Hello", "max_tokens": 8, "temperature": 0}


def needed(home):
    """Bytes that one worker claims for the whole model."""
    with Cluster(home, MODEL, workers=1) as c:
        return c.get("/cluster")[1]["workers"][0]["memory_claimed"]


def ask(c, body, got):
    thread = threading.Thread(target=lambda: got.append(c.post("/v1/completions", body)))
    thread.start()
    return thread


def test_requests_wait_until_a_worker_comes_back(home, undisturbed):  # noqa: F811
    """Two workers that hold the model together only: one dies, and another one comes."""
    memory = ["--memory", str(needed(home) * 9 // 10)]
    with Cluster(home, MODEL, workers=2, worker_options=memory) as c:
        want, got, threads = c.post("/v1/completions", QUESTION), [], []

        def disturb():
            kill(c.workers[1])()
            wait_until(lambda: (c.get("/health")[1].get("missing") or {}).get("workers"), 15,
                       "/health says what is missing")
            status, health = c.get("/health")
            assert status == 503 and health["status"] == "degraded"
            assert c.get("/ready") == (200, {"status": "ready"})
            assert health["missing"]["workers"] == 1 and health["running"] == 6
            assert 0 < health["missing"]["memory_bytes"] < needed_bytes
            assert "GiB is enough" in health["error"]["message"]
            threads.extend(ask(c, QUESTION, got) for _ in range(2))
            wait_until(lambda: c.get("/health")[1]["waiting"] == 2, 10, "two more wait")
            c.add_worker()
            c.wait_ready()
        needed_bytes = c.get("/cluster")[1]["workers"][0]["memory_offered"]
        assert told_while(c, disturb) == undisturbed
        for t in threads:
            t.join(30)
        assert [(s, a["choices"]) for s, a in got] == [(200, want[1]["choices"])] * 2
        assert c.get("/health")[1]["status"] == "ok"


def test_a_deadline_ends_the_waiting(home):
    options = ["--request-timeout", "2"]
    with Cluster(home, MODEL, workers=1, options=options) as c:
        kill(c.workers[0])()
        wait_until(lambda: c.get("/health")[0] == 503, 15, "/health says so")
        got = []
        thread = ask(c, QUESTION, got)
        told = Story()
        for event in c.stream("/v1/completions", STORY):  # begins, though nobody computes
            if "error" in event:
                assert event["error"]["code"] == "timeout"
                break
            told.take(event)
        assert told.tokens() == 0
        thread.join(30)
        assert got[0][0] == 504 and got[0][1]["error"]["code"] == "timeout"


def test_before_the_first_plan_nobody_waits(home):
    with Cluster(home, MODEL, workers=0, joined=1) as c:
        status, answer = c.post("/v1/completions", QUESTION)
        assert status == 503 and answer["error"]["message"]
        status, health = c.get("/health")
        assert status == 503 and health["status"] == "loading" and "missing" not in health
        assert c.get("/ready") == (503, {"status": "not ready"})
