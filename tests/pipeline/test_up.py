"""`paceline up`: a coordinator and workers on this machine from one command, and nothing left."""

import http.client
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import time

import pytest

from cluster import PROGRAMS, environment, model_path, run, survivors, the_sentence, wait_until

MODEL = model_path("qwen2-tied-Q8_0")


class Up:
    """One `paceline up`, with a mark of its own."""

    count = 0

    def __init__(self, home, *options, isa=None, log=None):
        """log: a file for standard error, when it would fill a pipe"""
        Up.count += 1
        self.mark = f"up-{os.getpid()}-{Up.count}"
        self.popen = subprocess.Popen(
            [PROGRAMS / "paceline", "up", *map(str, options)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=open(log, "wb") if log else subprocess.PIPE, text=True,
            env=environment(home, isa, SYSTEM_TEST_MARK=self.mark))

    def ready_line(self, limit_s=30):
        assert select.select([self.popen.stdout], [], [], limit_s)[0], "no line in time"
        return self.popen.stdout.readline()

    def url(self):
        match = re.fullmatch(r"ready http://([\d.]+:\d+) .*\n", self.ready_line())
        assert match, self.popen.stderr.read()
        return match.group(1)

    def processes(self):
        return survivors(self.mark)

    def end(self, limit_s=15):
        """(exit code, the rest of standard output, standard error); no process is left"""
        out, err = self.popen.communicate(timeout=limit_s)
        wait_until(lambda: not self.processes(), 3, f"all are gone, not {self.processes()}")
        return self.popen.returncode, out, err

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.communicate()


def ask(address, method="GET", path="/health", body=None):
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request(method, path, body=json.dumps(body) if body else None)
    answer = connection.getresponse()
    data = json.loads(answer.read())
    connection.close()
    return answer.status, data


def begin_stream(address, n):
    """A stream of n choices of 1000 tokens that has begun: connection, answer."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("POST", "/v1/completions", body=json.dumps(
        {"prompt": "x", "max_tokens": 1000, "n": n, "stream": True, "ignore_eos": True}))
    stream = connection.getresponse()
    assert stream.readline().startswith(b"data: ")
    return connection, stream


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_up_serves_and_stops(home, number):
    with Up(home, MODEL, "--workers", 2, "--threads", 1, "--http", "127.0.0.1:0") as up:
        line = up.ready_line()
        match = re.fullmatch(r"ready http://(127\.0\.0\.1:\d+) model=qwen2-tied-Q8_0 workers=2 "
                             r"threads=1\n", line)
        assert match, line
        address = match.group(1)
        assert ask(address)[0] == 200  # at once, with no waiting
        commands = " ".join(up.processes().values())
        assert len(up.processes()) == 4 and commands.count("paceline-worker") == 2
        status, cluster = ask(address, path="/cluster")
        assert status == 200 and [w["threads"] for w in cluster["workers"]] == [1, 1]
        assert sorted(w["name"] for w in cluster["workers"]) == ["worker-1", "worker-2"]
        status, answer = ask(address, "POST", "/v1/chat/completions", {
            "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5})
        assert status == 200 and answer["usage"]["completion_tokens"] <= 5
        up.popen.send_signal(number)
        code, out, err = up.end()
        assert code == 0 and out == "", err
    with pytest.raises(OSError):
        ask(address)
    assert not list((pathlib.Path(home) / "logs").iterdir())


def test_default_is_one_worker(home):
    with Up(home, MODEL, "--http", "127.0.0.1:0", "--alias", "mine") as up:
        assert re.search(r" model=mine workers=1 threads=\d+$", up.ready_line().strip())
        assert len(up.processes()) == 3
        up.popen.terminate()
        assert up.end()[0] == 0


def test_second_up_on_the_same_port(home):
    with Up(home, MODEL, "--http", "127.0.0.1:0") as first:
        address = first.url()
        with Up(home, MODEL, "--http", address) as second:
            code, out, err = second.end()
        sentence = the_sentence(err)
        assert code == 4 and out == ""
        assert address.rsplit(":", 1)[1] in sentence and "in use" in sentence, sentence
        assert ask(address)[0] == 200
        first.popen.send_signal(signal.SIGINT)
        assert first.end()[0] == 0


def test_sigint_while_it_starts(home):
    with Up(home, MODEL, "--workers", 3, "--http", "127.0.0.1:0", isa="scalar") as up:
        wait_until(up.processes, 10, "something runs")
        up.popen.send_signal(signal.SIGINT)
        code, out, _ = up.end()
        assert code in (0, -signal.SIGINT) and (out == "" or out.startswith("ready"))


def test_sigint_with_a_stream_under_way(home, tmp_path):
    """The stream is told to its end; the workers stay for it, and go without a word."""
    with Up(home, MODEL, "--workers", 2, "--http", "127.0.0.1:0", "--verbose",
            log=tmp_path / "log") as up:
        address = up.url()
        connection, stream = begin_stream(address, 8)
        up.popen.send_signal(signal.SIGINT)
        text = stream.read().decode()
        connection.close()
        code, _, _ = up.end()
        err = (tmp_path / "log").read_text()
        assert code == 0, err
        assert text.endswith("data: [DONE]\n\n") and text.count('"finish_reason":"length"') == 8
        assert "stopping: running requests are finished first" in err
        assert "planning anew" not in err and " error " not in err and " warning " not in err, err


def test_killed_up_leaves_nothing(home):
    with Up(home, MODEL, "--workers", 2, "--http", "127.0.0.1:0") as up:
        up.url()
        up.popen.kill()
        assert up.end()[0] == -signal.SIGKILL


@pytest.mark.parametrize("victim, number", [("paceline-worker", signal.SIGKILL),
                                            ("paceline-coordinator", signal.SIGKILL)])
def test_a_child_that_dies_ends_it_in_words(home, victim, number):
    with Up(home, MODEL, "--workers", 2, "--http", "127.0.0.1:0") as up:
        up.url()
        pid = next(p for p, command in up.processes().items() if victim in command.split()[0])
        os.kill(pid, number)
        code, out, err = up.end()
        assert code != 0 and out == ""
        sentence = the_sentence(err)
        assert victim.split("-")[1] in sentence and "signal 9" in sentence, sentence


def test_wrong_models_and_settings(home, tmp_path):
    foreign = tmp_path / "foreign.gguf"
    foreign.write_bytes(b"not a model" * 100)
    cases = [((foreign,), 3, "foreign.gguf"), (("/nowhere.gguf",), 3, "/nowhere.gguf"),
             ((MODEL, "--http", "0.0.0.0:0"), 2, "--api-key-file"),
             ((MODEL, "--http", "foo:80"), 1, "'foo:80' is not a numeric address and a port"),
             ((MODEL, "--api-key-file", "/none"), 2, "--api-key-file: /none: No such file"),
             ((MODEL, "--workers", "0x"), 1, "workers"),
             ((MODEL, "--context", "5000"), 2, "1024"),
             ((MODEL, "--cuts", "9"), 2, "cut")]
    for options, expected, word in cases:
        extra = () if "--http" in options else ("--http", "127.0.0.1:0")
        with Up(home, *options, *extra) as up:
            code, out, err = up.end()
        assert code == expected and out == "", f"{options}: {code} {err}"
        assert word in the_sentence(err), err
        # What is wrong with a setting stands in the sentence; a log of it would be in the way.
        folder = pathlib.Path(home) / "logs" / str(up.popen.pid)
        is_kept = word == "foreign.gguf"
        assert folder.exists() == is_kept, options
        assert (f"(its log: {folder}/coordinator.log)" in err) == is_kept, err


def test_more_workers_than_layers(home):
    """Five layers make five stages; the sixth and seventh worker stand by."""
    with Up(home, MODEL, "--workers", 7, "--threads", 1, "--http", "127.0.0.1:0") as up:
        address = up.url()
        _, cluster = ask(address, path="/cluster")
        states = [w["state"] for w in cluster["workers"]]
        assert cluster["stages"] <= 5 and len(states) == 7
        assert states.count("standby") == 7 - cluster["stages"]
        assert ask(address, "POST", "/v1/completions", {"prompt": "x", "max_tokens": 2})[0] == 200
        up.popen.terminate()
        assert up.end()[0] == 0


def test_limits_reach_the_coordinator(home):
    with Up(home, MODEL, "--http", "127.0.0.1:0", "--concurrency", 1, "--queue", 0,
            "--tenant-requests", 7, "--request-timeout", 60, "--prefix-cache", "off") as up:
        address = up.url()
        command = next(c for c in up.processes().values() if "paceline-coordinator" in c)
        assert "--tenant-requests 7 --request-timeout 60" in command
        for _ in range(2):  # nothing is kept
            status, answer = ask(address, "POST", "/v1/completions",
                                 {"prompt": list(range(1, 130)), "max_tokens": 1})
            assert status == 200
            assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        connection, _ = begin_stream(address, 1)
        body = {"prompt": "x", "max_tokens": 2}  # would have to wait
        assert ask(address, "POST", "/v1/completions", body)[0] == 429
        connection.close()
        up.popen.terminate()
        assert up.end()[0] == 0


def test_keys_from_a_file(home, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# ours\n\nsecret theirs 2\n")
    keys.chmod(0o600)
    with Up(home, MODEL, "--http", "127.0.0.1:0", "--api-key-file", keys, "--alias", "x") as up:
        line = up.ready_line()
        assert " model=x " in line  # asked with the key
        address = line.split()[1].removeprefix("http://")
        assert ask(address, path="/v1/models")[0] == 401
        code, out, err = run("paceline", "chat", "--url", f"http://{address}", "--api-key-file",
                             keys, "--max-tokens", 3, "Hello!", home=home)
        assert code == 0 and out, err
        code, _, err = run("paceline", "chat", "--url", f"http://{address}", "Hello!", home=home)
        assert code == 1 and "key" in the_sentence(err)
        up.popen.terminate()
        assert up.end()[0] == 0
