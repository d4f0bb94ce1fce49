"""Requests outlive the coordinator: killed, stopped or restarted, each answer is the one that an
undisturbed coordinator gives, to the last bit."""

import contextlib
import http.client
import json
import resource
import signal
import sqlite3
import threading
import time

import pytest

from cluster import Cluster, free_port_pair, instruction_sets, model_path, wait_until

MODEL = model_path("qwen2-tied-Q8_0")
CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES = "/v1/messages"

# Some hundred tokens each. What can show a wrong bit or a wrong count is asked for.
CHAT_BODY = {"messages": [{"role": "user", "content": "Tell me of the sea."}], "max_tokens": 800,
             "temperature": 1, "seed": 5, "ignore_eos": True, "logprobs": True, "top_logprobs": 2,
             "n": 2}
TEXT_BODY = {"prompt": ["Once upon a time", "The end of"], "max_tokens": 800, "temperature": 1.1,
             "seed": 21, "repetition_penalty": 1.1, "presence_penalty": 0.1, "ignore_eos": True,
             "logprobs": 1, "return_token_ids": True, "stream_options": {"include_usage": True}}
MESSAGE_BODY = {"messages": [{"role": "user", "content": "Tell me of the woods."}], "max_tokens": 800,
                "temperature": 1, "seed": 9, "ignore_eos": True}
RESPONSE_BODY = {"input": "Tell me of the hills.", "max_output_tokens": 900, "temperature": 1,
                 "seed": 7, "ignore_eos": True}


@pytest.fixture
def place(tmp_path):
    """A home and ports of its own, so that a coordinator can come back where it was."""
    return Place(tmp_path)


class Place:
    def __init__(self, home):
        self.home = home
        self.cluster, self.http = free_port_pair(3), free_port_pair(1)
        self.options = ["--cluster", f"127.0.0.1:{self.cluster}", "--http",
                        f"127.0.0.1:{self.http}"]

    @contextlib.contextmanager
    def start(self, *options, workers=2):
        with Cluster(self.home, MODEL, workers=workers, isa=(instruction_sets() * 2)[-2:],
                     options=[*self.options, *options]) as c:
            yield c

    @contextlib.contextmanager
    def restart(self, *options):
        """The workers of before come by themselves."""
        with Cluster(self.home, MODEL, workers=0, joined=2,
                     options=[*self.options, *options]) as c:
            yield c


def kill(c):
    c.coordinator.popen.kill()
    c.coordinator.popen.wait()


# ---- streams ----

class Stream(threading.Thread):
    """A client that reads events, and when its connection breaks asks for the rest."""

    def __init__(self, c, path, body):
        super().__init__()
        self.c, self.path, self.body = c, path, {**body, "stream": True}
        self.events, self.last, self.is_done, self.pieces = [], None, False, 0
        self.refused = []

    def request(self):
        """(method, path, body, headers) of the next try."""
        headers = {"Accept": "text/event-stream"}
        if self.last:
            headers["Last-Event-ID"] = self.last
        return "POST", self.path, json.dumps(self.body).encode(), headers

    def take(self, lines):
        fields = dict(line.split(b": ", 1) for line in lines)
        data = fields[b"data"]
        if data == b"[DONE]":
            self.is_done = True
            return
        self.events.append(json.loads(data))
        if b"id" in fields:
            self.last = fields[b"id"].decode()

    def read(self):
        """Until the answer or the connection ends."""
        connection = http.client.HTTPConnection("127.0.0.1", int(self.c.http.rsplit(":", 1)[1]),
                                                timeout=60)
        try:
            method, path, body, headers = self.request()
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                self.refused.append((answer.status, answer.read()))
                return
            lines = []
            for line in answer:
                line = line.rstrip(b"\n")
                if line and not line.startswith(b":"):
                    lines.append(line)
                elif lines:
                    self.take(lines)
                    lines = []
        finally:
            connection.close()

    def run(self):
        end = time.monotonic() + 120
        while not self.is_done and not self.refused and time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.pieces += 1
                self.read()
            time.sleep(0.02)

    def tokens(self):
        return sum(1 for e in self.events for c in e["choices"] if c["finish_reason"] is None)

    def told(self):
        """What was said, choice by choice; all events together."""
        told = {}
        for event in self.events:
            assert "error" not in event, event
            for choice in event["choices"]:
                one = told.setdefault(choice["index"], {"text": "", "ids": [], "logprobs": [],
                                                        "roles": 0, "finish": None})
                assert one["finish"] is None, "something came after the end"
                delta = choice.get("delta", {})
                one["roles"] += "role" in delta
                one["text"] += delta.get("content") or choice.get("text") or ""
                one["ids"] += choice.get("token_ids") or []
                logprobs = choice["logprobs"] or {}
                one["logprobs"] += logprobs.get("content") or logprobs.get("token_logprobs") or []
                one["finish"] = choice["finish_reason"]
        # How much was found in the cache differs after a restart.
        usage = [{k: n for k, n in e["usage"].items() if isinstance(n, int)}
                 for e in self.events if e.get("usage")]
        return told, usage, {e["id"] for e in self.events}, {e["created"] for e in self.events}


class MessageStream(Stream):
    """/v1/messages: several events may have one id, the last of them."""

    def take(self, lines):
        fields = dict(line.split(b": ", 1) for line in lines)
        self.events.append(json.loads(fields[b"data"]))
        assert fields[b"event"].decode() == self.events[-1]["type"]
        if b"id" in fields:
            self.last, self.n_had = fields[b"id"].decode(), len(self.events)
        self.is_done = self.events[-1]["type"] == "message_stop"

    def request(self):
        del self.events[self.n_had:]  # what the last id does not stand for comes again
        return super().request()

    def tokens(self):
        return sum(e["type"] == "content_block_delta" for e in self.events)

    def told(self):
        text = "".join(e.get("delta", {}).get("text", "") for e in self.events)
        end = self.events[-2]
        assert end["type"] == "message_delta"
        return text, end["delta"], end["usage"]["output_tokens"], [e["type"] for e in self.events]

    n_had = 0


class ResponseStream(Stream):
    """GET /v1/responses/{id}, as OpenAI's clients go on with a stream."""

    def request(self):
        if not self.events:
            return "POST", RESPONSES, json.dumps(self.body).encode(), {}
        name, after = self.events[0]["response"]["id"], self.events[-1]["sequence_number"]
        return "GET", f"{RESPONSES}/{name}?stream=true&starting_after={after}", None, {}

    def take(self, lines):
        super().take(lines)
        self.is_done = self.events[-1]["type"] in ("response.completed", "response.incomplete",
                                                   "response.failed")

    def tokens(self):
        return sum(e["type"] == "response.output_text.delta" for e in self.events)

    def told(self):
        assert [e["sequence_number"] for e in self.events] == list(range(len(self.events)))
        text = "".join(e.get("delta", "") for e in self.events)
        last = self.events[-1]["response"]
        assert last["output"][0]["content"][0]["text"] == text
        usage = {k: n for k, n in last["usage"].items() if isinstance(n, int)}
        return text, usage, last["status"], [e["type"] for e in self.events]


def of_each_kind(c):
    return [Stream(c, CHAT, CHAT_BODY), Stream(c, TEXT, TEXT_BODY),
            ResponseStream(c, RESPONSES, RESPONSE_BODY), MessageStream(c, MESSAGES, MESSAGE_BODY)]


def without_names(told):
    """Two requests have different names and dates."""
    return told[:2] if isinstance(told[0], dict) else told


@pytest.fixture(scope="module")
def undisturbed(home):
    with Cluster(home, MODEL, workers=1) as c:
        streams = of_each_kind(c)
        for s in streams:
            s.start()
        for s in streams:
            s.join()
        assert all(s.is_done and s.pieces == 1 for s in streams)
        return [without_names(s.told()) for s in streams]


def check(streams, undisturbed):
    for s in streams:
        s.join()
        assert not s.refused and s.is_done, s.refused
        assert s.pieces > 1, "it was over too soon"
    assert [without_names(s.told()) for s in streams] == undisturbed
    for s in streams[:2]:
        told = s.told()
        assert len(told[2]) == 1 and len(told[3]) == 1, "one name and one date"


def under_way(streams):
    for s in streams:
        s.start()
    wait_until(lambda: all(s.tokens() > 30 for s in streams), 60, "all streams are under way")
    assert not any(s.is_done for s in streams), "it was over too soon"


def test_killed(place, undisturbed):
    with place.start() as c:
        streams = of_each_kind(c)
        under_way(streams)
        kill(c)
        with place.restart() as again:
            began = time.monotonic()
            again.wait_ready()
            assert time.monotonic() - began < 15
            # Nothing was loaded again.
            assert [w["load_total"] for w in again.get("/cluster")[1]["workers"]] == [0, 0]
            check(streams, undisturbed)
            wait_until(lambda: again.running() == 0, 10, "nothing runs any more")
            state = again.get("/cluster")[1]
            assert state["kv_blocks_free"] == state["kv_blocks"]
            assert state["journal"]["state"] == "on"


def test_killed_twice(place, undisturbed):
    with place.start() as c:
        streams = of_each_kind(c)
        under_way(streams)
        kill(c)
        with place.restart() as second:
            before = [s.tokens() for s in streams]
            wait_until(lambda: all(s.tokens() > b for s, b in zip(streams, before)), 60,
                       "all streams go on")
            kill(second)
            with place.restart():
                check(streams, undisturbed)


def test_stopped_in_order(place, undisturbed):
    """SIGTERM with too little time: the rest stays in the journal, and the exit is a good one."""
    with place.start("--stop-grace", "0") as c:
        whole = {"prompt": "Once", "max_tokens": 1000, "n": 8, "ignore_eos": True}
        refused = []
        other = threading.Thread(target=lambda: refused.append(c.post(TEXT, whole)))
        other.start()
        wait_until(lambda: c.running() == 8, 30, "it runs")
        streams = of_each_kind(c)
        under_way(streams)
        c.coordinator.signal(signal.SIGTERM)
        assert c.coordinator.wait(30) == 0
        other.join()
        # Whoever waited for a whole answer is told.
        assert refused[0][0] == 503 and "stopped" in refused[0][1]["error"]["message"]
        with place.restart():
            check(streams, undisturbed)


def test_stop_finishes_first(place):
    with place.start() as c:
        s = Stream(c, TEXT, TEXT_BODY)
        under_way([s])
        c.coordinator.signal(signal.SIGTERM)
        assert c.coordinator.wait(60) == 0
        s.join()
        assert s.is_done and s.pieces == 1


# ---- in the background ----

def status_of(c, name):
    return c.get(f"{RESPONSES}/{name}")[1]["status"]


def test_background_across_a_restart(place, undisturbed):
    body = {**RESPONSE_BODY, "background": True}
    with place.start("--concurrency", "2") as c:
        names = [c.post(RESPONSES, body)[1]["id"] for _ in range(4)]  # two of them wait
        wait_until(lambda: c.get(f"{RESPONSES}/{names[0]}")[1]["output"], 30, "it has begun")
        kill(c)
        with place.restart("--concurrency", "2") as again:
            assert again.post(f"{RESPONSES}/{names[1]}/cancel", {})[1]["status"] == "cancelled"
            for name in (names[0], names[2], names[3]):
                wait_until(lambda n=name: status_of(again, n) == "incomplete", 60, "it is done")
                answer = again.get(f"{RESPONSES}/{name}")[1]
                assert answer["output"][0]["content"][0]["text"] == undisturbed[2][0]
            assert again.request("DELETE", f"{RESPONSES}/{names[0]}")[0] == 200
            kill(again)
            with place.restart("--concurrency", "2") as third:
                # What is done stays, what was deleted is gone.
                assert third.get(f"{RESPONSES}/{names[0]}")[0] == 404
                assert status_of(third, names[1]) == "cancelled"
                answer = third.get(f"{RESPONSES}/{names[2]}")[1]
                assert answer["output"][0]["content"][0]["text"] == undisturbed[2][0]


def test_accepted_is_kept(place):
    """Whoever has the name of a background response will get its answer, however soon all ends."""
    with place.start() as c:
        names = []
        for _ in range(5):
            names.append(c.post(RESPONSES, {"input": "Hi", "background": True,
                                            "max_output_tokens": 5})[1]["id"])
        kill(c)
        with place.restart() as again:
            for name in names:
                wait_until(lambda n=name: status_of(again, n) in ("completed", "incomplete"), 60,
                           "it is done")


def test_clients_that_leave_leave_nothing(place):
    with place.start() as c:
        stream = c.stream(TEXT, TEXT_BODY)
        next(stream)
        stream.close()
        wait_until(lambda: c.running() == 0, 10, "nothing runs any more")
        c.post(TEXT, {"prompt": "x", "max_tokens": 2})
        time.sleep(0.6)  # the journal's transactions: two of them
        kill(c)
        with place.restart() as again:
            again.wait_ready()
            time.sleep(0.5)
            assert again.running() == 0
            assert "will be finished" not in again.coordinator.text()


# ---- what is in the way ----

def ask_for_both(c):
    body = {**RESPONSE_BODY, "max_output_tokens": 5}
    assert c.post(RESPONSES, body)[0] == 200
    assert list(c.stream(TEXT, {"prompt": "x", "max_tokens": 3}))
    status, answer = c.post(RESPONSES, {**body, "background": True})
    assert status == 200
    wait_until(lambda: status_of(c, answer["id"]) == "incomplete", 30, "it is done")


@pytest.mark.parametrize("journal", ["/dev/null/journal.db", "/proc/journal.db"])
def test_a_journal_that_cannot_be(place, journal):
    with place.start("--journal", journal, workers=1) as c:
        ask_for_both(c)
        words = c.coordinator.text()
        assert f"no journal: {journal}" in words and "lost when the coordinator ends" in words
        state = c.get("/cluster")[1]["journal"]
        assert state["state"] == "lost" and journal in state["why"]


def test_off(place):
    with place.start("--journal", "off", workers=1) as c:
        ask_for_both(c)
        assert c.get("/cluster")[1]["journal"] == {"state": "off", "why": None}
        assert not (place.home / "journal").exists()


def test_no_journal_of_another(place):
    journal = place.home / "shared.db"
    with place.start("--journal", journal, workers=1) as c:
        with Cluster(place.home, MODEL, workers=1, options=["--journal", journal]) as other:
            ask_for_both(other)
            assert "locked" in other.coordinator.text()
            assert other.get("/cluster")[1]["journal"]["state"] == "lost"
        assert c.get("/cluster")[1]["journal"]["state"] == "on"


def test_a_full_disk(place):
    """A limit of file sizes stands in for it. The service goes on; when there is room again, what
    could not be written is."""
    with place.start() as c:
        no_limit = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        size = sum(f.stat().st_size for f in (place.home / "journal").iterdir())
        # The log is far below it.
        resource.prlimit(c.coordinator.pid, resource.RLIMIT_FSIZE,
                         (max(size, 40000), resource.RLIM_INFINITY))
        names = []
        wait_until(lambda: names.append(c.post(RESPONSES, {**RESPONSE_BODY, "background": True,
                                                           "max_output_tokens": 3})[1]["id"]) or
                   c.get("/cluster")[1]["journal"]["state"] == "waiting", 60, "the disk is full")
        assert "until it can be written again" in c.coordinator.text()
        ask_for_both(c)
        resource.prlimit(c.coordinator.pid, resource.RLIMIT_FSIZE, no_limit)
        wait_until(lambda: c.get("/cluster")[1]["journal"]["state"] == "on", 30, "it is written")
        kill(c)
        with place.restart() as again:
            for name in names:
                wait_until(lambda n=name: status_of(again, n) == "incomplete", 30, "it is there")


def test_a_damaged_entry(place):
    """It is left out and named; the others and the journal are not touched by it."""
    with place.start() as c:
        body = {**RESPONSE_BODY, "background": True, "max_output_tokens": 5}
        names = [c.post(RESPONSES, body)[1]["id"] for _ in range(3)]
        kill(c)
        file, = (f for f in (place.home / "journal").iterdir() if not f.name.endswith("-wal"))
        with contextlib.closing(sqlite3.connect(file)) as db:
            db.execute("UPDATE calls SET prompts = x'ffff' WHERE id = ?", names[:1])
            db.commit()
        with place.restart() as again:
            assert f"call {names[0]} is left out: its prompts are damaged" in again.coordinator.text()
            assert again.get("/cluster")[1]["journal"]["state"] == "on"
            assert again.get(f"{RESPONSES}/{names[0]}")[0] == 404
            for name in names[1:]:
                wait_until(lambda n=name: status_of(again, n) == "incomplete", 30, "it is there")


def test_another_model(place):
    """The rest of an answer by other weights would be no answer: its client is told."""
    other = model_path("qwen3-tied-Q4_0")
    with place.start(workers=1) as c:
        name = c.post(RESPONSES, {**RESPONSE_BODY, "background": True})[1]["id"]
        wait_until(lambda: c.get(f"{RESPONSES}/{name}")[1]["output"], 30, "it has begun")
        kill(c)
        c.workers[0].popen.kill()
        c.workers[0].popen.wait()
        with Cluster(place.home, other, workers=1, options=place.options) as again:
            wait_until(lambda: status_of(again, name) == "failed", 30, "it is told")
            assert "another model" in again.get(f"{RESPONSES}/{name}")[1]["error"]["message"]
