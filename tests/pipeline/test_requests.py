"""HTTP requests that are wrong in themselves: each gets its status and a sentence, and the server
serves on."""

import contextlib
import json
import socket
import threading
import time

import pytest

from cluster import Cluster, model_path, wait_until

GOOD = {"prompt": "Hi", "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def good(pair):
    status, answer = pair.post("/v1/completions", GOOD)
    assert status == 200
    return answer["choices"][0]["text"]


@pytest.fixture(autouse=True)
def serves_on(pair, good):
    yield
    status, answer = pair.post("/v1/completions", GOOD)
    assert status == 200 and answer["choices"][0]["text"] == good
    assert pair.running() == 0
    assert pair.coordinator.is_alive() and all(w.is_alive() for w in pair.workers)


def refused(pair, path, body, status):
    got, answer = pair.post(path, body)
    assert got == status, answer
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert len(error["message"]) > 10
    return error


def deep(levels):
    return b'{"prompt":"x","user":"y","deep":' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize("body, words", [
    (b"", "empty"), (b"{", "JSON"), (b'{"prompt": "x",}', "JSON"), (b"[1]", "object"),
    (b'"text"', "object"), (b"null", "object"), (b'{"prompt": "x"} more', "JSON"),
    (b'{"prompt": "\xff\xfe"}', "UTF-8"), (b'{"prompt": "\xc3"}', "UTF-8"),
    (b'{"prompt": "\xed\xa0\x80"}', "UTF-8"), (b'{"prompt": "\\ud800"}', ""),
    (b'{"prompt": "a\\u0000b"}', ""), (b'{"prompt": "x", "prompt": "y"}', ""),
    (b'{"prompt": "x", "temperature": 1e999}', ""), (b"\x00\x01\x02\x03", ""),
    (deep(65), "deep"), (deep(100000), "deep"), (b"[" * 5000000, ""),
    (b'{"prompt": NaN}', "JSON"), (b"max_tokens=5", "JSON"),
    (b'{"prompt": "x", "seed": 18446744073709551616}', "too big"),
], ids=lambda v: repr(v[:24]) if isinstance(v, bytes) else "")
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/probe"])
def test_broken_json(pair, path, body, words):
    error = refused(pair, path, body, 400)
    assert error["type"] == "invalid_request_error"
    assert words.lower() in error["message"].lower()


def test_deep_but_not_too_deep(pair):
    assert pair.post("/v1/completions", deep(40))[0] == 200


def test_too_long_a_body(pair):
    body = json.dumps({"prompt": "x" * (9 << 20)}).encode()
    error = refused(pair, "/v1/completions", body, 413)
    assert str(8 << 20) in error["message"]


def test_too_long_a_body_without_a_length(pair):
    """Chunks without end: refused when the limit is reached."""
    host, port = pair.http.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as s:
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        block = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        for _ in range(9):
            s.sendall(block)
        s.sendall(b"0\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path, body", [
    ("/v1/completions", {}), ("/v1/completions", {"prompt": None}), ("/v1/completions", {"prompt": 5}),
    ("/v1/completions", {"prompt": []}), ("/v1/completions", {"prompt": [512]}),
    ("/v1/completions", {"prompt": [-1]}), ("/v1/completions", {"prompt": [1.5]}),
    ("/v1/completions", {"prompt": ["a", 5]}), ("/v1/completions", {"prompt": [[]]}),
    ("/v1/completions", {"prompt": [[[1]]]}), ("/v1/completions", {"prompt": {"a": 1}}),
    ("/v1/completions", {"prompt": ["a"] * 100}), ("/v1/completions", {**GOOD, "echo": True, "suffix": "x"}),
    ("/v1/completions", {**GOOD, "logprobs": 21}), ("/v1/completions", {**GOOD, "best_of": 2}),
    ("/v1/completions", {**GOOD, "seed": 0.5}), ("/v1/completions", {**GOOD, "top_k": 1e99}),
    ("/v1/completions", {**GOOD, "model": 5}), ("/v1/completions", {**GOOD, "stream": 1}),
    ("/v1/completions", {**GOOD, "stop": ["x"] * 17}), ("/v1/completions", {**GOOD, "n": 17}),
    ("/v1/completions", {**GOOD, "logit_bias": [1]}), ("/v1/completions", {**GOOD, "min_p": 2}),
    ("/v1/chat/completions", {}), ("/v1/chat/completions", {"messages": [5]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": 5}]}),
    ("/v1/chat/completions", {"messages": [{"role": 5, "content": "x"}]}),
    ("/v1/chat/completions",
     {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
    ("/v1/probe", {"tokens": []}), ("/v1/probe", {"tokens": [512], "output": "logits"}),
    ("/v1/probe", {"tokens": [1, 2], "output": "poems"}), ("/v1/probe", {"tokens": "1,2"}),
    ("/v1/probe", {"tokens": [1] * 1025, "output": "logits"}),
    ("/tokenize", {}), ("/detokenize", {"tokens": ["x"]}), ("/detokenize", {"tokens": [99999]}),
], ids=lambda v: str(v)[:60])
def test_wrong_values(pair, path, body):
    error = refused(pair, path, body, 400)
    assert error["param"] or "context" in (error["code"] or ""), error


def test_wrong_paths_and_methods(pair):
    status, headers, _ = pair.request("GET", "/v1/completions")
    assert status == 405 and headers["allow"] == "POST"
    status, headers, _ = pair.request("POST", "/health", body=b"{}")
    assert status == 405 and "GET" in headers["allow"]
    for path in ("/v1", "/v1/nothing", "/../etc/passwd", "/%00", "/" + "x" * 5000):
        assert pair.request("GET", path)[0] == 404, path


def raw(pair, data, limit_s=20):
    """What the server says to these bytes, until it closes."""
    host, port = pair.http.split(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=limit_s) as s:
        try:
            s.sendall(data)
            with contextlib.suppress(OSError):  # it may have closed already
                s.shutdown(socket.SHUT_WR)
            while block := s.recv(65536):
                answer += block
        except ConnectionError:
            pass
    return answer


@pytest.mark.parametrize("data", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"\n\n\n\n", bytes(4096),
    b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{\"prompt\"",
    b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 200000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
], ids=lambda d: repr(d[:30]))
def test_what_is_not_http(pair, data):
    answer = raw(pair, data)
    assert not answer or answer.startswith(b"HTTP/1."), answer[:100]
    assert b" 200 " not in answer[:20] and b" 500 " not in answer[:20]


def test_many_idle_connections(pair, good):
    """Who connects and says nothing keeps nobody else out."""
    host, port = pair.http.split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(200)]
    try:
        assert pair.post("/v1/completions", GOOD)[1]["choices"][0]["text"] == good
    finally:
        for s in idle:
            s.close()


def test_full_queue(pair, home):
    """Past the queue, 429 and when to come again."""
    with Cluster(home, model_path("qwen2-tied-Q8_0"),
                 options=["--concurrency", "1", "--queue", "1"]) as c:
        long = {"prompt": [3], "max_tokens": 1000, "ignore_eos": True, "seed": 1}
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(
            c.request("POST", "/v1/completions", body=json.dumps(long).encode())))
            for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        statuses = sorted(a[0] for a in answers)
        assert statuses[0] == 200 and statuses[-1] == 429, statuses
        assert set(statuses) == {200, 429}
        for status, headers, body in answers:
            if status == 429:
                assert int(headers["retry-after"]) >= 1 and json.loads(body)["error"]["message"]
        wait_until(lambda: c.running() == 0, 10, "all have ended")


def test_slow_sender_is_served(pair, good):
    host, port = pair.http.split(":")
    body = json.dumps(GOOD).encode()
    data = (f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n").encode() + body
    with socket.create_connection((host, int(port)), timeout=20) as s:
        for i in range(0, len(data), 10):
            s.sendall(data[i:i + 10])
            time.sleep(0.01)
        answer = b""
        while block := s.recv(65536):
            answer += block
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["choices"][0]["text"] == good
