"""Who waits, who is next, who is refused. A stopped worker (SIGSTOP) makes places stay taken for as
long as a test wants; it is shorter than the silence after which a worker is taken for lost, and
nothing depends on that."""

import contextlib
import http.client
import json
import resource
import signal
import socket
import threading

import pytest

from cluster import Cluster, model_path, run, wait_until

MODEL = model_path("qwen2-tied-Q8_0")
SHORT = {"prompt": "Hi", "max_tokens": 4, "temperature": 0, "ignore_eos": True}
PATH = "/v1/completions"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@contextlib.contextmanager
def standing_still(c):
    for w in c.workers:
        w.stand_still()
    try:
        yield
    finally:
        for w in c.workers:
            w.signal(signal.SIGCONT)


class Ask(threading.Thread):
    """A request whose answer is looked at later."""

    def __init__(self, c, body=SHORT, key=None):
        super().__init__(daemon=True)
        self.c, self.body = c, body
        self.headers = bearer(key) if key else None
        self.status = None
        self.start()

    def run(self):
        self.status, _, self.answer = self.c.request("POST", PATH, body=json.dumps(self.body),
                                                     headers=self.headers)

    def result(self):
        self.join(60)
        assert self.status is not None, "no answer"
        return self.status


def under_way(c, name="default", key=None):
    status, about = c.get("/cluster", headers=bearer(key) if key else None)
    assert status == 200
    return sum(t["running"] + t["waiting"] for t in about["tenants"] if t["name"] == name)


def refused(c, status, code, body=SHORT, **how):
    got, headers, data = c.request("POST", PATH, body=json.dumps(body), **how)
    error = json.loads(data)["error"]
    assert (got, error["code"]) == (status, code), data
    if status == 429:
        assert 1 <= int(headers["retry-after"]) <= 60
        assert error["type"] == "rate_limit_error"
    return error["message"]


def blocks_are_back(c):
    about = c.get("/cluster")[1]
    return about["kv_blocks"] == about["kv_blocks_free"] and not about["running"]


@pytest.fixture(scope="module")
def narrow(home):
    with Cluster(home, MODEL, options=["--concurrency", "1", "--queue", "4"]) as c:
        yield c


@pytest.fixture(scope="module")
def wide(home):
    with Cluster(home, MODEL, workers=2, options=["--concurrency", "8"]) as c:
        yield c


# ---- what an answer tells ----

@pytest.mark.parametrize("path, body", [
    (PATH, SHORT), ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}],
                                             "max_tokens": 4})])
def test_cached_tokens_are_always_told(wide, path, body):
    body = {**body, "cache_prompt": False, "priority": -3}
    status, answer = wide.post(path, body)
    assert status == 200
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert answer["timings"]["cache_n"] == 0
    last = list(wide.stream(path, {**body, "stream_options": {"include_usage": True}}))[-1]
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert last["timings"]["cache_n"] == 0


def test_a_prompt_again(wide):
    body = {**SHORT, "prompt": [(i * i + 5) % 200 for i in range(150)]}
    answers = []
    before = wide.get("/cluster")[1]
    for how in ({}, {}, {"cache_prompt": False}):
        status, answer = wide.post(PATH, {**body, **how})
        assert status == 200
        answers.append(answer)
    assert [a["usage"]["prompt_tokens_details"]["cached_tokens"] for a in answers] == [0, 128, 0]
    assert [a["timings"]["prompt_n"] for a in answers] == [150, 22, 150]
    assert all(a["choices"] == answers[0]["choices"] for a in answers)
    after = wide.get("/cluster")[1]
    told = ("prefix_cache_query_tokens", "prefix_cache_hit_tokens", "preemptions")
    assert [after[k] - before[k] for k in told] == [300, 128, 0]


def test_tenants_do_not_share_and_the_cache_can_be_off(home, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("k1 one\nk2 two\nk3 one\n")
    keys.chmod(0o600)
    body = {**SHORT, "prompt": [(i * i + 5) % 200 for i in range(150)]}
    for switch, wanted in (("on", [0, 0, 128]), ("off", [0, 0, 0])):
        with Cluster(home, MODEL, options=["--api-key-file", keys, "--prefix-cache", switch],
                     wait=False) as c:
            c.key = "k1"
            c.wait_ready()
            told = []
            for key in ("k1", "k2", "k3"):
                status, answer = c.post(PATH, body, headers=bearer(key))
                assert status == 200
                told.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
            assert told == wanted


def test_the_rate_leaves_out_first_tokens(wide):
    status, answer = wide.post(PATH, {**SHORT, "n": 3, "temperature": 1})
    assert status == 200
    told = answer["timings"]
    assert told["predicted_n"] == 12
    assert told["predicted_per_second"] == pytest.approx(9000 / told["predicted_ms"])


@pytest.mark.parametrize("field, value", [("priority", "high"), ("priority", 1.5),
                                          ("priority", 1 << 31), ("cache_prompt", "yes")])
def test_bad_fields(wide, field, value):
    status, answer = wide.post(PATH, {**SHORT, field: value})
    assert status == 400 and answer["error"]["param"] == field


def test_max_tokens_is_cut_and_a_prompt_that_fills_the_context_refused(wide):
    context = wide.get("/v1/models")[1]["data"][0]["meta"]["n_ctx"]
    prompt = [1] * (context - 3)
    status, answer = wide.post(PATH, {**SHORT, "prompt": prompt, "max_tokens": 1 << 30})
    assert status == 200 and answer["usage"]["completion_tokens"] == 3
    refused(wide, 400, "context_length_exceeded", {**SHORT, "prompt": [1] * context})


@pytest.mark.parametrize("workers", [1, 2])
def test_one_token_beside_a_whole_context_in_a_pool_of_one(home, workers):
    """The long ones grow until they have every block that there is; the short ones give way."""
    long = {"prompt": [(i * i + 5) % 200 for i in range(150)], "max_tokens": 1 << 30,
            "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    short = {"prompt": [7], "max_tokens": 60, "temperature": 0, "ignore_eos": True,
             "return_token_ids": True}
    options = ["--context", 256, "--kv-tokens", 256, "--concurrency", "4"]
    with Cluster(home, MODEL, workers=workers, options=options) as c:
        alone = [c.post(PATH, body)[1] for body in (long, short)]
        assert alone[0]["usage"]["completion_tokens"] == 106  # cut to what the context leaves
        about = c.get("/cluster")[1]
        assert (about["kv_blocks"], about["preemptions"]) == (4, 0)
        with standing_still(c):
            asked = []
            for body in (long, short, long, short, short):
                asked.append((body, Ask(c, body)))
                wait_until(lambda: under_way(c) == len(asked), 10, "it is under way")
        for body, ask in asked:
            assert ask.result() == 200
            assert json.loads(ask.answer)["choices"] == alone[body is short]["choices"]
        assert c.get("/cluster")[1]["preemptions"] > 0
        wait_until(lambda: blocks_are_back(c), 10, "all blocks are back")


# ---- turns ----

def prompts_of_steps(c, after):
    """The lengths of the prompts that went to the workers, in the order of the steps."""
    steps = c.get(f"/cluster/trace?after={after}")[1]["steps"]
    return [s["prefill_rows"] for s in steps if s["prefill_rows"]]


def test_the_urgent_one_is_first(narrow):
    after = narrow.get("/cluster/trace")[1]["next"]
    with standing_still(narrow):
        asked = []
        for length, priority in ((10, 0), (11, 5), (12, -5)):
            asked.append(Ask(narrow, {**SHORT, "prompt": [length] * length, "priority": priority}))
            wait_until(lambda: under_way(narrow) == len(asked), 10, "it is under way")
    assert [a.result() for a in asked] == [200] * 3
    assert prompts_of_steps(narrow, after) == [10, 12, 11]


# ---- limits ----

def test_a_full_queue(narrow):
    with standing_still(narrow):
        asked = [Ask(narrow) for _ in range(5)]
        wait_until(lambda: under_way(narrow) == 5, 10, "place and queue are full")
        assert "try again later" in refused(narrow, 429, "queue_full")
        assert narrow.get("/health")[0] == 200
    assert [a.result() for a in asked] == [200] * 5
    assert Ask(narrow).result() == 200
    refused(narrow, 400, None, {**SHORT, "n": 6})
    refused(narrow, 400, None, {**SHORT, "prompt": ["Hi"] * 6})
    assert narrow.get("/cluster")[1]["refused"]["queue_full"] > 0


def test_a_call_is_taken_whole_or_not_at_all(narrow):
    four = {**SHORT, "prompt": ["Hi"] * 4}
    with standing_still(narrow):
        asked = [Ask(narrow, four)]
        wait_until(lambda: under_way(narrow) == 4, 10, "all of it is under way")
        refused(narrow, 429, "queue_full", {**SHORT, "prompt": ["Hi"] * 2})
        assert under_way(narrow) == 4
        asked.append(Ask(narrow))
        wait_until(lambda: under_way(narrow) == 5, 10, "one more has room")
    assert [a.result() for a in asked] == [200] * 2


def test_tenants(home, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("k1 team 3\nk2 team\n\n# alone\nk3\nk4 other 0.5\n")
    keys.chmod(0o600)
    with Cluster(home, MODEL, options=["--api-key-file", keys, "--tenant-requests", "2"],
                 wait=False) as c:
        c.key = "k3"
        c.wait_ready()
        about = c.get("/cluster")[1]
        assert about["tenants"] == [{"name": n, "running": 0, "waiting": 0}
                                    for n in ("team", "key-3", "other")]
        with standing_still(c):
            asked = [Ask(c, key="k1"), Ask(c, key="k2")]
            wait_until(lambda: under_way(c, "team") == 2, 10, "the team has its share")
            for key in ("k1", "k2"):
                refused(c, 429, "tenant_limit", headers=bearer(key))
            assert c.get("/cluster")[1]["refused"] == {"queue_full": 0, "tenant_limit": 2,
                                                       "timeout": 0}
            # For ever too many, whatever else is under way.
            refused(c, 400, None, {**SHORT, "prompt": ["Hi"] * 3}, headers=bearer("k3"))
            asked += [Ask(c, key="k3"), Ask(c, key="k4")]
            wait_until(lambda: under_way(c, "key-3") == under_way(c, "other") == 1, 10,
                       "the others are taken")
        assert [a.result() for a in asked] == [200] * 4
        assert Ask(c, key="k1").result() == 200
        # The share of one who goes away is free again.
        with standing_still(c):
            gone = []
            for _ in range(2):
                gone.append(http.client.HTTPConnection(c.http))
                gone[-1].request("POST", PATH, body=json.dumps(SHORT), headers=bearer("k1"))
            wait_until(lambda: under_way(c, "team") == 2, 10, "the team has its share")
            for connection in gone:
                connection.close()
            wait_until(lambda: under_way(c, "team") == 0, 10, "nothing of it is left")


@pytest.mark.parametrize("line, word", [
    ("b name 0", "weight"), ("b name x", "weight"), ("b name 1 more", "TENANT"), ("a", "twice"),
    ("b team 2", "weight"), ("b key-7", "key-")])
def test_bad_key_files(home, tmp_path, line, word):
    keys = tmp_path / "keys"
    keys.write_text(f"a team 1\n# fine so far\n{line}\n")
    code, _, err = run("paceline-coordinator", "--config", "/dev/null", "--model", MODEL, "--http",
                       "127.0.0.1:0", "--cluster", "127.0.0.1:0", "--api-key-file", keys, home=home)
    assert code == 2 and f"{keys}:3: " in err and word in err


def test_a_pool_that_holds_no_context(home):
    code, _, err = run("paceline-coordinator", "--config", "/dev/null", "--model", MODEL, "--http",
                       "127.0.0.1:0", "--cluster", "127.0.0.1:0", "--context", 256, "--kv-tokens",
                       192, home=home)
    assert code == 2 and "--kv-tokens" in err


# ---- deadlines ----

def test_timeouts(home):
    with Cluster(home, MODEL, options=["--concurrency", "1", "--request-timeout", "1"]) as c:
        connection = http.client.HTTPConnection(c.http, timeout=60)
        endless = {**SHORT, "max_tokens": 100, "stream": True}
        with standing_still(c):
            connection.request("POST", PATH, body=json.dumps(endless))
            wait_until(lambda: under_way(c) == 1, 10, "the stream has its place")
            waiting = Ask(c)
            assert waiting.result() == 504
            error = json.loads(waiting.answer)["error"]
            assert (error["code"], error["type"]) == ("timeout", "timeout_error")
            assert c.get("/cluster")[1]["refused"]["timeout"] >= 1
            events = [line for line in connection.getresponse() if line.startswith(b"data: ")]
            assert json.loads(events[-1][6:])["error"]["code"] == "timeout"
            wait_until(lambda: blocks_are_back(c), 10, "place and blocks are free")
        connection.close()
        assert Ask(c).result() == 200


# ---- clients that are no pleasure ----

def test_a_thousand_at_once(home):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    sockets = []
    try:
        with Cluster(home, MODEL, options=["--queue", "100"]) as c:
            host, port = c.http.split(":")
            body = json.dumps(SHORT)
            head = (f"POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n{body}").encode()
            with standing_still(c):
                for _ in range(1000):
                    sockets.append(socket.create_connection((host, int(port)), timeout=60))
                    sockets[-1].sendall(head)
                assert c.get("/health")[0] == 200  # the other client
            statuses = []
            for s in sockets:
                data = b""
                while part := s.recv(65536):
                    data += part
                statuses.append(int(data.split()[1]))
            assert set(statuses) == {200, 429}
            assert statuses.count(200) >= 116  # sixteen places, a hundred that wait
            assert Ask(c).result() == 200
            wait_until(lambda: blocks_are_back(c), 10, "all blocks are back")
            assert c.coordinator.is_alive()
    finally:
        for s in sockets:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_slow_readers_and_those_who_leave(wide):
    status, alone = wide.post(PATH, {**SHORT, "max_tokens": 60})
    assert status == 200
    host, port = wide.http.split(":")
    body = json.dumps({**SHORT, "max_tokens": 100, "n": 2, "stream": True, "logprobs": 5})
    head = (f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}")
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    slow.connect((host, int(port)))
    slow.sendall(head.encode())
    leaves = socket.create_connection((host, int(port)))
    leaves.sendall(head.encode())
    assert leaves.recv(100)  # it has begun
    leaves.close()
    status, beside = wide.post(PATH, {**SHORT, "max_tokens": 60})
    assert status == 200 and beside["choices"] == alone["choices"]
    wait_until(lambda: blocks_are_back(wide), 30, "all blocks are back")
    data = b""
    slow.settimeout(60)
    while not data.endswith(b"[DONE]\n\n\r\n0\r\n\r\n"):
        part = slow.recv(500)
        assert part
        data += part
    slow.close()
