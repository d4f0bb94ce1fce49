"""A request that ends every worker that computes it is found and fails; all the others go on."""

import contextlib
import signal
import threading

import pytest
from cluster import Cluster, wait_until
from test_recovery import MODEL, Story, undisturbed  # noqa: F401
from test_recovery import STORY

POISON = [11, 12, 13, 477, 14, 15]


class Poisoned(Cluster):
    """Workers that end of a token at a position; who has ended is replaced."""

    def __init__(self, home, poison, workers):
        super().__init__(home, MODEL, workers=0, joined=workers, wait=False)
        self.poison, self.codes, self.is_closing = poison, [], threading.Event()
        self.supervisor = threading.Thread(target=self.supervise)
        try:
            for i in range(workers):
                self.start(f"p{i + 1}")
                wait_until(lambda i=i: f"p{i + 1} joined" in self.coordinator.text(), 30, "joined")
            self.wait_ready()
            self.supervisor.start()
        except BaseException:
            self.close(check=False)
            raise

    def start(self, name):
        self.start_worker(name, program="poisoned-worker", env={"POISON": self.poison})

    def supervise(self):
        """Under another name, for those that end too often are kept out."""
        while not self.is_closing.wait(0.05):
            for worker in [w for w in self.workers if not w.is_alive()]:
                self.codes.append(worker.wait())
                self.workers.remove(worker)
                self.start(f"again{len(self.codes)}")

    def wait_ends(self, n):
        wait_until(lambda: f"again{n} joined" in self.coordinator.text(), 30,
                   f"{n} have ended and were replaced")
        assert len(self.codes) == n

    def close(self, check=True):
        self.is_closing.set()
        if self.supervisor.is_alive():
            self.supervisor.join()
        super().close(check)


def story_beside(c, ask):
    """The story; ask() is called when it is under way."""
    told, asked = Story(), False
    for event in c.stream("/v1/completions", STORY):
        told.take(event)
        if not asked and told.tokens() > 100:
            asked = True
            ask()
    assert asked
    return told


def failing_stream(c, body, failures):
    """Begins it; what it says in the end goes to the list, with the number of its tokens."""
    def read():
        n = 0
        with contextlib.suppress(AssertionError):  # an error has no [DONE] behind it
            for event in c.stream("/v1/completions", {**body, "logprobs": 1}):
                if "error" in event:
                    failures.append((event["error"], n))
                else:
                    n += len((event["choices"][0]["logprobs"] or {}).get("tokens", []))
    thread = threading.Thread(target=read)
    thread.start()
    return thread


@pytest.mark.parametrize("how, ends", [("abort", 2), ("kill", 3)])
def test_a_poisoned_prompt_fails_and_the_others_do_not(home, undisturbed, how, ends):  # noqa: F811
    """Where the worker cannot say what happened, the first end accuses nobody."""
    with Poisoned(home, f"477 3 {how}", workers=2) as c:
        failures, threads = [], []
        body = {"prompt": POISON, "max_tokens": 5}
        told = story_beside(c, lambda: threads.append(failing_stream(c, body, failures)))
        threads[0].join(60)
        assert told == undisturbed
        (error, n), = failures
        assert n == 0 and error["code"] == "worker_crash" and error["type"] == "server_error"
        assert "not tried again" in error["message"] and "worker" in error["message"]
        c.wait_ends(ends)
        if how == "abort":
            assert set(c.codes) == {-signal.SIGABRT}
            assert "crashed (Aborted)" in c.coordinator.text()
        status, answer = c.post("/v1/completions", {"prompt": POISON[:3], "max_tokens": 2})
        assert status == 200 and answer["choices"]


def test_who_was_alone_is_known_without_a_word(home):
    """Ended by SIGKILL, and nobody else was there: two are enough."""
    with Poisoned(home, "477 3 kill", workers=2) as c:
        status, answer = c.post("/v1/completions", {"prompt": POISON, "max_tokens": 5})
        assert status == 500 and answer["error"]["code"] == "worker_crash"
        c.wait_ends(2)
        c.wait_ready()
        assert c.post("/v1/completions", {"prompt": POISON[:3], "max_tokens": 2})[0] == 200


def test_a_poisoned_token_ends_the_stream_where_it_comes(home):
    """In the middle of an answer, in a cluster where nobody is left by the second end."""
    body = {"prompt": [5, 6, 7], "max_tokens": 40, "temperature": 0, "ignore_eos": True}
    with Cluster(home, MODEL, workers=1) as c:
        answer = c.post("/v1/completions", {**body, "return_token_ids": True})[1]["choices"][0]
    at = 20
    with Poisoned(home, f"{answer['token_ids'][at]} {3 + at} abort", workers=1) as c:
        failures = []
        failing_stream(c, body, failures).join(60)
        (error, n), = failures
        assert error["code"] == "worker_crash" and n == at + 1
        c.wait_ends(2)
        c.wait_ready()
        status, answer = c.post("/v1/completions", {**body, "max_tokens": 5})
        assert status == 200 and answer["choices"]
        status, answer = c.post("/v1/completions", body)  # not as a stream
        assert status == 500 and answer["error"]["code"] == "worker_crash"
        c.wait_ends(4)


def test_a_step_that_is_refused(home, undisturbed):  # noqa: F811
    """The worker lives, and says why."""
    with Poisoned(home, "477 3 refuse", workers=2) as c:
        failures, threads = [], []
        body = {"prompt": POISON, "max_tokens": 5}
        told = story_beside(c, lambda: threads.append(failing_stream(c, body, failures)))
        threads[0].join(60)
        assert told == undisturbed and not c.codes
        assert failures[0][0]["code"] == "worker_crash"
        assert "the step is poisoned" in failures[0][0]["message"]
