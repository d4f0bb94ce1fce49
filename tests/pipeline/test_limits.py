"""What a client may ask of a connection, by raw sockets: time for headers and body, their sizes, places.
Each limit has its status and sentence (docs/http.md), and the server serves on."""

import contextlib
import json
import pathlib
import re
import shutil
import socket
import time

import pytest

from cluster import ROOT, Cluster, model_path, wait_until

HEAD = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\n"
PLACES = 24


@pytest.fixture(scope="module")
def door(home):
    with Cluster(home, model_path("qwen2-tied-Q8_0"), workers=0,
                 options=["--receive-timeout", "2", "--max-connections", PLACES, "--max-header", "8KiB",
                          "--max-body", "64KiB"]) as c:
        yield c


@pytest.fixture(autouse=True)
def serves_on(door):
    yield
    wait_until(lambda: door.request("POST", "/tokenize", body=b'{"content": "x"}')[0] == 200, 20,
               "it serves on")


@contextlib.contextmanager
def connected(door):
    host, port = door.http.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as s:
        yield s


def read_answer(s):
    """(status, headers, body) of what comes until the server closes."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while block := s.recv(65536):
            data += block
    if not data:
        return 0, {}, b""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.lower().split(": ", 1) for line in lines[1:]), body


def error(body):
    found = json.loads(body)["error"]
    assert len(found["message"]) > 20
    return found


def dribble(s, piece, answers_within_s=40):
    """A byte now and then, as long as the server listens; its answer."""
    end = time.monotonic() + answers_within_s
    s.settimeout(0.1)
    sent = 0
    while time.monotonic() < end:
        with contextlib.suppress(ConnectionError):
            s.sendall(piece)
            sent += 1
        try:
            if s.recv(1, socket.MSG_PEEK) is not None:
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    assert sent > 3, "it was cut off at once"
    s.settimeout(60)
    return read_answer(s)


def test_slow_headers(door):
    with connected(door) as s:
        s.sendall(HEAD + b"X-Slow: ")
        status, headers, body = dribble(s, b"x")
    assert status == 408 and headers["connection"] == "close"
    assert error(body)["code"] == "request_timeout" and "2 s" in error(body)["message"]


def test_slow_body(door):
    with connected(door) as s:
        s.sendall(HEAD + b"Content-Length: 10000\r\n\r\n")
        status, _, body = dribble(s, b" ")
    assert status == 408 and error(body)["type"] == "timeout_error"


def test_slow_chunks(door):
    with connected(door) as s:
        s.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        assert dribble(s, b"1\r\n \r\n")[0] == 408


def test_silence(door):
    """Nothing was asked, so nothing is answered."""
    with connected(door) as s:
        assert read_answer(s) == (0, {}, b"")


def test_keep_alive(door):
    """One request after the other, and the end when no more come."""
    with connected(door) as s:
        for _ in range(5):
            s.sendall(HEAD + b"Content-Length: 16\r\n\r\n" + b'{"content": "x"}')
            data = b""
            while b"}" not in data:
                block = s.recv(65536)
                assert block, data
                data += block
            assert data.startswith(b"HTTP/1.1 200 ")
        assert s.recv(100) == b""


@pytest.mark.parametrize("lines, words", [
    ([b"X: " + b"y" * 8200], "8192"), ([b"X: " + b"y" * 1000] * 9, "8192"),
    ([b"X: " + b"y" * 100000], None), ([b"a:"] * 5000, None),  # libmicrohttpd's own words
], ids=["long", "several", "very long", "many"])
def test_headers(door, lines, words):
    with connected(door) as s:
        with contextlib.suppress(ConnectionError):
            s.sendall(HEAD + b"\r\n".join(lines) + b"\r\nConnection: close\r\n\r\n")
        status, _, body = read_answer(s)
    assert status == 431
    if words:
        assert error(body)["code"] == "headers_too_large" and words in error(body)["message"]


def test_long_address(door):
    with connected(door) as s:
        s.sendall(b"GET /health?" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_answer(s)[0] == 431


@pytest.mark.parametrize("head, body", [
    (b"Content-Length: 70000\r\n\r\n", b" " * 70000),
    (b"Content-Length: 70000\r\nExpect: 100-continue\r\n\r\n", b""),
    (b"Content-Length: 99999999999\r\n\r\n", b""),
    (b"Transfer-Encoding: chunked\r\n\r\n", (b"2000\r\n" + b" " * 0x2000 + b"\r\n") * 9 + b"0\r\n\r\n"),
], ids=["sent", "asked before", "absurd", "chunked"])
def test_body(door, head, body):
    with connected(door) as s:
        s.sendall(HEAD + b"Connection: close\r\n" + head + body)
        status, _, answer = read_answer(s)
    assert status == 413
    assert error(answer)["code"] == "request_too_large" and "65536" in error(answer)["message"]


def test_places(door):
    """Who comes when all are taken is told so, and does not wait; afterwards there is room."""
    def fill_and_ask():
        with contextlib.ExitStack() as stack:
            for _ in range(PLACES):
                stack.enter_context(connected(door)).sendall(b"GET ")
            status, headers, body = door.request("GET", "/openapi.json")
            return status == 503 and (headers, body)
    # On a machine that stands still for a while the first of them may have had their time.
    headers, body = wait_until(fill_and_ask, 60, "all places are taken")
    assert error(body)["code"] == "too_many_connections" and str(PLACES) in error(body)["message"]
    assert int(headers["retry-after"]) > 0 and headers["connection"] == "close"


def files(process):
    """Its limit of open files, the one in force."""
    text = pathlib.Path(f"/proc/{process.pid}/limits").read_text()
    return int(re.search(r"^Max open files +(\d+)", text, re.M).group(1))


@pytest.mark.skipif(not shutil.which("prlimit"), reason="prlimit is not installed")
def test_open_files(home):
    """The usual limit is raised; where that is not allowed, there are fewer connections, and it is said."""
    model = model_path("qwen2-tied-Q8_0")
    with Cluster(home, model, workers=0, runner=["prlimit", "--nofile=256:4096"]) as c:
        assert files(c.coordinator) == 1024 + 512 and "open files" not in c.coordinator.text()
    with Cluster(home, model, workers=0, runner=["prlimit", "--nofile=256:256"]) as c:
        assert "this system allows 256 open files: at most 128 HTTP connections" in c.coordinator.text()
        assert c.request("GET", "/openapi.json")[0] == 200


def test_documented():
    """docs/http.md has each status and code of these."""
    text = (ROOT / "docs" / "http.md").read_text()
    for status, code in ((408, "request_timeout"), (413, "request_too_large"),
                         (431, "headers_too_large"), (503, "too_many_connections"),
                         (403, "origin_not_allowed"), (403, "host_not_allowed")):
        assert re.search(r"^\| %d `%s` \|" % (status, code), text, re.M), code
