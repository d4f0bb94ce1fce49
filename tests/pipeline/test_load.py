"""`paceline bench` as a load generator: what it sends, counts and reports."""

import collections
import contextlib
import http.server
import json
import re
import signal
import threading
import time

import pytest

from cluster import (Cluster, Process, environment, model_path, run, survivors, the_sentence,
                     wait_until)

MODEL = model_path("qwen2-tied-Q8_0")
FIELDS = {"workload", "interrupted", "duration_seconds", "completed", "failed", "unfinished",
          "failures", "first_error", "prompt_tokens", "cached_prompt_tokens", "output_tokens",
          "output_tokens_per_second", "total_tokens_per_second", "requests_per_second",
          "time_to_first_token_ms", "inter_token_latency_ms", "end_to_end_latency_ms"}
LATENCIES = [f for f in sorted(FIELDS) if f.endswith("_ms")]


def load(home, *options, code=0, **how):
    got, out, err = run("paceline", "bench", "--json", *options, home=home, **how)
    assert got == code, err
    report = json.loads(out)
    assert set(report) == FIELDS
    assert report["completed"] + report["failed"] + report["unfinished"] <= \
        report["workload"]["requests"]
    assert sum(report["failures"].values()) == report["failed"]
    for name in LATENCIES:
        s = report[name]
        assert set(s) == {"count", "mean", "min", "p50", "p95", "p99", "max"}
        if not s["count"]:
            assert set(s.values()) == {0, None}
            continue
        assert 0 <= s["min"] <= s["p50"] <= s["p95"] <= s["p99"] <= s["max"]
        assert s["min"] <= s["mean"] <= s["max"]
    return report, err


class Server(http.server.ThreadingHTTPServer):
    """Remembers what it was asked; `answer(handler, number, body)` writes what comes back."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer, reads):
        self.asked, self.active, self.most = [], 0, 0
        self.lock = threading.Lock()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                self.send_error(404)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = json.loads(body) if reads else None
                with server.lock:
                    number = len(server.asked)
                    server.asked.append((self.path, dict(self.headers), body))
                    server.active += 1
                    server.most = max(server.most, server.active)
                try:
                    answer(self, number, body)
                finally:
                    with server.lock:
                        server.active -= 1

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def serving(answer, reads=True):
    with Server(answer, reads) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def begin(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Connection", "close")
    handler.close_connection = True
    handler.end_headers()


def event(handler, value):
    text = value if isinstance(value, str) else json.dumps(value)
    handler.wfile.write(f"data: {text}\n\n".encode())
    handler.wfile.flush()


def answer_well(handler, _number, body):
    begin(handler)
    for i in range(body["max_tokens"]):
        event(handler, {"choices": [{"index": 0, "text": f"w{i} ", "finish_reason": None}]})
    event(handler, "[DONE]")


def refuse(handler, status):
    data = json.dumps({"error": {"message": f"no, says {status}"}}).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


# ---- a cluster ----

def test_closed_loop(home):
    report, err = load(home, MODEL, "--clients", 4, "--requests", 30, "--input-len", "20-40",
                       "--output-len", 12, "--seed", 1, "--workers", 2, "--threads", 1)
    assert report["workload"] == {
        "loop": "closed", "prompts": "ids", "clients": 4, "requests": 30,
        "arrivals_per_second": 0.0, "input_len": [20, 40], "output_len": [12, 12],
        "shared_prefix": 0, "prefixes": 1, "seed": 1}
    assert (report["completed"], report["failed"], report["unfinished"]) == (30, 0, 0), err
    assert report["failures"] == {} and report["first_error"] is None
    assert report["interrupted"] is False
    assert report["output_tokens"] == 30 * 12
    assert 30 * 20 <= report["prompt_tokens"] <= 30 * 40
    assert report["time_to_first_token_ms"]["count"] == 30
    assert 0 < report["inter_token_latency_ms"]["count"] <= 30 * 11  # an event may bring two
    assert report["end_to_end_latency_ms"]["count"] == 30
    assert report["end_to_end_latency_ms"]["max"] <= report["duration_seconds"] * 1000 + 1
    assert report["end_to_end_latency_ms"]["p50"] > report["time_to_first_token_ms"]["p50"]
    seconds = report["duration_seconds"]
    for name, count in (("output_tokens_per_second", 360), ("requests_per_second", 30),
                        ("total_tokens_per_second", 360 + report["prompt_tokens"])):
        assert report[name] == pytest.approx(count / seconds, rel=0.02)


def test_text_of_the_report(home):
    code, out, err = run("paceline", "bench", MODEL, "-c", 2, "--requests", 5, "--input-len", 9,
                         "--output-len", 3, home=home)
    assert code == 0, err
    text = out.decode()
    assert "5 requests completed, 0 failed, in " in text
    assert "tokens: 45 of prompts" in text and "15 of answers" in text
    for line in ("time to first token", "inter-token latency", "end-to-end latency"):
        assert len([x for x in text.splitlines() if x.startswith(line)][0].split()) == \
            len(line.split()) + 4


def test_server_that_runs_with_a_key(home, tmp_path):
    key = tmp_path / "key"
    key.write_text("secret-of-the-test\n")
    with Cluster(home, MODEL, options=["--api-key-file", key], wait=False) as c:
        c.key = "secret-of-the-test"
        c.wait_ready()
        for options in ((), ("--text",), ("--chat",)):
            report, err = load(home, "--url", c.url, "--api-key-file", key, "--requests", 6,
                               "--clients", 3, "--input-len", 5, "--output-len", 4, *options)
            assert report["completed"] == 6 and report["output_tokens"] == 24, err
        report, err = load(home, "--url", c.url, "--requests", 6, code=1)
        assert report["failures"] == {"http_401": 6}
        assert the_sentence(err).startswith("all 6 requests failed: ")


def test_shared_prefix(home):
    """What the server has of the prefix already is told."""
    options = [MODEL, "--requests", 12, "--input-len", 200, "--output-len", 2]
    report, _ = load(home, *options)
    assert report["cached_prompt_tokens"] == 0
    report, _ = load(home, *options, "--shared-prefix", 160, "--prefixes", 2)
    assert 10 * 100 <= report["cached_prompt_tokens"] <= 10 * 160
    assert report["prompt_tokens"] == 12 * 200


def test_a_second_run_finds_nothing_of_the_first(home):
    """Without --seed prompts are new; with it they are those of before, and the cache has them."""
    with Cluster(home, MODEL) as c:
        options = ["--url", c.url, "--requests", 3, "--input-len", 200, "--output-len", 1]
        first, second = load(home, *options)[0], load(home, *options)[0]
        assert first["cached_prompt_tokens"] == second["cached_prompt_tokens"] == 0
        seed = second["workload"]["seed"]
        assert first["workload"]["seed"] != seed
        again, _ = load(home, *options, "--seed", seed)
        assert again["workload"]["seed"] == seed and again["cached_prompt_tokens"] == 3 * 192
        code, out, err = run("paceline", "bench", *options, home=home)
        assert code == 0 and re.search(r"^prompts, .* of --seed \d+$", out.decode(), re.M), err


@pytest.mark.parametrize("options, sentence", [
    (["--shared-prefix", 200, "--input-len", "100-300"],
     "--shared-prefix 200 does not fit into prompts of 100 tokens; --input-len makes them longer"),
    (["--shared-prefix", 129], "--shared-prefix 129 does not fit into prompts of 128 tokens"),
    (["--clients", 2, "--streams", 2],
     "--streams is of the measurements without a load, and --clients begins one"),
    (["--text", "-n", 2], "--generate is of the measurements without a load, and --text begins"),
    (["--requests", 2, "-r", 5], "--runs is of"),
], ids=lambda x: " ".join(map(str, x)) if isinstance(x, list) else "")
def test_options_that_contradict_each_other(home, options, sentence):
    code, out, err = run("paceline", "bench", "no-such-model", *options, home=home)
    assert code == 1 and not out and sentence in the_sentence(err)


def test_a_file_may_hold_options_of_both_kinds(home, tmp_path):
    settings = tmp_path / "paceline.cfg"
    settings.write_text('bench: { streams = "4"; runs = 2; clients = 2; };\n')
    report, _ = load(home, MODEL, "--config", settings, "--requests", 3, "--output-len", 2)
    assert report["completed"] == 3 and report["workload"]["clients"] == 2


# ---- what is sent ----

def test_requests(home):
    with serving(answer_well) as server:
        report, _ = load(home, "--url", server.url + "/v1/", "--clients", 5, "--requests", 40,
                         "--input-len", "30-50", "--output-len", "2-6", "--shared-prefix", 20,
                         "--prefixes", 4, "--seed", 9)
        again, _ = load(home, "--url", server.url, "--clients", 2, "--requests", 40, "--input-len",
                        "30-50", "--output-len", "2-6", "--shared-prefix", 20, "--prefixes", 4,
                        "--seed", 9)
        assert report["completed"] == 40 and server.most <= 5
        bodies = [body for _, _, body in server.asked]
    assert report["output_tokens"] == again["output_tokens"] == \
        sum(b["max_tokens"] for b in bodies[:40])
    assert report["inter_token_latency_ms"]["count"] == report["output_tokens"] - 40
    assert report["cached_prompt_tokens"] is None
    assert {p for p, _, _ in server.asked} == {"/v1/completions"}
    for b in bodies:
        assert b["stream"] is True and b["stream_options"] == {"include_usage": True}
        assert b["ignore_eos"] is True and b["temperature"] == 0
        assert 30 <= len(b["prompt"]) <= 50 and 2 <= b["max_tokens"] <= 6
    prompts = [tuple(b["prompt"]) for b in bodies]
    assert len(set(prompts[:40])) == 40 and sorted(prompts[:40]) == sorted(prompts[40:])
    groups = collections.Counter(p[:20] for p in prompts[:40])
    assert sorted(groups.values()) == [10, 10, 10, 10]


def test_arrivals(home):
    """200 arrivals at 400 a second take half a second, and the answers that are held back for most of
    it keep no later one from being sent."""
    gate = threading.Event()

    def answer(handler, number, body):
        if number < 20:
            gate.wait(20)
        if number >= 150:
            gate.set()
        answer_well(handler, number, body)

    with serving(answer) as server:
        report, _ = load(home, "--url", server.url, "--rate", 400, "--requests", 200, "--seed", 1,
                         "--output-len", 3, "--input-len", 4)
    assert report["completed"] == 200 and report["workload"]["loop"] == "open"
    assert server.most > 20  # the waiting ones held nobody up
    # Seeded: the arrivals alone take this long, and no machine is faster.
    assert report["duration_seconds"] > 0.35


def test_clients_bound_the_arrivals(home):
    with serving(answer_well) as server:
        report, _ = load(home, "--url", server.url, "--rate", 5000, "--requests", 60, "--clients", 3,
                         "--output-len", 3, "--input-len", 4)
        assert report["completed"] == 60 and server.most <= 3


def test_making_prompts_is_not_the_servers_time(home):
    """One answer comes in even steps while the other client sends long prompts: had they to be made
    between two reads, steps would pile up and be read at once."""
    def answer(handler, number, _body):
        begin(handler)
        for _ in range(100 if number == 0 else 1):
            event(handler, {"choices": [{"index": 0, "text": "x"}]})
            if number == 0:
                time.sleep(0.01)
        event(handler, "[DONE]")

    with serving(answer, reads=False) as server:
        report, _ = load(home, "--url", server.url, "--clients", 2, "--requests", 25,
                         "--input-len", 400000, "--output-len", 1)
    assert report["completed"] == 25
    assert report["inter_token_latency_ms"]["count"] == 99
    assert report["inter_token_latency_ms"]["p50"] > 5, report


# ---- what goes wrong ----

def test_failures_are_counted(home):
    def answer(handler, number, body):
        kind = number % 5
        if kind == 0:
            refuse(handler, 429)
        elif kind == 1:
            refuse(handler, 500)
        elif kind == 2:  # closes midway
            begin(handler)
            event(handler, {"choices": [{"index": 0, "text": "x"}]})
        elif kind == 3:
            begin(handler)
            event(handler, {"error": {"message": "the worker is lost"}})
        else:
            answer_well(handler, number, body)

    with serving(answer) as server:
        report, _ = load(home, "--url", server.url, "--requests", 50, "--output-len", 3)
    assert report["failures"] == {"http_429": 10, "http_500": 10, "broken_off": 10,
                                  "stream_error": 10}
    assert (report["completed"], report["failed"]) == (10, 40)
    assert report["first_error"] == "no, says 429"
    assert report["output_tokens"] == 10 * 3 + 10
    assert report["end_to_end_latency_ms"]["count"] == 10
    assert report["time_to_first_token_ms"]["count"] == 10  # of those that failed, nothing
    assert report["inter_token_latency_ms"]["count"] == 20


def test_nobody_is_there(home):
    with serving(answer_well) as server:
        url = server.url
    report, err = load(home, "--url", url, "--requests", 3, code=1)
    assert report["failures"] == {"connection": 3}
    assert the_sentence(err).startswith("all 3 requests failed: ")


def test_every_request_fails(home):
    with serving(lambda handler, *_: refuse(handler, 429)) as server:
        report, err = load(home, "--url", server.url, "--requests", 7, "--clients", 3, code=1)
        _, out, _ = run("paceline", "bench", "--url", server.url, "--requests", 2, home=home)
    assert all(report[name]["count"] == 0 for name in LATENCIES)
    table = [line for line in out.decode().splitlines() if line.split("  ")[0].endswith(("y", "n"))]
    assert [line.split()[-4:] for line in table] == [["-"] * 4] * 3
    assert report["failures"] == {"http_429": 7} and report["completed"] == 0
    assert the_sentence(err) == "all 7 requests failed: no, says 429"


@pytest.mark.parametrize("options, words", [
    ([], "there is no MODEL"),
    ([MODEL, "--url", "http://127.0.0.1:1"], "one of the two"),
    ([MODEL, "--input-len", "0"], '"0"'), ([MODEL, "--input-len", "9-3"], '"9-3"'),
    ([MODEL, "--output-len", "x"], '"x"'), ([MODEL, "--clients", "-1"], "from 0 to"),
    ([MODEL, "--rate", "x"], "from 0 to"),
    ([MODEL, "--input-len", 1 << 20, "--output-len", 1], "context")])
def test_wrong_options(home, options, words):
    code, out, err = run("paceline", "bench", *options, home=home)
    assert code == 1 and not out and words in the_sentence(err), err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(home, tmp_path, number):
    """What was measured is printed; nothing is left running."""
    mark = f"load-{number}"
    log = tmp_path / "log"
    process = Process("paceline", ["bench", MODEL, "--json", "--clients", "3", "--requests", "1000000",
                                   "--input-len", "8", "--output-len", "8"], log,
                      environment(home, SYSTEM_TEST_MARK=mark))
    try:
        wait_until(lambda: re.search(r"^[1-9]\d* of 1000000 requests done", process.text(), re.M), 30,
                   "answers have come")
        process.signal(number)
        assert process.wait(10) == 1
    finally:
        if process.is_alive():
            process.popen.kill()
    text = process.text()
    report = json.loads(text[text.index("\n{") + 1:text.rindex("\n}") + 2])
    assert report["interrupted"] is True and report["completed"] > 0
    assert report["unfinished"] <= 3 and report["output_tokens"] >= 8 * report["completed"]
    assert "stopped before all requests had ended" in text
    wait_until(lambda: not survivors(mark), 5, "all of it is gone")


def test_interrupted_answers_count_as_unfinished(home, tmp_path):
    gate = threading.Event()

    def answer(handler, number, body):
        if number < 2:
            return answer_well(handler, number, body)
        begin(handler)
        event(handler, {"choices": [{"index": 0, "text": "x"}]})
        return gate.wait(20)

    with serving(answer) as server:
        process = Process("paceline", ["bench", "--url", server.url, "--json", "--clients", "3",
                                       "--requests", "9", "--output-len", "4"], tmp_path / "log",
                          environment(home))
        try:
            wait_until(lambda: server.active == 3 and len(server.asked) == 5, 20, "three hang")
            wait_until(lambda: "2 of 9 requests done" in process.text(), 20, "two are done")
            process.signal(signal.SIGINT)
            assert process.wait(10) == 1
        finally:
            gate.set()
            if process.is_alive():
                process.popen.kill()
    text = process.text()
    report = json.loads(text[text.index("{\n"):text.rindex("\n}") + 2])
    assert (report["completed"], report["failed"], report["unfinished"]) == (2, 0, 3)
    assert report["output_tokens"] == 2 * 4 + 3 and report["failures"] == {}
    assert report["time_to_first_token_ms"]["count"] == 5
    assert report["end_to_end_latency_ms"]["count"] == 2


def test_many_clients(home):
    with serving(answer_well) as server:
        report, err = load(home, "--url", server.url, "--clients", 300, "--requests", 600,
                           "--input-len", 4, "--output-len", 2)
    assert report["completed"] == 600, err
