"""The verbs that start a cluster, with programs that only pretend to be one: processes, signals,
exit codes, streams. Other files use the real programs."""
import contextlib
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

from cluster import model_path

BIN = pathlib.Path(os.environ.get("PACELINE_BIN", "build/bin")).resolve()
FAKES = pathlib.Path(__file__).resolve().parent / "fakes"


class Stage:
    """A folder with the real command beside fake programs, and a home of its own."""

    def __init__(self, folder):
        self.bin, self.home = folder / "bin", folder / "home"
        shutil.copytree(FAKES, self.bin)
        shutil.copy(BIN / "paceline", self.bin)
        self.model = folder / "model.json"
        self.model.write_text("{}")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("PACELINE_")}
        self.env["PACELINE_HOME"] = str(self.home)

    def run(self, *arguments, text=None, **env):
        return subprocess.run([self.bin / "paceline", *map(str, arguments)], env=self.env | env,
                              input=text, capture_output=True, text=True, timeout=60)

    def up(self, *arguments, **env):
        p = subprocess.Popen([self.bin / "paceline", "up", self.model, "--http", "127.0.0.1:0",
                              *arguments], env=self.env | env, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
        return p, p.stdout.readline()


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def children(pid):
    out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(x) for x in out.stdout.split()]


def alive(pid):
    try:
        return pathlib.Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_dead(pids, seconds=3):
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(alive, pids))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_is_ready_and_stops_everything(stage, number):
    p, line = stage.up("--workers", "2", "--threads", "3")
    assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+ model=fake workers=2 threads=3\n", line)
    pids = children(p.pid)
    assert len(pids) == 3
    p.send_signal(number)
    rest, errors = p.communicate(timeout=10)
    assert p.returncode == 0 and rest == "", errors
    wait_dead(pids, 0)
    assert list((stage.home / "logs").iterdir()) == []


def wait_for_line(stream, words):
    while True:
        line = stream.readline()
        assert line, "the end came before: " + words
        if words in line:
            return


def test_up_waits_for_the_coordinator_and_then_stops_the_workers(stage):
    stage.model.write_text('{"drain": 6}')  # more than the grace of an end in disorder
    p, _ = stage.up("--workers", "2")
    pids = children(p.pid)
    p.send_signal(signal.SIGINT)
    p.send_signal(signal.SIGTERM)  # as deploy/quickstart passes it on
    wait_for_line(p.stderr, "stopping: requests that run are finished first")
    time.sleep(5)
    assert all(map(alive, pids))
    _, errors = p.communicate(timeout=10)
    assert p.returncode == 0, errors
    wait_dead(pids, 0)


def test_a_second_ctrl_c_stops_at_once(stage):
    stage.model.write_text('{"drain": 60}')
    p, _ = stage.up("--workers", "2", FAKE_WORKER='{"worker-2": {"stubborn": true}}')
    pids = children(p.pid)
    p.send_signal(signal.SIGINT)
    wait_for_line(p.stderr, "Ctrl-C once more stops at once")
    began = time.monotonic()
    p.send_signal(signal.SIGINT)
    _, errors = p.communicate(timeout=10)
    assert p.returncode == 0 and time.monotonic() - began < 2, errors
    wait_dead(pids, 0)


def test_a_worker_that_dies_ends_the_waiting(stage):
    stage.model.write_text('{"drain": 60}')
    p, _ = stage.up("--workers", "2")
    pids, began = children(p.pid), time.monotonic()
    p.terminate()
    wait_for_line(p.stderr, "stopping")
    os.kill(max(pids), signal.SIGKILL)
    _, errors = p.communicate(timeout=10)
    assert p.returncode == 1 and "worker-2 was killed by signal 9" in errors
    wait_dead(pids, 0)


def test_up_killed_takes_its_children_along(stage):
    p, _ = stage.up("--workers", "2")
    pids = children(p.pid)
    p.kill()
    p.communicate(timeout=10)
    wait_dead(pids)


def test_stubborn_worker_is_killed_after_5_seconds(stage):
    stage.model.write_text('{"health_after": 1}')
    p, _ = stage.up("--workers", "2", FAKE_WORKER='{"worker-2": {"stubborn": true}}')
    pids, started = children(p.pid), time.monotonic()
    p.terminate()
    p.communicate(timeout=15)
    assert p.returncode == 0 and 4.5 < time.monotonic() - started < 7
    wait_dead(pids, 0)


@pytest.mark.parametrize("when", [0, 2])
def test_dead_worker_is_named_and_gives_its_exit_code(stage, when):
    plan = json.dumps({"worker-2": {"die": [when, 5, "no memory for layer 7"]}})
    stage.model.write_text('{"health_after": 1}')
    p, line = stage.up("--workers", "2", FAKE_WORKER=plan)
    pids = children(p.pid)
    _, errors = p.communicate(timeout=15)
    assert p.returncode == 5
    assert "worker-2 ended with exit code 5: no memory for layer 7" in errors
    assert bool(line) == bool(when)
    wait_dead(pids, 0)


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5])
def test_dead_coordinator(stage, code):
    stage.model.write_text(json.dumps({"die": [0.2, code, "sorry"], "health_after": 9}))
    result = stage.run("up", stage.model, "--http", "127.0.0.1:0")
    assert result.returncode == code and result.stdout == ""
    assert "coordinator ended with exit code %d: sorry" % code in result.stderr


def test_port_in_use(stage):
    with socket.create_server(("127.0.0.1", 0)) as s:
        result = stage.run("up", stage.model, "--http", "127.0.0.1:%d" % s.getsockname()[1])
    assert result.returncode == 4 and "Address already in use" in result.stderr


def test_progress_every_second(stage):
    stage.model.write_text('{"health_after": 3.5}')
    p, line = stage.up()
    p.terminate()
    _, errors = p.communicate(timeout=10)
    assert line and 3 <= errors.count("waiting for workers") <= 6


def test_progress_tells_who_is_there_and_what_is_loaded(stage):
    one = {"state": "loading", "load_done": 1e6, "load_total": 90e6}
    workers = [[{"state": "joined"}], [one, one | {"load_total": 0}],
               [{"state": "serving", "load_total": 10000000}, {k: int(v) if k != "state" else v
                                                              for k, v in one.items()}],
               [{"state": "standby"}] * 2]
    stage.model.write_text(json.dumps({
        "health_after": 6, "workers": [[0, []]] + [[1.2 + i, w] for i, w in enumerate(workers)]}))
    p, line = stage.up("--workers", "2")
    p.terminate()
    _, errors = p.communicate(timeout=10)
    said = list(dict.fromkeys(re.sub(r" \(\d+ s\)", "", x) for x in errors.splitlines()))
    assert line and said[1:] == ["starting: 0 of 2 workers have joined",
                                 "starting: 1 of 2 workers have joined",
                                 "starting: 2 workers are loading weights",
                                 "starting: 2 workers are loading weights, 11 of 100 MB done",
                                 "starting: waiting for workers"], errors


def test_a_bar_for_each_worker_on_a_terminal(stage):
    one = {"name": "desk-1", "state": "loading", "load_done": 0, "load_total": 400000000,
           "fetch_done": 100000000, "fetch_total": 400000000, "fetch_bytes_per_second": 50000000}
    two = {"name": "desk-2", "state": "loading", "load_done": 300000000, "load_total": 400000000,
           "fetch_done": 4000, "fetch_total": 4000, "fetch_bytes_per_second": 0}
    stage.model.write_text(json.dumps({"health_after": 3, "workers": [[0, [one, two]]]}))
    ours, theirs = pty.openpty()
    p = subprocess.Popen([stage.bin / "paceline", "up", stage.model, "--http", "127.0.0.1:0",
                          "--workers", "2"], env=stage.env | {"TERM": "xterm"},
                         stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    assert p.stdout.readline().startswith("ready")
    p.terminate()
    p.communicate(timeout=10)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal is an error
        while data := os.read(ours, 1 << 16):
            shown += data
    screen = shown.decode()
    os.close(ours)
    assert "desk-1       [#####...............] 100 of 400 MB fetched, 50 MB/s, 0:06 left" in screen
    assert "desk-2       [###############.....] 300 of 400 MB packed" in screen
    # As many lines up as down: what was on the terminal before stays.
    assert screen.count("\x1b[A") == screen.count("\n\r\x1b[K") + screen.count("\n\x1b[K") > 4


def test_missing_programs(stage):
    (stage.bin / "paceline-worker").unlink()
    result = stage.run("up", stage.model, "--http", "127.0.0.1:0")
    assert result.returncode == 1 and "paceline-worker is not beside this program" in result.stderr


def test_logits(stage, tmp_path):
    out = tmp_path / "logits.bin"
    model = model_path("qwen2-tied-Q8_0")  # it is looked into before anything starts
    result = stage.run("logits", model, "--tokens", "4,5, 6", "--cuts", "3,5", "-o", out)
    assert result.returncode == 0, result.stderr
    assert struct.unpack("<24f", out.read_bytes()) == tuple(map(float, range(24)))
    (tmp_path / "ids").write_text("1\n2,3\n")
    assert stage.run("logits", model, "--tokens-file", tmp_path / "ids", "-o",
                     out).returncode == 0
    for wrong in (["--tokens", "1,x"], ["--tokens", ""], [], ["--tokens", "-1"],
                  ["--tokens", "1", "--tokens-file", "x"], ["--tokens", "4294967296"]):
        assert stage.run("logits", model, *wrong, "-o", out).returncode == 1


def test_chat(stage):
    p, line = stage.up()
    url = line.split()[1]
    once = stage.run("chat", "--url", url + "/v1/", "abc", text="")
    assert (once.returncode, once.stdout) == (0, "1: cba[2J\u00e9\n")  # no escape character
    assert stage.run("chat", "--url", url, text="x\ny\n").stdout == "1: y\nx[2J\u00e9\n"
    both = stage.run("chat", "--url", url, "--system", "s", "ab", text="cd")
    assert both.stdout == "2: dc\n\nba[2J\u00e9\n"
    refused = stage.run("chat", "--url", url, "refuse", text="")
    assert refused.returncode == 1 and refused.stderr == "paceline: that is not allowed\n"
    broken = stage.run("chat", "--url", url, "break", text="")
    assert broken.returncode == 4 and "broke off" in broken.stderr
    p.terminate()
    p.communicate(timeout=10)
    gone = stage.run("chat", "--url", url, "abc", text="")
    assert gone.returncode == 4 and url in gone.stderr
